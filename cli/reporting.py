"""Progress on the terminal: bars with time left, plain lines where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from oce2stardist.runners.progress import Advance

_SECONDS_BETWEEN_LINES = 20.0


class TerminalReporter:
    """Draws a bar for each task on standard error; prints a line now and then to a file."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """Print one line."""
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Print one line in red, where there are colours; also with --quiet."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"Warning: {message}", style="bold red", markup=False
        )

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        """Show progress for the length of the block."""
        if self._console.is_terminal:
            with self._bar(name, total) as advance:
                yield advance
        else:
            with self._lines(name, total) as advance:
                yield advance

    @contextmanager
    def _bar(self, name: str, total: int) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(name, total=total, note="")
            yield lambda done, note: progress.update(task, completed=done, note=note)

    @contextmanager
    def _lines(self, name: str, total: int) -> Iterator[Advance]:
        started = last = time.monotonic()
        first: int | None = None

        def advance(done: int, note: str) -> None:
            nonlocal last, first
            now = time.monotonic()
            is_first = first is None
            first = done - 1 if first is None else first
            # The first unit is told as a sign of life, the last as the end.
            if not is_first and done < total and now - last < _SECONDS_BETWEEN_LINES:
                return
            last = now
            left = (now - started) / max(1, done - first) * (total - done)
            self.say(f"{name}: {done} of {total}, {note}, about {left:.0f} s left")

        yield advance
