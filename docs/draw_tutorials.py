"""Draw docs/pictures/{fiji,qupath,python,cluster}.png: what the pages of docs/tutorials/ lead to.

`python docs/draw_tutorials.py FOLDER` takes images, outlined cells and found cells from what
`draw_gallery.py FOLDER` left. Outlines are drawn as Fiji and QuPath draw them; they are no
screenshots.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tifffile
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from oce2stardist.images.label_files import read_labels
from oce2stardist.objects import trace_objects
from oce2stardist.reports.drawing.pictures import picture_of_image, picture_of_labels

FOLDER = Path(__file__).parent / "pictures"

Labels = NDArray[np.int32]


def show(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    """Show a picture without ticks."""
    axes.imshow(image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def outline(axes: Axes, labels: Labels, colour: str, *, names: bool) -> None:
    """Draw outlines in one colour, with the numbers of the cells."""
    axes.set(autoscale_on=False)
    for label, pieces in trace_objects(labels).items():
        for piece in pieces:
            x, y = np.vstack([piece.outer, piece.outer[:1]]).T
            axes.plot(x, y, color=colour, linewidth=1)
        if names:
            y, x = (axis.mean() for axis in np.nonzero(labels == label))
            axes.text(x, y, str(label), color=colour, fontsize=7, ha="center", va="center")


def draw_fiji(image: NDArray[np.uint8], masks: Labels, found: Labels) -> Figure:
    """Selections as the ROI Manager shows them: a few drawn, then all that were found."""
    figure, (before, after) = plt.subplots(1, 2, figsize=(7.2, 3.9), dpi=100, layout="constrained")
    show(before, image, "A few cells outlined: masks/field1.zip")
    outline(before, masks, "#ffff00", names=True)
    show(after, image, "All cells found: cells/field1_rois.zip")
    outline(after, found, "#ffff00", names=True)
    return figure


def draw_qupath(image: NDArray[np.uint8], masks: Labels, found: Labels) -> Figure:
    """Annotations in red, a region to annotate next, detections in cyan."""
    figure, (before, after) = plt.subplots(1, 2, figsize=(7.2, 3.9), dpi=100, layout="constrained")
    show(before, image, "Annotations, and a region to annotate next")
    outline(before, masks, "#ff3b30", names=False)
    before.add_patch(Rectangle((135, 60), 100, 100, fill=False, edgecolor="#ffd60a", linewidth=1.5))
    show(after, image, "Detections: cells/field1.geojson")
    outline(after, found, "#00e5ff", names=False)
    return figure


def draw_python(image: NDArray[np.uint8], raw: NDArray[np.float32], found: Labels) -> Figure:
    """What arrays hold: the image, its labels, and a histogram of the areas of the cells."""
    figure, (one, two, three) = plt.subplots(
        1, 3, figsize=(9.6, 3.4), dpi=100, layout="constrained"
    )
    show(one, image, 'images.images["field1"]')
    show(two, picture_of_labels(raw, found), 'labels["field1"]')
    areas = np.bincount(found.ravel())[1:]
    three.hist(areas[areas > 0], bins=12, color="#56b4e9")
    three.set_title('measure_objects(…)["area"]', fontsize=10)
    three.set_xlabel("pixels")
    three.set_box_aspect(1)
    return figure


def draw_cluster() -> Figure:
    """One job trains; its model goes to many jobs, each with a plate and an output of its own."""
    figure, axes = plt.subplots(figsize=(8.4, 3.2), dpi=100)
    axes.set(xlim=(0, 10), ylim=(0, 4))
    axes.axis("off")

    def box(x: float, y: float, text: str) -> None:
        axes.add_patch(
            FancyBboxPatch(
                (x, y),
                2.3,
                0.7,
                boxstyle="round,pad=0.06",
                facecolor="#eaf3fa",
                edgecolor="#00598c",
            )
        )
        axes.text(x + 1.15, y + 0.35, text, ha="center", va="center", fontsize=9)

    box(0.2, 1.6, "job 1: pseudo,\nfinetune")
    box(3.7, 1.6, "model/")
    arrow = {"arrowstyle": "-|>", "color": "#00598c"}
    axes.annotate("", (3.65, 1.95), (2.6, 1.95), arrowprops=arrow)
    for y, name in ((3.0, "1"), (1.6, "2"), (0.2, "24")):
        box(7.2, y, f"job: predict plates/{name}\n→ cells/{name}")
        axes.annotate("", (7.15, y + 0.35), (6.1, 1.95), arrowprops=arrow)
    axes.text(8.35, 1.22, "…", ha="center", fontsize=14)
    return figure


def main(folder: Path) -> None:
    """Draw all four."""
    own = folder / "nuclei"
    found_in = "cells" if (own / "cells").exists() else "first_look"
    raw = tifffile.imread(own / "images" / "field1.tif").astype(np.float32)[..., None]
    masks, found = (read_labels(own / part / "field1.tif") for part in ("masks", found_in))
    image = picture_of_image(raw)
    figures = {
        "fiji": draw_fiji(image, masks, found),
        "qupath": draw_qupath(image, masks, found),
        "python": draw_python(image, raw, found),
        "cluster": draw_cluster(),
    }
    for name, figure in figures.items():
        path = FOLDER / f"{name}.png"
        figure.savefig(path)
        with Image.open(path) as picture:  # few colours: a page is to load soon
            few = picture.convert("RGB").quantize(100, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
