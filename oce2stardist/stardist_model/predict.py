"""Labels from a StarDist model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from stardist import non_maximum_suppression, polygons_to_label

from oce2stardist.stardist_model.network import SparseStarDist2D

_LARGEST_TILE = 2048
"""Pixels a side; larger images are predicted in overlapping tiles by stardist."""


@dataclass(frozen=True)
class RawPrediction:
    """Object probability (Y/grid, X/grid), distances (Y/grid, X/grid, rays) and image shape."""

    prob: NDArray[np.float32]
    dist: NDArray[np.float32]
    shape: tuple[int, int]


def predict_raw(model: SparseStarDist2D, image: NDArray[np.float32]) -> RawPrediction:
    """Run the network on one normalised image of shape (Y, X, C)."""
    tiles = tuple(int(np.ceil(side / _LARGEST_TILE)) for side in image.shape[:2])
    prob, dist = model.predict(image, n_tiles=(*tiles, 1), show_tile_progress=False)
    return RawPrediction(prob, dist, image.shape[:2])


def labels_from_raw(
    raw: RawPrediction, *, grid: Sequence[int], prob_thresh: float, nms_thresh: float
) -> NDArray[np.int32]:
    """Suppress overlapping polygons and draw the rest; int32 labels of shape (Y, X)."""
    points, prob, dist = non_maximum_suppression(
        raw.dist, raw.prob, grid=tuple(grid), prob_thresh=prob_thresh, nms_thresh=nms_thresh
    )
    return polygons_to_label(dist, points, prob=prob, shape=raw.shape).astype(np.int32)


def predict_labels(model: SparseStarDist2D, image: NDArray[np.float32]) -> NDArray[np.int32]:
    """Predict the labels of one normalised image with the model's own thresholds.

    Parameters
    ----------
    model : SparseStarDist2D
    image : float32 array of shape (Y, X, C)
        Normalised per channel: 1st percentile 0, 99.8th percentile 1.

    Returns
    -------
    int32 array of shape (Y, X)
        What ``model.predict_instances`` of plain stardist gives.
    """
    tiles = tuple(int(np.ceil(side / _LARGEST_TILE)) for side in image.shape[:2])
    labels, _ = model.predict_instances(image, n_tiles=(*tiles, 1), show_tile_progress=False)
    return np.asarray(labels, dtype=np.int32)


def choose_thresholds(
    prob_candidates: Sequence[float],
    nms_candidates: Sequence[float],
    scores: NDArray[np.floating],
    *,
    default: tuple[float, float],
) -> tuple[float, float]:
    """Choose the best-scoring thresholds; among equals the ones in the middle.

    Parameters
    ----------
    prob_candidates, nms_candidates : sequences of float
    scores : array of shape (len(prob_candidates), len(nms_candidates))
        NaN where a pair could not be judged.
    default : (float, float)
        Used where nothing could be judged.

    Notes
    -----
    A handful of held-back cells leaves wide plateaus of equal scores; the middle of one
    is the choice that small changes of the images disturb least.
    """
    if np.isnan(scores).all():
        return default
    best = np.argwhere(scores >= np.nanmax(scores) - 1e-9)
    column = int(np.median(best[:, 1]))
    if not (best[:, 1] == column).any():
        column = int(best[0, 1])
    rows = np.sort(best[best[:, 1] == column, 0])
    return prob_candidates[int(rows[len(rows) // 2])], nms_candidates[column]
