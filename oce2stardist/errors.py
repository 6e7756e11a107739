"""The one exception that means: the input, not the program, is at fault."""

import math


class InputError(ValueError):
    """Input that the user can mend; the message says what must hold, what came, what to do.

    The command line prints it as one line and exits with code 2. Every other
    exception is a defect of ours and keeps its traceback.
    """


def check_finite(loss: float, step: int, *, stage: str) -> None:
    """Refuse to train on once the loss is not a number: no later step mends the weights.

    Parameters
    ----------
    loss : float
    step : int
        From 1.
    stage : {"embedding", "stardist"}
        The part of the config whose settings can help.

    Raises
    ------
    InputError
        If the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise InputError(
            f"the loss must stay a finite number. Got {loss} at step {step}; what was saved "
            f"before is kept. Lower {stage}.learning_rate, or set {stage}.precision: fp32, and "
            "run again with --overwrite or into another folder."
        )
