"""Draw stacks of cells, each from one seed: ellipsoids alone, in clumps or packed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial.transform import Rotation
from skimage.segmentation import expand_labels

from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import Image, Labels, renumber

Map = NDArray[np.float64]  # (Z, Y, X)

_SMALLEST = 0.25
"""Share of a cell that must be seen."""


@dataclass(frozen=True)
class VolumeScene:
    """A drawn stack, normalised, (Z, Y, X, 1), and its labels (Z, Y, X)."""

    image: Image
    labels: Labels


def draw_volume(rng: np.random.Generator, *, size: int, diameter: float) -> VolumeScene:
    """Draw a cube of `size` voxels a side with cells of about `diameter` voxels."""
    labels = place_ellipsoids(
        (size, size, size),
        count=int(rng.uniform(0.15, 0.9) * (size / diameter) ** 3) + 1,
        diameter=diameter * float(np.exp(rng.normal(0, 0.15))),
        spread=rng.uniform(0.03, 0.25),
        elongation=rng.choice([1.15, 1.4, 1.8]),
        rng=rng,
    )
    if rng.random() < 0.3:
        labels = expand_labels(labels, rng.uniform(1, 4)).astype(np.int32)
    stored = _store(_paint(labels, diameter, rng), rng)
    return VolumeScene(normalise_percentiles(stored.astype(np.float32)[..., None]), labels)


def place_ellipsoids(
    shape: tuple[int, int, int],
    *,
    count: int,
    diameter: float,
    spread: float,
    elongation: float,
    rng: np.random.Generator,
    apart: float = 0.0,
) -> Labels:
    """Draw up to `count` ellipsoids turned at random; later ones lie behind earlier ones.

    Parameters
    ----------
    diameter : float
        Median, voxels: that of the ball of as many voxels.
    spread : float
        Standard deviation of the logarithm of the diameter.
    elongation : float
        Largest ratio of two axes.
    apart : float
        Of each ellipsoid the middle keeps so many diameters away from other middles, and the whole
        from the sides of the stack, where it is above 0.
    """
    labels = np.zeros(shape, np.int32)
    centres: list[NDArray[np.float64]] = []
    for _ in range(60 * count if apart else count):
        radius = diameter / 2 * np.exp(rng.normal(0, spread))
        edge = 0.6 * elongation * diameter if apart else -radius / 2
        centre = rng.uniform(edge, np.array(shape) - edge)
        near = [np.linalg.norm(centre - other) < apart * diameter for other in centres]
        if any(near):
            continue
        axes = np.exp(rng.uniform(-0.5, 0.5, 3) * np.log(elongation))
        axes *= radius / np.prod(axes) ** (1 / 3)
        _draw_ellipsoid(labels, centre, axes, Rotation.random(random_state=rng), len(centres) + 1)
        centres.append(centre)
        if len(centres) == count:
            break
    return renumber(labels)[0]


def _draw_ellipsoid(
    labels: Labels,
    centre: NDArray[np.float64],
    axes: NDArray[np.float64],
    turn: Rotation,
    number: int,
) -> None:
    """Draw one where nothing is, if enough of it is seen."""
    reach = axes.max() + 1
    window = tuple(
        slice(max(0, int(at - reach)), min(side, int(at + reach) + 2))
        for at, side in zip(centre, labels.shape, strict=True)
    )
    grid = np.moveaxis(np.mgrid[window], 0, -1) - centre
    inside = ((turn.apply(grid.reshape(-1, 3)) / axes) ** 2).sum(axis=1) < 1
    inside = inside.reshape(grid.shape[:-1])
    free = inside & (labels[window] == 0)
    if free.sum() >= max(1, _SMALLEST * inside.sum()):
        labels[window][free] = number


def _paint(labels: Labels, diameter: float, rng: np.random.Generator) -> Map:
    """Paint cells: evenly, with a texture, a rim or a bright middle, and what lies between."""
    depth = ndi.distance_transform_edt(_apart(labels))
    brightness = rng.lognormal(0, rng.uniform(0.05, 0.5), int(labels.max(initial=0)) + 1)
    body = 1 + rng.uniform(0, 0.5) * _smooth_noise(labels.shape, rng.uniform(0.7, 3), rng)
    rim = rng.choice([0.0, rng.uniform(-0.6, 0.8)]) * np.exp(-((depth / 1.5) ** 2))
    middle = rng.choice([0.0, rng.uniform(0, 1)]) * depth / (diameter / 2)
    cells = np.where(labels > 0, brightness[labels] * np.maximum(body + rim + middle, 0.05), 0.0)
    if rng.random() < 0.5:  # touching cells have a dark seam
        cells = cells * (1 - rng.uniform(0.2, 0.9) * (np.abs(depth) <= 1) * (labels > 0))
    haze = rng.uniform(0, 0.5) * ndi.gaussian_filter(cells, rng.uniform(0.3, 1) * diameter)
    ground = rng.uniform(0, 0.3) * _smooth_noise(labels.shape, rng.uniform(2, 10), rng)
    return np.asarray(cells + haze + ground * (labels == 0))


def _apart(labels: Labels) -> NDArray[np.bool_]:
    """Tell the voxels of cells none of whose neighbours before them is another cell."""
    inside = labels > 0
    for axis in range(3):
        here, before = np.moveaxis(labels, axis, 0)[1:], np.moveaxis(labels, axis, 0)[:-1]
        np.moveaxis(inside, axis, 0)[1:] &= (here == before) | (before == 0)
    return inside


def _store(image: Map, rng: np.random.Generator) -> Map:
    """Blur as a microscope does, more along z, lose planes now and then, and add noise."""
    across = rng.choice([0.0, 0.5, 0.9])
    image = ndi.gaussian_filter(image, (across * rng.uniform(1, 3), across, across))
    step = int(rng.choice([1, 1, 2, 3]))
    size = image.std() + 1e-6
    light = np.sqrt(np.clip(image - image.min(), 0, None) * size) * rng.uniform(0, 0.3)
    kept = image[::step]
    strength = light[::step] + rng.uniform(0.01, 0.6) ** 1.5 * size
    kept = kept + strength * rng.standard_normal(kept.shape)
    at = np.minimum(np.arange(len(image)) / step, len(kept) - 1)
    low = np.minimum(at.astype(int), max(len(kept) - 2, 0))
    share = (at - low)[:, None, None]
    return np.asarray((1 - share) * kept[low] + share * kept[np.minimum(low + 1, len(kept) - 1)])


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Map:
    """Make noise of standard deviation 1 whose structures have about this size, voxels."""
    noise = ndi.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(noise / (noise.std() + 1e-9))
