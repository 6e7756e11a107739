"""Find which pixels are the same cell: modes of the embeddings (arXiv:2310.08501, section 3)."""

import math
import warnings
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any, Literal

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
_FARTHEST = 2.0
"""Bandwidths between a mode and the embeddings that may belong to it, about a cell's diameter.

Farther out an embedding belongs to no cell. Without a limit, which cell it joins would depend on
modes at any distance, and so on the window that an image is read in (taste: on three
sets labels stay the same, see benchmarks/TRIALS.md, "Precision")."""


@dataclass(frozen=True)
class ClusteringSettings:
    """How embeddings are clustered.

    Attributes
    ----------
    bandwidth : float, > 0
        Radius of the kernel, pixels; somewhat less than half a cell diameter is a good value.
    method : {"density", "mean_shift"}
        ``mean_shift`` is scikit-learn's, the reference. ``density`` is mean shift with the same
        flat kernel on the density of all embeddings, some hundred times faster; embeddings more
        than two bandwidths from every mode belong to none.
    bin_seeding : bool
        Let ``mean_shift`` start from one place per square of the bandwidth instead of from
        every fitted pixel. The paper's code does not.
    fitted_share : float in (0, 1]
        Share of the pixels that ``mean_shift`` is fitted to, a tenth in the paper's code; drawn
        by `seed`, never fewer than 100.
    """

    bandwidth: float
    method: Literal["density", "mean_shift"]
    bin_seeding: bool
    fitted_share: float
    seed: int

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0. Got {self.bandwidth} instead.")
        if not 0 < self.fitted_share <= 1:
            raise ValueError(
                f"fitted_share must be above 0 and at most 1. Got {self.fitted_share} instead."
            )


def cluster_embeddings(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    settings: ClusteringSettings,
    *,
    centre: tuple[float, ...] | None = None,
) -> NDArray[np.int32]:
    """Group foreground pixels that embed to the same place, by mean shift [1]_.

    Only differences of offsets enter the training loss, so a constant may be added to
    all of them: the centre is taken off first.

    Parameters
    ----------
    offsets : array of shape (2, Y, X) or (3, Z, Y, X)
        Predicted offsets (y, x) or (z, y, x), pixels.
    foreground : bool array of shape (Y, X) or (Z, Y, X)
    centre : (y, x) or (z, y, x), optional
        Pixels; default: the median offset of the foreground. Parts of one image must share it.

    Returns
    -------
    int32 array of the shape of the foreground
        Labels 1..n on the foreground, 0 elsewhere, where an offset is not finite, and (``density``)
        on pixels that embed too far from every mode.

    References
    ----------
    .. [1] Comaniciu and Meer, IEEE TPAMI 24(5), 2002, doi:10.1109/34.1000236.
    """
    bandwidth = settings.bandwidth
    labels = np.zeros(foreground.shape, np.int32)
    embedded = foreground & np.isfinite(offsets).all(axis=0)
    if not embedded.any():
        return labels
    centre = centre or median_offset(offsets, embedded)
    embeddings = _centred_embeddings(offsets, embedded, bandwidth, centre)
    if settings.method == "density":
        centres = _density_modes(embeddings, bandwidth)
    else:
        centres = _mean_shift_centres(embeddings, settings)
    nearest = _nearest(centres, embeddings)
    labels[embedded] = nearest + 1
    if settings.method == "density":
        apart = _lengths(embeddings - centres[nearest]) > _FARTHEST * bandwidth
        labels[embedded] = np.where(apart, 0, labels[embedded])
    return labels


def median_offset(
    offsets: NDArray[np.floating], foreground: NDArray[np.bool_]
) -> tuple[float, ...]:
    """Take the median offset, (y, x) or (z, y, x), of the foreground, pixels."""
    return tuple(float(np.median(of[foreground].astype(np.float64))) for of in offsets)


def _lengths(ways: Points) -> NDArray[np.float64]:
    return np.asarray(reduce(np.hypot, ways.T))


def _centred_embeddings(
    offsets: NDArray[np.floating],
    embedded: NDArray[np.bool_],
    bandwidth: float,
    centre: tuple[float, ...],
) -> Points:
    """Embed pixels into a frame that starts one bandwidth outside the image.

    An embedding farther out is moved to the frame's rim: one wild pixel can't ask for a
    huge density image.
    """
    margin = min(int(np.ceil(bandwidth)), max(embedded.shape) // 2) + 1
    embeddings = np.argwhere(embedded).astype(np.float64)  # (N, 2 or 3)
    for axis, column in enumerate(embeddings.T):
        column += offsets[axis][embedded].astype(np.float64) - centre[axis] + margin
        np.clip(column, 0, embedded.shape[axis] - 1 + 2 * margin, out=column)
    return embeddings


def _density_modes(embeddings: Points, bandwidth: float) -> Points:
    """Climb the density of the embeddings from everywhere; array of shape (modes, 2 or 3)."""
    counts = _count_image(embeddings)
    if bandwidth >= reduce(np.hypot, counts.shape):  # every pixel is within reach of every other
        return embeddings.mean(axis=0, keepdims=True)
    moments = _kernel_moments(counts, bandwidth)
    spacing = lattice_spacing(bandwidth)
    nodes, *_ = _distinct_places(np.rint(embeddings / spacing).astype(np.int64))
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


def _distinct_places(
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
        moving = moving[_lengths(step) > still]
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


def _nearest(centres: Points, embeddings: Points) -> NDArray[np.int32]:
    """Find the index of the centre nearest to each embedding, (N,).

    Most pixels of a cell embed to few places, so the search is made once per square pixel
    of embedding space; only where the second centre is about as near, once per embedding.
    """
    if len(centres) == 1:
        return np.zeros(len(embeddings), np.int32)
    tree = cKDTree(centres)
    squares, numbers, of_embedding = _distinct_places(np.rint(embeddings).astype(np.int64))
    distances, nearest = tree.query(squares, k=2)
    # Each distance changes by at most half a diagonal within a square.
    certain = distances[:, 1] - distances[:, 0] > np.sqrt(embeddings.shape[1])
    of_square = np.empty(numbers[-1] + 1, np.int32)
    of_square[numbers] = np.where(certain, nearest[:, 0], -1)
    result = of_square[of_embedding]
    unsure = result < 0
    result[unsure] = tree.query(embeddings[unsure])[1]
    return result


def _mean_shift_centres(embeddings: Points, settings: ClusteringSettings) -> Points:
    from sklearn.cluster import MeanShift  # slow to import, and only the reference needs it

    rng = np.random.default_rng(settings.seed)
    drawn = rng.random(len(embeddings)) < settings.fitted_share
    fitted = embeddings[drawn] if drawn.sum() >= 100 else embeddings
    model = MeanShift(
        bandwidth=settings.bandwidth, bin_seeding=settings.bin_seeding, cluster_all=True
    )
    with warnings.catch_warnings():
        # It then starts from the pixels themselves, which is as good.
        warnings.filterwarnings("ignore", "Binning data failed", UserWarning)
        model.fit(fitted)
    return np.asarray(model.cluster_centers_, dtype=np.float64)
