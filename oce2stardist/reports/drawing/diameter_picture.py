"""Draw a figure that shows at a glance whether the estimated cell diameter is right."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from oce2stardist.images.diameter import Cells, DiameterEstimate
from oce2stardist.reports.drawing.figure_files import small_png
from oce2stardist.reports.drawing.pictures import picture_of_image

_WINDOWS = 3
_CELLS_ACROSS = 12  # so many diameters wide, a window shows outlines and neighbours
_ORANGE, _BLUE, _SKY = "#E69F00", "#0072B2", "#56B4E9"


def diameter_picture(
    images: Mapping[str, NDArray[np.float32]], estimate: DiameterEstimate
) -> bytes:
    """Draw circles of the estimated diameter on cells, beside a histogram of diameters; a PNG.

    `images` (Y, X, C) are those that were measured, in the same order, by their titles. Up to
    three are shown: those whose own medians are the smallest, the middle and the largest, each
    where its cells are densest, with an orange circle on each measured cell. The estimate is a
    line in the histogram, its interval a band.
    """
    if len(images) != len(estimate.cells):
        raise ValueError(
            f"images must be those that were measured. Got {len(images)} images and an "
            f"estimate from {len(estimate.cells)}."
        )
    shown = _pick_images(estimate)
    names = list(images)
    size = (3.2 * (len(shown) + 1) + 0.6, 3.6)
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    for axes, index in zip(panels[:-1], shown, strict=True):
        name, own = names[index], estimate.per_image[index]
        _draw_window(axes, images[name], estimate.cells[index], estimate.diameter)
        axes.set_title(name if np.isnan(own) else f"{name}: its median {own:.1f} px", fontsize=9)
    _draw_histogram(panels[-1], estimate)
    return small_png(figure)


def _pick_images(estimate: DiameterEstimate) -> list[int]:
    """Take images of small, middling and large cells; without cells, the first ones."""
    measured = np.flatnonzero(np.isfinite(estimate.per_image))
    if measured.size == 0:
        return list(range(min(_WINDOWS, len(estimate.per_image))))
    order = measured[np.argsort(np.array(estimate.per_image)[measured], kind="stable")]
    places = np.linspace(0, order.size - 1, min(_WINDOWS, order.size))
    return [int(order[round(place)]) for place in places]


def _draw_window(
    axes: Axes, image: NDArray[np.float32], cells: Cells | None, diameter: float | None
) -> None:
    axes.set(xticks=[], yticks=[])
    if cells is None or diameter is None or not cells.diameters.size:
        axes.imshow(picture_of_image(image))
        return
    corner, side = _densest_window(cells.centres, image.shape, _CELLS_ACROSS * diameter)
    window = image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    height, width = window.shape[:2]
    # Shrunk or not, the picture keeps the pixels' coordinates.
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(picture_of_image(window), extent=extent)
    size = np.full(len(cells.centres), diameter)
    circles = EllipseCollection(
        size, size, np.zeros_like(size), units="xy", offsets=(cells.centres - corner)[:, ::-1],
        offset_transform=axes.transData, facecolors="none", edgecolors=_ORANGE, linewidths=1.2,
    )  # fmt: skip
    axes.add_collection(circles)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _densest_window(
    centres: NDArray[np.float64], shape: tuple[int, ...], side: float
) -> tuple[NDArray[np.int64], int]:
    """Place a square around the cell that then has most others in it; returns corner, side."""
    whole = max(1, round(min(side, shape[0], shape[1])))
    # Hundreds of candidates find a good place; all of many thousands would take memory.
    candidates = centres[:: max(1, len(centres) // 300)]
    last = np.array(shape[:2]) - whole
    corners = np.clip(np.rint(candidates - whole / 2), 0, last).astype(np.int64)
    away = centres[None] - corners[:, None]  # (candidates, cells, 2)
    inside = ((away >= 0) & (away < whole)).all(axis=2).sum(axis=1)
    return corners[np.argmax(inside)], whole


def _draw_histogram(axes: Axes, estimate: DiameterEstimate) -> None:
    axes.set_xlabel("diameter of cells (px)")
    axes.set_ylabel("cells")
    axes.spines[["top", "right"]].set_visible(False)
    if estimate.diameter is None or estimate.low is None or estimate.high is None:
        axes.set_title("no cell found", fontsize=9)
        return
    diameters = np.concatenate([cells.diameters for cells in estimate.cells if cells is not None])
    furthest = max(float(np.percentile(diameters, 99)), 1.5 * estimate.diameter)
    axes.hist(diameters, bins=list(np.linspace(0, furthest, 31)), color=_SKY)
    axes.axvspan(estimate.low, estimate.high, color=_ORANGE, alpha=0.35, linewidth=0)
    axes.axvline(estimate.diameter, color=_BLUE, linewidth=1.6)
    verdict = "" if estimate.trusted else " – not certain"
    interval = f"({estimate.low:.1f} to {estimate.high:.1f})"
    axes.set_title(f"{estimate.diameter:.1f} px {interval}{verdict}", fontsize=9)
