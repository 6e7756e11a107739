"""log.txt of a run folder: all that was said, warned and logged, with the time."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from oce2stardist.errors import InputError, one_line
from oce2stardist.runs.interruption import Interrupted, was_stopped
from oce2stardist.runs.progress import Advance, Reporter, SilentReporter

FILE = "log.txt"

_log = logging.getLogger("oce2stardist.run")
_FORMAT = "%(asctime)s %(levelname)-7s %(source)s%(message)s"
_TIME = "%Y-%m-%d %H:%M:%S%z"
_MOST_KEPT = 10_000
"""Records kept before the folder is known."""


class _LogFile(logging.FileHandler):
    """A log that says less where its disk is full: the run, not the log, tells of that."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let a line go that can't be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file; what could not be written before can't be written now."""
        with suppress(OSError):
            super().close()


class RunLog:
    """A reporter that passes everything on, and logs it.

    Records go to the logger ``oce2stardist.run``, at INFO or WARNING, whatever is done with
    them there, and to log.txt, whatever the level of that logger is.
    """

    def __init__(self, reporter: Reporter, handler: MemoryHandler) -> None:
        self._reporter = reporter
        self._handler = handler

    def open(self, folder: Path, name: str = FILE) -> None:
        """Write to log.txt of this folder, after what it holds; also what was said before."""
        folder.mkdir(parents=True, exist_ok=True)
        file = _LogFile(folder / name, encoding="utf-8")
        file.setFormatter(logging.Formatter(_FORMAT, _TIME))
        self._handler.setTarget(file)
        self._handler.flush()
        self._handler.capacity = 1  # from now on at once, for those who follow the file

    def say(self, message: str) -> None:
        """Tell the user one line."""
        self._reporter.say(message)
        self.record(logging.INFO, message)

    def warn(self, message: str) -> None:
        """Tell the user one line that must not be overlooked."""
        self._reporter.warn(message)
        self.record(logging.WARNING, message)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        """Start a piece of long work; every tenth of it is logged."""
        started, told = time.monotonic(), -1
        with self._reporter.task(name, total) as advance:

            def advance_and_log(done: int, note: str) -> None:
                nonlocal told
                advance(done, note)
                tenth = 10 * done // max(1, total)
                if tenth > told:
                    told = tenth
                    seconds = time.monotonic() - started
                    parts = [f"{name}: {done} of {total}", note, f"after {seconds:.1f} s"]
                    self.record(logging.INFO, ", ".join(filter(None, parts)))

            yield advance_and_log

    def record(self, level: int, message: str, exc_info: Any = None) -> None:
        """Log one line without telling the user: whoever calls does that."""
        record = _log.makeRecord(
            _log.name, level, __file__, 0, message, (), exc_info, extra={"said": True}
        )
        if _log.isEnabledFor(level):
            _log.handle(record)
        else:
            self._handler.handle(record)


@contextmanager
def logged(reporter: Reporter | None, command: str) -> Iterator[RunLog]:
    """Keep what is said in the block for log.txt, and how the block ends; `reporter` is told, too.

    With it come what this package logs, warnings of other packages' loggers, and Python's
    own. Nothing is written before `RunLog.open`: input that is refused leaves no folder.
    """
    handler = MemoryHandler(_MOST_KEPT, flushLevel=logging.CRITICAL + 1)
    handler.addFilter(_belongs)
    log = RunLog(reporter or SilentReporter(), handler)
    root = logging.getLogger()
    # Where no handler is set up, Python prints warnings; with ours it would think that one is.
    handlers: list[logging.Handler] = [handler] if root.handlers else [handler, _like_last_resort()]
    for each in handlers:
        root.addHandler(each)
    try:
        with _python_warnings_to(handler):
            log.record(logging.INFO, f"Started: {command}, version {_version()}")
            yield log
            log.record(logging.INFO, "Finished.")
    except BaseException as error:
        if was_stopped(error):
            log.record(logging.INFO, str(error) if isinstance(error, Interrupted) else "Stopped.")
        elif isinstance(error, InputError):
            log.record(logging.ERROR, one_line(error))
        else:
            exc_info = type(error), error, error.__traceback__
            log.record(logging.ERROR, f"Ended by {type(error).__name__}.", exc_info)
        raise
    finally:
        for each in handlers:
            root.removeHandler(each)
        target = handler.target
        handler.close()
        if target is not None:
            target.close()


def _like_last_resort() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: not getattr(record, "said", False))
    return handler


def _belongs(record: logging.LogRecord) -> bool:
    """Keep what is ours, and of others what they warn of; names others in the line."""
    ours = record.name.split(".")[0] == "oce2stardist"
    record.source = "" if ours else f"{record.name}: "
    return ours or record.levelno >= logging.WARNING


@contextmanager
def _python_warnings_to(handler: logging.Handler) -> Iterator[None]:
    """Also log what `warnings` shows."""
    show_before = warnings.showwarning

    def show(
        message: Any, category: type[Warning], filename: str, lineno: int, *rest: Any, **named: Any
    ) -> None:
        show_before(message, category, filename, lineno, *rest, **named)
        text = f"{category.__name__}: {message}"
        record = logging.LogRecord("warnings", logging.WARNING, filename, lineno, text, (), None)
        handler.handle(record)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = show_before


def _version() -> str:
    try:
        return version("oce2stardist")
    except PackageNotFoundError:
        return "unknown"
