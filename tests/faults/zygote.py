"""A process with torch and TensorFlow imported and unused; every command is a fork of it.

Importing both takes longer than what the tests do with them, and a process that has used one
of them can't be forked. Requests and answers are lines of JSON:

    {"arguments": [...], "output": FILE, "watched": FOLDER, "fault": {...}}
    {"code": exit code or minus the signal, "cpu": seconds, "events": number, "at": event}

An event is a write that Python announces: opening for writing, renaming, removing, making a
folder. Those below `watched` are counted. A fault is one of

- ``{"signal": n, "at_event": k}``: the process gets the signal as it starts its k-th write;
  with ``"torn": true`` from then on as it flushes a file, which is cut to half before;
- ``{"signal": n, "at_cpu": seconds}``: it gets the signal after so much processor time;
- ``{"memory": bytes}``: it may take so much more memory than it has;
- ``{"clock": seconds}``: its clock is wrong by so much, a week more at every look;
- ``{"vanishes": path, "at_open": path}``: a file is gone once another one was opened.
"""

import contextlib
import itertools
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

MARK = "OCE2STARDIST_TRIAL"
"""Environment variable by which processes that a command started are found."""

_WEEK = 7 * 24 * 3600.0
_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Zygote:
    """Starts the process and runs commands in forks of it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        )
        self._read()

    def run(
        self,
        arguments: list[object],
        output: Path,
        *,
        watched: Path,
        fault: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Run a command; what it prints goes to the file `output`.

        Options are the number of `threads` of torch and TensorFlow, default 2, and whether
        trainings save their state after every step (`fast_saves`, default) or every 20 seconds.
        """
        request = {
            "arguments": [str(one) for one in arguments],
            "output": str(output),
            "watched": str(watched.resolve()),
            "fault": fault or {},
            **{"threads": 2, "fast_saves": True} | options,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read() | {"text": output.read_text(errors="replace")}

    def left_behind(self) -> list[psutil.Process]:
        """Find processes that commands started and that still run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (
                    process.environ().get(MARK) == str(self._process.pid)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the zygote died; its message is above")
        return json.loads(line)


# --- the process itself


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    _import_all()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), file=answers, flush=True)


def _import_all() -> None:
    """Import what is slow, and the rooms and commands that import it."""
    import pkgutil
    from importlib import import_module

    for name in ("matplotlib.pyplot", "torch", "tensorflow", "distributed", "zarr"):
        import_module(name)
    for room in ("cli", "runners", "embeddings", "stardist_model", "reports", "experiments"):
        package = import_module(f"oce2stardist.{room}")
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                import_module(found.name)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    events, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(events)
        _be_the_command(request, told)
    os.close(told)
    fault = request["fault"]
    cpu, usage = _watch(child, fault.get("at_cpu"), fault.get("signal"))
    with os.fdopen(events, "rb") as file:
        seen = file.read().decode(errors="replace").splitlines()
    code = os.waitstatus_to_exitcode(usage)
    return {"code": code, "cpu": cpu, "events": len(seen), "at": seen[-1] if seen else ""}


def _watch(child: int, at_cpu: float | None, signum: int | None) -> tuple[float, int]:
    """Wait for a child; send a signal once it has used so much processor time."""
    process, sent = psutil.Process(child), at_cpu is None
    while not sent:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            if times.user + times.system >= at_cpu:  # type: ignore[operator]
                os.kill(child, signum or signal.SIGKILL)
                sent = True
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return usage.ru_utime + usage.ru_stime, status
        time.sleep(0.003)
    _, status, usage = os.wait4(child, 0)
    return usage.ru_utime + usage.ru_stime, status


def _be_the_command(request: dict[str, Any], told: int) -> None:
    """Run the command in this fork, which ends here."""
    code = 70
    try:
        os.environ[MARK] = str(os.getppid())
        out = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.stdin = open(os.devnull)  # noqa: SIM115 (this process ends soon)
        _set_up(request["threads"], fast_saves=request["fast_saves"])
        _arrange(request["fault"], Path(request["watched"]), told)
        from oce2stardist.cli.main import main

        main(request["arguments"], prog_name="oce2stardist")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _set_up(threads: int, *, fast_saves: bool) -> None:
    import torch

    from oce2stardist.embeddings.train import train_offsets
    from oce2stardist.stardist_model.train import train_stardist

    torch.set_num_threads(threads)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    if fast_saves:
        for function in (train_offsets, train_stardist):
            function.__kwdefaults__["save_every"] = 0.0


def _arrange(fault: dict[str, Any], watched: Path, told: int) -> None:
    """Let the fault happen when its time has come."""
    if "memory" in fault:
        taken = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (taken + fault["memory"],) * 2)
    if "clock" in fault:
        _bend_clock(fault["clock"])
    below = f"{watched}{os.sep}"
    count, sent = 0, False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, sent
        if event == "open" and fault.get("at_open") == _name(arguments[0]):
            with contextlib.suppress(FileNotFoundError):
                os.rename(fault["vanishes"], f"{fault['vanishes']}.gone")
        if event not in _WRITES and not (event == "open" and _is_write(arguments)):
            return
        path = _name(arguments[0])
        if not path.startswith(below):
            return
        count += 1
        os.write(told, f"{event} {path}\n".encode(errors="replace"))
        if count < fault.get("at_event", math.inf) or sent:
            return
        if fault.get("torn"):
            if event != "open" or not _is_temporary(path):
                return
            os.truncate(path, os.path.getsize(path) // 2)
        sent = True
        os.kill(os.getpid(), fault["signal"])

    sys.addaudithook(hook)


def _name(path: object) -> str:
    return os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""


def _is_temporary(path: str) -> bool:
    return os.path.isfile(path) and os.path.basename(path).startswith(".")


def _is_write(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(one in mode for one in "wax+")
    return bool(flags & _FOR_WRITING)


def _bend_clock(shift: float) -> None:
    """Let the wall clock jump: by `shift` at first, and back and forth at every look."""
    clock, clock_ns = time.time, time.time_ns

    jump = itertools.cycle((shift, shift - _WEEK, shift + _WEEK))
    time.time = lambda: clock() + next(jump)
    time.time_ns = lambda: clock_ns() + int(1e9 * next(jump))


if __name__ == "__main__":
    _serve()
