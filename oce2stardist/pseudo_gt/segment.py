"""Offsets and foreground of one image in, labels out: every step after prediction, in order."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oce2stardist.pseudo_gt.clustering import cluster_embeddings
from oce2stardist.pseudo_gt.gathering import remove_ungathered
from oce2stardist.pseudo_gt.halo import (
    HaloMethod,
    cell_signal,
    remove_halo,
    remove_small,
    split_parts,
)
from oce2stardist.pseudo_gt.pieces import merge_pieces


@dataclass(frozen=True)
class Recipe:
    """What `segment` does; lengths in pixels at the scale of the offsets.

    Attributes
    ----------
    diameter : float
        Of a median cell.
    bandwidth, clustering, bin_seeding, fitted_share
        See `cluster_embeddings`.
    min_cluster : float
        Smallest cluster, halo included, as share of the area of a median cell.
    max_ratio : float
        See `remove_ungathered`.
    halo, shrink, level, reach
        See `remove_halo`; reach in diameters.
    min_unity : float
        See `merge_pieces`.
    min_size : float
        Smallest object, as share of the area of a median cell.
    """

    diameter: float
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
        """Area of a cell of median diameter, pixels."""
        return float(np.pi / 4 * self.diameter**2)


def segment(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    image: NDArray[np.floating],
    recipe: Recipe,
    *,
    seed: int = 0,
) -> NDArray[np.int32]:
    """Turn predicted offsets into labels.

    Parameters
    ----------
    offsets : array of shape (2, Y, X)
        Predicted offsets (y, x), pixels.
    foreground : bool array of shape (Y, X)
    image : float array of shape (Y, X, C)
        Normalised, intensities linear.
    recipe : Recipe
    seed : int
        Seeds the choice of pixels that scikit-learn's mean shift is fitted to.

    Returns
    -------
    int32 array of shape (Y, X)
        Labels 1..n, 0 elsewhere.
    """
    clusters = cluster_cells(offsets, foreground, recipe, seed=seed)
    return finish_cells(clusters, offsets, image, recipe)


def cluster_cells(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    recipe: Recipe,
    *,
    seed: int = 0,
) -> NDArray[np.int32]:
    """Cluster the embeddings and drop what can't be a cell: the first half of `segment`."""
    clusters = cluster_embeddings(
        offsets,
        foreground,
        bandwidth=recipe.bandwidth,
        method=recipe.clustering,
        seed=seed,
        bin_seeding=recipe.bin_seeding,
        fitted_share=recipe.fitted_share,
    )
    large = remove_small(split_parts(clusters), min_size=recipe.min_cluster * recipe.cell_area)
    gathered = remove_ungathered(large, offsets, max_ratio=recipe.max_ratio)
    return np.asarray(gathered, dtype=np.int32)


def finish_cells(
    clusters: NDArray[np.int32],
    offsets: NDArray[np.floating],
    image: NDArray[np.floating],
    recipe: Recipe,
) -> NDArray[np.int32]:
    """Take off the halo, join pieces, drop what is too small: the second half of `segment`."""
    signal = cell_signal(clusters, image, diameter=recipe.diameter)
    trimmed = remove_halo(
        clusters,
        image,
        signal,
        method=recipe.halo,
        shrink=recipe.shrink,
        level=recipe.level,
        reach=recipe.reach * recipe.diameter,
        diameter=recipe.diameter,
    )
    merged = merge_pieces(
        trimmed, offsets, signal, diameter=recipe.diameter, min_unity=recipe.min_unity
    )
    return remove_small(merged, min_size=recipe.min_size * recipe.cell_area)
