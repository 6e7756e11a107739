"""What clicks, verdicts and outlines of the same minutes are worth, simulated from complete labels.

    python benchmarks/clicks.py run SET OUT [--minutes 1 4] [--seeds 0 1 2] [--config NAME]
    python benchmarks/clicks.py figure FIGURE.png OUT [OUT ...]

SET holds images and masks, complete truth. Every other image is annotated and the ones between are
scored; a single image is cut into a left half to annotate and a right half to score. All of them
are in the one `oce2stardist pseudo` run (OUT/run, or --run), as a lab's images would be; no cell
that was annotated is ever scored. Every row is `finetune` with its defaults on what was annotated,
then `predict` and `evaluate` of the scored images, as commands. What is finished in OUT is not run
again.

The clicker sees the images with the outlines of the pseudo labels, and knows a cell when it sees
one; it knows nothing of images that it is not shown. It spends its minutes so:

- outlines: cells drawn at random, each outlined as it is in the truth, 15 s each;
- points: cells and false objects (less than a fifth on cells) drawn at random, 2 s for each click
  or look. A cell whose object fits (IoU 0.5) gets a point; if the object holds other cells, each of
  them gets one; a cell in pieces gets a stroke; one without an object a point where it is; a false
  object a background point. An object of one cell with a bad outline is left as it is;
- verdicts: pseudo objects drawn at random, 1.5 s each: right (IoU 0.5 with a cell), background (a
  false object) or wrong.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.evaluation.scores import overlap_matrix
from oce2stardist.images.label_files import read_labels, write_labels

Labels = NDArray[np.int32]

OCE2STARDIST = [sys.executable, "-m", "oce2stardist"]
SECONDS = {"outlines": 15.0, "points": 2.0, "verdicts": 1.5}
COLUMNS = ["kind", "minutes", "seed", "actions", "f1", "mean_f1", "seg"]
FITS = 0.5  # IoU
FALSE = 0.2  # of an object on cells, at most: what anyone sees is none
INSIDE = 0.5  # of a cell or a piece, at least


@dataclass(frozen=True)
class Scene:
    """One image as the clicker knows it: overlaps of pseudo objects (rows) and cells (columns)."""

    stem: str
    truth: Labels
    pseudo: Labels
    objects: NDArray[np.int64] = field(init=False)
    cells: NDArray[np.int64] = field(init=False)
    shared: NDArray[np.int64] = field(init=False)
    iou: NDArray[np.float64] = field(init=False)
    on_cells: NDArray[np.float64] = field(init=False)  # share of each object
    sizes: NDArray[np.int64] = field(init=False)  # of cells

    def __post_init__(self) -> None:
        overlap = overlap_matrix(self.pseudo, self.truth)
        shared = overlap.pixels.toarray()
        own, sizes = overlap.predicted_sizes[:, None], overlap.true_sizes[None]
        for name, value in {
            "objects": overlap.predicted_ids,
            "cells": overlap.true_ids,
            "shared": shared,
            "iou": shared / np.maximum(own + sizes - shared, 1),
            "on_cells": shared.sum(axis=1) / np.maximum(overlap.predicted_sizes, 1),
            "sizes": overlap.true_sizes,
        }.items():
            object.__setattr__(self, name, value)

    def middle(self, *masks: NDArray[np.bool_]) -> tuple[int, int]:
        """Find the pixel deepest in what all masks share, which is where one clicks."""
        inside = np.logical_and.reduce(masks)
        depth = ndi.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return int(y), int(x)


@dataclass
class Drawn:
    """What the clicker left in one folder of annotations."""

    seconds: float = 0.0
    points: list[tuple[str, int, int, str]] = field(default_factory=list)
    strokes: list[tuple[str, list[tuple[int, int]]]] = field(default_factory=list)
    verdicts: list[tuple[str, int, str]] = field(default_factory=list)
    outlines: dict[str, list[int]] = field(default_factory=dict)

    @property
    def n_actions(self) -> int:
        n_outlines = sum(map(len, self.outlines.values()))
        return len(self.points) + len(self.strokes) + len(self.verdicts) + n_outlines

    def write(self, folder: Path, scenes: dict[str, Scene]) -> None:
        """Write the files that a person would have saved."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.points:
            table = pd.DataFrame(self.points, columns=["image", "y", "x", "label"])
            table.to_csv(folder / "points.csv", index=False)
        if self.verdicts:
            table = pd.DataFrame(self.verdicts, columns=["image", "id", "verdict"])
            table.to_csv(folder / "verdicts.csv", index=False)
        by_image: dict[str, list[list[list[float]]]] = {}
        for stem, pixels in self.strokes:
            by_image.setdefault(stem, []).append([[x + 0.5, y + 0.5] for y, x in pixels])
        for stem, lines in by_image.items():
            features = [
                {"type": "Feature", "geometry": {"type": "LineString", "coordinates": line}}
                for line in lines
            ]
            document = {"type": "FeatureCollection", "features": features}
            (folder / f"{stem}.geojson").write_text(json.dumps(document), encoding="utf-8")
        for stem, ids in self.outlines.items():
            truth = scenes[stem].truth
            write_labels(folder / f"{stem}.tif", np.where(np.isin(truth, ids), truth, 0))


def annotate(kind: str, scenes: dict[str, Scene], minutes: float, seed: int) -> Drawn:
    """Let the clicker spend its minutes."""
    rng = np.random.default_rng(seed)
    drawn = Drawn()
    steps = {"outlines": _outlines, "points": _points, "verdicts": _verdicts}[kind]
    for seconds in steps(list(scenes.values()), drawn, rng):
        drawn.seconds += seconds
        if drawn.seconds >= 60 * minutes:
            break
    return drawn


def _outlines(scenes: list[Scene], drawn: Drawn, rng: np.random.Generator) -> Iterator[float]:
    cells = [(scene.stem, int(cell)) for scene in scenes for cell in scene.cells]
    for at in rng.permutation(len(cells)):
        stem, cell = cells[at]
        drawn.outlines.setdefault(stem, []).append(cell)
        yield SECONDS["outlines"]


def _verdicts(scenes: list[Scene], drawn: Drawn, rng: np.random.Generator) -> Iterator[float]:
    objects = [(scene, at) for scene in scenes for at in range(len(scene.objects))]
    for index in rng.permutation(len(objects)):
        scene, at = objects[index]
        word = "wrong"
        if scene.iou[at].max(initial=0) >= FITS:
            word = "right"
        elif scene.on_cells[at] < FALSE:
            word = "background"
        drawn.verdicts.append((scene.stem, int(scene.objects[at]), word))
        yield SECONDS["verdicts"]


def _points(scenes: list[Scene], drawn: Drawn, rng: np.random.Generator) -> Iterator[float]:
    seen = [("cell", scene, at) for scene in scenes for at in range(len(scene.cells))]
    seen += [
        ("false", scene, int(at))
        for scene in scenes
        for at in np.flatnonzero(scene.on_cells < FALSE)
    ]
    done: set[tuple[str, int]] = set()
    for index in rng.permutation(len(seen)):
        kind, scene, at = seen[index]
        if kind == "false":
            y, x = scene.middle(scene.pseudo == scene.objects[at])
            drawn.points.append((scene.stem, y, x, "background"))
            yield SECONDS["points"]
        elif (scene.stem, at) not in done:
            for seconds, cell in _click(scene, at, drawn):
                done.add((scene.stem, cell))
                yield seconds


def _click(scene: Scene, cell: int, drawn: Drawn) -> Iterator[tuple[float, int]]:
    """Click on a cell, or on all that one object holds; yields seconds and the cells."""
    is_cell = scene.truth == scene.cells[cell]
    shared = scene.shared[:, cell]
    if not shared.any() or scene.pseudo[scene.middle(is_cell)] == 0:
        drawn.points.append((scene.stem, *scene.middle(is_cell), "cell"))
        yield SECONDS["points"], cell
        return
    main = int(shared.argmax())
    held = np.flatnonzero(scene.shared[main] > INSIDE * scene.sizes)
    if len(held) > 1:
        for one in held.tolist():
            mask = scene.truth == scene.cells[one]
            place = scene.middle(mask, scene.pseudo == scene.objects[main])
            drawn.points.append((scene.stem, *place, "cell"))
            yield SECONDS["points"], one
        return
    own = scene.shared.sum(axis=1)
    pieces = np.flatnonzero((shared > INSIDE * np.maximum(own, 1)) & (shared > 0.1 * is_cell.sum()))
    if len(pieces) > 1:
        places = [scene.middle(is_cell, scene.pseudo == scene.objects[at]) for at in pieces]
        drawn.strokes.append((scene.stem, sorted(places)))
    elif scene.iou[main, cell] >= FITS:
        place = scene.middle(is_cell, scene.pseudo == scene.objects[main])
        drawn.points.append((scene.stem, *place, "cell"))
    yield SECONDS["points"], cell


def call(*arguments: object) -> str:
    """Run a command of the product; returns what it prints."""
    command = [*OCE2STARDIST, *map(str, arguments)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def copy_set(source: Path, out: Path) -> tuple[list[str], list[str]]:
    """Copy a set to OUT/images and OUT/masks; returns the stems to annotate and those to score."""
    files = sorted((source / "images").glob("*.tif"))
    for name in ("images", "masks", "scored", "scored_masks"):
        (out / name).mkdir(parents=True, exist_ok=True)
    if len(files) == 1:
        image, mask = tifffile.imread(files[0]), read_labels(source / "masks" / files[0].name)
        middle = image.shape[1] // 2
        for name, half in (("left", np.s_[:, :middle]), ("right", np.s_[:, middle:])):
            axes = "YX" if image.ndim == 2 else "YXC"
            tifffile.imwrite(
                out / "images" / f"{name}.tif",
                image[half],
                photometric="minisblack",
                metadata={"axes": axes},
            )
            write_labels(out / "masks" / f"{name}.tif", mask[half])
        stems = ["left", "right"]
    else:
        stems = [file.stem for file in files]
        for file in files:
            (out / "images" / file.name).write_bytes(file.read_bytes())
            masks = (source / "masks" / file.name).read_bytes()
            (out / "masks" / file.name).write_bytes(masks)
    for stem in stems[1::2]:
        for name in ("images", "masks"):
            target = out / ("scored" if name == "images" else "scored_masks") / f"{stem}.tif"
            target.write_bytes((out / name / f"{stem}.tif").read_bytes())
    return stems[::2], stems[1::2]


def run_row(
    out: Path, run: Path, folder: Path, annotations: Path | None, options: list[str]
) -> dict:
    """Train, predict and score; returns the scores."""
    result = folder / "scores.json"
    if not result.exists():
        given = [] if annotations is None else ["--annotations", annotations]
        call("finetune", out / "images", "--pseudo", run, *given, *options, "-q",
             "-o", folder / "model")  # fmt: skip
        call("predict", out / "scored", "--model", folder / "model", "-q", "-o", folder / "labels")
        result.write_text(call("evaluate", folder / "labels", out / "scored_masks", "--json"))
    return json.loads(result.read_text(encoding="utf-8"))


def run(arguments: argparse.Namespace) -> None:
    """Run every row; prints Markdown, each row as soon as it is known, and writes results.csv."""
    out = arguments.out
    annotated, _ = copy_set(arguments.set, out)
    common = ["--config", arguments.config] if arguments.config else []
    first = arguments.run
    if first is None:
        first = out / "run"
        call("pseudo", out / "images", "-o", first, "-q", *common)
    scenes = {
        stem: Scene(
            stem,
            read_labels(out / "masks" / f"{stem}.tif"),
            read_labels(first / "pseudo" / "labels" / f"{stem}.tif"),
        )
        for stem in annotated
    }
    rows = []
    print("| annotated | minutes | seed | actions | F1 | mean F1 | SEG |", flush=True)
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for seed in arguments.seeds:
        for kind, minutes in [
            ("nothing", 0.0),
            *((kind, minutes) for minutes in arguments.minutes for kind in arguments.kinds),
        ]:
            folder = out / f"{kind}-{minutes:g}-{seed}"
            drawn = Drawn()
            if kind != "nothing":
                drawn = annotate(kind, scenes, minutes, seed)
                drawn.write(folder / "annotations", scenes)
            given = folder / "annotations" if kind != "nothing" else None
            options = ["--seed", str(seed), *common]
            scores = run_row(out, first, folder, given, options)
            by_iou = scores["f1_by_iou"]
            mean = float(np.mean([by_iou[key] for key in by_iou if 0.5 <= float(key) <= 0.9]))
            rows.append((kind, minutes, seed, drawn.n_actions, scores["f1"], mean, scores["seg"]))
            pd.DataFrame(rows, columns=COLUMNS).to_csv(out / "results.csv", index=False)
            print(
                f"| {kind} | {minutes:g} | {seed} | {drawn.n_actions} | {scores['f1']:.3f} "
                f"| {mean:.3f} | {scores['seg']:.3f} |",
                flush=True,
            )


def draw_figure(path: Path, outs: list[Path]) -> None:
    """Draw F1 against minutes, a panel for each set: mean and range over seeds."""
    figure, panels = plt.subplots(
        1, len(outs), figsize=(3.6 * len(outs), 3.4), layout="constrained", squeeze=False
    )
    styles = {
        "outlines": ("#0072b2", "o"),
        "points": ("#d55e00", "s"),
        "verdicts": ("#009e73", "^"),
    }
    for axes, out in zip(panels[0], outs, strict=True):
        table = pd.read_csv(out / "results.csv")
        start = table[table["kind"] == "nothing"]["f1"]
        axes.axhline(start.mean(), color="0.4", ls="--", lw=1, label="nothing annotated")
        for kind, (colour, marker) in styles.items():
            own = table[table["kind"] == kind].groupby("minutes")["f1"].agg(["mean", "min", "max"])
            if own.empty:
                continue
            spread = [own["mean"] - own["min"], own["max"] - own["mean"]]
            axes.errorbar(
                own.index, own["mean"], spread, color=colour, marker=marker, capsize=3, label=kind
            )
        axes.set(title=out.name, xlabel="minutes of annotating", ylabel="F1 (IoU 0.5)")
        axes.set_xlim(left=0)
    panels[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run or draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("set", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--minutes", nargs="+", type=float, default=[1.0, 4.0])
    running.add_argument("--kinds", nargs="+", choices=SECONDS, default=list(SECONDS))
    running.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    running.add_argument(
        "--run", type=Path, help="pseudo labels of OUT/images that are there already"
    )
    running.add_argument("--config", help="for pseudo and finetune")
    drawing = commands.add_parser("figure")
    drawing.add_argument("figure", type=Path)
    drawing.add_argument("outs", nargs="+", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    else:
        draw_figure(arguments.figure, arguments.outs)


if __name__ == "__main__":
    main()
