"""Progress: bars with time left on a terminal, plain lines or JSON where there is none."""

import json
import os
import sys
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


class _Pace:
    """Decides which units of a task are told, and guesses how long the rest will take."""

    def __init__(self, total: int, seconds_between: float) -> None:
        self._total = total
        self._between = seconds_between
        self._started = self._last = time.monotonic()
        self._first: int | None = None

    def left(self, done: int) -> float | None:
        """Return the seconds left, or None if this unit shall not be told."""
        now = time.monotonic()
        is_first = self._first is None
        if self._first is None:
            self._first = done - 1
        # The first unit is told as a sign of life, the last as the end.
        if not is_first and done < self._total and now - self._last < self._between:
            return None
        self._last = now
        return (now - self._started) / max(1, done - self._first) * (self._total - done)


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
        pace = _Pace(total, _SECONDS_BETWEEN_OBJECTS)
        self._write(task=name, done=0, total=total, note="", seconds_left=None)

        def advance(done: int, note: str) -> None:
            left = pace.left(done)
            if left is not None:
                seconds = round(left, 1)
                self._write(task=name, done=done, total=total, note=note, seconds_left=seconds)

        yield advance

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
        pace = _Pace(total, _SECONDS_BETWEEN_LINES)

        def advance(done: int, note: str) -> None:
            left = pace.left(done)
            if left is not None:
                self.say(f"{name}: {done} of {total}, {note}, about {left:.0f} s left")

        yield advance
