"""Paint what lies around cells: uneven ground, glow, debris, fibres, cells out of focus, blobs.

Each function returns what is added to the image, float of shape (Y, X).
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage as ndi
from skimage.draw import line

from oce2stardist.drawn.looks import Cells, Map, smooth_noise


def uneven_ground(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint light that changes slowly over the image, under cells as well."""
    waves = smooth_noise(cells.labels.shape, rng.uniform(20, 60), rng)
    return rng.uniform(0.05, 0.5) * waves


def textured_ground(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint structures of a few pixels between cells."""
    grain = smooth_noise(cells.labels.shape, rng.uniform(1.5, 10), rng)
    return rng.uniform(0.05, 0.35) * grain * ~cells.inside


def glow(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint a haze around cells, as cytoplasm and light from above and below make."""
    haze = ndi.gaussian_filter(cells.brightness, rng.uniform(4, 14))
    return np.asarray(rng.uniform(0.1, 0.8) * haze)


def _blob(shape: tuple[int, ...], sizes: tuple[float, float], rng: np.random.Generator) -> Map:
    """Paint one Gaussian somewhere; its standard deviation lies between two sizes, pixels."""
    dot = np.zeros(shape)
    dot[tuple(rng.integers(side) for side in shape)] = 1
    return np.asarray(ndi.gaussian_filter(dot, rng.uniform(*sizes)))


def debris(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint specks of up to a third of a cell that are no cells, bright or dark."""
    specks = np.zeros_like(cells.brightness)
    for _ in range(rng.integers(1, 14)):
        one = _blob(specks.shape, (0.6, 3.2), rng)
        specks += rng.uniform(0.3, 2.5) * rng.choice([1, 1, -1]) * one / one.max()
    return specks


def fibres(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint thin threads that run across the ground."""
    threads = np.zeros_like(cells.brightness)
    height, width = threads.shape
    for _ in range(rng.integers(2, 16)):
        ends = rng.integers([height, width, height, width])
        threads[line(*ends)] = rng.uniform(0.3, 1)
    shift = 6 * np.stack([smooth_noise(threads.shape, 18, rng) for _ in range(2)])
    bent = ndi.map_coordinates(threads, np.indices(threads.shape) + shift, order=1, mode="wrap")
    smooth = ndi.gaussian_filter(bent, rng.uniform(0.6, 1.6))
    return rng.uniform(0.2, 1) * smooth / (smooth.max() + 1e-9) * ~cells.inside


def out_of_focus(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint the same cells once more, elsewhere and blurred: other layers of the sample."""
    moved = np.roll(cells.brightness, rng.integers(0, cells.labels.shape), (0, 1))
    return np.asarray(rng.uniform(0.15, 0.9) * ndi.gaussian_filter(moved, rng.uniform(4, 11)))


def blinding(cells: Cells, rng: np.random.Generator) -> Map:
    """Paint one to three blobs so bright that cells are dim beside them: clumps, dead cells."""
    blobs = np.zeros_like(cells.brightness)
    for _ in range(rng.integers(1, 4)):
        one = _blob(blobs.shape, (3, 16), rng)
        blobs += rng.uniform(2, 10) * one / one.max()
    return blobs


SURROUNDINGS: Mapping[Callable[[Cells, np.random.Generator], Map], float] = {
    uneven_ground: 0.5,
    textured_ground: 0.4,
    glow: 0.25,
    debris: 0.4,
    fibres: 0.12,
    out_of_focus: 0.25,
    blinding: 0.1,
}
"""How often each takes part in a scene; several may."""
