"""How labels differ between one thread and two, with and without --deterministic.

    python benchmarks/determinism.py OUT [--steps 150] [--threads 1 2]

Every command is a process of its own whose libraries may use so many threads, on two quarters of
the image of nuclei that stardist ships. Prints the table of docs/determinism.md.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.labels import UNLABELLED
from oce2stardist.runs.cluster import limited_to

_ANNOTATED = 12


@dataclass(frozen=True)
class Run:
    """A name for the table, threads, and whether --deterministic is given."""

    name: str
    threads: int
    deterministic: bool


def write_data(folder: Path) -> None:
    """Cut the example image: a quarter trains, with a few annotated cells, another is predicted."""
    from stardist.data import test_image_nuclei_2d

    image, truth = test_image_nuclei_2d(return_mask=True)
    for name, part in (("train", image[:256, :256]), ("test", image[256:, 256:])):
        path = folder / name / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, part)
    upper = truth[:256, :256].astype(np.int32)
    few = np.unique(upper[upper > 0])[:_ANNOTATED]
    write_labels(folder / "masks" / "train.tif", np.where(np.isin(upper, few), upper, UNLABELLED))


def command(run: Run, *arguments: object, makes: Path) -> None:
    """Run a command in a process with so many threads, unless what it makes is there."""
    if makes.exists():
        return
    program = [sys.executable, "-m", "oce2stardist", *map(str, arguments), "--quiet"]
    if run.deterministic:
        program.append("--deterministic")
    subprocess.run(program, env=os.environ | limited_to(run.threads), check=True)


def label(
    folder: Path, runs: list[Run], steps: int, *, blocks: bool
) -> dict[str, dict[Run, NDArray[np.int32]]]:
    """Make pseudo labels, train on those of the first run, and predict; labels by what was run."""
    made: dict[str, dict[Run, NDArray[np.int32]]] = {"pseudo": {}, "finetune + predict": {}}
    first = folder / runs[0].name / "pseudo"
    for run in runs:
        out = folder / run.name
        labels = out / "pseudo" / "pseudo" / "labels" / "train.tif"
        command(run, "pseudo", folder / "train", "-o", out / "pseudo", "--steps", steps,
                makes=labels)  # fmt: skip
        made["pseudo"][run] = read_labels(labels)
        command(
            run, "finetune", folder / "train", "--pseudo", first, "--annotations",
            folder / "masks", "-o", out / "model", "--steps", steps,
            makes=out / "model" / "thresholds.json",
        )  # fmt: skip
        labels = out / "labels" / "test.tif"
        command(run, "predict", folder / "test", "--model", out / "model", "-o", out / "labels",
                makes=labels)  # fmt: skip
        made["finetune + predict"][run] = read_labels(labels)
    return made | predict_alone(folder, folder / runs[0].name / "model", runs, blocks=blocks)


def predict_alone(
    folder: Path, model: Path, runs: list[Run], *, blocks: bool
) -> dict[str, dict[Run, NDArray[np.int32]]]:
    """Predict with one model, at once and in blocks with as many workers as threads."""
    made: dict[str, dict[Run, NDArray[np.int32]]] = {}
    small = ["--blocks-above", 0.001, "--block", 64]
    for run in runs:
        ways: list[tuple[str, list[object]]] = [("predict", [])]
        if blocks:
            workers = ["--workers", run.threads, "--threads", run.threads]
            ways.append(("predict in blocks", [*small, *workers]))
        for what, more in ways:
            out = folder / run.name / what.replace(" ", "-")
            command(run, "predict", folder / "test", "--model", model, "-o", out, *more,
                    makes=out / "test.tif")  # fmt: skip
            made.setdefault(what, {})[run] = read_labels(out / "test.tif")
    return made


def compare(made: Mapping[Run, NDArray[np.int32]], one: Run, other: Run) -> str:
    """Say how the labels of two runs differ."""
    a, b = made[one], made[other]
    if np.array_equal(a, b):
        return f"equal to the bit ({a.max()} objects)"
    # As foreground and as groups, whatever the numbering.
    differ = np.count_nonzero((a > 0) != (b > 0)) / a.size
    index = adjusted_rand_score(a.ravel(), b.ravel())
    return f"{a.max()} and {b.max()} objects, {differ:.3%} of the pixels, Rand index {index:.5f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--blocks", action="store_true", help="predict in blocks, too")
    given = parser.parse_args()
    runs = [
        Run(f"{name}{'-deterministic' if fixed else ''}", threads, fixed)
        for fixed in (False, True)
        for name, threads in (("two", 2), ("one", 1), ("two-again", 2))
    ]
    write_data(given.out)
    made = label(given.out, runs, given.steps, blocks=given.blocks)
    print("| command | | 1 and 2 threads | 2 threads, twice |")
    print("|---|---|---|---|")
    for what, labels in made.items():
        for at, flag in ((0, "—"), (3, "`--deterministic`")):
            two, one, again = runs[at : at + 3]
            print(
                f"| {what} | {flag} | {compare(labels, two, one)} | {compare(labels, two, again)} |"
            )


if __name__ == "__main__":
    main()
