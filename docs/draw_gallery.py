"""Draw docs/gallery.png: four kinds of images, and the cells that are found in them.

`python docs/draw_gallery.py FOLDER` shows what `predict --model drawn` finds, without any training;
FOLDER keeps the files. With `--train` each kind goes through all commands of the README, some 40
minutes on two cores, and the cells outlined for it are shown, too. The nuclei are those that
stardist ships (Data Science Bowl 2018, CC0). Stained tissue, membranes and phase contrast are drawn
here, so that they may be shown anywhere.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage.color import hed2rgb
from stardist.data import test_image_nuclei_2d

from oce2stardist.drawn.looks import Cells, draw_brightness, phase_contrast, ringed, smooth_noise
from oce2stardist.drawn.shapes import Population, place_cells
from oce2stardist.images.label_files import read_labels
from oce2stardist.reports.drawing.pictures import (
    picture_of_image,
    picture_of_labels,
    picture_of_training_labels,
)

SIDE, N_IMAGES, N_OUTLINED = 256, 4, 6
COLOURS = 200

Pixels = NDArray[np.generic]
Drawn = tuple[Pixels, NDArray[np.int32]]
"""An image and all its cells."""


def nuclei() -> list[Drawn]:
    """Cut the image that stardist ships into quarters."""
    image, truth = test_image_nuclei_2d(return_mask=True)
    corners = [(top, left) for top in (0, SIDE) for left in (0, SIDE)]
    windows = [np.s_[top : top + SIDE, left : left + SIDE] for top, left in corners]
    return [(image[window], truth[window].astype(np.int32)) for window in windows]


def population(**changes: object) -> Population:
    """Describe crowded, fairly round cells, with some of it changed."""
    usual = dict(
        diameter=26.0, spread=0.15, small_share=0.0, elongation=1.5, roughness=0.04, arms=0.0,
        bend=0.0, direction=None, crowding="crowded", clumped=False, hidden=0.08,
    )  # fmt: skip
    return Population(**(usual | changes))  # type: ignore[arg-type]


def drawn(paint: Callable[[Cells, np.random.Generator], Pixels], **changes: object) -> list[Drawn]:
    """Draw scenes that differ in their cells and not in their looks."""
    scenes = []
    for number in range(N_IMAGES):
        rng = np.random.default_rng([5, number])
        labels = place_cells((SIDE, SIDE), population(**changes), rng)
        cells = Cells(labels, draw_brightness(labels, rng))
        scenes.append((paint(cells, rng), labels))
    return scenes


def stained_tissue(cells: Cells, rng: np.random.Generator) -> Pixels:
    """Paint blue nuclei in pink tissue."""
    shape = cells.labels.shape
    chromatin = 1 + 0.3 * smooth_noise(shape, 1.6, rng)
    blue = ndi.gaussian_filter(cells.inside * (0.08 * chromatin + 0.02), 0.8)
    pink = 0.045 * (1 + 0.35 * smooth_noise(shape, 5, rng)) * (smooth_noise(shape, 14, rng) < 1.4)
    stains = np.stack([blue, ndi.gaussian_filter(pink, 1), np.zeros(shape)], axis=-1)
    noisy = hed2rgb(np.clip(stains, 0, None)) + rng.normal(0, 0.015, (*shape, 3))
    return (255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def grey(painted: NDArray[np.float64], rng: np.random.Generator) -> Pixels:
    """Blur and add noise as a camera does."""
    seen = ndi.gaussian_filter(painted, 0.8)
    seen = seen + rng.normal(0, 0.06 * seen.std() + 0.02, seen.shape)
    low, high = seen.min(), seen.max()
    return ((seen - low) / (high - low) * 4000).astype(np.uint16)


def membranes(cells: Cells, rng: np.random.Generator) -> Pixels:
    """Paint a tissue of cells that touch, by their membranes."""
    return grey(ringed(cells, np.random.default_rng(4)), rng)


def in_phase_contrast(cells: Cells, rng: np.random.Generator) -> Pixels:
    """Paint grey cells in a bright halo."""
    return grey(phase_contrast(cells, np.random.default_rng(11)), rng)


KINDS = {
    "Nuclei (real)": nuclei,
    "Stained tissue (drawn)": lambda: drawn(stained_tissue, hidden=0.05),
    "Membranes (drawn)": lambda: drawn(membranes, crowding="packed", diameter=32.0),
    "Phase contrast (drawn)": lambda: drawn(in_phase_contrast, crowding="sparse", clumped=True),
}
FIRST_LOOK = ("predict images --model drawn -o first_look",)
TRAINING = (
    "pseudo images -o run --annotations masks",
    "finetune images --pseudo run --annotations masks -o model",
    "predict images --model model -o cells",
)


def outline_some(truth: NDArray[np.int32]) -> NDArray[np.int32]:
    """Keep a few whole cells, spread over the image."""
    inner = np.setdiff1d(truth, np.r_[truth[0], truth[-1], truth[:, 0], truth[:, -1], 0])
    chosen = np.random.default_rng(2).permutation(inner)[:N_OUTLINED]
    return np.where(np.isin(truth, chosen), truth, 0).astype(np.int32)


def run(folder: Path, scenes: list[Drawn], commands: Sequence[str]) -> None:
    """Write images and the outlined cells, then give the commands."""
    for number, (image, truth) in enumerate(scenes, start=1):
        for name, array in (("images", image), ("masks", outline_some(truth))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / name / f"field{number}.tif", array)
    for command in commands:
        words = [sys.executable, "-m", "oce2stardist", *command.split()]
        subprocess.run(words, cwd=folder, check=True)


def pictures_of(folder: Path, found: str) -> dict[str, Pixels]:
    """Draw the first image, what is outlined in it if that was used, and what was found."""
    image = tifffile.imread(folder / "images" / "field1.tif")
    image = image if image.ndim == 3 else image[..., None]
    masks, cells = (read_labels(folder / part / "field1.tif") for part in ("masks", found))
    pictures = {"image": picture_of_image(image)}
    if found == "cells":
        outlined = f"{len(np.unique(masks)) - 1} cells outlined in it"
        pictures[outlined] = picture_of_training_labels(image, masks)
    return pictures | {f"{cells.max()} cells found": picture_of_labels(image, cells)}


def main(folder: Path, path: Path, *, trains: bool) -> None:
    """Run every kind that has not been run, and draw them side by side."""
    found, commands = ("cells", TRAINING) if trains else ("first_look", FIRST_LOOK)
    rows = 3 if trains else 2
    figure, axes = plt.subplots(rows, len(KINDS), figsize=(9.6, 2.6 * rows), dpi=100)
    for column, (title, make) in zip(axes.T, KINDS.items(), strict=True):
        own = folder / title.split(" (")[0].replace(" ", "-").lower()
        if not (own / found).exists():
            run(own, make(), commands)
        pictures = pictures_of(own, found)
        for panel, (name, picture) in zip(column, pictures.items(), strict=True):
            panel.imshow(picture, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.set_xlabel(name, fontsize=10)
        column[0].set_title(title, fontsize=12)
    figure.subplots_adjust(0.01, 0.05, 0.99, 0.94, 0.03, 0.12)
    figure.savefig(path)
    with Image.open(path) as picture:  # few colours: a page is to load soon
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    _, where, *others = sys.argv
    main(Path(where), Path(__file__).with_name("gallery.png"), trains="--train" in others)
