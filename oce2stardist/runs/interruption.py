"""Ctrl-C that loses nothing: a training loop is asked to stop between two steps."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


class Interrupted(Exception):
    """The user stopped the run; what was done is on disk and the same command goes on.

    The message is empty where a line that says so was printed already.
    """


def was_stopped(error: BaseException | None) -> bool:
    """Tell whether an error is the user's wish to stop, or what other code made of Ctrl-C.

    Compiled code that looks for signals, such as stardist's suppression, ends in a SystemError of
    which KeyboardInterrupt is the cause; a module that is being imported in an ImportError.
    """
    while error is not None:
        if isinstance(error, Interrupted | KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


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


@contextmanager
def deaf_children() -> Iterator[None]:
    """Block Ctrl-C in processes and threads that are started in the block.

    On a terminal it reaches every process: those that this one started must leave it to this one.
    What is blocked stays so in a process that such a thread starts later.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # Python starts it with the first process, and unblocks then
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def ctrl_c_kept() -> Iterator[None]:
    """Give Ctrl-C back after compiled code that takes it for good, from whatever thread.

    stardist's `polyhedron_to_label` leaves a handler behind that does nothing but print "AA".
    Python's own `signal.signal` would work in the main thread only.
    """
    if os.name != "posix":
        yield
        return
    system = ctypes.CDLL(None)
    action = ctypes.create_string_buffer(256)  # struct sigaction has 152 bytes or fewer
    system.sigaction(int(signal.SIGINT), None, action)
    try:
        yield
    finally:
        system.sigaction(int(signal.SIGINT), action, None)
