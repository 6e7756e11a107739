"""Find the modes of embeddings on an image of their density, from which every place climbs."""

import math
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve
from scipy.spatial import cKDTree

Points = NDArray[np.float64]  # (N, 2), (y, x) in pixels, or (N, 3), (z, y, x)

_TILE = {2: 512, 3: 96}
"""By dimensions: side in pixels of the parts in which the density is computed, which bounds the
memory."""
_CHUNK = 2**18
"""Embeddings that are counted at a time; what fits the processor's cache is faster."""
_FEWEST_PIXELS = 10.0
"""A mode needs as many pixels in its kernel, or stray pixels would make cells."""
_STILL = 1e-3
"""A climb ends when a step is shorter than this share of the bandwidth (scikit-learn)."""
_MOST_STEPS = 300
"""A climb ends after so many steps at the latest (scikit-learn)."""


def density_modes(embeddings: Points, bandwidth: float) -> Points:
    """Climb the density of the embeddings from everywhere; array of shape (modes, 2 or 3)."""
    counts = _count_image(embeddings)
    if bandwidth >= reduce(np.hypot, counts.shape):  # every pixel is within reach of every other
        return embeddings.mean(axis=0, keepdims=True)
    moments = _kernel_moments(counts, bandwidth)
    spacing = lattice_spacing(bandwidth)
    nodes, *_ = distinct_places(np.rint(embeddings / spacing).astype(np.int64))
    modes, pixels = _climb(moments, (nodes * spacing).astype(np.float64), still=_STILL * bandwidth)
    peopled = pixels >= min(_FEWEST_PIXELS, pixels.max())
    return _distinct(modes[peopled], pixels[peopled], bandwidth)


def _count_image(embeddings: Points) -> NDArray[np.float32]:
    """Count embeddings per pixel, each shared among its neighbours to keep its place.

    These are four, of a stack eight.
    """
    shape = tuple((np.floor(embeddings.max(axis=0)).astype(np.int64) + 2).tolist())
    counts = np.zeros(math.prod(shape), np.float32)
    strides = _strides(shape)
    for first in range(0, len(embeddings), _CHUNK):
        chunk = embeddings[first : first + _CHUNK]
        corner = chunk.astype(np.int64)  # none is negative
        index = corner @ strides
        beyond = (chunk - corner).T.astype(np.float32)  # the way from the corner
        for steps in product((0, 1), repeat=len(shape)):
            shares = [way if step else 1 - way for way, step in zip(beyond, steps, strict=True)]
            np.add.at(counts, index + int(steps @ strides), reduce(np.multiply, shares))
    return counts.reshape(shape)


def _strides(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Tell by how much the index of a flat array grows along each axis."""
    return np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)


def _kernel_moments(counts: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Count embeddings within `radius` of every place, and add up their ways from there.

    Returns shape (3, Y, X): their number, and the sums of their distances along y and x. Of a
    stack (4, Z, Y, X).
    """
    reach, ndim = int(np.ceil(radius)), counts.ndim
    along = np.ix_(*[np.arange(-reach, reach + 1, dtype=np.float32)] * ndim)
    distance = reduce(np.hypot, along)
    disc = np.clip(radius + 0.5 - distance, 0, 1)  # pixels that the rim cuts count in part
    # Convolution mirrors the kernel, hence the minus.
    kernels = np.stack([disc, *(-way * disc for way in along)])  # (3, y, x)
    moments = np.empty((1 + ndim, *counts.shape), np.float32)
    padded, tile = np.pad(counts, reach), max(_TILE[ndim], 4 * reach)
    inner = (slice(None), *[slice(2 * reach, -2 * reach)] * ndim)
    for starts in product(*(range(0, length, tile) for length in counts.shape)):
        seen = tuple(slice(start, start + tile + 2 * reach) for start in starts)
        place = tuple(slice(start, start + tile) for start in starts)
        full = oaconvolve(padded[seen][None], kernels, mode="full", axes=range(1, 1 + ndim))
        for moment, computed in zip(moments, full[inner], strict=True):
            moment[place] = computed
    return moments


def lattice_spacing(radius: float) -> int:
    """Choose how many pixels the places from which the density is climbed lie apart.

    Windows of one image that begin at its multiples start from the same places.
    """
    return max(1, round(radius / 4))


def distinct_places(
    points: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """List the distinct of many points (N, 2 or 3), none negative; faster than `np.unique`.

    Returns them (P, 2 or 3), row after row; a number for each, ascending (P,); and the number of
    the place of every point (N,).
    """
    shape = tuple((points.max(axis=0) + 1).tolist())
    numbers = points @ _strides(shape)
    taken = np.zeros(numbers.max() + 1, bool)
    taken[numbers] = True
    distinct = np.flatnonzero(taken)
    return np.stack(np.unravel_index(distinct, shape), axis=1), distinct, numbers


def _climb(
    moments: NDArray[np.float32], starts: Points, *, still: float
) -> tuple[Points, NDArray[np.float64]]:
    """Move places to the mean of the embeddings around them until they come to rest.

    Returns where each start ends, (starts, 2 or 3), and the embeddings within the kernel there.
    """
    places, pixels = starts.copy(), np.zeros(len(starts))
    moving = np.arange(len(starts))
    for _ in range(_MOST_STEPS):
        if len(moving) == 0:
            break
        number, *ways = _interpolate(moments, places[moving])
        step = np.stack(ways, axis=1) / np.maximum(number, 1e-3)[:, None]
        pixels[moving] = number
        places[moving] += step
        moving = moving[lengths(step) > still]
    return places, pixels


def _interpolate(fields: NDArray[np.float32], places: Points) -> NDArray[np.float64]:
    """Read fields (K, Y, X) or (K, Z, Y, X) between their pixels, linearly; (K, places)."""
    shape = fields.shape[1:]
    corner = np.clip(places.astype(np.int64), 0, np.array(shape) - 2)
    beyond = np.clip(places - corner, 0, 1).T
    flat, strides = fields.reshape(len(fields), -1), _strides(shape)

    def between(index: NDArray[np.int64], axis: int) -> Any:
        if axis == len(shape):
            return flat[:, index]
        lower, upper = between(index, axis + 1), between(index + strides[axis], axis + 1)
        return lower * (1 - beyond[axis]) + upper * beyond[axis]

    return np.asarray(between(corner @ strides, 0), np.float64)


def _distinct(modes: Points, pixels: NDArray[np.float64], radius: float) -> Points:
    """Drop every mode within `radius` of one with more pixels, as scikit-learn does."""
    # Climbs to one mode end within a hundredth of a pixel or so.
    _, first = np.unique(np.rint(modes * 10), axis=0, return_index=True)
    ranked = first[np.lexsort((first, -pixels[first]))]
    modes = modes[ranked]
    tree, kept = cKDTree(modes), np.ones(len(modes), bool)
    for index, mode in enumerate(modes):
        if kept[index]:
            kept[tree.query_ball_point(mode, radius)] = False
            kept[index] = True
    return modes[kept]


def lengths(ways: Points) -> NDArray[np.float64]:
    """Measure how long ways (N, 2 or 3) are."""
    return np.asarray(reduce(np.hypot, ways.T))
