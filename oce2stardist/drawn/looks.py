"""Paint cells: fluorescent, ringed, in phase contrast, stained and so on.

Each look takes the maps of a scene's cells and returns a float image (Y, X): about 1 where a cell
of common brightness shows, 0 on the ground between them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.segmentation import find_boundaries

from oce2stardist.labels import Labels

Map = NDArray[np.float64]  # (Y, X)


@dataclass(frozen=True)
class Cells:
    """The cells of one scene, as maps of shape (Y, X)."""

    labels: Labels
    brightness: Map
    """Of the cell at each pixel, around 1; 0 on the ground."""

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Whether a pixel lies in a cell."""
        return self.labels > 0

    @cached_property
    def depth(self) -> Map:
        """Distance to the cell's own outline, pixels; 0 on the ground."""
        border = find_boundaries(self.labels, mode="inner")
        return np.where(self.inside, ndi.distance_transform_edt(~border) + 0.5, 0.0)

    @cached_property
    def relative_depth(self) -> Map:
        """Depth divided by the greatest of the same cell: 0 at the outline, 1 in the middle."""
        ids = np.arange(self.labels.max() + 1)
        greatest = np.maximum(ndi.maximum(self.depth, self.labels, ids), 1)
        greatest[0] = 1
        return self.depth / greatest[self.labels]

    @cached_property
    def outer_distance(self) -> Map:
        """Distance to the nearest cell, pixels; 0 in cells."""
        return np.asarray(ndi.distance_transform_edt(~self.inside))


def draw_brightness(labels: Labels, rng: np.random.Generator) -> Map:
    """Draw a brightness for each cell, all alike to very different."""
    unlike = rng.choice([0.08, 0.25, 0.5, 0.9], p=[0.3, 0.35, 0.25, 0.1])
    values = np.exp(rng.normal(0, unlike, labels.max() + 1))
    values[0] = 0
    return np.asarray(values[labels])


def smooth_noise(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> Map:
    """Draw noise with structures of `size` pixels, mean 0, standard deviation 1."""
    noise = ndi.gaussian_filter(rng.standard_normal(shape), size, mode="wrap")
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9))


def seams(cells: Cells, rng: np.random.Generator) -> Map:
    """Draw a factor that is below 1 along outlines: without it nobody could part packed cells."""
    darker = rng.uniform(0.15, 0.8) if _touch(cells.labels) else rng.uniform(0, 0.3)
    return np.asarray(1 - darker * np.exp(-((cells.depth / rng.uniform(0.8, 2)) ** 2)))


def _touch(labels: Labels) -> bool:
    """Tell whether much of the outlines lies between two cells."""
    border = find_boundaries(labels, mode="inner")
    outer = border & ndi.binary_dilation(labels == 0)
    return bool(outer.sum() < 0.7 * border.sum())


def filled(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint cells that glow all over, a little rounder or flatter, with some texture."""
    dome = 1 + rng.uniform(-0.2, 0.7) * (cells.relative_depth - 0.5)
    texture = 1 + rng.uniform(0, 0.35) * smooth_noise(cells.labels.shape, rng.uniform(0.8, 4), rng)
    return cells.brightness * dome * np.maximum(texture, 0) * seams(cells, rng)


def spotted(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint glowing nuclei with a few darker or brighter spots, as nucleoli and chromatin make."""
    spots = smooth_noise(cells.labels.shape, rng.uniform(1.2, 3.5), rng)
    spots = np.clip(spots - rng.uniform(0.5, 1.2), 0, 1.5) * (cells.relative_depth > 0.15)
    sign = rng.choice([-0.6, 0.7], p=[0.6, 0.4])
    return filled(cells, rng) * np.maximum(1 + sign * spots, 0.1)


def ringed(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint bright membranes around dark cells."""
    width = rng.uniform(0.8, 3)
    texture = 1 + rng.uniform(0, 0.5) * smooth_noise(cells.labels.shape, rng.uniform(1, 6), rng)
    line = np.exp(-((cells.depth / width) ** 2)) * cells.inside
    return cells.brightness * (line * np.maximum(texture, 0) + rng.uniform(0, 0.3))


def ringed_with_core(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint a membrane and a nucleus, brighter or darker than what lies between."""
    core = ndi.gaussian_filter((cells.relative_depth > rng.uniform(0.3, 0.65)) * 1.0, 0.8)
    line = np.exp(-((cells.depth / rng.uniform(0.8, 3)) ** 2))
    texture = 1 + rng.uniform(0, 0.3) * smooth_noise(cells.labels.shape, rng.uniform(1, 4), rng)
    body = rng.uniform(0.1, 0.5) + rng.uniform(-0.5, 1) * core + rng.uniform(0, 1) * line
    return cells.brightness * body * texture * cells.inside


def phase_contrast(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint grey cells in a bright or dark halo that is widest where nothing else is near."""
    halo = np.exp(-((cells.outer_distance / rng.uniform(1.5, 5)) ** 2)) * ~cells.inside
    rim = np.exp(-((cells.depth / rng.uniform(0.8, 2)) ** 2)) * cells.inside
    texture = smooth_noise(cells.labels.shape, rng.uniform(0.8, 3), rng)
    body = rng.uniform(-0.7, 0.3) + rng.uniform(0, 0.5) * texture
    body = body + rng.uniform(-0.6, 0.6) * cells.relative_depth
    lit = cells.brightness * body * cells.inside
    return lit + rng.uniform(0.2, 1.2) * halo + rng.uniform(-0.8, 0.8) * rim


def relief(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint cells as if lit from one side, as differential interference contrast does."""
    height = cells.brightness * cells.relative_depth ** rng.uniform(0.4, 1)
    height = height + rng.uniform(0, 0.15) * smooth_noise(cells.labels.shape, 1.5, rng)
    down, right = np.gradient(ndi.gaussian_filter(height, rng.uniform(0.7, 1.6)))
    angle = rng.uniform(0, 2 * np.pi)
    slope = down * np.sin(angle) + right * np.cos(angle)
    return np.asarray(slope / (np.abs(slope).max() + 1e-9) + rng.uniform(-0.2, 0.3) * cells.inside)


def bright_field(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint a dark outline, a bright fringe beside it and a lens in the middle."""
    width, away = rng.uniform(1, 2.5), cells.depth - cells.outer_distance
    dark = -np.exp(-((away / width) ** 2))
    fringe = np.exp(-(((away + 2.2 * width) / width) ** 2)) * rng.uniform(0, 0.8)
    lens = rng.uniform(-0.4, 1) * np.clip(cells.relative_depth - 0.4, 0, 1) * cells.brightness
    return np.asarray(dark + fringe + lens + rng.uniform(-0.3, 0.2) * cells.inside)


def textured(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint cells that only their texture tells from the ground."""
    shape = cells.labels.shape
    inner = rng.uniform(0.5, 1.2) * smooth_noise(shape, rng.uniform(0.7, 2), rng)
    outer = rng.uniform(0.1, 0.6) * smooth_noise(shape, rng.uniform(3, 9), rng)
    rim = rng.uniform(-1, 1) * np.exp(-((cells.depth / rng.uniform(0.8, 2)) ** 2))
    body = (rng.uniform(-0.3, 0.6) + inner) * seams(cells, rng) + rim
    return np.where(cells.inside, cells.brightness * body, outer)


def stained(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint stained nuclei in tissue that takes some of the stain, with holes that take none."""
    shape = cells.labels.shape
    tissue = rng.uniform(0.1, 0.45) * (1 + 0.6 * smooth_noise(shape, rng.uniform(1.5, 8), rng))
    hole = smooth_noise(shape, rng.uniform(8, 25), rng) > rng.uniform(0.5, 2)
    chromatin = 1 + rng.uniform(0.1, 0.5) * smooth_noise(shape, rng.uniform(0.8, 2.5), rng)
    rim = rng.uniform(0, 0.8) * np.exp(-((cells.depth / 1.5) ** 2))
    nuclei = cells.brightness * (chromatin * rng.uniform(0.6, 1.1) + rim) * seams(cells, rng)
    return np.where(cells.inside, nuclei, np.where(hole, 0.0, tissue))


LOOKS: Mapping[Callable[[Cells, np.random.Generator], Map], float] = {
    filled: 0.26,
    spotted: 0.14,
    ringed: 0.09,
    ringed_with_core: 0.1,
    phase_contrast: 0.1,
    relief: 0.04,
    bright_field: 0.07,
    textured: 0.08,
    stained: 0.12,
}
"""How often each look is drawn. Taste; benchmarks/drawn_start.py tells what the mix is worth."""
