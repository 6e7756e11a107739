"""The one exception that means: the input, not the program, is at fault."""


class InputError(ValueError):
    """Input that the user can mend; the message says what must hold, what came, what to do.

    The command line prints it as one line and exits with code 2. Every other
    exception is a defect of ours and keeps its traceback.
    """
