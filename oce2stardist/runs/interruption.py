"""Ctrl-C that loses nothing: a training loop is asked to stop between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The user stopped the run; what was done is on disk and the same command goes on."""


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag; yields the function that reads it.

    A second signal acts at once, and so does one that nobody asked after: it came behind the
    last look, and is raised as the block ends. Outside the main thread signals can't be caught
    and the flag stays False.
    """
    stopped, told = 0, False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            signal.signal(signum, previous[signal.Signals(signum)])
            signal.raise_signal(signum)
        stopped = signum

    def should_stop() -> bool:
        nonlocal told
        told = told or bool(stopped)
        return bool(stopped)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {signum: signal.signal(signum, note) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield should_stop
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    if stopped and not told:
        signal.raise_signal(stopped)
