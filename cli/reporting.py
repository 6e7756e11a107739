"""Progress: bars with time left on a terminal, plain lines or JSON where there is none."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
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

from oce2stardist.runs.progress import Advance, Reporter

PROGRESS = "OCE2STARDIST_PROGRESS"
"""Environment variable; `json` asks for lines that programs read."""

_SECONDS_BETWEEN_LINES = 20.0
_SECONDS_BETWEEN_OBJECTS = 0.1


def open_reporter(*, quiet: bool) -> Reporter:
    """Choose how to tell: to people, or to a program that asked for JSON."""
    if os.environ.get(PROGRESS) == "json":
        return JsonReporter()
    return TerminalReporter(quiet=quiet)


def _paced(total: int, seconds_between: float, tell: Callable[[int, str, float], None]) -> Advance:
    """Tell of some units of a task, with the seconds left: the first, the last, a few between."""
    started = last = time.monotonic()
    first: int | None = None

    def advance(done: int, note: str) -> None:
        nonlocal first, last
        now = time.monotonic()
        # The first unit is told as a sign of life, the last as the end.
        is_told = first is None or done >= total or now - last >= seconds_between
        first = done - 1 if first is None else first
        if is_told:
            last = now
            tell(done, note, (now - started) / max(1, done - first) * (total - done))

    return advance


class JsonReporter:
    """Writes one JSON object a line to standard error, for programs that draw their own bars."""

    def say(self, message: str) -> None:
        """Write ``{"say": message}``."""
        self._write(say=message)

    def warn(self, message: str) -> None:
        """Write ``{"warn": message}``."""
        self._write(warn=message)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        """Write ``{"task", "done", "total", "note", "seconds_left"}``, at most ten a second."""

        def tell(done: int, note: str, left: float | None) -> None:
            seconds = None if left is None else round(left, 1)
            self._write(task=name, done=done, total=total, note=note, seconds_left=seconds)

        tell(0, "", None)
        yield _paced(total, _SECONDS_BETWEEN_OBJECTS, tell)

    def _write(self, **content: object) -> None:
        print(json.dumps(content), file=sys.stderr, flush=True)


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
        if not self._console.is_terminal:

            def tell(done: int, note: str, left: float) -> None:
                self.say(f"{name}: {done} of {total}, {note}, about {left:.0f} s left")

            yield _paced(total, _SECONDS_BETWEEN_LINES, tell)
            return
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
