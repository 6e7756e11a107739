"""Draws docs/drawn.png: what each look and each surrounding of drawn scenes paints.

python docs/draw_scenes.py [FILE.png]
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oce2stardist.drawn import DIAMETER
from oce2stardist.drawn.camera import store
from oce2stardist.drawn.looks import LOOKS, Cells, draw_brightness
from oce2stardist.drawn.scenes import draw_scenes
from oce2stardist.drawn.shapes import draw_population, place_cells
from oce2stardist.drawn.surroundings import SURROUNDINGS

SIDE = 128
COLUMNS = 8

Picture = NDArray[np.float64]


def draw_parts() -> dict[str, Picture]:
    """Paint the same cells with each look, and each surrounding without and with them."""
    pictures: dict[str, Picture] = {}
    for paint in LOOKS:
        pictures[paint.__name__.replace("_", " ")] = store(paint(cells(29), seeded(1)), seeded(2))
    for around in SURROUNDINGS:
        painted = 0.6 * cells(29).brightness + around(cells(29), seeded(1))
        pictures[around.__name__.replace("_", " ")] = store(painted, seeded(2))
    return pictures


def seeded(seed: int) -> np.random.Generator:
    """Return a generator of its own, so that parts don't depend on each other."""
    return np.random.default_rng(seed)


def cells(seed: int) -> Cells:
    """Place a few cells."""
    rng = seeded(seed)
    labels = place_cells((SIDE, SIDE), draw_population(rng, DIAMETER), rng)
    return Cells(labels, draw_brightness(labels, rng))


def main(path: Path) -> None:
    """Draw the parts, then whole scenes with their outlines."""
    parts = draw_parts()
    scenes = list(draw_scenes(3 * COLUMNS, seed=1))
    rows = -(-len(parts) // COLUMNS) + 3
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(1.25 * COLUMNS, 1.35 * rows), dpi=96)
    for panel in axes.ravel():
        panel.axis("off")
    for panel, (name, picture) in zip(axes.ravel(), parts.items(), strict=False):
        panel.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
        panel.set_title(name, fontsize=7, pad=2)
    for panel, scene in zip(axes[-3:].ravel(), scenes, strict=True):
        panel.imshow(scene.image[..., 0], cmap="gray", vmin=0, vmax=1)
        ids = np.arange(1, scene.labels.max() + 1)
        for label in ids:
            panel.contour(scene.labels == label, [0.5], colors="#f0e442", linewidths=0.4)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.97, 0.03, 0.16)
    figure.savefig(path)
    with Image.open(path) as picture:  # few colours: a page is to load soon
        few = picture.convert("RGB").quantize(40, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("drawn.png"))
