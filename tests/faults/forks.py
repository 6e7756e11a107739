"""Run commands in forks of a process that has imported torch and TensorFlow; let faults happen.

Importing both takes longer than what the tests do with them, and a process that has used one of
them can't be forked; multiprocessing's fork server has imported them and uses neither.

An event is a write that Python announces: opening for writing, renaming, removing, making a
folder. Those below the output are counted. A fault is one of

- ``signal=n, at_event=k``: the process gets the signal as it starts its k-th write; with
  ``torn=True`` from then on as it flushes a file, which is cut to half before;
- ``signal=n, at_cpu=seconds``: it gets the signal after so much processor time;
- ``memory=bytes``: it may take so much more memory than it has;
- ``clock=seconds``: its clock is wrong by so much, a week more at every look;
- ``vanishes=path, at_open=path``: a file is gone once another one was opened.
"""

import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import pkgutil
import resource
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import psutil

_MARK = "OCE2STARDIST_TRIAL"  # variable by which processes that a command started are found
_WEEK = 7 * 24 * 3600.0  # seconds
_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Done(NamedTuple):
    """A command that ended: exit code or minus the signal, processor seconds, events, output."""

    code: int
    cpu: float
    events: int
    text: str


@functools.cache
def _fork_server() -> Any:
    """Let a process import what is slow, and the rooms and commands that import it."""
    modules = ["matplotlib.pyplot", "torch", "tensorflow", "distributed", "zarr"]
    for room in ("cli", "runners", "embeddings", "stardist_model", "reports", "experiments"):
        folders = find_spec(f"oce2stardist.{room}").submodule_search_locations
        modules += [name for _, name, _ in pkgutil.iter_modules(folders, f"oce2stardist.{room}.")]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in modules if not name.endswith("__main__")])
    return context


def run_command(
    arguments: list[str], *, output: Path, said: Path, threads: int, fault: dict[str, Any]
) -> Done:
    """Run a command that writes to `output`; what it prints goes to the file `said`."""
    events = said.with_suffix(".events")
    told = (arguments, str(output.resolve()), said, events, os.getpid(), threads, fault)
    process = _fork_server().Process(target=_be_the_command, args=told)
    process.start()
    cpu, deadline, running = 0.0, fault.get("at_cpu", math.inf), psutil.Process(process.pid)
    while process.exitcode is None:
        with contextlib.suppress(psutil.Error):
            cpu = sum(running.cpu_times()[:2])  # of user and system
            if cpu >= deadline:
                running.send_signal(fault["signal"])
                deadline = math.inf
        process.join(0.003)
    return Done(process.exitcode, cpu, events.stat().st_size, said.read_text(errors="replace"))


def left_behind() -> list[psutil.Process]:
    """Find processes that commands started and that still run."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(_MARK) == str(os.getpid())
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def _be_the_command(arguments, output, said, events, mark, threads, fault):
    sys.modules["__main__"] = ModuleType("__main__")  # else workers of dask import the tests', too
    os.environ[_MARK] = str(mark)
    for_writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    printed, counted = os.open(said, for_writing), os.open(events, for_writing)
    os.dup2(printed, 1), os.dup2(printed, 2)
    import torch
    from oce2stardist.cli.main import main

    from oce2stardist.embeddings import train as embedding
    from oce2stardist.stardist_model import train as stardist

    torch.set_num_threads(threads)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    embedding.SAVE_EVERY = stardist.SAVE_EVERY = 0.0  # the state is saved after every step
    _arrange(fault, output, counted)
    main(arguments, prog_name="oce2stardist")


def _arrange(fault: dict[str, Any], output: str, counted: int) -> None:
    """Count the events, a byte each, and let the fault happen when its time has come."""
    if "memory" in fault:
        taken = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (taken + fault["memory"],) * 2)
    if "clock" in fault:
        _bend_clock(fault["clock"])
    events, sent = itertools.count(1), False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal sent
        if event not in _WRITES and event != "open":
            return
        path = _name(arguments[0])
        if event == "open" and path == fault.get("at_open"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(fault["vanishes"], f"{fault['vanishes']}.gone")
        writes = event != "open" or _is_write(*arguments)
        if not writes or not path.startswith(output + os.sep):
            return
        os.write(counted, b".")
        if next(events) < fault.get("at_event", math.inf) or sent:
            return
        if fault.get("torn"):
            if event != "open" or not os.path.isfile(path) or os.path.basename(path)[0] != ".":
                return
            os.truncate(path, os.path.getsize(path) // 2)
        sent = True
        os.kill(os.getpid(), fault["signal"])

    sys.addaudithook(hook)


def _name(path: object) -> str:
    return os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""


def _is_write(path: object, mode: object, flags: int) -> bool:
    return bool(set("wax+") & set(mode) if isinstance(mode, str) else flags & _FOR_WRITING)


def _bend_clock(shift: float) -> None:
    """Let the wall clock jump: by `shift` at first, and back and forth at every look."""
    clock, clock_ns = time.time, time.time_ns
    jump = itertools.cycle((shift, shift - _WEEK, shift + _WEEK))
    time.time = lambda: clock() + next(jump)
    time.time_ns = lambda: clock_ns() + int(1e9 * next(jump))
