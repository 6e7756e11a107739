"""What half precision does to quality and time: the same commands in float32 and in bfloat16.

    python benchmarks/precision.py IMAGES MASKS OUT [--every 4] [--border 25] [--steps 500]

For every precision: `oce2stardist pseudo` on every n-th image with its defaults; then, on the
float32 run, `finetune` with 20 of the annotated cells and `predict` on the same images. All are
commands in processes of their own. MASKS hold every cell and are for scoring, but for the 20 cells.
Prints Markdown rows: F1 at IoU 0.5, SEG, seconds of the training and of the whole command.
What is finished in OUT is not run again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from oce2stardist.evaluation.scores import leave_out_border, pool_scores, score_image
from oce2stardist.images.find import find_images, label_paths
from oce2stardist.images.label_files import read_labels

OCE2STARDIST = [sys.executable, "-m", "oce2stardist"]


def call(*arguments: object) -> float:
    """Run one command of oce2stardist; returns its seconds."""
    started = time.monotonic()
    subprocess.run([*OCE2STARDIST, *map(str, arguments)], check=True)
    return time.monotonic() - started


def config_file(folder: Path, stage: str, precision: str) -> Path:
    """Write a config that sets the precision of one stage."""
    path = folder / f"{stage}-{precision}.yaml"
    path.write_text(yaml.safe_dump({stage: {"precision": precision}}), encoding="utf-8")
    return path


def subset(images: Path, masks: Path, out: Path, every: int) -> tuple[Path, Path]:
    """Copy every n-th image and its mask."""
    chosen = find_images(images)[::every]
    paths = label_paths(chosen, masks)
    for name, files in (("images", chosen), ("masks", [paths[path] for path in chosen])):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder / file.name)
    return out / "images", out / "masks"


def score(predicted: Path, images: Path, masks: Path, border: float) -> str:
    """Score a folder of labels; F1 and SEG as Markdown."""
    listed = find_images(images)
    found, truth = label_paths(listed, predicted), label_paths(listed, masks)
    pairs = [[read_labels(one[image]) for one in (found, truth)] for image in listed]
    scores = pool_scores(
        [score_image(*(leave_out_border(labels, border) for labels in pair)) for pair in pairs]
    )
    return f"{scores.f1:.3f} / {scores.seg:.3f}"


def row(result: Path, title: str, run: Sequence[str]) -> None:
    """Print a row and keep it."""
    line = f"| {title} | {' | '.join(run)} |"
    result.write_text(json.dumps(line), encoding="utf-8")
    print(line, flush=True)


def main() -> None:
    """Run and print the table of one set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    parser.add_argument("--border", type=float, default=0.0, help="pixels left out of the scores")
    parser.add_argument("--steps", type=int, default=500, help="of StarDist")
    given = parser.parse_args()
    images, masks = subset(given.images, given.masks, given.out, given.every)
    print("| stage, precision | F1 / SEG | training s | command s |\n|---|---:|---:|---:|")
    for precision in ("fp32", "bf16"):
        result = given.out / f"pseudo-{precision}.json"
        if result.exists():
            print(json.loads(result.read_text()), flush=True)
            continue
        run = given.out / f"pseudo-{precision}"
        config = config_file(given.out, "embedding", precision)
        seconds = call("pseudo", images, "-o", run, "--config", config, "-q")
        times = yaml.safe_load((run / "times.yaml").read_text())
        scores = score(run / "pseudo" / "labels", images, masks, given.border)
        trained = sum(value for name, value in times.items() if "train" in name)
        row(result, f"pseudo, {precision}", [scores, f"{trained:.0f}", f"{seconds:.0f}"])
    for precision in ("fp32", "mixed"):
        result = given.out / f"model-{precision}.json"
        if result.exists():
            print(json.loads(result.read_text()), flush=True)
            continue
        model = given.out / f"model-{precision}"
        config = config_file(given.out, "stardist", precision)
        seconds = call(
            "finetune", images, "--pseudo", given.out / "pseudo-fp32", "--annotations", masks,
            "--cells", 20, "--alpha", 0.5, "--steps", given.steps, "--config", config, "-q",
            "-o", model,
        )  # fmt: skip
        times = yaml.safe_load((model / "times.yaml").read_text())
        trained = sum(value for name, value in times.items() if "train" in name)
        call("predict", images, "--model", model, "-q", "-o", given.out / f"labels-{precision}")
        scores = score(given.out / f"labels-{precision}", images, masks, given.border)
        row(result, f"StarDist, {precision}", [scores, f"{trained:.0f}", f"{seconds:.0f}"])
    print("load " + ", ".join(f"{load:.2f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
