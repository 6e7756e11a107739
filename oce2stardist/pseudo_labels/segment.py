"""Turn offsets and foreground of one image into labels: every step after prediction, in order.

The steps of Wolf et al., arXiv:2310.08501, section 3, on NumPy arrays. Deliberate differences from
the paper are said where they are made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oce2stardist.labels import cell_size
from oce2stardist.pseudo_labels.clustering import (
    ClusteringSettings,
    cluster_embeddings,
    median_offset,
)
from oce2stardist.pseudo_labels.confidence import agreement
from oce2stardist.pseudo_labels.gathering import remove_ungathered
from oce2stardist.pseudo_labels.halo import (
    HaloMethod,
    HaloSettings,
    Signal,
    find_signal,
    remove_halo,
    remove_small,
    split_parts,
)
from oce2stardist.pseudo_labels.pieces import merge_pieces


@dataclass(frozen=True)
class SegmentationSettings:
    """What `segment` does, see `PseudoConfig`; lengths in pixels at the scale of the offsets."""

    ndim: int  # 2, in stacks 3
    diameter: float  # of a median cell
    bandwidth: float
    clustering: Literal["density", "mean_shift"]
    bin_seeding: bool
    fitted_share: float
    min_cluster: float
    max_ratio: float
    halo: HaloMethod
    shrink: float
    level: float
    reach: float
    min_unity: float
    min_size: float

    @property
    def cell_area(self) -> float:
        """Area of a cell of median diameter, pixels; in stacks its volume, voxels."""
        return cell_size(self.diameter, ndim=self.ndim)


@dataclass(frozen=True)
class ImageStatistics:
    """What is measured on a whole image, for `segment` of parts of it to agree."""

    centre: tuple[float, ...] | None  # median offset of the foreground, pixels
    signal: Signal | None  # None where no channel tells cells from background


def measure_whole(
    parts: Sequence[tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.floating]]],
    settings: SegmentationSettings,
    *,
    seed: int,
) -> ImageStatistics:
    """Measure on some parts of an image what `segment` needs to know of the whole.

    Parts are triples of offsets, foreground and image, as `segment` takes them.
    """
    drawn = [offsets[:, foreground] for offsets, foreground, _ in parts]  # (2, N) each
    pooled = np.concatenate(drawn, axis=1)
    centre = (0.0,) * len(pooled)
    if pooled.size:
        centre = median_offset(pooled, np.ones(pooled.shape[1], bool))
    clustered = (
        (cluster_cells(offsets, foreground, settings, seed=seed, centre=centre), image)
        for offsets, foreground, image in parts
    )
    return ImageStatistics(centre, find_signal(clustered, diameter=settings.diameter))


def segment(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    image: NDArray[np.floating],
    settings: SegmentationSettings,
    *,
    seed: int,
    whole: ImageStatistics | None = None,
) -> NDArray[np.int32]:
    """Turn predicted offsets into labels 1..n, 0 elsewhere.

    Parameters
    ----------
    offsets : array of shape (2, Y, X) or (3, Z, Y, X)
        Predicted offsets (y, x) or (z, y, x), pixels.
    foreground : bool array of shape (Y, X) or (Z, Y, X)
    image : float array of shape (Y, X, C) or (Z, Y, X, C)
        Normalised, intensities linear.
    seed : int
        Seeds the choice of pixels that scikit-learn's mean shift is fitted to.
    whole : ImageStatistics, optional
        Of the image that this is a part of; default: this is all of it.
    """
    centre = None if whole is None else whole.centre
    clusters = cluster_cells(offsets, foreground, settings, seed=seed, centre=centre)
    return finish_cells(clusters, offsets, image, settings, whole)


def cluster_cells(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    settings: SegmentationSettings,
    *,
    seed: int,
    centre: tuple[float, ...] | None = None,
) -> NDArray[np.int32]:
    """Cluster the embeddings and drop what can't be a cell: the first half of `segment`."""
    method, share = settings.clustering, settings.fitted_share
    clustering = ClusteringSettings(settings.bandwidth, method, settings.bin_seeding, share, seed)
    clusters = cluster_embeddings(offsets, foreground, clustering, centre=centre)
    large = remove_small(split_parts(clusters), min_size=settings.min_cluster * settings.cell_area)
    gathered = remove_ungathered(large, offsets, max_ratio=settings.max_ratio)
    return np.asarray(gathered, dtype=np.int32)


def finish_cells(
    clusters: NDArray[np.int32],
    offsets: NDArray[np.floating],
    image: NDArray[np.floating],
    settings: SegmentationSettings,
    whole: ImageStatistics | None = None,
) -> NDArray[np.int32]:
    """Take off the halo, join pieces, drop what is too small: the second half of `segment`."""
    diameter, reach = settings.diameter, settings.reach * settings.diameter
    signal = whole.signal if whole else find_signal([(clusters, image)], diameter=diameter)
    bright = None if signal is None else signal.of(image)
    halo = HaloSettings(settings.halo, settings.shrink, settings.level, reach, diameter)
    trimmed = remove_halo(clusters, image, bright, halo)
    unity = settings.min_unity
    merged = merge_pieces(trimmed, offsets, bright, diameter=diameter, min_unity=unity)
    return remove_small(merged, min_size=settings.min_size * settings.cell_area)


def segment_surely(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    image: NDArray[np.floating],
    settings: SegmentationSettings,
    *,
    variants: int,
    seed: int,
    whole: ImageStatistics | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Segment as `segment` does, and measure how far other bandwidths find the same objects.

    Returns labels 1..n, and for each the `agreement` with so many variants.
    """
    clusters = cluster_cells(
        offsets, foreground, settings, seed=seed, centre=None if whole is None else whole.centre
    )
    if whole is None:  # which pixels are bright is the same for all variants
        signal = find_signal([(clusters, image)], diameter=settings.diameter)
        whole = ImageStatistics(None, signal)
    labels = finish_cells(clusters, offsets, image, settings, whole)
    tried = (
        replace(settings, bandwidth=settings.bandwidth * factor)
        for factor in _bandwidth_factors(variants)
    )
    others = [
        segment(offsets, foreground, image, variant, seed=seed, whole=whole) for variant in tried
    ]
    return labels, agreement(labels, others)


def _bandwidth_factors(variants: int) -> list[float]:
    """Spread factors evenly between 0.75 and 1.33, but for 1; in equal ratios."""
    below, above = (variants + 1) // 2, variants // 2
    return [0.75 ** (i / below) for i in range(below, 0, -1)] + [
        (4 / 3) ** (i / above) for i in range(1, above + 1)
    ]
