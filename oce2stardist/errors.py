"""The one exception that means: the input, not the program, is at fault."""

import errno
import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

_NO_MEMORY = (
    "can't allocate memory",  # torch on Linux and macOS,
    "not enough memory",  # on Windows
    "can't start new thread",  # Python: its stack does not fit
    "libdeflate_alloc_",  # imagecodecs, which compresses TIFF
)

_WITHOUT_REASON = ("error return without exception set", "without setting an exception")
"""What Python says where compiled code failed and gave no reason; TensorFlow's has none to give
once there is no memory even for that."""


class InputError(ValueError):
    """Input that the user can fix; the message says what must hold, what came, what to do.

    The command line prints it as one line and exits with code 2. Every other
    exception is a defect of ours and keeps its traceback.
    """


def one_line(error: BaseException | str) -> str:
    """Put what an error says on one line; the name of its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Take the first line of what a library's error says, its full stop removed.

    Lines after it tell programmers what to do.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def name_some(names: Sequence[str]) -> str:
    """Name the first five and count the rest."""
    more = len(names) - 5
    listed = ", ".join(names[:5])
    return f"{listed} and {more} more" if more > 0 else listed


def plural(count: int, noun: str) -> str:
    """Write a number with its noun: 1 cell, 1,200 cells."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def kept_torch() -> list[str]:
    """Name the installed torch to pip if it is a build of its own, such as 2.9+cpu, else nothing.

    Without it pip may replace a build for processors by the package index's, which is for GPUs and
    several gigabytes large, as soon as what it installs asks for another torch.
    """
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return []
    return [f"torch=={installed}"] if "+" in installed else []


def say_install(extra: str) -> str:
    """Give the command that installs an extra and leaves torch as it is."""
    return " ".join([f"pip install 'oce2stardist[{extra}]'", *kept_torch()])


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, of whichever library, means that there was no memory left.

    NumPy raises MemoryError; torch and TensorFlow have classes of their own, which are known by
    name here so that neither is imported, or say it in a RuntimeError.
    """
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"OutOfMemoryError", "ResourceExhaustedError"}:
        return True
    if isinstance(error, SystemError):
        return any(words in str(error) for words in _WITHOUT_REASON)
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def check_finite(loss: float, step: int, *, stage: str) -> None:
    """Refuse to train on once the loss is not a number: no later step repairs the weights.

    Steps count from 1; the settings of `stage`, embedding or stardist, can help.
    """
    if not math.isfinite(loss):
        raise InputError(
            f"the loss must stay a finite number. Got {loss} at step {step}; what was saved "
            f"before is kept. Lower {stage}.learning_rate, or set {stage}.precision: fp32, and "
            "run again with --overwrite or into another folder."
        )
