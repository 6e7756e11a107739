"""What all parsers of foreign files share: whatever a broken file raises names that file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oce2stardist.errors import InputError, first_line


@contextmanager
def naming(what: str, *, expected: str) -> Iterator[None]:
    """Turn every error but `InputError` into one line that says what can't be read as what."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # parsers raise whatever a broken file makes them
        reason = first_line(error)
        raise InputError(f"{what} can't be read as {expected}: {reason}. Save it again.") from error


def check_size(file: Path, *, at_most: int) -> None:
    """Refuse a file of more than so many bytes."""
    size = file.stat().st_size
    if size > at_most:
        raise InputError(
            f"{file} must have at most {at_most} bytes. Got {size}; save dense labels as a label "
            "image."
        )


def read_limited(file: Path, *, at_most: int) -> bytes:
    """Read a file of at most so many bytes."""
    check_size(file, at_most=at_most)
    return file.read_bytes()
