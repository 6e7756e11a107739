"""Disturb commands, look at what is left, and give the same command again.

A share from 0 to 1 says when a fault happens, or how much of it. Each function returns how the
command ended, and what came of it the second time.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from bench import REFUSED, WORKER, Bench, mounted
from forks import left_behind
from labs import snapshot

_ENDED_BY_USER = 130  # exit code
_PAGE = 4096  # bytes of memory

End = tuple[str, str]


def try_kill(bench: Bench, name: str, share: float) -> End:
    """Kill a command, look at what it left, give it again."""
    signum, kind = next(bench.kills)
    for sooner in (1.0, 0.7, 0.4, 0.1):
        trial = bench.trial(name)
        if trial.give(**trial.kill_after(0.95 * sooner * share, kind, signum)).code != 0:
            break
        trial.check_same()  # it was done already: processor time is not always the same
    how = {-signum: "killed", _ENDED_BY_USER: "stopped"}.get(trial.done.code)
    assert how is not None, trial.done
    return how, trial.go_on()


def try_full_disk(bench: Bench, name: str, share: float) -> End:
    """Let the disk hold only a share of what a command writes; make room; give it again."""
    before = _pages(bench.lab / "run") if name == "merge" else 0
    size = int(before + share * (_pages(bench.undisturbed(name).out) - before))
    disk = bench.folder / "disk"
    with mounted(disk, size=max(1, size) * _PAGE):
        trial = bench.trial(name, disk)
        if trial.give().code == 0:  # temporary files were counted too high, and it fits
            return "finished", "same"
        trial.check_refused("No space left on device")
        _remount(disk, "size=1g")
        return "refused", trial.go_on()


def _pages(folder: Path) -> int:
    """Pages of memory that the files of a folder take on a tmpfs."""
    return sum(-(-path.stat().st_size // _PAGE) for path in folder.rglob("*") if path.is_file())


def _remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def try_read_only(bench: Bench, name: str, share: float) -> End:
    """Kill a command half-way, let its output be read-only, then writable again."""
    disk = bench.folder / "disk"
    with mounted(disk, size=1 << 30):
        trial = bench.trial(name, disk)
        trial.give(**trial.kill_after(share))
        before = snapshot(trial.out)
        _remount(disk, "ro")
        trial.give()
        trial.check_refused("Read-only file system")
        assert snapshot(trial.out) == before
        _remount(disk, "rw")
        return "refused", trial.go_on()


def try_vanishing(bench: Bench, name: str, share: float) -> End:
    """Take an input away while another is read; bring it back; give the command again."""
    trial = bench.trial(name)
    first, second = (bench.lab / file for file in trial.command.read.split())
    trial.give(vanishes=str(second), at_open=str(first))
    trial.check_refused(second.name)
    return "refused", trial.go_on()


def try_little_memory(bench: Bench, name: str, share: float) -> End:
    """Let a command have little more memory than it began with, then as much as it wants."""
    trial = bench.trial(name)
    done = trial.give(memory=int(2 ** (20 + 10 * share)))  # 1 MB to 1 GB
    if done.code == 0:
        how = "finished"
    elif done.code == REFUSED:
        trial.check_refused("memory")
        how = "refused"
    else:  # a library in C ends the process where it gets none
        of_openmp = done.code == 1 and done.text.strip().startswith("libgomp: ")
        assert done.code in (-signal.SIGABRT, -signal.SIGSEGV) or of_openmp, done
        how = "ended by a library"
    return how, trial.go_on()


def try_dead_worker(bench: Bench, name: str, share: float) -> End:
    """Kill a process that works for a command once it has begun to; give it again if it failed."""
    trial, over = bench.trial(name), threading.Event()
    killed: list[psutil.Process] = []

    def kill_one() -> None:
        while not over.wait(0.02) and not killed:
            if any(trial.out.glob(trial.command.begun)):
                time.sleep(share * 2)
                killed.extend(_kill_one(trial.command.worker if share < 0.5 else WORKER))

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    done = trial.give()
    over.set()
    killer.join()
    assert killed, "no worker was there to kill"
    how = {0: "went on", 1: "one cell failed", REFUSED: "refused"}.get(done.code)
    assert how is not None, done
    if done.code == 0:
        trial.check_same()
    return how, trial.go_on()


def _kill_one(name: str) -> list[psutil.Process]:
    """Kill a process of a command that has this in its command line; returns it."""
    for process in left_behind():
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                process.kill()
                return [process]
    return []


def try_wrong_clock(bench: Bench, name: str, share: float) -> End:
    """Kill a command; go on with a clock that jumps, and files from the future and the past."""
    trial = bench.trial(name)
    years = (-20 if share < 0.5 else 20) * 365 * 24 * 3600.0
    trial.give(**trial.kill_after(share), clock=-years)
    for number, path in enumerate(sorted(trial.out.rglob("*"))):
        when = 1.7e9 + years * (-1) ** number + number
        os.utime(path, (when, when))
    end = trial.go_on(clock=years)
    assert end == "same", trial.done
    return "killed", end


class Fault(NamedTuple):
    """A kind of fault, how often it is tried on which commands, and how the page describes it."""

    name: str
    attempt: Callable[[Bench, str, float], End]
    times: dict[str, int]
    what: str


# More on what takes less time.
_KILLS = {"pseudo": 8, "merge": 20, "finetune": 5, "predict": 16, "experiment": 3}
_OTHERS = {"pseudo": 2, "merge": 3, "finetune": 1, "predict": 3, "experiment": 1}
_LITTLE = {"pseudo": 2, "merge": 3, "finetune": 2, "predict": 4}

FAULTS = (
    Fault("SIGKILL or SIGTERM", try_kill, _KILLS,
          "by turns of both, as a write begins, as one is flushed (SIGKILL only; the file is cut "
          "to half before), or after a share of the processor time; spread over the whole run at "
          "random."),
    Fault("disk full", try_full_disk, _OTHERS,
          "the output lies on a disk that holds a share of what is written; then it gets larger."),
    Fault("output turns read-only", try_read_only, _OTHERS,
          "the command is killed half-way and given again while its disk is mounted read-only; "
          "then it is writable again."),
    Fault("input vanishes", try_vanishing, dict.fromkeys(_OTHERS, 1),
          "a file is gone once another one was opened; then it is back."),
    Fault("out of memory", try_little_memory, _LITTLE,
          "`RLIMIT_AS` leaves the command 1 MB to 1 GB more than it began with; then all. Where a "
          "C library gets no memory it ends the process itself, without a line of ours."),
    Fault("a worker dies", try_dead_worker, {"experiment": 2, "predict in blocks": 1},
          "a dask worker, of `experiment` or of `predict` in blocks, or the process of a grid "
          "cell, is killed with SIGKILL."),
    Fault("clock jumps", try_wrong_clock, _OTHERS,
          "the command is killed and given again with a clock that is 20 years off and jumps by "
          "weeks; files of the first part have times in the past and the future, by turns."),
)  # fmt: skip
