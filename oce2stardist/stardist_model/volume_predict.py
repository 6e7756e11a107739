"""Predict the labels of stacks that fit into memory with a StarDist3D model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oce2stardist.runs.interruption import ctrl_c_kept
from oce2stardist.stardist_model.backend import (
    Rays_Base,
    non_maximum_suppression_3d,
    polyhedron_to_label,
    rays_from_json,
    tf,
)
from oce2stardist.stardist_model.polygons import Objects
from oce2stardist.stardist_model.volume_network import SparseStarDist3D

_LARGEST_BATCH = 4 * 32 * 96 * 96
"""Voxels that go through the network at once when many patches are predicted."""

_MOST_CANDIDATES = 1000
"""Polyhedra in a window around a cell: dozens of cells have fewer."""

_LARGEST_TILE = 128**3
"""Voxels that the network sees at once of a stack; larger ones are predicted in tiles."""


@dataclass(frozen=True)
class RawVolume:
    """Object probability (Z, Y, X)/grid, distances (..., rays), shape of the stack, and rays."""

    prob: NDArray[np.float32]
    dist: NDArray[np.float32]
    shape: tuple[int, int, int]
    rays: Rays_Base

    def suppress(self, *, grid: Sequence[int], prob_thresh: float, nms_thresh: float) -> Objects:
        """Keep, of overlapping polyhedra, the most probable.

        Of more than 1,000 the most probable are looked at: a network that has hardly begun to learn
        finds something everywhere, and comparing all of that takes minutes.
        """
        lowest = prob_thresh
        if (self.prob > prob_thresh).sum() > _MOST_CANDIDATES:
            lowest = max(
                lowest,
                float(np.partition(self.prob, -_MOST_CANDIDATES, axis=None)[-_MOST_CANDIDATES]),
            )
        points, prob, dist = non_maximum_suppression_3d(
            self.dist, self.prob, self.rays, grid=tuple(grid),
            prob_thresh=lowest, nms_thresh=nms_thresh, verbose=False,
        )  # fmt: skip
        return Objects(points, prob, dist)

    def draw(self, objects: Objects, *, prob_thresh: float) -> NDArray[np.int32]:
        """Draw the objects of at least this probability; int32 labels of the shape.

        None of the less probable ones can suppress a more probable one.
        """
        kept = objects[objects.prob >= prob_thresh]
        if not len(kept.prob):
            return np.zeros(self.shape, np.int32)
        with ctrl_c_kept():
            labels = polyhedron_to_label(
                kept.dist, kept.points, self.rays, self.shape, prob=kept.prob, verbose=False
            )
        return np.asarray(labels, np.int32)


def predict_patches(
    model: SparseStarDist3D, patches: Sequence[NDArray[np.float32]]
) -> list[RawVolume]:
    """Run the network on normalised patches of one shape (Z, Y, X, C), several at a time.

    Their sides must be multiples of what the network divides them by: nothing is padded here.
    """
    if not patches:
        return []
    rays = rays_from_json(model.config.rays_json)
    shape = patches[0].shape[:3]
    at_once = max(1, _LARGEST_BATCH // int(np.prod(shape)))
    raws = []
    for start in range(0, len(patches), at_once):
        stack = tf.constant(np.stack(patches[start : start + at_once]))
        prob, dist = (np.asarray(output, np.float32) for output in model.forward(stack))
        # As stardist's own predict does: no ray is shorter than nothing.
        dist = np.maximum(dist, 1e-3)
        raws += [RawVolume(p[..., 0], d, shape, rays) for p, d in zip(prob, dist, strict=True)]
    return raws


def predict_volume(
    model: SparseStarDist3D, stack: NDArray[np.float32], *, prob_thresh: float | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Predict the labels of one normalised stack, and how probable each object is.

    Parameters
    ----------
    stack : float32 array of shape (Z, Y, X, C)
        Normalised per channel: 1st percentile 0, 99.8th percentile 1.
    prob_thresh : float in (0, 1), optional
        Least object probability; default: the model's own threshold.

    Returns
    -------
    labels : int32 array of shape (Z, Y, X)
        As ``StarDist3D.predict_instances(stack, scale=(*factors, 1))`` of plain stardist gives
        them, with the factors of the model's scale.json.
    probabilities : float32 array of shape (n,)
        Of the objects 1..n, in [0, 1]. One that others cover wholly has no voxel in `labels`.
    """
    factors = model.scale.factors
    sides = [side * by for side, by in zip(stack.shape[:3], factors, strict=True)]
    tiles = [1, 1, 1]
    while np.prod([side / count for side, count in zip(sides, tiles, strict=True)]) > _LARGEST_TILE:
        longest = int(np.argmax([side / count for side, count in zip(sides, tiles, strict=True)]))
        tiles[longest] += 1
    with ctrl_c_kept():
        labels, details = model.predict_instances(
            stack,
            axes="ZYXC",
            prob_thresh=prob_thresh,
            scale=None if model.scale.is_one else (*factors, 1.0),
            n_tiles=(*tiles, 1),
            show_tile_progress=False,
        )
    return np.asarray(labels, np.int32), np.asarray(details["prob"], np.float32)
