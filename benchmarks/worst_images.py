"""The images with the lowest F1, drawn with what was found and what is true.

    python benchmarks/worst_images.py IMAGES LABELS MASKS --picture worst.png

LABELS, such as `oce2stardist predict` wrote, are compared with MASKS, the complete truth.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.evaluation.scores import Scores, leave_out_border, overlap_matrix, score_image
from oce2stardist.images.find import label_paths
from oce2stardist.images.image_set import ImageSet, read_images
from oce2stardist.images.label_files import read_labels
from oce2stardist.objects.overlay import draw_image, find_outlines

Labels = NDArray[np.int32]

# Okabe and Ito's colours, told apart with any colour vision.
TRUE, FOUND, EXTRA, MISSED = "#56B4E9", "#F0E442", "#D55E00", "#CC79A7"


def score_each(labels: Sequence[Labels], truth: Sequence[Labels], *, border: float) -> list[Scores]:
    """Score image by image, without the objects at the border."""
    return [
        score_image(leave_out_border(one, border), leave_out_border(true, border))
        for one, true in zip(labels, truth, strict=True)
    ]


def unmatched(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.integer]:
    """Keep the objects of `one` that no object of `other` overlaps with an IoU of 0.5."""
    overlap = overlap_matrix(one, other)
    pairs = overlap.pixels.tocoo()
    union = overlap.predicted_sizes[pairs.row] + overlap.true_sizes[pairs.col] - pairs.data
    matched = overlap.predicted_ids[pairs.row[2 * pairs.data >= union]]
    return np.where(np.isin(one, matched), 0, one)


def draw_worst(
    path: Path,
    found: ImageSet,
    labels: Sequence[Labels],
    truth: Sequence[Labels],
    *,
    border: float,
    count: int,
) -> None:
    """Draw the images of lowest F1: raw, with found outlines, with true outlines."""
    scores = score_each(labels, truth, border=border)
    worst = sorted(range(len(scores)), key=lambda index: scores[index].f1)[:count]
    stems, images = list(found.images), list(found.images.values())
    figure, axes = plt.subplots(
        len(worst), 3, figsize=(18, 5 * len(worst)), squeeze=False, layout="constrained"
    )
    for row, index in zip(axes, worst, strict=True):
        mine, true = (leave_out_border(one[index], border) for one in (labels, truth))
        shown = np.sqrt(draw_image(images[index]) / 255)  # or dim cells would be black
        for axis in row:
            axis.imshow(shown)
            axis.set_axis_off()
        _outline(row[1], mine, FOUND, wrong=unmatched(mine, true), wrong_colour=EXTRA)
        _outline(row[2], true, TRUE, wrong=unmatched(true, mine), wrong_colour=MISSED)
        row[0].set_title(f"{stems[index]}: F1 {scores[index].f1:.2f}")
        row[1].set_title(f"found; {scores[index].fp} false in orange, crossed")
        row[2].set_title(f"true; {scores[index].fn} missed in pink, circled")
        _mark(row[1], unmatched(mine, true), "x", EXTRA)
        _mark(row[2], unmatched(true, mine), "o", MISSED)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)


def _outline(
    axis: Axes,
    labels: NDArray[np.integer],
    colour: str,
    *,
    wrong: NDArray[np.integer],
    wrong_colour: str,
) -> None:
    layer = np.zeros((*labels.shape, 4))
    for objects, shade in ((labels, colour), (wrong, wrong_colour)):
        layer[find_outlines(objects, thickness=2)] = to_rgba(shade)
    axis.imshow(layer, interpolation="nearest")


def _mark(axis: Axes, labels: NDArray[np.integer], sign: str, colour: str) -> None:
    """Put a sign, whose shape tells it apart without colour, on every object."""
    ids = np.unique(labels[labels > 0])
    if len(ids):
        places = np.array(ndi.center_of_mass(labels > 0, labels, ids))
        axis.plot(places[:, 1], places[:, 0], sign, color=colour, fillstyle="none", markersize=8)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("images", "labels", "masks"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--border", type=float, default=0.0, help="pixels left out at the edge")
    parser.add_argument("--worst", type=int, default=4, help="images in the picture")
    parser.add_argument("--picture", type=Path, default=Path("worst.png"))
    given = parser.parse_args()
    plt.switch_backend("Agg")
    found = read_images(str(given.images))
    paths = list(found.paths.values())
    labels, truth = (
        [read_labels(files[path]) for path in paths]
        for files in (label_paths(paths, given.labels), label_paths(paths, given.masks))
    )
    draw_worst(given.picture, found, labels, truth, border=given.border, count=given.worst)


if __name__ == "__main__":
    main()
