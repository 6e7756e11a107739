"""How a runner tells whoever called it what it does; the command line draws bars from it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, str], None]
"""Called with the number of units done so far and a short note such as the loss."""


class Reporter(Protocol):
    """What a runner calls."""

    def say(self, message: str) -> None:
        """Tell the user one line."""

    def warn(self, message: str) -> None:
        """Tell the user one line that must not be overlooked."""

    def task(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Start a piece of long work of `total` units."""


class SilentReporter:
    """Says nothing: the default of the Python functions."""

    def say(self, message: str) -> None:
        """Ignore the line."""

    def warn(self, message: str) -> None:
        """Ignore the line; who calls a function reads the result."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        """Ignore the progress."""
        yield lambda done, note: None
