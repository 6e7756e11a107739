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


_UNITS_TO_GUESS_FROM, _SECONDS_TO_GUESS_FROM = 2, 5.0
"""From so many units and seconds after the first unit on the time left means something: the first
one loads and compiles what the others find ready."""

Tell = Callable[[int, str, float | None], None]


def _paced(total: int, seconds_between: float, tell: Tell) -> Advance:
    """Tell of some units of a task, with the seconds left: the first, the last, a few between.

    The seconds left are None while nobody can know them.
    """
    first: tuple[int, float] | None = None
    last = 0.0

    def advance(done: int, note: str) -> None:
        nonlocal first, last
        now = time.monotonic()
        # The first unit is told as a sign of life, the last as the end.
        is_told = first is None or done >= total or now - last >= seconds_between
        first = first or (done, now)
        if is_told:
            last = now
            units, seconds = done - first[0], now - first[1]
            known = units >= _UNITS_TO_GUESS_FROM and seconds >= _SECONDS_TO_GUESS_FROM
            left = seconds / max(1, units) * (total - done)
            tell(done, note, 0.0 if done >= total else left if known else None)

    return advance


def _say_left(seconds: float | None) -> str:
    """Say how long it will take, or nothing while that is not known, or once it is done."""
    if not seconds:
        return ""
    minutes = round(seconds / 60)
    return f", about {minutes} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


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

            def tell(done: int, note: str, left: float | None) -> None:
                self.say(f"{name}: {done} of {total}, {note}{_say_left(left)}")

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
