"""Find which pixels are the same cell: modes of the embeddings (arXiv:2310.08501, section 3)."""

import warnings
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve
from scipy.spatial import cKDTree

Points = NDArray[np.float64]  # (N, 2), (y, x) in pixels

_TILE = 512
"""Side in pixels of the parts in which the density is computed, which bounds the memory."""
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
    centre: tuple[float, float] | None = None,
) -> NDArray[np.int32]:
    """Group foreground pixels that embed to the same place, by mean shift [1]_.

    Only differences of offsets enter the training loss, so a constant may be added to
    all of them: the centre is taken off first.

    Parameters
    ----------
    offsets : array of shape (2, Y, X)
        Predicted offsets (y, x), pixels.
    foreground : bool array of shape (Y, X)
    centre : (y, x), optional
        Pixels; default: the median offset of the foreground. Parts of one image must share it.

    Returns
    -------
    int32 array of shape (Y, X)
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
        apart = np.hypot(*(embeddings - centres[nearest]).T) > _FARTHEST * bandwidth
        labels[embedded] = np.where(apart, 0, labels[embedded])
    return labels


def median_offset(
    offsets: NDArray[np.floating], foreground: NDArray[np.bool_]
) -> tuple[float, float]:
    """Take the median offset (y, x) of the foreground, pixels."""
    y, x = (float(np.median(of[foreground].astype(np.float64))) for of in offsets)
    return y, x


def _centred_embeddings(
    offsets: NDArray[np.floating],
    embedded: NDArray[np.bool_],
    bandwidth: float,
    centre: tuple[float, float],
) -> Points:
    """Embed pixels into a frame that starts one bandwidth outside the image.

    An embedding farther out is moved to the frame's rim: one wild pixel can't ask for a
    huge density image.
    """
    margin = min(int(np.ceil(bandwidth)), max(embedded.shape) // 2) + 1
    embeddings = np.argwhere(embedded).astype(np.float64)  # (N, 2)
    for axis, column in enumerate(embeddings.T):
        column += offsets[axis][embedded].astype(np.float64) - centre[axis] + margin
        np.clip(column, 0, embedded.shape[axis] - 1 + 2 * margin, out=column)
    return embeddings


def _density_modes(embeddings: Points, bandwidth: float) -> Points:
    """Climb the density of the embeddings from everywhere; float array of shape (modes, 2)."""
    counts = _count_image(embeddings)
    if bandwidth >= np.hypot(*counts.shape):  # every pixel is within reach of every other
        return embeddings.mean(axis=0, keepdims=True)
    moments = _disc_moments(counts, bandwidth)
    spacing = lattice_spacing(bandwidth)
    nodes, *_ = _distinct_places(np.rint(embeddings / spacing).astype(np.int64))
    modes, pixels = _climb(moments, (nodes * spacing).astype(np.float64), still=_STILL * bandwidth)
    peopled = pixels >= min(_FEWEST_PIXELS, pixels.max())
    return _distinct(modes[peopled], pixels[peopled], bandwidth)


def _count_image(embeddings: Points) -> NDArray[np.float32]:
    """Count embeddings per pixel, each shared among its four neighbours to keep its place."""
    height, width = np.floor(embeddings.max(axis=0)).astype(np.int64) + 2
    counts = np.zeros(height * width, np.float32)
    for first in range(0, len(embeddings), _CHUNK):
        chunk = embeddings[first : first + _CHUNK]
        corner = chunk.astype(np.int64)  # none is negative
        index = corner[:, 0] * width + corner[:, 1]
        down, right = (chunk - corner).T.astype(np.float32)
        for step, weights in (
            (0, (1 - down) * (1 - right)),
            (1, (1 - down) * right),
            (width, down * (1 - right)),
            (width + 1, down * right),
        ):
            np.add.at(counts, index + step, weights)
    return counts.reshape(height, width)


def _disc_moments(counts: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Count embeddings within `radius` of every place, and add up their ways from there.

    Returns shape (3, Y, X): their number, and the sums of their distances along y and x.
    """
    reach = int(np.ceil(radius))
    along = np.arange(-reach, reach + 1, dtype=np.float32)
    distance = np.hypot(along[:, None], along)
    disc = np.clip(radius + 0.5 - distance, 0, 1)  # pixels that the rim cuts count in part
    # Convolution mirrors the kernel, hence the minus.
    kernels = np.stack([disc, -along[:, None] * disc, -along * disc])  # (3, y, x)
    moments = np.empty((3, *counts.shape), np.float32)
    padded, tile = np.pad(counts, reach), max(_TILE, 4 * reach)
    for top, left in product(*(range(0, length, tile) for length in counts.shape)):
        around = padded[None, top : top + tile + 2 * reach, left : left + tile + 2 * reach]
        full = oaconvolve(around, kernels, mode="full", axes=(1, 2))
        inner = full[:, 2 * reach : -2 * reach, 2 * reach : -2 * reach]
        moments[:, top : top + tile, left : left + tile] = inner
    return moments


def lattice_spacing(radius: float) -> int:
    """Choose how many pixels the places from which the density is climbed lie apart.

    Windows of one image that begin at its multiples start from the same places.
    """
    return max(1, round(radius / 4))


def _distinct_places(
    points: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """List the distinct of many points (N, 2), none negative; faster than `np.unique`.

    Returns them (P, 2), row after row; a number for each, ascending (P,); and the number of the
    place of every point (N,).
    """
    width = points[:, 1].max() + 1
    numbers = points[:, 0] * width + points[:, 1]
    taken = np.zeros(numbers.max() + 1, bool)
    taken[numbers] = True
    distinct = np.flatnonzero(taken)
    return np.stack(np.divmod(distinct, width), axis=1), distinct, numbers


def _climb(
    moments: NDArray[np.float32], starts: Points, *, still: float
) -> tuple[Points, NDArray[np.float64]]:
    """Move places to the mean of the embeddings around them until they come to rest.

    Returns where each start ends, (starts, 2), and the embeddings within the kernel there.
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
        moving = moving[np.hypot(*step.T) > still]
    return places, pixels


def _interpolate(fields: NDArray[np.float32], places: Points) -> NDArray[np.float64]:
    """Read fields (K, Y, X) between their pixels, bilinearly; array of shape (K, places)."""
    height, width = fields.shape[1:]
    corner = np.clip(places.astype(np.int64), 0, (height - 2, width - 2))
    down, right = np.clip(places - corner, 0, 1).T
    index = corner[:, 0] * width + corner[:, 1]
    flat = fields.reshape(len(fields), -1)
    upper = flat[:, index] * (1 - right) + flat[:, index + 1] * right
    lower = flat[:, index + width] * (1 - right) + flat[:, index + width + 1] * right
    return upper * (1 - down) + lower * down


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
    certain = distances[:, 1] - distances[:, 0] > np.sqrt(2)
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
