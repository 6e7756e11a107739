"""Quality over the number of annotated cells and alpha, on images that no training saw.

    python benchmarks/few_annotations.py DATA RUN OUT --fractions 0.0025 0.01 --alphas 0 0.5

DATA holds train/images, train/masks, test/images and test/masks, complete truth; RUN is a run
folder of `oce2stardist pseudo` on train/images. Every row is one `oce2stardist finetune` that uses
a share of the cells of train/masks, then `predict` and `evaluate` on the test images, all as
commands with their defaults. Folders go to OUT; what is finished there is not run again. Prints
Markdown, each row as soon as it is known.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

OCE2STARDIST = [sys.executable, "-m", "oce2stardist"]


@dataclass(frozen=True)
class Data:
    """Where images and masks are."""

    train_images: Path
    train_masks: Path
    test_images: Path
    test_masks: Path

    @classmethod
    def below(cls, root: Path, *, images: Path | None, masks: Path | None) -> "Data":
        """Take the folders of a data set, or others to train on."""
        train, test = root / "train", root / "test"
        return cls(
            images or train / "images", masks or train / "masks", test / "images", test / "masks"
        )


def run_row(data: Data, run: Path, folder: Path, options: list[str], alpha: str) -> str:
    """Train, predict and score; the row's numbers as Markdown."""
    result = folder / "scores.json"
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pseudo = [] if alpha == "0" else ["--pseudo", str(run)]
        started = time.monotonic()
        call("finetune", data.train_images, "--annotations", data.train_masks, *pseudo, "--alpha",
             alpha, *options, "-q", "-o", folder / "model")  # fmt: skip
        seconds = time.monotonic() - started
        call(
            "predict", data.test_images, "--model", folder / "model", "-q", "-o", folder / "labels"
        )
        scores = json.loads(call("evaluate", folder / "labels", data.test_masks, "--json"))
        scores["seconds"] = seconds
        result.write_text(json.dumps(scores), encoding="utf-8")
    scores = json.loads(result.read_text(encoding="utf-8"))
    chosen = yaml.safe_load((folder / "model" / "parameters.yaml").read_text(encoding="utf-8"))
    cells = pd.read_csv(folder / "model" / "training" / "cells.csv")
    return (
        f"{len(cells)} | {chosen['alpha']['value']:g} | {scores['f1']:.3f} | {scores['seg']:.3f} "
        f"| {chosen['f1']['value']} | {scores['seconds']:.0f}"
    )


def call(*arguments: object) -> str:
    """Run a command of the product; returns what it prints."""
    command = [*OCE2STARDIST, *map(str, arguments)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def main() -> None:
    """Run every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "run", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--fractions", nargs="+", default=["0.01"])
    parser.add_argument("--alphas", nargs="+", default=["0", "0.5"])
    parser.add_argument("--seeds", nargs="+", default=["0"])
    parser.add_argument("--train-images", type=Path, help="instead of DATA/train/images")
    parser.add_argument("--train-masks", type=Path, help="instead of DATA/train/masks")
    parser.add_argument("--config", help="for finetune")
    arguments = parser.parse_args()
    data = Data.below(arguments.data, images=arguments.train_images, masks=arguments.train_masks)
    print("| fraction | alpha | seed | cells | used | F1 | SEG | held-back F1 | seconds |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for fraction in arguments.fractions:
        for seed in arguments.seeds:
            for alpha in arguments.alphas:
                options = ["--fraction", fraction, "--seed", seed]
                if arguments.config:
                    options += ["--config", arguments.config]
                folder = arguments.out / f"{fraction}-{alpha}-{seed}"
                row = run_row(data, arguments.run, folder, options, alpha)
                print(f"| {fraction} | {alpha} | {seed} | {row} |", flush=True)


if __name__ == "__main__":
    main()
