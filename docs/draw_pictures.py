"""Draw the pictures of docs/how-it-works.md from what `make demo` left in a folder.

`python docs/draw_pictures.py demo-run` writes docs/pictures/. Arrows, spread, clusters and
labels are read from the run or computed by the functions that the run used.
"""

import io
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from oce2stardist.images.image_set import ImageSet, read_images
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.prepare import PreparedImages
from oce2stardist.labels import resize_labels
from oce2stardist.pseudo_labels.choose import segmentation_settings
from oce2stardist.pseudo_labels.clustering import ClusteringSettings, cluster_embeddings
from oce2stardist.pseudo_labels.inputs import Scene, read_predicted
from oce2stardist.pseudo_labels.segment import SegmentationSettings, cluster_cells, finish_cells
from oce2stardist.reports.drawing.pictures import (
    colour_wheel,
    picture_of_errors,
    picture_of_image,
    picture_of_labels,
    picture_of_offsets,
    picture_of_spread,
    picture_of_training_labels,
    spread_limits,
)
from oce2stardist.reports.drawing.plots import loss_plot
from oce2stardist.runners.finished_run import FinishedRun, read_finished_run

FOLDER = Path(__file__).parent / "pictures"
STEM = "train"
SIDE = 150
"""Of the crops, pixels at working scale."""
DPI = 100
COLOURS = 128
MODELS = {"alpha 0: annotations alone": "alpha-0", "alpha 0.5: with pseudo labels": "alpha-0.5"}


@dataclass(frozen=True)
class Demo:
    """What the demo left, for the image in which cells were annotated."""

    folder: Path

    @cached_property
    def run(self) -> FinishedRun:
        """The run that made pseudo labels."""
        return read_finished_run(self.folder / "pseudo")

    @cached_property
    def found(self) -> ImageSet:
        """Both parts of the image."""
        return read_images(self.folder / "data" / "images")

    @cached_property
    def prepared(self) -> PreparedImages:
        """The images at working scale."""
        return self.run.prepare_own(self.found)

    @cached_property
    def scenes(self) -> Any:
        """Spread maps, thresholds and what clustering started from."""
        return self.run.read_scenes(self.prepared)

    @cached_property
    def scene(self) -> Scene:
        """Offsets, foreground and image."""
        return self.scenes[STEM]

    @cached_property
    def segmentation(self) -> SegmentationSettings:
        """The segmentation with what the run chose."""
        return segmentation_settings(self.run.merged_config(self.run.config).pseudo, ndim=2)

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """Pseudo labels at working scale."""
        labels = read_labels(self.folder / "pseudo" / "pseudo" / "labels" / f"{STEM}.tif")
        return resize_labels(labels, self.scene.foreground.shape)

    @cached_property
    def crop(self) -> tuple[slice, slice]:
        """The part with the most cells."""
        inside = np.pad((self.labels > 0).astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        sums = inside[SIDE:, SIDE:] - inside[:-SIDE, SIDE:] - inside[SIDE:, :-SIDE]
        top, left = np.unravel_index((sums + inside[:-SIDE, :-SIDE]).argmax(), sums.shape)
        return slice(int(top), int(top) + SIDE), slice(int(left), int(left) + SIDE)

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """Take the crop of an array whose last axes are Y and X."""
        return array[(..., *self.crop)]

    @property
    def image(self) -> NDArray[np.float32]:
        """The crop of the image, (Y, X, C)."""
        return self.scene.image[self.crop]


# --- figures


def draw_offsets(demo: Demo) -> Figure:
    """Image, arrows of every fourth pixel, offsets in colours, and where embeddings lie."""
    offsets, cells = demo.cut(demo.scene.offsets), demo.cut(demo.labels)
    offsets = offsets - np.median(offsets[:, cells > 0], axis=1)[:, None, None]
    figure, (arrows, colours, points) = new_figure(3)
    show(arrows, picture_of_image(demo.image), "Arrows: the offset of every fourth pixel")
    y, x = (axis[2::4, 2::4] for axis in np.indices(cells.shape))
    on = cells[2::4, 2::4] > 0
    arrows.quiver(
        x[on], y[on], offsets[1][2::4, 2::4][on], offsets[0][2::4, 2::4][on],
        angles="xy", scale_units="xy", scale=1, color="#f0e442", width=0.004,
    )  # fmt: skip
    show(colours, picture_of_offsets(offsets, cells > 0), "The same offsets as colours")
    wheel = colours.inset_axes((0.78, 0.02, 0.2, 0.2))
    wheel.imshow(colour_wheel())
    wheel.set(xticks=[], yticks=[])
    draw_embeddings(points, offsets, cells)
    return figure


def draw_embeddings(axes: Axes, offsets: NDArray[Any], cells: NDArray[np.integer]) -> None:
    """Draw every pixel of a cell where it points to, in the colours of its cell."""
    shades = np.random.default_rng(3).permutation(20)
    on = cells > 0
    y, x = np.indices(cells.shape)[:, on] + offsets[:, on]
    axes.scatter(x, y, s=1.5, c=shades[cells[on] % 20], cmap="tab20", linewidths=0)
    axes.set(xlim=(0, cells.shape[1]), ylim=(cells.shape[0], 0), xticks=[], yticks=[], aspect=1)
    axes.set_title("Embeddings: pixel + offset, coloured by cell", fontsize=10)


def draw_foreground(demo: Demo) -> Figure:
    """Image, spread, the histogram of its logarithm with the threshold, foreground."""
    _, spread = read_predicted(demo.run.folder, STEM)
    figure, (image, map_of_spread, histogram, mask) = new_figure(4, foot=0.5)
    show(image, picture_of_image(demo.image), "Image")
    limits = spread_limits([spread])
    title = f"Spread: {limits[0]:.2g} px (dark) to {limits[1]:.2g} px"
    show(map_of_spread, picture_of_spread(demo.cut(spread), limits), title)
    levels = np.concatenate([level.ravel() for level in demo.scenes.levels.values()])
    threshold = demo.scenes.thresholds[STEM]
    histogram.hist(levels, bins=80, color="#56b4e9")
    histogram.axvline(threshold, color="#d55e00", linewidth=2)
    histogram.set_title(f"Smoothed log spread; threshold {threshold:.2f}", fontsize=10)
    histogram.set(yticks=[], xlabel="cells left, background right", box_aspect=1)
    show(mask, 255 * demo.cut(demo.scene.foreground).astype(np.uint8), "Foreground (white)")
    return figure


def draw_clustering(demo: Demo) -> Figure:
    """Density of embeddings, clusters with their halo, objects at the end."""
    offsets = demo.scene.offsets
    clusters = cluster_cells(offsets, demo.scene.foreground, demo.segmentation, seed=0)
    finished = finish_cells(clusters, offsets, demo.scene.image, demo.segmentation)
    settings = ClusteringSettings(
        demo.segmentation.bandwidth, "density", bin_seeding=True, fitted_share=0.1, seed=0
    )
    raw = cluster_embeddings(offsets, demo.scene.foreground, settings)
    figure, (density, first, last) = new_figure(3)
    show(density, density_picture(demo), "Where foreground pixels point to (bright: many)")
    n_raw = len(np.unique(demo.cut(raw))) - 1
    n_last = len(np.unique(demo.cut(finished))) - 1
    show(first, picture_of_labels(demo.image, demo.cut(raw)), f"{n_raw} groups, with their halo")
    title = f"{n_last} objects: halo off, pieces joined"
    show(last, picture_of_labels(demo.image, demo.cut(finished)), title)
    return figure


def density_picture(demo: Demo) -> NDArray[np.float64]:
    """Count the embeddings of each square pixel; shape (Y, X), 0 to 1 on a square-root scale."""
    offsets, on = demo.scene.offsets, demo.scene.foreground
    centred = offsets - np.median(offsets[:, on], axis=1)[:, None, None]
    places = np.argwhere(on).T + centred[:, on]
    edges = [np.arange(size + 1) - 0.5 for size in on.shape]
    counts, _, _ = np.histogram2d(*places, bins=edges)
    shown = np.sqrt(demo.cut(counts))
    return np.asarray(np.clip(shown / np.percentile(shown, 99.7), 0, 1))


def draw_training_labels(demo: Demo) -> Figure:
    """What StarDist learns from: annotated cells, pseudo labels, and both halves of a batch."""
    image, training = demo.found.images[STEM], demo.folder / "models" / "alpha-0.5" / "training"
    annotations = read_labels(demo.folder / "data" / "annotations" / f"{STEM}.tif")
    pseudo = read_labels(demo.folder / "pseudo" / "pseudo" / "labels" / f"{STEM}.tif")
    figure, panels = new_figure(2, 2, shape=image.shape)
    titles = ("Annotated cells", "Pseudo labels", "Merged: sparse half", "Merged: pseudo half")
    pictures = (
        picture_of_training_labels(image, annotations),
        picture_of_labels(image, pseudo),
        *(
            picture_of_training_labels(image, read_labels(training / kind / f"{STEM}.tif"))
            for kind in ("sparse", "pseudo")
        ),
    )
    for axes, title, picture in zip(panels, titles, pictures, strict=True):
        show(axes, picture, title)
    return figure


def draw_predictions(demo: Demo) -> Figure:
    """What both models find where nothing was annotated, beside the truth."""
    image = demo.found.images["test"]
    truth = read_labels(demo.folder / "data" / "truth" / "test.tif")
    figure, (plain, true, *others) = new_figure(2, 2, shape=image.shape)
    show(plain, picture_of_image(image), "Image")
    show(true, picture_of_labels(image, truth), "Truth")
    for axes, (title, name) in zip(others, MODELS.items(), strict=True):
        found = read_labels(demo.folder / "predicted" / name / "test.tif")
        show(axes, picture_of_errors(image, found, truth), title)
    return figure


def draw_alpha_loss(demo: Demo) -> bytes:
    """Plot both parts of the loss of the model with pseudo labels."""
    history = pd.read_csv(demo.folder / "models" / "alpha-0.5" / "history.csv")
    names = {"loss": "total", "loss_sparse": "sparse half", "loss_pseudo": "pseudo half"}
    return loss_plot(history[["step", *names]], names)


FIGURES = {
    "offsets": draw_offsets,
    "foreground": draw_foreground,
    "clustering": draw_clustering,
    "training-labels": draw_training_labels,
    "predictions": draw_predictions,
}

# --- parts of figures


def new_figure(
    columns: int, rows: int = 1, *, shape: tuple[int, ...] = (1, 1), foot: float = 0.0
) -> tuple[Figure, Any]:
    """Make panels, row by row, for pictures of one shape; foot: inches for what is below them."""
    width = 11.0
    height = rows * (width / columns * shape[0] / shape[1] + 0.35) + foot
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns).ravel()


def show(axes: Axes, picture: NDArray[Any], title: str) -> None:
    """Show a picture without ticks."""
    axes.imshow(picture, cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def main(folder: Path) -> None:
    """Draw all figures."""
    demo = Demo(folder)
    FOLDER.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        drawn = io.BytesIO()
        draw(demo).savefig(drawn, format="png")
        (FOLDER / f"{name}.png").write_bytes(for_pages(drawn.getvalue()))
    (FOLDER / "loss.png").write_bytes(for_pages(draw_alpha_loss(demo)))


def for_pages(png: bytes) -> bytes:
    """Put a picture on white, for pages with a dark background, and store it with few colours."""
    with Image.open(io.BytesIO(png)) as picture:
        ground = Image.new("RGBA", picture.size, "white")
        ground.alpha_composite(picture.convert("RGBA"))
    buffer = io.BytesIO()
    ground.convert("RGB").quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo-run"))
