"""Draw docs/pictures/mistake-*.png: cells as they should be outlined, and what a report may show.

python docs/draw_mistakes.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.segmentation import expand_labels, watershed

from oce2stardist.drawn.looks import Cells, draw_brightness, filled
from oce2stardist.drawn.shapes import Population, place_cells
from oce2stardist.reports.drawing.pictures import picture_of_labels

FOLDER = Path(__file__).parent / "pictures"
SIDE = 150

Labels = NDArray[np.int32]


def scene() -> tuple[NDArray[np.float64], Labels]:
    """Draw cells of which some touch, on a background with a slow wave."""
    rng = np.random.default_rng(12)
    population = Population(
        diameter=26, spread=0.12, small_share=0, elongation=1.5, roughness=0.04, arms=0, bend=0,
        direction=None, crowding="crowded", clumped=True, hidden=0.08,
    )  # fmt: skip
    labels = place_cells((SIDE, SIDE), population, rng)
    image = filled(Cells(labels, draw_brightness(labels, rng)), rng)
    wave = 0.15 * np.sin(np.arange(SIDE) / 20)[:, None]
    return ndi.gaussian_filter(image + wave + rng.normal(0, 0.05, image.shape), 0.8), labels


def merged(labels: Labels) -> Labels:
    """Make one object of all cells that are close together."""
    together = ndi.binary_dilation(labels > 0, iterations=7)
    closed = ndi.binary_erosion(together, iterations=7, border_value=1)
    return np.where(closed, label(together), 0).astype(np.int32)


def split(labels: Labels) -> Labels:
    """Cut every cell into pieces around random points in it."""
    points = np.random.default_rng(0).random(labels.shape) < 0.006
    distance = ndi.distance_transform_edt(~points)
    pieces = watershed(distance, label(points), mask=labels > 0)
    return label(labels.astype(np.int64) * 10_000 + pieces, background=0).astype(np.int32)


def shrunk(labels: Labels) -> Labels:
    """Take four pixels off every outline."""
    inside = [ndi.binary_erosion(labels == one, iterations=4) for one in range(1, labels.max() + 1)]
    return np.where(np.any(inside, axis=0), labels, 0).astype(np.int32)


def grown(labels: Labels) -> Labels:
    """Put five pixels of background around every cell."""
    return np.asarray(expand_labels(labels, 5), np.int32)


def with_background(labels: Labels) -> Labels:
    """Find patches of background as if they were cells."""
    noise = ndi.gaussian_filter(np.random.default_rng(4).standard_normal(labels.shape), 7)
    patches = label((noise > np.quantile(noise, 0.8)) & (expand_labels(labels, 2) == 0))
    return np.where(labels > 0, labels, (patches + labels.max()) * (patches > 0)).astype(np.int32)


def nothing(labels: Labels) -> Labels:
    """Find no cell."""
    return np.zeros_like(labels)


MISTAKES = {
    "merged": merged,
    "split": split,
    "too-small": shrunk,
    "too-large": grown,
    "background": with_background,
    "nothing": nothing,
}


def main() -> None:
    """Draw a pair of pictures for every mistake."""
    image, labels = scene()
    for name, spoil in MISTAKES.items():
        figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), dpi=100)
        pairs = (("as it should be", labels), ("what you see", spoil(labels)))
        for panel, (title, shown) in zip(axes, pairs, strict=True):
            panel.imshow(picture_of_labels(image[..., None], shown), interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.set_title(title, fontsize=11)
        figure.subplots_adjust(0.01, 0.01, 0.99, 0.91, 0.03)
        path = FOLDER / f"mistake-{name}.png"
        figure.savefig(path)
        plt.close(figure)
        with Image.open(path) as picture:  # few colours: a page is to load soon
            few = picture.convert("RGB").quantize(48, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


if __name__ == "__main__":
    main()
