"""Draws docs/hints.png: what points, strokes and verdicts make of pseudo objects, by the code.

python docs/draw_hints.py [FILE.png]
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from draw_merge import COLOURS, SHAPE, disc
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from oce2stardist.annotations.hints import Box, Hints, Stroke
from oce2stardist.annotations.shapes import ObjectVerdict, Role
from oce2stardist.pseudo_labels.files import PseudoLabels
from oce2stardist.training_labels.hints import follow_hints
from oce2stardist.training_labels.make import TrainingLabels, make_training_labels

Labels = NDArray[np.int32]

NEAR = 5.0


@dataclass(frozen=True)
class Scene:
    """Pseudo objects, and what was said of them: marks from (y, x) to (y, x)."""

    title: str
    objects: list[NDArray[np.bool_]]
    marks: list[tuple[Role, tuple[int, int], tuple[int, int]]] = field(default_factory=list)
    box: tuple[int, int, int, int] | None = None
    verdict: ObjectVerdict | None = None  # on object 1


def at(y: int, x: int, role: Role = "cell") -> tuple[Role, tuple[int, int], tuple[int, int]]:
    """Return a click."""
    return role, (y, x), (y, x)


OTHER = disc((36, 36), 6)
TWO = disc((16, 12), 9) | disc((18, 27), 8)
COLUMNS = np.arange(SHAPE[1])
PIECES = [disc((16, 18), 10) & (COLUMNS < 17), disc((16, 18), 10) & (COLUMNS > 20)]

SCENES = (
    Scene("a point\nconfirms", [disc((16, 16), 9), OTHER], [at(14, 18)]),
    Scene("several points\nsplit", [TWO, OTHER], [at(15, 11), at(19, 28)]),
    Scene("a stroke\njoins", [*PIECES, OTHER], [("cell", (16, 11), (17, 25))]),
    Scene("a point in none:\na cell was missed", [OTHER], [at(14, 14)]),
    Scene("background\nremoves", [disc((16, 16), 9), OTHER], [at(14, 18, "background")]),
    Scene("a box that\nan object fits", [disc((16, 16), 9), OTHER], box=(6, 7, 26, 26)),
    Scene("verdict:\nwrong", [disc((16, 16), 9), OTHER], verdict=ObjectVerdict("wrong")),
)


def train_on(scene: Scene) -> tuple[Labels, TrainingLabels]:
    """Return the pseudo labels of a scene and what becomes of them."""
    labels = np.zeros(SHAPE, np.int32)
    for number, mask in enumerate(scene.objects, start=1):
        labels[mask] = number
    strokes = []
    for role, start, stop in scene.marks:
        count = max(abs(stop[0] - start[0]), abs(stop[1] - start[1])) + 1
        pixels = np.linspace(start, stop, count).round().astype(np.int64)
        strokes.append(Stroke(pixels, role, "a mark"))
    boxes = []
    if scene.box is not None:
        top, left, bottom, right = scene.box
        boxes.append(Box((slice(top, bottom), slice(left, right)), "a box"))
    verdicts = {} if scene.verdict is None else {1: scene.verdict}
    hinted = follow_hints({"a": labels}, {"a": Hints(strokes, boxes, verdicts)})
    pseudo = PseudoLabels({"a": hinted["a"].labels}, {})
    trained = make_training_labels(
        {},
        pseudo,
        {},
        held_back={},
        complete=False,
        background_distance=NEAR,
        overlap=0.0,
        hinted=hinted,
    )
    return labels, trained


def show(axes: Axes, labels: Labels, known: set[int]) -> None:
    """Show labels in one panel; the edges between objects are drawn."""
    canvas = np.empty((*labels.shape, 3))
    canvas[labels < 0] = COLOURS["unknown"]
    canvas[labels == 0] = COLOURS["background"]
    is_known = np.isin(labels, list(known))
    canvas[(labels > 0) & ~is_known] = COLOURS["pseudo object"]
    canvas[is_known] = COLOURS["annotated cell"]
    canvas[find_boundaries(np.maximum(labels, 0), mode="inner")] *= 0.6
    axes.imshow(canvas, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def show_marks(axes: Axes, scene: Scene) -> None:
    """Show what was said on top of the pseudo labels."""
    for role, start, stop in scene.marks:
        ys, xs = zip(start, stop, strict=True)
        marker, colour = ("+", "black") if role == "cell" else ("x", "#d00000")
        axes.plot(xs, ys, marker=marker, color=colour, ms=9, mew=2.2, lw=2)
    if scene.box is not None:
        top, left, bottom, right = (side - 0.5 for side in scene.box)
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], "k-", lw=2)
    if scene.verdict is not None:
        axes.text(16, 16, scene.verdict.word, ha="center", va="center", fontsize=9, weight="bold")


def main(path: Path) -> None:
    """Draw all scenes."""
    figure, panels = plt.subplots(
        3, len(SCENES), figsize=(1.5 * len(SCENES) + 0.9, 5.6), layout="constrained"
    )
    for column, scene in zip(panels.T, SCENES, strict=True):
        labels, trained = train_on(scene)
        is_known = ~trained.objects["source"].isin(["pseudo"])
        known = set(trained.objects["id"][is_known].tolist())
        show(column[0], labels, set())
        show_marks(column[0], scene)
        show(column[1], trained.sparse.get("a", np.full(SHAPE, -1, np.int32)), known)
        show(column[2], trained.pseudo["a"], known)
        column[0].set_title(scene.title, fontsize=9)
    for axes, name in zip(panels[:, 0], ("pseudo labels", "sparse", "pseudo"), strict=True):
        axes.set_ylabel(name, fontsize=10)
    names = {"annotated cell": "known cell"}
    figure.legend(
        handles=[
            *(
                Patch(facecolor=shade, edgecolor="black", label=names.get(name, name))
                for name, shade in COLOURS.items()
            ),
            Line2D([], [], marker="+", color="black", mew=2.2, ms=9, lw=0, label="mark of a cell"),
            Line2D([], [], marker="x", color="#d00000", mew=2.2, ms=9, lw=0, label="of background"),
        ],
        loc="outside lower center",
        ncols=6,
        frameon=False,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("hints.png"))
