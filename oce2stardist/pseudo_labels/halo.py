"""Take off the rim of background around each cell."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu
from skimage.measure import label as connected_components

HaloMethod = Literal["none", "shrink", "otsu", "contrast"]

_DISTINCT = 0.5
"""Standard deviations between cells and background below which intensity tells no outline."""

_INNER = {2: 75.0, 3: 87.5}
"""By dimensions: percentile of an object's pixels that its inner half reaches, in radius."""

_VISIBLE = {2: 3.0, 3: 1.0}
"""By dimensions: standard deviations of the smoothed background by which the mean of a cell exceeds
it. A cell in a stack has more voxels, and more of its surroundings is other cells out of focus:
on 14 drawn stacks 3 lost every fifth cell (benchmarks/TRIALS.md, "Stacks")."""


@dataclass(frozen=True)
class HaloSettings:
    """How the rim of background is taken off; lengths in pixels.

    Attributes
    ----------
    method : {"none", "shrink", "otsu", "contrast"}
        ``shrink`` takes off all pixels within `shrink` px of another object or the
        background (paper, section 4). ``otsu`` keeps, within each object, what is brighter
        than Otsu's threshold of its pixels, filled (the "nucleus" mode of the paper's code).
        ``contrast`` is ours, see `trim_by_contrast`.
    shrink : float, >= 0
        For ``shrink``, and for ``contrast`` where there is no signal.
    level : float, in (0, 1)
        Where between ground and cell the outline lies, for ``contrast``.
    reach : float, >= 0
        How far outside an object its outline may lie, for ``contrast``.
    diameter : float, > 0
        Of a median cell.
    """

    method: HaloMethod
    shrink: float
    level: float
    reach: float
    diameter: float

    def __post_init__(self) -> None:
        if self.method not in get_args(HaloMethod):
            names = ", ".join(get_args(HaloMethod))
            raise ValueError(f"method must be one of {names}. Got {self.method!r} instead.")


def remove_halo(
    labels: NDArray[np.integer],
    image: NDArray[np.floating],
    signal: NDArray[np.floating] | None,
    settings: HaloSettings,
) -> NDArray[np.int32]:
    """Take off the rim of background that embeds into each cell.

    Within half a field of view of a cell, background still sees the cell and embeds into
    it, so raw objects come out up to 8 pixels too large (paper, section 4). Parts that come
    apart get labels of their own.

    Parameters
    ----------
    labels : integer array of shape (Y, X) or (Z, Y, X)
    image : float array of shape (Y, X, C) or (Z, Y, X, C)
        Normalised, at the same scale.
    signal : array of the shape of the labels, or None
        See `Signal`; ``contrast`` shrinks towards background where there is none.
    """
    method, shrink = settings.method, settings.shrink
    cleaned = labels.astype(np.int32, copy=True)
    if method == "otsu":
        cleaned[~_brighter_parts(cleaned, image.mean(axis=-1))] = 0
    elif method == "contrast" and signal is not None:
        cleaned = trim_by_contrast(cleaned, signal, settings)
    elif method == "contrast" and not cleaned.all():
        # Only towards background: where cells touch, there is no halo.
        cleaned[ndi.distance_transform_edt(cleaned > 0) <= shrink] = 0
    elif method == "shrink" and shrink > 0:
        cleaned[_depth(labels) <= shrink] = 0
    return split_parts(cleaned)


@dataclass(frozen=True)
class Signal:
    """How one image, in which cells are bright, is made of all channels."""

    weights: tuple[float, ...]
    ground: float  # what background has; taken off

    def of(self, image: NDArray[np.floating]) -> NDArray[np.floating]:
        """Make that image, without channels, of one with channels last; smoothed by 1 px."""
        mixed = image @ np.array(self.weights, image.dtype) - np.array(self.ground, image.dtype)
        return np.asarray(ndi.gaussian_filter(mixed, 1.0))


def find_signal(
    parts: Iterable[tuple[NDArray[np.integer], NDArray[np.floating]]], *, diameter: float
) -> Signal | None:
    """Find the weights of the channels for one image, or for parts of one image together.

    Each channel's weight is the difference of its means in and between objects over its
    variance within the two classes (Fisher's discriminant of uncorrelated channels): where
    cells are dark it is negative.

    Parts are pairs of labels (Y, X) and image (Y, X, C), or those of stacks. Objects have their
    halo; background is what lies a seventh of a diameter and more away from all of them. None is
    returned where no channel tells objects from background, or one of them is missing.
    """
    pairs = [
        (image[labels > 0], image[far_from(labels, diameter / 7.0)]) for labels, image in parts
    ]
    inside, outside = (np.concatenate(side) for side in zip(*pairs, strict=True))  # (N, C)
    if not len(inside) or not len(outside):
        return None
    difference = inside.mean(axis=0) - outside.mean(axis=0)
    variance = (inside.var(axis=0) + outside.var(axis=0)) / 2 + 1e-12
    if np.sum(difference**2 / variance) < _DISTINCT**2:
        return None
    weights = difference / variance
    weights /= np.abs(weights).sum()
    return Signal(tuple(map(float, weights)), float(np.median(outside @ weights)))


def far_from(labels: NDArray[np.integer], distance: float) -> NDArray[np.bool_]:
    """Find the pixels more than `distance` pixels away from every object."""
    if not (labels > 0).any():
        return np.ones(labels.shape, bool)
    return np.asarray(ndi.distance_transform_edt(labels <= 0) > distance)


def trim_by_contrast(
    labels: NDArray[np.int32], signal: NDArray[np.floating], settings: HaloSettings
) -> NDArray[np.int32]:
    """Draw each object's outline where the signal is between its cell and its surroundings.

    The threshold of an object lies at the share `level` of the way from the median of the
    background around it to what the inner half of its own pixels reaches (`_INNER`), so dim cells
    beside bright ones keep their outline. Pixels up to `reach` outside an object that pass the
    threshold of the object they are nearest to join it. An object that does not stand out from the
    noise of the background around it goes.

    Background counts as surroundings within half of the diameter, and from a seventh of it on,
    beyond which the halo does not reach. Holes are filled.
    """
    if not labels.any():
        return labels
    distance, nearest = ndi.distance_transform_edt(labels == 0, return_indices=True)
    background = distance > settings.diameter / 7.0
    thresholds = np.full(int(labels.max()) + 1, -np.inf)
    margin = round(settings.diameter / 2)
    for index, window, inside in each_object(labels):
        around = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in window)
        ground = signal[around][background[around]]
        # Where cells touch on all sides there is no halo of background to take off.
        if ground.size >= margin:
            low = float(np.median(ground))
            noise = 1.4826 * float(np.median(np.abs(ground - low)))
            pixels = signal[window][inside]
            outline = low + settings.level * (np.percentile(pixels, _INNER[labels.ndim]) - low)
            visible = pixels.mean() - low > _VISIBLE[labels.ndim] * noise
            thresholds[index] = outline if visible else np.inf
    owner = np.where(distance <= settings.reach, labels[tuple(nearest)], 0)
    owner[(labels == 0) & np.isneginf(thresholds[owner])] = 0  # nothing to grow by
    return _filled(np.where(signal > thresholds[owner], owner, 0).astype(np.int32))


def _filled(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Fill the holes of every object, except where another object lies in them."""
    filled = labels.copy()
    for index, window, inside in each_object(labels):
        holes = ndi.binary_fill_holes(inside) & (labels[window] == 0)
        filled[window][holes] = index
    return filled


def split_parts(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give every part of every object a label of its own, 1..n.

    Parts are 4-connected, in stacks 6-connected.

    Cells that embed to one place although dark ground lies between them come apart here.
    """
    return np.asarray(connected_components(labels, background=0, connectivity=1), dtype=np.int32)


def _depth(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Measure, inside each object, the distance in pixels to the nearest pixel of another label."""
    depth = np.zeros(labels.shape)
    for _, window, inside in each_object(labels):
        inner = ndi.distance_transform_edt(np.pad(inside, 1))[(slice(1, -1),) * labels.ndim]
        depth[window] = np.maximum(depth[window], inner)
    return depth


def _brighter_parts(
    labels: NDArray[np.integer], brightness: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Find, within each object, the pixels above its own threshold, and their holes."""
    bright = np.zeros(labels.shape, bool)
    for _, window, inside in each_object(labels):
        values = brightness[window][inside]
        brighter = inside
        if values.min() < values.max():
            brighter = inside & (brightness[window] > threshold_otsu(values))
        bright[window] |= ndi.binary_fill_holes(brighter) & inside
    return bright


def each_object(
    labels: NDArray[np.integer],
) -> Iterator[tuple[int, tuple[slice, ...], NDArray[np.bool_]]]:
    """Go through the objects: label, window in the image, and which pixels of it are the object."""
    for index, window in enumerate(ndi.find_objects(labels), start=1):
        if window is not None:
            yield index, window, labels[window] == index


def remove_small(labels: NDArray[np.integer], *, min_size: float) -> NDArray[np.int32]:
    """Remove objects of fewer than min_size pixels and number the rest 1..n."""
    objects = np.maximum(labels, 0)
    sizes = np.bincount(objects.ravel())
    kept = (sizes > 0) & (sizes >= min_size)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[objects]
