"""Choose which pixels are cell: low spread over noisy copies (arXiv:2310.08501, section 3)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.stats import mannwhitneyu
from skimage.filters import threshold_otsu

from oce2stardist.labels import cell_size

_SMALLEST_SPREAD = 1e-4
"""Pixels; keeps the logarithm finite where no copy differs from another."""

_KERNEL = 1 / 9
"""Standard deviation of the kernel of `gathering_density`, in cell diameters."""

_GATHERED = 2.5
"""Density, relative to uniform, above which embeddings count as gathered."""

_OUTLIER = 6.0
"""Standard deviations below the median at which the spread is no longer background's."""

_EMPTY = 0.25
"""Share of gathering pixels at low spread under which an image is taken to be empty. Measured:
0.12 on pure noise, 0.40 or more on every image with cells of a mixed set."""

_SAMPLES = 200_000
"""Pixels of the whole set that choices are made on."""

Cue = Literal["spread", "gathering", "outliers"]


@dataclass(frozen=True)
class Foreground:
    """Where the smoothed log spread is cell, and how far to trust it.

    Attributes
    ----------
    thresholds : tuple of float
        One per image, in their order: pixels below are foreground. ``-inf`` calls nothing
        foreground, ``inf`` everything.
    cue : {"spread", "gathering", "outliers"}
        What set those of most images: ``spread``, two modes of the spread of the whole set;
        ``gathering``, the spread up to which embeddings gather; ``outliers``, a spread far
        below what is usual in an image that is nearly all background.
    separation : float in [0, 1]
        How far two independent cues, spread and gathering, support the choice: their
        `cue_agreement`, or for ``gathering``, where there is hardly anything to part, the
        share of all pixels that gather. Measured: 0.88 or more on ordinary sets and dense
        tissue; about 0.5 on phase contrast that the method can't do, and where a whole set
        holds a handful of cells.
    gathered_below, gathered_above : float in [0, 1]
        Share of pixels whose embeddings gather, below and above Otsu's threshold on the
        pooled spread: near 1 and 0 where the spread tells cells from background.
    reason : str
        The choice in words.
    """

    thresholds: tuple[float, ...]
    cue: Cue
    separation: float
    gathered_below: float
    gathered_above: float
    reason: str


def smooth_log_spread(spread: NDArray[np.floating], *, smoothing: float) -> NDArray[np.float32]:
    """Take the logarithm of the spread, pixels, and smooth it by a Gaussian of so many pixels."""
    logarithm = np.log(np.maximum(spread, _SMALLEST_SPREAD)).astype(np.float32)
    return ndi.gaussian_filter(logarithm, smoothing) if smoothing > 0 else logarithm


def spread_map(
    spread: NDArray[np.float32], *, kind: Literal["log", "linear"], smoothing: float
) -> NDArray[np.float32]:
    """Make the map whose low values are foreground, of the spread (Y, X) over noisy copies."""
    if kind == "log":
        return smooth_log_spread(spread, smoothing=smoothing)
    return ndi.gaussian_filter(spread, smoothing) if smoothing else spread


def foreground_threshold(maps: Sequence[NDArray[np.floating]]) -> float:
    """Split a set of spread maps into foreground (below) and background with one threshold.

    Otsu over the pooled pixels of the whole set. The paper thresholds every image by
    itself, which fails where an image is nearly all or nearly nothing but background.
    """
    return float(threshold_otsu(_pooled(maps), nbins=1024))


def _pooled(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    return np.concatenate([np.ravel(level) for level in maps])


def choose_foreground(
    maps: Sequence[NDArray[np.floating]],
    offsets: Iterable[NDArray[np.floating]],
    *,
    diameter: float,
    images: Sequence[str] | None = None,
) -> Foreground:
    """Choose thresholds on the spread, and ask the embeddings whether they can be right.

    An addition to the paper, which has Otsu on the spread of each image. Otsu always splits, also
    where all is cell or none. Embeddings know better: those of a cell come together and those of
    structureless background do not. So:

    1. Where most pixels below Otsu's threshold on the pooled spread gather and most above
       do not, it is taken for every image (``spread``), except for those where under a
       quarter of the pixels below gather, as in an empty image: these are treated as in 3.
    2. Where those above gather too, nearly all is cell: the threshold becomes the spread up
       to which at least half of the pixels gather (``gathering``).
    3. Where those below don't gather, nearly nothing is cell: in every image, what lies far
       below the usual spread is (``outliers``, see `outlier_threshold`).

    Parameters
    ----------
    maps : sequence of arrays of shape (Y, X) or (Z, Y, X)
        Smoothed log spread of every image, see `smooth_log_spread`.
    offsets : iterable of arrays of shape (2, Y, X) or (3, Z, Y, X)
        Predicted offsets of the same images in the same order, pixels. Consumed one
        by one, so a generator needs memory for one image.
    diameter : float, > 0
        Of a median cell, pixels at the scale of the maps.
    images : sequence of str, optional
        Of which image each map is a part; parts of one image get one threshold. Default: every
        map is an image.

    Raises
    ------
    ValueError
        If there is no image, or maps and offsets differ in number or shape.
    """
    if not maps:
        raise ValueError("maps must hold at least one image. Got none.")
    otsu = foreground_threshold(maps)
    spread, gathers, gathering_at_low = _sample_cues(maps, offsets, diameter, otsu)
    below, above = (_share(gathers[side]) for side in (spread < otsu, spread >= otsu))
    if above >= 0.5:
        threshold = gathering_threshold(spread, gathers)
        reason = _say("gathering", below, above)
        share = _share(gathers)
        return Foreground((threshold,) * len(maps), "gathering", share, below, above, reason)
    cue: Cue = "spread" if below >= 0.5 else "outliers"
    ceiling = otsu if cue == "spread" else float("inf")
    names = list(images) if images is not None else [str(index) for index in range(len(maps))]
    parts: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        parts.setdefault(name, []).append(index)
    of_image: dict[str, float] = {}
    for name, indices in parts.items():
        hits, pixels = np.sum([gathering_at_low[index] for index in indices], axis=0)
        if cue == "outliers" or (hits / pixels if pixels else 0.0) < _EMPTY:
            levels = _pooled([maps[index] for index in indices])
            cell = cell_size(diameter, ndim=maps[0].ndim)
            of_image[name] = min(ceiling, outlier_threshold(levels, cell=cell))
    thresholds = tuple(of_image.get(name, otsu) for name in names)
    reason = _say(cue, below, above, exceptions=len(of_image), images=len(parts))
    agreement = cue_agreement(spread, gathers)
    return Foreground(thresholds, cue, agreement, below, above, reason)


def gathering_density(offsets: NDArray[np.floating], *, diameter: float) -> NDArray[np.float32]:
    """Measure, for every pixel of offsets (2, Y, X), how crowded the place is to which it embeds.

    Or for every voxel of offsets (3, Z, Y, X).

    Returns the pixels that embed there, (Y, X), under a Gaussian of a ninth of the diameter,
    relative to one for each pixel: 1 where offsets are constant, about 10 where a round cell of
    the given diameter embeds to one point. A constant added to all offsets changes next to nothing.
    """
    shape = np.array(offsets.shape[1:])
    margin = int(np.ceil(diameter))
    by_axis = (-1, *[1] * len(shape))
    space = tuple(range(1, offsets.ndim))
    centred = offsets - np.median(offsets, axis=space).reshape(by_axis)
    embeddings = np.indices(offsets.shape[1:]) + centred
    limit = (shape + 2 * margin - 1).reshape(by_axis)
    embedded = np.clip(np.rint(embeddings).astype(np.int64) + margin, 0, limit)
    sides = tuple((shape + 2 * margin).tolist())
    places = np.ravel_multi_index(tuple(embedded), sides)
    counts = np.bincount(places.ravel(), minlength=math.prod(sides)).astype(np.float32)
    counts = counts.reshape(sides)
    density: NDArray[np.float32] = ndi.gaussian_filter(counts, _KERNEL * diameter, mode="constant")
    return density.ravel()[places]


def gathering_threshold(spread: NDArray[np.floating], gathers: NDArray[np.bool_]) -> float:
    """Find the spread up to which at least half of the pixels gather.

    The share of gathering pixels as a function of the smoothed log spread is fitted by the best
    non-increasing one (isotonic regression). Returns ``-inf`` where at no spread half of the
    pixels gather, ``inf`` where at every one.
    """
    from sklearn.isotonic import IsotonicRegression  # slow to import

    order = np.argsort(spread)
    model = IsotonicRegression(increasing=False)
    share = model.fit_transform(spread[order], gathers[order].astype(np.float64))
    count = int(np.count_nonzero(share >= 0.5))
    if count == 0:
        return float("-inf")
    return float(spread[order][count]) if count < len(order) else float("inf")


def outlier_threshold(levels: NDArray[np.floating], *, cell: float) -> float:
    """Find what lies far below the usual smoothed log spread of an image, nearly all background.

    Returns the median less six standard deviations, these taken from the upper half, which
    cells do not reach; ``-inf`` where less than an eighth of a cell, of so many pixels, would be
    left. Measured on backgrounds of drawn scenes, hardly a pixel lies as low.
    """
    middle, high = np.quantile(levels, (0.5, 0.84))
    threshold = float(middle - _OUTLIER * (high - middle))
    enough = np.count_nonzero(levels < threshold) >= cell / 8
    return threshold if enough else float("-inf")


def cue_agreement(spread: NDArray[np.floating], gathers: NDArray[np.bool_]) -> float:
    """Measure how well the spread tells pixels that gather from those that do not.

    Two modes of the spread that mean cell and background show as 1; spread and gathering
    that know nothing of each other as 0: the area under the ROC curve, 0.5 taken as 0, and 0
    where all pixels gather or none.
    """
    if gathers.all() or not gathers.any():
        return 0.0
    steady, unsteady = spread[gathers], spread[~gathers]
    # the statistic counts pairs in order; scikit-learn, which has the curve, is slow to import
    in_order = mannwhitneyu(unsteady, steady, method="asymptotic").statistic
    return max(0.0, 2 * float(in_order) / (len(steady) * len(unsteady)) - 1)


def _sample_cues(
    maps: Sequence[NDArray[np.floating]],
    offsets: Iterable[NDArray[np.floating]],
    diameter: float,
    otsu: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[tuple[int, int]]]:
    """Look at where the pixels of every image embed.

    Returns spread and gathering of a sample of all pixels (N,), and of every map how many pixels
    at low spread gather, and how many there are.
    """
    rng = np.random.default_rng(0)
    share = min(1.0, _SAMPLES / sum(level.size for level in maps))
    spread, gathers, gathering_at_low = [], [], []
    for level, predicted in zip(maps, offsets, strict=True):
        if predicted.shape != (level.ndim, *level.shape):
            raise ValueError(
                f"offsets must have shape (2, Y, X) of their map, or (3, Z, Y, X). Got "
                f"{predicted.shape} and {level.shape}; pass both in one order."
            )
        gathered = gathering_density(predicted, diameter=diameter) > _GATHERED
        keep = rng.random(level.shape) < share
        spread.append(level[keep].astype(np.float64))
        gathers.append(gathered[keep])
        low = gathered[level < otsu]
        gathering_at_low.append((int(np.count_nonzero(low)), low.size))
    return np.concatenate(spread), np.concatenate(gathers), gathering_at_low


def _share(of: NDArray[np.bool_]) -> float:
    return float(of.mean()) if of.size else 0.0


def _say(cue: Cue, below: float, above: float, *, exceptions: int = 0, images: int = 0) -> str:
    shares = (
        f"embeddings gather in {below:.0%} of the pixels below Otsu's threshold on the spread "
        f"of all images together and in {above:.0%} of those above"
    )
    if cue == "gathering":
        return f"{shares}: nearly all is cell, and foreground is where the spread lets most gather"
    outliers = "what lies far below the usual spread of its image"
    if cue == "outliers":
        return f"{shares}: nearly nothing is cell, and foreground is {outliers}"
    if exceptions:
        where = f"in {exceptions} of {images} images that is not so, and foreground there"
        return f"{shares}; {where} is {outliers}"
    return f"{shares}, so it parts cells from background"
