"""Draws docs/merge.png: what the merge makes of small scenes, by the code itself.

python docs/draw_merge.py [FILE.png]
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from numpy.typing import NDArray

from oce2stardist.training_labels.merge import merge_annotations

Labels = NDArray[np.int32]

SHAPE = (44, 44)
NEAR = 12.0
COLOURS = {
    "annotated cell": to_rgb("#0072b2"),
    "pseudo object": to_rgb("#e69f00"),
    "background": to_rgb("#ffffff"),
    "unknown": to_rgb("#b4b4b4"),
}


@dataclass(frozen=True)
class Scene:
    """What enters the merge; `annotations` are unknown and `pseudo` is background at first."""

    title: str
    draw: Callable[[Labels, Labels], None]
    overlap: float = 0.0


def disc(centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    """Return True within `radius` pixels of `centre`."""
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def overlapping(annotations: Labels, pseudo: Labels) -> None:
    """One pseudo object shares some pixels with an annotated cell, another none."""
    pseudo[disc((18, 25), 8)] = 1
    pseudo[disc((36, 32), 6)] = 2
    annotations[disc((18, 13), 8)] = 9


def at_the_edge(annotations: Labels, pseudo: Labels) -> None:
    """An annotated cell and its pseudo object are cut by the edge of the image."""
    pseudo[disc((14, 2), 9)] = 1
    pseudo[disc((34, 30), 7)] = 2
    annotations[disc((16, 0), 9)] = 9


def inside(annotations: Labels, pseudo: Labels) -> None:
    """An annotated cell lies inside of a pseudo object."""
    pseudo[disc((22, 22), 15)] = 1
    annotations[disc((20, 18), 6)] = 9


def on_background(annotations: Labels, pseudo: Labels) -> None:
    """Known background covers less than half of one object, more of another, and divides one."""
    pseudo[disc((11, 11), 8)] = 1
    pseudo[disc((11, 33), 8)] = 2
    pseudo[disc((33, 22), 8)] = 3
    annotations[:, 13:18] = 0
    annotations[:20, 31:42] = 0


def background_only(annotations: Labels, pseudo: Labels) -> None:
    """Nothing but background was annotated."""
    pseudo[disc((12, 14), 8)] = 1
    annotations[:] = 0


def not_annotated(annotations: Labels, pseudo: Labels) -> None:
    """Nothing was annotated."""
    pseudo[disc((12, 14), 8)] = 1
    pseudo[disc((30, 30), 9)] = 2


SCENES = (
    Scene("overlap", overlapping),
    Scene("overlap of a share\n(overlap: 0.25)", overlapping, overlap=0.25),
    Scene("cell at the edge", at_the_edge),
    Scene("annotation inside\na pseudo object", inside),
    Scene("known background\non pseudo objects", on_background),
    Scene("nothing but\nbackground", background_only),
    Scene("no annotations", not_annotated),
)


def colour(labels: Labels, pseudo_ids: set[int]) -> NDArray[np.float64]:
    """Paint labels (Y, X) as RGB."""
    canvas = np.empty((*labels.shape, 3))
    canvas[labels < 0] = COLOURS["unknown"]
    canvas[labels == 0] = COLOURS["background"]
    is_pseudo = np.isin(labels, list(pseudo_ids))
    canvas[is_pseudo] = COLOURS["pseudo object"]
    canvas[(labels > 0) & ~is_pseudo] = COLOURS["annotated cell"]
    return canvas


def show(axes: Axes, labels: Labels, pseudo_ids: set[int]) -> None:
    """Show labels in one panel."""
    axes.imshow(colour(labels, pseudo_ids), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def draw_column(column: NDArray[np.object_], scene: Scene) -> None:
    """Show annotations, pseudo labels and what the merge makes of them."""
    annotations = np.full(SHAPE, -1, np.int32)
    pseudo_labels = np.zeros(SHAPE, np.int32)
    scene.draw(annotations, pseudo_labels)
    merged = merge_annotations(
        pseudo_labels, annotations, background_distance=NEAR, overlap=scene.overlap
    )
    of_pseudo = merged.objects["source"] == "pseudo"
    show(column[0], annotations, set())
    show(column[1], pseudo_labels, set(np.unique(pseudo_labels[pseudo_labels > 0]).tolist()))
    show(column[2], merged.sparse, set())
    show(column[3], merged.pseudo, set(merged.objects["id"][of_pseudo].tolist()))
    column[0].set_title(scene.title, fontsize=9)


def main(path: Path) -> None:
    """Draw all scenes."""
    figure, panels = plt.subplots(
        4, len(SCENES), figsize=(1.5 * len(SCENES) + 0.9, 6.9), layout="constrained"
    )
    for column, scene in zip(panels.T, SCENES, strict=True):
        draw_column(column, scene)
    rows = ("annotations", "pseudo labels", "merged: sparse", "merged: pseudo")
    for axes, name in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(name, fontsize=10)
    figure.legend(
        handles=[
            Patch(facecolor=shade, edgecolor="black", label=name) for name, shade in COLOURS.items()
        ],
        loc="outside lower center",
        ncols=len(COLOURS),
        frameon=False,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("merge.png"))
