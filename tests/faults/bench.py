"""Commands that are disturbed, and checks of what they leave: whole files, the same result."""

import itertools
import json
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import imagecodecs
import numpy as np
import pandas as pd
import psutil
import tifffile
import yaml
from forks import Done, left_behind, run_command
from labs import TINY, make_lab, make_model, scene, snapshot
from safetensors.numpy import load_file

from oce2stardist.images.label_files import read_labels

REFUSED = 2  # exit code
WORKER = "spawn_main"  # in the command line of a dask worker
_STEPS = 5  # of each training; the state is saved after every one
_TIMES = {"log.txt", "times.yaml", "hashes.yaml", "outcome.yaml"}  # they tell when or how long

# Who is asked by SIGTERM may finish what it writes: only SIGKILL leaves half a file.
_KILLS = [(signal.SIGKILL, "torn"), (signal.SIGTERM, "write"), (signal.SIGKILL, "write"),
          (signal.SIGTERM, "time"), (signal.SIGKILL, "time")]  # fmt: skip


class Command(NamedTuple):
    """A command of the matrix; {lab} is the laboratory, {out} the output folder."""

    words: str
    compared: str  # globs in the output: equal to an undisturbed run, byte for byte
    same_files: bool = True  # and no file besides those of an undisturbed run
    read: str = "images/a.tif images/b.tif"  # in the laboratory, one after the other
    begun: str = ""  # glob in the output: files that say that workers have begun
    worker: str = ""  # in the command line of such a process


COMMANDS = {
    "pseudo": Command(
        "pseudo {lab}/images -o {out} --config {lab}/matrix.yaml --diameter 18 --overlay",
        "pseudo/**/* oce/predicted/* oce/weights.safetensors run.yaml"),
    "merge": Command("merge {out} --annotations {lab}/masks", "training/**/*",
                     read="masks/a.tif masks/b.tif"),
    "finetune": Command(
        "finetune {lab}/images --pseudo {lab}/run --annotations {lab}/masks -o {out} "
        "--config {lab}/matrix.yaml --alpha 0.5",
        "*.h5 *.json training/**/* parameters.yaml run.yaml"),
    "predict": Command(
        "predict {lab}/images --model {lab}/model -o {out} --write labels,rois,geojson,csv,overlay",
        "*"),
    "experiment": Command(
        "experiment unsupervised {lab}/study.yaml -o {out} --workers 2",
        "*.csv cells/*/labels/*.tif cells/*/scores.csv",
        same_files=False, begun="cells/*/lock", worker="run_process",
        read="data/train/images/train2.tif data/train/images/train3.tif"),
    "predict in blocks": Command(
        "predict {lab}/large.tif --model {lab}/model -o {out} --blocks-above 0.001 --block 64 "
        "--workers 2",
        "*.tif", begun=".*/found/*", worker=WORKER),
}  # fmt: skip


def make_matrix_lab(folder: Path) -> Path:
    """Write images, annotations, a run, a model, a data set and configs for all commands."""
    make_lab(folder)
    make_model(folder / "model", finds=True)
    tifffile.imwrite(folder / "large.tif", np.tile(scene(5)[0], (4, 4)))
    # Of networks that learned next to nothing: whatever they group is an object.
    any_object = {"min_cluster": 0.0, "min_size": 0.0, "max_ratio": 1e9, "threshold": "pooled"}
    settings = {
        "embedding": TINY["embedding"] | {"steps": _STEPS},
        "pseudo": TINY["pseudo"] | any_object,
        "stardist": TINY["stardist"] | {"steps": _STEPS, "checks": 2},
    }
    (folder / "matrix.yaml").write_text(yaml.safe_dump(settings))
    for part, seed in (("train", 2), ("train", 3), ("test", 4)):
        for kind, array in zip(("images", "masks"), scene(seed), strict=True):
            path = folder / "data" / part / kind / f"{part}{seed}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array)
    study = {
        "study": "unsupervised", "stardist": {}, "cellpose": {}, "settings": settings,
        "data": [{"path": str(folder / "data"), "diameter": 18.0, "name": "discs"}],
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


@dataclass
class Trial:
    """A command with an output of its own, given once or again, with a fault or without."""

    command: Command
    lab: Path
    out: Path
    whole: "Trial | None"  # undisturbed; none for that itself
    done: Done | None = None  # what came of the last time

    def give(self, *options: str, threads: int = 2, **fault: Any) -> Done:
        """Give the command. All that it wrote must be whole, its inputs be left alone.

        Processes that a killed command leaves behind must end by themselves.
        """
        before = snapshot(self.lab)
        words = [word.format(lab=self.lab, out=self.out) for word in self.command.words.split()]
        said = self.lab.parent / "said.txt"
        self.done = run_command(
            [*words, *options], output=self.out, said=said, threads=threads, fault=fault
        )
        _, alive = psutil.wait_procs(left_behind(), timeout=90.0)
        assert not alive, [process.cmdline() for process in alive]
        if "vanishes" in fault:
            Path(f"{fault['vanishes']}.gone").rename(fault["vanishes"])
        assert snapshot(self.lab) == before, "an input was changed"
        check_whole(self.out)
        return self.done

    def kill_after(self, share: float, how: str = "write", signum: int = signal.SIGKILL) -> dict:
        """Describe a kill after a share of the writes, or with "time" of the processor time.

        With "torn", what it wrote is cut to half before.
        """
        if how == "time":
            return {"signal": signum, "at_cpu": share * self.whole.done.cpu}
        event = 1 + int(share * self.whole.done.events)
        return {"signal": signum, "at_event": event, "torn": how == "torn"}

    def check_refused(self, why: str) -> None:
        """The command ended with one line that says why; or some of its grid cells did."""
        if self.command is COMMANDS["experiment"] and self.done.code == 1:
            # A cell that failed: the table has the others, and one line says why.
            lines = [line for line in self.done.text.splitlines() if line.startswith("failed: ")]
            assert lines and all(why in line or "needs " in line for line in lines), self.done.text
            return
        assert self.done.code == REFUSED, self.done
        *others, last = self.done.text.strip().splitlines()
        assert last.startswith("Error: ") and why in last, self.done.text
        assert "Traceback" not in self.done.text, self.done.text
        assert not [line for line in others if line.startswith("Error")], self.done.text

    def check_same(self) -> None:
        """The output is that of an undisturbed run."""
        ours, theirs = names(self.out), names(self.whole.out)
        assert not self.command.same_files or ours == theirs, ours ^ theirs
        assert not [name for name in ours if is_temporary(name)], ours
        compared = 0
        for pattern in self.command.compared.split():
            for path in self.whole.out.glob(pattern):
                if path.is_file() and path.name not in _TIMES and "report" not in path.parts:
                    other = self.out / path.relative_to(self.whole.out)
                    assert content(other) == content(path), other
                    compared += 1
        assert compared > 0

    def go_on(self, **fault: Any) -> str:
        """Give the same command again: the "same" as undisturbed, or "refused" in one line."""
        if self.give(**fault).code == REFUSED:
            self.check_refused("")
            return "refused"
        assert self.done.code == 0, self.done
        self.check_same()
        return "same"


class Bench:
    """A laboratory, and the undisturbed run of each command in it, made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = make_matrix_lab(folder / "lab")
        self.kills = itertools.cycle(_KILLS)
        self._undisturbed: dict[str, Trial] = {}
        self._numbers = itertools.count()

    def undisturbed(self, name: str) -> Trial:
        """Run a command to its end, once."""
        if name not in self._undisturbed:
            trial = self._prepare(name, self.folder, None)
            assert trial.give().code == 0, trial.done
            most = [read_labels(path).max() for path in trial.out.rglob("*/labels/*.tif")]
            assert not most or max(most) > 1, "labels without objects tell nothing"
            self._undisturbed[name] = trial
        return self._undisturbed[name]

    def trial(self, name: str, folder: Path | None = None) -> Trial:
        """Prepare a trial, whose output lies in this folder."""
        return self._prepare(name, folder or self.folder, self.undisturbed(name))

    def _prepare(self, name: str, folder: Path, whole: Trial | None) -> Trial:
        out = folder / f"{name}-{next(self._numbers)}" / "out"
        out.parent.mkdir()
        if name == "merge":
            shutil.copytree(self.lab / "run", out)
        return Trial(COMMANDS[name], self.lab, out, whole)


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
    """Read the bytes of all arrays, by name."""
    arrays: dict[str, bytes] = {}

    def take(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[name] = node[()].tobytes()

    with h5py.File(path) as file:
        file.visititems(take)
    assert arrays
    return arrays


def check_whole(folder: Path) -> None:
    """Every file under a name of its own is complete."""
    for name in names(folder):
        if not is_temporary(name) and Path(name).name != "log.txt":
            try:
                _read_whole(folder / name)
            except Exception as error:
                raise AssertionError(f"{folder / name} is not whole: {error}") from error


def _read_whole(path: Path) -> None:
    data = path.read_bytes()
    match path.suffix:
        case ".tif":
            assert tifffile.imread(path).size
        case ".png":
            imagecodecs.png_decode(data)
            assert data[-8:-4] == b"IEND"
        case ".yaml":
            assert yaml.safe_load(data) is not None
        case ".json" | ".geojson":
            json.loads(data)
        case ".csv":
            assert data.endswith(b"\n")
            pd.read_csv(path)
        case ".safetensors":
            load_file(path)
        case ".h5":
            h5_arrays(path)
        case ".pt" | ".zip" | ".npz":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
        case ".pdf" | ".html" | ".svg":
            assert data.rstrip().endswith((b"%%EOF", b"</html>", b"</svg>"))
        case _:
            raise AssertionError("nobody knows how to tell whether such a file is whole")


class NoDisk(Exception):
    """This machine does not let us mount a disk of our own."""


@contextmanager
def mounted(disk: Path, *, size: int) -> Iterator[None]:
    """Mount a disk of so many bytes."""
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise NoDisk("a tmpfs can't be mounted here; that takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)
