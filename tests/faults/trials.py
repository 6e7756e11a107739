"""Commands that are disturbed, and what must hold after: whole files, same result, own files kept.

A trial runs a command with a fault, looks at what it left, and gives the same command again.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pandas as pd
import psutil
import tifffile
import yaml
from labs import TINY, make_lab, make_model, scene, snapshot
from safetensors import safe_open
from zygote import Zygote

from oce2stardist.images.label_files import read_labels

_ENDED_BY_USER = 130
_REFUSED = 2
_TIMES = {"log.txt", "times.yaml", "hashes.yaml", "outcome.yaml"}
"""Files whose content tells when or how long."""

_PAGE = 4096
_LEAST_MEMORY, _MOST_MEMORY = 1 << 20, 1 << 30
_ENDS_OF_LIBRARIES = (signal.SIGABRT, signal.SIGSEGV)

_WORKER = "spawn_main"
"""What the command line of a dask worker holds."""

STEPS = 5
"""Of each training; the state is saved after every one."""


@dataclass(frozen=True)
class Command:
    """A command of the matrix.

    Attributes
    ----------
    words : str
        The command line; {lab} is the laboratory, {out} the output folder.
    compared : tuple of str
        Globs of files in the output that must equal those of an undisturbed run, byte for byte.
    same_files : bool
        Whether just the files of an undisturbed run must be there.
    begun, worker : str
        Of a command with workers: a glob of files that say that they have begun, and what the
        command line of such a process holds.
    """

    name: str
    words: str
    compared: tuple[str, ...]
    same_files: bool = True
    begun: str = ""
    worker: str = ""

    def arguments(self, lab: Path, out: Path) -> list[object]:
        """Fill in the folders."""
        return [word.format(lab=lab, out=out) for word in self.words.split()]

    def output(self, folder: Path) -> Path:
        """Where it writes, in a folder of the trial."""
        return folder / ("run" if self.name == "merge" else "out")


COMMANDS = {
    one.name: one
    for one in (
        Command("pseudo", "pseudo {lab}/images -o {out} --config {lab}/matrix.yaml --diameter 18 "
                "--overlay",
                ("pseudo/**/*", "oce/predicted/*", "oce/weights.safetensors", "run.yaml")),
        Command("merge", "merge {out} --annotations {lab}/masks", ("training/**/*",)),
        Command("finetune", "finetune {lab}/images --pseudo {lab}/run --annotations {lab}/masks "
                "-o {out} --config {lab}/matrix.yaml --alpha 0.5",
                ("*.h5", "*.json", "training/**/*", "parameters.yaml", "run.yaml")),
        Command("predict", "predict {lab}/images --model {lab}/model -o {out} "
                "--write labels,rois,geojson,csv,overlay", ("*",)),
        Command("experiment", "experiment unsupervised {lab}/study.yaml -o {out} --workers 2",
                ("*.csv", "cells/*/labels/*.tif", "cells/*/scores.csv"),
                same_files=False, begun="cells/*/lock", worker="run_process"),
        Command("predict in blocks", "predict {lab}/large.tif --model {lab}/model -o {out} "
                "--blocks-above 0.001 --block 64 --workers 2", ("*.tif",), begun=".*/found/*",
                worker=_WORKER),
    )
}  # fmt: skip


def make_matrix_lab(folder: Path) -> Path:
    """Write images, annotations, a run, a model, a data set and configs for all commands."""
    make_lab(folder)
    make_model(folder / "model", finds=True)
    tifffile.imwrite(folder / "large.tif", np.tile(scene(5)[0], (4, 4)))
    tiny = json.loads(json.dumps(TINY))
    tiny["embedding"]["steps"] = tiny["stardist"]["steps"] = STEPS
    tiny["stardist"]["checks"] = 2
    # Of networks that learned next to nothing: whatever they group is an object.
    tiny["pseudo"] |= {"min_cluster": 0.0, "min_size": 0.0, "max_ratio": 1e9, "threshold": "pooled"}
    (folder / "matrix.yaml").write_text(yaml.safe_dump(tiny))
    for part, seeds in (("train", (2, 3)), ("test", (4,))):
        for seed in seeds:
            image, labels = scene(seed)
            for kind, array in (("images", image), ("masks", labels)):
                path = folder / "data" / part / kind / f"{part}{seed}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, array)
    study = {
        "study": "unsupervised", "stardist": {}, "cellpose": {}, "settings": tiny,
        "data": [{"path": str(folder / "data"), "diameter": 18.0, "name": "discs"}],
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


@dataclass
class Undisturbed:
    """What a command does when nothing happens: its output, processor seconds and writes."""

    command: Command
    output: Path
    cpu: float
    events: int


@dataclass
class Bench:
    """A laboratory, a zygote, and the undisturbed run of each command, made when first needed."""

    folder: Path
    zygote: Zygote
    lab: Path = field(init=False)
    whole: dict[str, Undisturbed] = field(default_factory=dict)
    trials: int = 0

    def __post_init__(self) -> None:
        self.lab = make_matrix_lab(self.folder / "lab")

    def undisturbed(self, name: str) -> Undisturbed:
        """Run a command to its end, once."""
        if name not in self.whole:
            command = COMMANDS[name]
            out = self.start_at(command, self.folder / "whole" / name)
            done = self.give(command, out)
            assert done["code"] == 0, done["text"]
            found = [read_labels(path).max() for path in out.rglob("*/labels/*.tif")]
            assert not found or max(found) > 1, "labels without objects tell nothing"
            self.whole[name] = Undisturbed(command, out, done["cpu"], done["events"])
        return self.whole[name]

    def new_output(self, command: Command) -> Path:
        """Make a place for a trial."""
        self.trials += 1
        return self.start_at(command, self.folder / "trials" / f"{command.name}-{self.trials}")

    def start_at(self, command: Command, folder: Path) -> Path:
        """Put what a command starts from into a folder; returns where it writes."""
        folder.mkdir(parents=True)
        out = command.output(folder)
        if command.name == "merge":
            shutil.copytree(self.lab / "run", out)
        return out

    def give(
        self, command: Command, out: Path, fault: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Give a command, with a fault or without."""
        said = self.folder / "said.txt"
        arguments = command.arguments(self.lab, out)
        return self.zygote.run(arguments, said, watched=out, fault=fault, **options)

    def wait_for_the_left(self, seconds: float = 90.0) -> None:
        """Wait for processes of a killed command, which must end by themselves."""
        _, alive = psutil.wait_procs(self.zygote.left_behind(), timeout=seconds)
        assert not alive, [one.cmdline() for one in alive]

    @contextmanager
    def inputs_kept(self) -> Iterator[None]:
        """See that the block, and processes that it leaves behind, change no input."""
        before = digests(self.lab)
        yield
        self.wait_for_the_left()
        assert digests(self.lab) == before, "an input was changed"

    def check_goes_on(self, command: Command, out: Path) -> str:
        """Give the same command again: the "same" as undisturbed, or "refused" in one line."""
        whole = self.undisturbed(command.name)
        self.wait_for_the_left()
        done = self.give(command, out)
        if done["code"] == _REFUSED:
            check_one_line(done["text"])
            return "refused"
        assert done["code"] == 0, (done["code"], done["text"])
        check_same(whole, out)
        return "same"


def check_one_line(text: str) -> None:
    """What is said of a refusal is one line, and no traceback."""
    *others, last = text.strip().splitlines()
    assert last.startswith("Error: "), text
    assert "Traceback" not in text, text
    assert not [line for line in others if line.startswith("Error")], text


def check_same(whole: Undisturbed, out: Path) -> None:
    """The output is that of an undisturbed run."""
    if whole.command.same_files:
        assert names(out) == names(whole.output), names(out) ^ names(whole.output)
    assert not [name for name in names(out) if is_temporary(name)], names(out)
    compared = 0
    for pattern in whole.command.compared:
        for path in whole.output.glob(pattern):
            if not path.is_file() or path.name in _TIMES or "report" in path.parts:
                continue
            other = out / path.relative_to(whole.output)
            assert content(other) == content(path), other
            compared += 1
    assert compared > 0


def names(folder: Path) -> set[str]:
    """Names of all files in a folder, but for those of its lock."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".owner", "lock")
    }


def is_temporary(name: str) -> bool:
    """Whether a file, or a folder it lies in, has a hidden name."""
    return any(part.startswith(".") for part in Path(name).parts)


def content(path: Path) -> object:
    """What must be equal in a file: its bytes, but for the times in some."""
    if path.suffix == ".h5":
        return h5_arrays(path)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv()
    return path.read_bytes()


def h5_arrays(path: Path) -> dict[str, bytes]:
    arrays: dict[str, bytes] = {}

    def take(name: str, one: object) -> None:
        if isinstance(one, h5py.Dataset):
            arrays[name] = one[()].tobytes()

    with h5py.File(path) as file:
        file.visititems(take)
    assert arrays
    return arrays


def check_whole(out: Path) -> None:
    """Every file under a name of its own is complete."""
    paths = [out / name for name in names(out) if not is_temporary(name)] if out.exists() else []
    for path in paths:
        if path.name == "log.txt":
            continue
        try:
            _read_whole(path)
        except Exception as error:
            raise AssertionError(f"{path} is not whole: {error}") from error


def _read_whole(path: Path) -> None:
    suffix = path.suffix
    if suffix == ".tif":
        with tifffile.TiffFile(path) as tiff:
            assert tiff.asarray().size
    elif suffix == ".png":
        imagecodecs.png_decode(path.read_bytes())
        assert path.read_bytes()[-8:-4] == b"IEND"
    elif suffix == ".yaml":
        assert yaml.safe_load(path.read_text()) is not None
    elif suffix in (".json", ".geojson"):
        json.loads(path.read_text())
    elif suffix == ".csv":
        assert path.read_text().endswith("\n")
        pd.read_csv(path)
    elif suffix == ".safetensors":
        with safe_open(path, framework="numpy") as file:
            [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    elif suffix == ".h5":
        h5_arrays(path)
    elif suffix in (".pt", ".zip", ".npz"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    elif suffix == ".pdf":
        assert path.read_bytes().rstrip().endswith(b"%%EOF")
    elif suffix in (".html", ".svg"):
        assert path.read_text().rstrip().endswith(("</html>", "</svg>"))
    else:
        raise AssertionError("nobody knows how to tell whether such a file is whole")


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of all files of a folder."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- kills


@dataclass(frozen=True)
class Kill:
    """When a command is killed, and how.

    `at` "write": as it starts a write; "torn": there, with what it wrote cut to half; "time":
    after a share of its processor time. `share` is that of the writes or the processor time of
    an undisturbed run.
    """

    signum: int
    at: str
    share: float

    def fault(self, whole: Undisturbed) -> dict[str, Any]:
        """Say it to the zygote."""
        if self.at == "time":
            return {"signal": self.signum, "at_cpu": self.share * whole.cpu}
        event = 1 + int(self.share * whole.events)
        return {"signal": self.signum, "at_event": event, "torn": self.at == "torn"}


def draw_kills(count: int, rng: np.random.Generator) -> list[Kill]:
    """Draw kills: spread over the whole run, by turns of each kind and signal."""
    # Who is asked by SIGTERM may finish what it writes: only SIGKILL leaves half a file.
    kinds = [(signal.SIGKILL, "torn"), (signal.SIGTERM, "write"), (signal.SIGKILL, "write"),
             (signal.SIGTERM, "time"), (signal.SIGKILL, "time")]  # fmt: skip
    shares = (np.arange(count) + rng.random(count)) / count
    rng.shuffle(shares)
    turns = zip(itertools.cycle(kinds), shares, strict=False)
    return [Kill(int(signum), at, 0.95 * float(share)) for (signum, at), share in turns]


def try_kill(bench: Bench, name: str, kill: Kill) -> dict[str, Any]:
    """Kill a command, look at what it left, give it again: how it ended, where, what came of it."""
    whole = bench.undisturbed(name)
    with bench.inputs_kept():
        for sooner in (1.0, 0.7, 0.4, 0.1):
            out = bench.new_output(whole.command)
            earlier = replace(kill, share=sooner * kill.share)
            done = bench.give(whole.command, out, earlier.fault(whole))
            bench.wait_for_the_left()
            if done["code"] != 0:  # else it was done already: processor time is not always the same
                break
            check_same(whole, out)
    how = {-kill.signum: "killed", _ENDED_BY_USER: "stopped"}.get(done["code"])
    assert how is not None, (done["code"], done["text"])
    check_whole(out)
    with bench.inputs_kept():
        return {"how": how, "at": done["at"], "end": bench.check_goes_on(whole.command, out)}


# --- other faults


def try_full_disk(bench: Bench, name: str, share: float) -> dict[str, Any]:
    """Let the disk hold only a share of what a command writes; make room; give it again."""
    whole = bench.undisturbed(name)
    before = pages(bench.lab / "run") if name == "merge" else 0
    size = int(before + share * (pages(whole.output) - before))
    with own_disk(bench, whole.command, size * _PAGE) as (disk, out):
        done = bench.give(whole.command, out)
        if done["code"] == 0:  # temporary files were counted too high, and it fits
            return {"how": "finished", "end": "same"}
        check_refused(whole.command, done, "No space left on device")
        bench.wait_for_the_left()
        check_whole(out)
        remount(disk, "size=1g")
        return {"how": "refused", "end": bench.check_goes_on(whole.command, out)}


def try_read_only(bench: Bench, name: str, share: float) -> dict[str, Any]:
    """Kill a command half-way, let its output be read-only, then writable again."""
    whole = bench.undisturbed(name)
    with own_disk(bench, whole.command, 1 << 30) as (disk, out):
        kill = Kill(signal.SIGKILL, "write", share)
        bench.give(whole.command, out, kill.fault(whole))
        bench.wait_for_the_left()
        before = snapshot(out)
        remount(disk, "ro")
        done = bench.give(whole.command, out)
        check_refused(whole.command, done, "Read-only file system")
        bench.wait_for_the_left()
        assert snapshot(out) == before
        remount(disk, "rw")
        return {"how": "refused", "end": bench.check_goes_on(whole.command, out)}


def try_vanishing(bench: Bench, name: str, share: float) -> dict[str, Any]:
    """Take an input away while another is read; bring it back; give the command again."""
    whole = bench.undisturbed(name)
    lab, out = bench.lab, bench.new_output(whole.command)
    before = digests(lab)
    first, second = (
        (lab / "data" / "train" / "images" / f"train{n}.tif" for n in (2, 3))
        if name == "experiment"
        else (lab / ("masks" if name == "merge" else "images") / f"{stem}.tif" for stem in "ab")
    )
    fault = {"vanishes": str(second), "at_open": str(first)}
    done = bench.give(whole.command, out, fault)
    gone = second.with_name(f"{second.name}.gone")
    assert gone.exists(), "the fault did not happen"
    gone.rename(second)
    assert digests(lab) == before
    check_refused(whole.command, done, second.name)
    check_whole(out)
    return {"how": "refused", "end": bench.check_goes_on(whole.command, out)}


def try_little_memory(bench: Bench, name: str, share: float) -> dict[str, Any]:
    """Let a command have little more memory than it began with, then as much as it wants."""
    whole = bench.undisturbed(name)
    out = bench.new_output(whole.command)
    extra = int(_LEAST_MEMORY * (_MOST_MEMORY / _LEAST_MEMORY) ** share)
    with bench.inputs_kept():
        done = bench.give(whole.command, out, {"memory": extra})
    how = {0: "finished", _REFUSED: "refused"}.get(done["code"])
    if how == "refused":
        check_one_line(done["text"])
        assert "memory" in done["text"], done["text"]
    elif how is None:  # a library in C ends the process where it gets none
        ended = -done["code"] in _ENDS_OF_LIBRARIES
        ended |= done["code"] == 1 and done["text"].strip().startswith("libgomp: ")
        assert ended, (done["code"], done["text"])
        how = "ended by a library"
    check_whole(out)
    return {"how": how, "end": bench.check_goes_on(whole.command, out)}


def try_wrong_clock(bench: Bench, name: str, share: float) -> dict[str, Any]:
    """Kill a command; go on with a clock that jumps, and files from the future and the past."""
    whole = bench.undisturbed(name)
    out = bench.new_output(whole.command)
    kill = Kill(signal.SIGKILL, "write", share)
    years = (-20 if share < 0.5 else 20) * 365 * 24 * 3600.0
    bench.give(whole.command, out, kill.fault(whole) | {"clock": -years})
    bench.wait_for_the_left()
    for number, path in enumerate(sorted(out.rglob("*"))):
        when = 1.7e9 + years * (-1) ** number + number
        os.utime(path, (when, when))
    done = bench.give(whole.command, out, {"clock": years})
    assert done["code"] == 0, done["text"]
    check_same(whole, out)
    return {"how": "killed", "end": "same"}


def check_refused(command: Command, done: dict[str, Any], why: str) -> None:
    """The command ended with exit code 2 and one line that says why."""
    if command.name == "experiment" and done["code"] == 1:
        # A cell that failed: the table has the others, and one line says why.
        lines = [line for line in done["text"].splitlines() if line.startswith("failed: ")]
        assert lines and all(why in line or "needs " in line for line in lines), done["text"]
        return
    assert done["code"] == _REFUSED, (done["code"], done["text"])
    check_one_line(done["text"])
    assert why in done["text"].strip().splitlines()[-1], done["text"]


@contextmanager
def own_disk(bench: Bench, command: Command, size: int) -> Iterator[tuple[Path, Path]]:
    """Mount a disk of a size; yields it and the output of a trial on it."""
    bench.trials += 1
    disk = bench.folder / "disks" / f"{command.name}-{bench.trials}"
    with mounted(disk, size=max(size, _PAGE)):
        try:
            yield disk, bench.start_at(command, disk / "trial")
        finally:
            bench.wait_for_the_left()


@contextmanager
def mounted(disk: Path, *, size: int) -> Iterator[None]:
    """Mount a disk of so many bytes."""
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise NoDisk("a tmpfs can't be mounted here; that takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class NoDisk(Exception):
    """This machine does not let us mount a disk of our own."""


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def pages(folder: Path) -> int:
    """Pages of memory that the files of a folder take on a tmpfs."""
    return sum(-(-path.stat().st_size // _PAGE) for path in folder.rglob("*") if path.is_file())


def try_dead_worker(bench: Bench, name: str, share: float) -> dict[str, Any]:
    """Kill a process that works for a command once it has begun to; give it again if it failed."""
    whole = bench.undisturbed(name)
    out = bench.new_output(whole.command)
    killed: list[str] = []
    over = threading.Event()

    def kill_one() -> None:
        while not over.wait(0.02) and not killed:
            if any(out.glob(whole.command.begun)):
                time.sleep(share * 2)
                which = whole.command.worker if share < 0.5 else _WORKER
                killed.extend(_kill_one(bench.zygote.left_behind(), which))

    killer = threading.Thread(target=kill_one)
    killer.start()
    with bench.inputs_kept():
        done = bench.give(whole.command, out)
        over.set()
        killer.join()
    assert killed, "no worker was there to kill"
    assert done["code"] in (0, 1, _REFUSED), (done["code"], done["text"])
    if done["code"] == 0:
        check_same(whole, out)
    check_whole(out)
    how = {0: "went on", 1: "one cell failed", _REFUSED: "refused"}[done["code"]]
    return {"how": how, "end": bench.check_goes_on(whole.command, out)}


def _kill_one(processes: list[psutil.Process], name: str) -> list[str]:
    """Kill a process with this in its command line; returns that."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if name in line:
                process.kill()
                return [line]
    return []


@dataclass(frozen=True)
class Fault:
    """A kind of fault, and how the page describes it.

    `attempt` is given bench, command and a share from 0 to 1 that says when or how much; None:
    a kill. `times` says how often it is tried where not as often as usual.
    """

    name: str
    what: str
    commands: tuple[str, ...]
    attempt: Callable[[Bench, str, float], dict[str, Any]] | None = None
    times: dict[str, int] = field(default_factory=dict)


_ALL = ("pseudo", "merge", "finetune", "predict", "experiment")

FAULTS = (
    Fault(
        "SIGKILL or SIGTERM",
        "by turns of both, as a write begins, as one is flushed (SIGKILL only; the file is cut "
        "to half before), or after a share of the processor time; spread over the whole run at "
        "random.",
        _ALL,
    ),
    Fault(
        "disk full",
        "the output lies on a disk that holds a share of what is written; then it gets larger.",
        _ALL,
        try_full_disk,
    ),
    Fault(
        "output turns read-only",
        "the command is killed half-way and given again while its disk is mounted read-only; "
        "then it is writable again.",
        _ALL,
        try_read_only,
    ),
    Fault(
        "input vanishes",
        "a file is gone once another one was opened; then it is back.",
        _ALL,
        try_vanishing,
        dict.fromkeys(_ALL, 1),
    ),
    Fault(
        "out of memory",
        "`RLIMIT_AS` leaves the command 1 MB to 1 GB more than it began with; then all. Where a "
        "C library gets no memory it ends the process itself, without a line of ours.",
        ("pseudo", "merge", "finetune", "predict"),
        try_little_memory,
        {"finetune": 2, "predict": 4},
    ),
    Fault(
        "a worker dies",
        "a dask worker, of `experiment` or of `predict` in blocks, or the process of a grid "
        "cell, is killed with SIGKILL.",
        ("experiment", "predict in blocks"),
        try_dead_worker,
        {"experiment": 2},
    ),
    Fault(
        "clock jumps",
        "the command is killed and given again with a clock that is 20 years off and jumps by "
        "weeks; files of the first part have times in the past and the future, by turns.",
        _ALL,
        try_wrong_clock,
    ),
)
