"""How good a model is after 0, 1, 5 and 10 completely annotated images: the benchmark of the field.

    python benchmarks/few_images.py DATA OUT [--draws 10] [--every 1] [--config NAME]
    python benchmarks/few_images.py DATA OUT --figure FILE.png

DATA holds DSB 2018 with StarDist's split: train/images, train/masks, test/images, test/masks, and
the published curves in peers/. All training images are there for `oce2stardist pseudo` (with
`--every N` every Nth); of 0, 1, 5 or 10 of them the annotations are used too. 1 image is drawn
among those with 15 to 45 cells. Each row is one `oce2stardist finetune` with its defaults, then
`predict` on the test images, and AP at IoU 0.5 of each of these, averaged over them, as the peers
count it. With no annotated image it is `predict --model drawn`. Folders go to OUT; what is
finished there is not run again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from stardist.matching import matching

from oce2stardist.images.label_files import read_labels

OCE2STARDIST = [sys.executable, "-m", "oce2stardist"]
DRAWS = {0: 1, 1: 10, 5: 3, 10: 3}
"""How often images are drawn, by their number."""

CELLS_OF_ONE = (15, 45)
"""Of the one annotated image."""

PEERS = {
    "cellseg1": "CellSeg1 (GPU, SAM)",
    "cellpose-cyto2": "Cellpose, fine-tuned",
    "stardist": "StarDist",
}


def draw_images(masks: Path, images: Path, count: int, draw: int) -> list[Path]:
    """Draw the mask files of the annotated images, the same for a number and a draw."""
    files = [masks / image.name for image in sorted(images.glob("*.tif"))]
    if count == 1:
        least, most = CELLS_OF_ONE
        files = [file for file in files if least <= len(np.unique(read_labels(file))) - 1 <= most]
    chosen = np.random.default_rng([count, draw]).choice(len(files), count, replace=False)
    return [files[index] for index in sorted(chosen)]


def link(files: list[Path], folder: Path) -> Path:
    """Make a folder of links to files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def call(*arguments: object) -> None:
    """Run a command of the product."""
    subprocess.run([*OCE2STARDIST, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def run_row(
    data: Path, out: Path, images: Path, count: int, draw: int, options: list[str]
) -> dict[str, Any]:
    """Train and score one draw; what is known about it."""
    folder = out / f"{count}-{draw}"
    result = folder / "result.json"
    if result.exists():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    started = time.monotonic()
    row: dict[str, Any] = {"images": count, "draw": draw, "cells": 0}
    model: Path | str = "drawn"
    if count:
        masks = draw_images(data / "train" / "masks", images, count, draw)
        model = folder / "model"
        call("finetune", images, "--annotations", link(masks, folder / "annotated"), "--zero",
             "background", "--pseudo", out / "run", "--seed", draw, *options, "-q",
             "-o", model)  # fmt: skip
        chosen = yaml.safe_load((model / "parameters.yaml").read_text(encoding="utf-8"))
        row |= {"alpha": chosen["alpha"]["value"], "best": chosen.get("best", {}).get("value")}
        row["cells"] = len(pd.read_csv(model / "training" / "cells.csv"))
        row["drawn"] = [mask.stem for mask in masks]
    row["finetune_seconds"] = round(time.monotonic() - started)
    labels = folder / "labels"
    call("predict", data / "test" / "images", "--model", model, "-q", "-o", labels)
    ap = {
        mask.stem: float(matching(read_labels(mask), read_labels(labels / mask.name)).accuracy)
        for mask in sorted((data / "test" / "masks").glob("*.tif"))
    }
    row |= {"ap": round(float(np.mean(list(ap.values()))), 4), "by_image": ap}
    result.write_text(json.dumps(row), encoding="utf-8")
    return row


def draw_figure(rows: list[dict[str, Any]], peers: Path, path: Path) -> None:
    """Draw AP over the number of images, ours and the published curves."""
    published = json.loads(peers.read_text(encoding="utf-8"))["dsb2018_stardist"]
    figure, axes = plt.subplots(figsize=(5.2, 3.4), dpi=120)
    counts = sorted({row["images"] for row in rows})
    ours = [[row["ap"] for row in rows if row["images"] == count] for count in counts]
    of = {count: place for place, count in enumerate(DRAWS)}
    axes.plot([of[count] for count in counts], [np.mean(ap) for ap in ours], "o-", lw=2.2,
              color="#0072b2", label="oce2stardist (2 cores)")  # fmt: skip
    for count, ap in zip(counts, ours, strict=True):
        axes.plot([of[count]] * len(ap), ap, "o", ms=3, mfc="none", color="#0072b2", alpha=0.6)
    colours = ("#d55e00", "#009e73", "#777777")
    for (name, label), colour in zip(PEERS.items(), colours, strict=True):
        values = [published[name][str(count)] for count in (1, 5, 10)]
        axes.plot([1, 2, 3], values, "s--", ms=4, color=colour, label=label)
    axes.set_xticks(list(of.values()), list(map(str, of)))
    axes.set_xlabel("annotated training images (DSB 2018)")
    axes.set_ylabel("AP at IoU 0.5, mean of 50 test images")
    axes.set_ylim(0.35, 0.95)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Run every draw, print the table, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--draws", type=int, default=max(DRAWS.values()), help="at most")
    parser.add_argument("--counts", type=int, nargs="+", default=list(DRAWS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--config", help="for finetune")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if given.figure:
        rows = [json.loads(file.read_text()) for file in sorted(given.out.glob("*/result.json"))]
        draw_figure(rows, given.data / "peers" / "figure_4_1.json", given.figure)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    images = given.out / "images"
    if not images.exists():
        link(sorted((given.data / "train" / "images").glob("*.tif"))[:: given.every], images)
    if any(given.counts) and not (given.out / "run" / "report").exists():
        call("pseudo", images, "-q", "-o", given.out / "run")
    options = ["--config", given.config] if given.config else []
    print("| images | draws | mean AP | standard deviation | least |\n|---:|---:|---:|---:|---:|")
    for count in given.counts:
        draws = range(min(DRAWS[count], given.draws))
        rows = [run_row(given.data, given.out, images, count, draw, options) for draw in draws]
        for row in rows:
            print("   ", {k: row[k] for k in row if k != "by_image"}, file=sys.stderr, flush=True)
        ap = [row["ap"] for row in rows]
        spread = f"{np.std(ap, ddof=1):.3f}" if len(ap) > 1 else ""
        print(f"| {count} | {len(ap)} | {np.mean(ap):.3f} | {spread} | {min(ap):.3f} |", flush=True)


if __name__ == "__main__":
    main()
