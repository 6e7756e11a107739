"""How large are the cells? Estimates their median diameter from images alone.

1. Threshold the image at many grey levels and, of nested components, keep the one that
   is most like an ellipse with a steep outline: each cell gets its own threshold.
2. Do so at several resolutions. Cells measure the same at two of them; noise and texture
   grow with the pixel.
3. The estimate is the median over the cells of all images, its interval a bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.images.component_tree import Floats, Parts, choose_parts, grow_tree, measure_parts
from oce2stardist.labels import Image
from oce2stardist.runs.ahead import map_in_threads

_LEVELS = 16
_SMALLEST = 5.0  # diameter in pixels of the resolution at hand; noise is mostly smaller
_LARGEST_SHARE = 0.1  # of the window's area; what is larger is ground or a clump
_ROUNDNESS = 0.8  # below it, a component is no cell: two touching discs have 0.89
_FAINTEST = 0.3  # outline's steepness, relative to what is typical of the image
_WINDOW = {2: 512, 3: 128}  # pixels a side at the resolution at hand; bounds the cost
_STEADY = 1.25  # diameters at two resolutions agree if their ratio is at most this
_PAIRS = ((2, 4), (1, 2), (4, 8), (8, 16), (16, 32))  # of resolutions, cheap and likely first
_ENOUGH = 3  # cells at either resolution, for their agreement to mean anything
_VOTERS = 9  # images that tell whether cells are bright or dark
_RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one image, in pixels.

    `steady` says whether two resolutions agree on the median diameter, within a quarter.
    """

    centres: Floats  # (cells, 2), (y, x), or (cells, 3), (z, y, x)
    diameters: Floats  # (cells,), of the disc with the same area, or the ball
    steady: bool

    @property
    def median(self) -> float:
        """Median diameter in pixels; NaN without cells."""
        return float(np.median(self.diameters)) if self.diameters.size else float("nan")


@dataclass(frozen=True, eq=False)
class DiameterEstimate:
    """A median cell diameter in pixels and how far to believe it; None if no cell was found.

    `low` and `high` hold the middle 90 % of what resampled images and cells give. They tell how
    much the choice of images matters, not whether what was measured are cells. It is `trusted`
    if most cells lie in images where two resolutions agree, there are 10 or more, and `high` is
    at most 1.5 times `low`.
    """

    diameter: float | None
    low: float | None
    high: float | None
    trusted: bool
    reason: str  # one line for the user
    cells: tuple[Cells | None, ...]  # per image; None where nobody looked

    @property
    def steady(self) -> bool:
        """Whether most cells lie in images where two resolutions agree."""
        measured = [own for own in self.cells if own is not None]
        count = sum(own.diameters.size for own in measured)
        return 2 * sum(own.diameters.size for own in measured if own.steady) >= max(count, 1)

    @property
    def per_image(self) -> list[float]:
        """Median diameter of each image; NaN where no cell was found or nobody looked."""
        return [float("nan") if own is None else own.median for own in self.cells]


def estimate_diameter(
    images: Sequence[Image], *, dark: bool | None = None, at_most: int = 100, seed: int = 0
) -> DiameterEstimate:
    """Estimate the median diameter of the cells in images.

    Parameters
    ----------
    images : sequence of float32 arrays of shape (Y, X, C), or (Z, Y, X, C) with cubic voxels
        In any unit, finite. Channels are scaled to one range and averaged.
    dark : bool, optional
        Whether cells are darker than the ground. Default: whichever way components are
        rounder and have steeper outlines, decided for the whole set.
    at_most : int, > 0
        Images looked at, drawn with the seed. Of each, a central window is measured: 512
        pixels a side at the resolution at hand, so up to 1024 for cells of 20 px.
    seed : int
        Of drawing images and of the interval.

    Notes
    -----
    Cells are told apart by what lies between them: where they touch, it must be darker than
    they are (brighter, for dark cells), or they differ in brightness. Evenly bright cells
    that merge come out too small. Cells that show only by their texture, as in phase
    contrast, cannot be measured; such estimates are not trusted.
    """
    if not images:
        raise ValueError("images must hold at least one image. Got none instead.")
    for image in images:
        if image.ndim not in (3, 4):
            raise ValueError(
                f"images must have shape (Y, X, C) or (Z, Y, X, C). Got {image.shape} instead."
            )
    if at_most < 1:
        raise ValueError(f"at_most must be above 0. Got {at_most} instead.")
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(images))[:at_most])
    if dark is None:
        dark = _are_cells_dark([images[i] for i in drawn])
    cells: list[Cells | None] = [None] * len(images)
    found = map_in_threads(lambda i: find_cells(images[i], dark=dark), drawn)
    for i, own in zip(drawn, found, strict=True):
        cells[i] = own
    return _summarise(cells, rng)


def find_cells(image: Image, *, dark: bool = False) -> Cells:
    """Find the cells of one image (Y, X, C), at the resolution at which their size is steady.

    Faint and odd ones are left out. Where no two resolutions agree, they are those of the two
    that differ least, or as many as any resolution shows.
    """
    at: dict[int, Cells] = {}
    differ: dict[int, float] = {}
    for fine, coarse in _PAIRS:
        for factor in (fine, coarse):
            if factor not in at:
                at[factor] = _find_at(image, factor, dark=dark)[0]
        if min(at[fine].diameters.size, at[coarse].diameters.size) < _ENOUGH:
            continue
        ratio = at[coarse].median / at[fine].median
        differ[fine] = max(ratio, 1 / ratio)
        if differ[fine] <= _STEADY:
            return Cells(at[fine].centres, at[fine].diameters, steady=True)
    if differ:
        return at[min(differ, key=lambda fine: differ[fine])]
    return max(at.values(), key=lambda cells: cells.diameters.size)


def _are_cells_dark(images: Sequence[Image]) -> bool:
    """Compare how much round area with steep outlines there is on either side."""
    voters = images[:: max(1, len(images) // _VOTERS)]
    window = _WINDOW[images[0].ndim - 1]
    for side in (window, 2 * window):  # the smaller one mostly does
        votes = [vote for image in voters if (vote := _vote(_central_window(image, side)[0]))]
        if votes:
            return sum(votes) > 0
    return False


def _vote(window: Image) -> float:
    """Return -1 to 1: cells are surely bright, surely dark; 0 without any."""
    bright, dark = (_find_at(window, 2, dark=side)[1] for side in (False, True))
    return (dark - bright) / (dark + bright) if dark + bright > 0 else 0.0


def _find_at(image: Image, factor: int, *, dark: bool) -> tuple[Cells, float]:
    """Find cells in the image shrunk by a factor; returns them and their summed score."""
    ndim = image.ndim - 1
    nothing = Cells(np.empty((0, ndim)), np.empty(0), steady=False), 0.0
    window, corner = _central_window(image, _WINDOW[ndim] * factor)
    if min(window.shape[:-1]) < 4 * _SMALLEST * factor:
        return nothing
    grey = _to_grey(_average_blocks(window, factor))
    if dark:
        grey = -grey
    # Blocks average noise; this takes the staircase off outlines.
    grey = ndi.gaussian_filter(grey, 0.7)
    if not np.ptp(grey) > 0:
        return nothing
    height = _above_ground(grey)
    tree = grow_tree(_to_levels(height))
    parts = measure_parts(tree, _even_out(height))
    score = parts.steepness * parts.roundness**4
    score[(parts.diameter < _SMALLEST) | (parts.area > _LARGEST_SHARE * grey.size)] = 0
    chosen = np.flatnonzero(choose_parts(tree, score, parts.area))
    chosen = chosen[_is_cell(parts, chosen)]
    centres = factor * (parts.centre[chosen] + 0.5) - 0.5 + corner
    cells = Cells(centres, factor * parts.diameter[chosen], steady=False)
    return cells, float(np.sum(score[chosen] * parts.area[chosen]))


def _central_window(image: Image, side: int) -> tuple[Image, NDArray[np.int64]]:
    """Cut out at most `side` pixels a side; returns its first pixel, too."""
    shape = np.array(image.shape[:-1], np.int64)
    corner = np.maximum(shape - side, 0) // 2
    last = np.minimum(corner + side, shape)
    return image[tuple(map(slice, corner.tolist(), last.tolist()))], corner


def _average_blocks(image: Image, factor: int) -> Image:
    """Average blocks of `factor` pixels a side; what is left over at the end is dropped."""
    counts = [size // factor for size in image.shape[:-1]]
    whole = image[tuple(slice(count * factor) for count in counts)]
    blocks = whole.reshape(*(part for count in counts for part in (count, factor)), -1)
    within = tuple(range(1, 2 * len(counts), 2))
    averaged: Image = blocks.mean(axis=within, dtype=np.float32)
    return averaged


def _to_grey(image: Image) -> NDArray[np.float32]:
    """Average the channels after scaling each to its own range."""
    space = tuple(range(image.ndim - 1))
    low, high = np.percentile(image, (1, 99.8), axis=space).astype(np.float32)  # (C,)
    varies = high > low
    if not varies.any():
        return np.zeros(image.shape[:-1], np.float32)
    scaled = (image[..., varies] - low[varies]) / (high - low)[varies]
    return np.asarray(scaled.mean(axis=-1), np.float32)


def _above_ground(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure grey values from the ground, in units of three times the noise."""
    ground, top = np.percentile(grey, (5, 99.5))
    noise = 1.4826 * np.median(np.abs(np.diff(grey, axis=-1))) / np.sqrt(2)
    # A sixtieth of the range is the smallest unit, for images without noise.
    unit = max(3 * noise, (top - ground) / 60, 1e-6 * float(np.ptp(grey)))
    return np.asarray((grey - ground) / unit, np.float32)


def _even_out(height: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the root, which makes photon noise even, of heights above ground."""
    # Outlines are then steepest a little outside of half height, where people draw them.
    return np.sqrt(np.maximum(height, 0) + 1)


def _to_levels(height: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Divide heights into levels, even below one unit, in ratios above: as many for faint cells."""
    stretched = np.arcsinh(height)
    highest = max(float(np.percentile(stretched, 99.8)), 1e-6)
    return np.clip(_LEVELS * stretched / highest, 0, _LEVELS).astype(np.uint8)


def _is_cell(parts: Parts, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell cells from noise: round, and nearly as steep as most of the energy is."""
    round_enough = parts.roundness[chosen] > _ROUNDNESS
    if not round_enough.any():
        return round_enough
    steepness = parts.steepness[chosen]
    # So the typical component is a cell even where noise makes up most components.
    weights = np.where(round_enough, parts.area[chosen] * steepness**2, 0)
    return round_enough & (steepness > _FAINTEST * _weighted_median(steepness, weights))


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _summarise(cells: list[Cells | None], rng: np.random.Generator) -> DiameterEstimate:
    measured = [own for own in cells if own is not None and own.diameters.size]
    if not measured:
        reason = "no cell was found in the images: nothing round stands out"
        return DiameterEstimate(None, None, None, False, reason, tuple(cells))
    steady = [own for own in measured if own.steady]
    share = _count(steady) / _count(measured)
    if share >= 0.5:
        measured = steady
    diameters = [own.diameters for own in measured]
    low, high = _interval(diameters, rng)
    trusted, reason = _judge(_count(measured), len(measured), share, low, high)
    median = float(np.median(np.concatenate(diameters)))
    return DiameterEstimate(median, low, high, trusted, reason, tuple(cells))


def _count(cells: Sequence[Cells]) -> int:
    return sum(own.diameters.size for own in cells)


def _interval(diameters: Sequence[Floats], rng: np.random.Generator) -> tuple[float, float]:
    """Take the middle 90 % of the medians of resampled images and cells (Poisson bootstrap)."""
    counts = list(map(len, diameters))
    pooled = np.concatenate(diameters)
    medians = [float(np.median(pooled))]
    for _ in range(_RESAMPLES):
        of_image = rng.poisson(1.0, len(counts)) if len(counts) > 1 else np.ones(1)
        weights = rng.poisson(np.repeat(of_image, counts)).astype(float)
        if weights.any():
            medians.append(_weighted_median(pooled, weights))
    low, high = np.percentile(medians, (5, 95))
    return float(low), float(high)


def _judge(cells: int, images: int, share: float, low: float, high: float) -> tuple[bool, str]:
    """Decide whether to trust the estimate, and say why."""
    where = f"{cells} cells measured in {images} image{'s' if images > 1 else ''}"
    if share < 0.5:
        return False, f"{where}, but their size changes with the resolution it is measured at"
    if cells < 10:
        return False, f"only {where}; 10 are needed"
    if high > 1.5 * low:
        return False, f"{where}, but sizes differ between them: {low:.0f} to {high:.0f} px"
    return True, f"{where}, at two resolutions alike"
