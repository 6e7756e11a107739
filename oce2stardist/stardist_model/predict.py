"""Predict the labels of images that fit into memory with a StarDist model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oce2stardist.labels import median_diameter
from oce2stardist.stardist_model.backend import non_maximum_suppression, polygons_to_label, tf
from oce2stardist.stardist_model.network import SparseStarDist2D
from oce2stardist.stardist_model.polygons import Objects
from oce2stardist.stardist_model.scale import ModelScale

_LARGEST_BATCH = 16 * 128 * 128
"""Pixels that go through the network at once when many patches are predicted."""

_LARGEST_TILE = 2048
"""Pixels a side; larger images are predicted in overlapping tiles by stardist."""


_FACTORS = tuple(2.0 ** (step / 2) for step in range(-5, 4))
"""At which an image's own scale is looked for: cells of 10 to 155 px where 28 is wanted."""

_MIDDLE, _LARGEST_LOOK = 640, 768
"""Pixels a side of what is looked at for the scale, at most; and what the network sees of it."""

_TOLERANCE, _ALIKE = 1.0, 0.2
"""Natural logarithms: how much smaller or larger than wanted cells may be before a scale counts
for less, and how near to each other diameters are that say the same. Both and the measure were
chosen on images of eleven sets (benchmarks/TRIALS.md)."""

_FEW = 2
"""Objects that are too few to tell a scale."""


@dataclass(frozen=True)
class RawPrediction:
    """Object probability (Y/grid, X/grid), distances (Y/grid, X/grid, rays) and image shape."""

    prob: NDArray[np.float32]
    dist: NDArray[np.float32]
    shape: tuple[int, int]

    def suppress(self, *, grid: Sequence[int], prob_thresh: float, nms_thresh: float) -> Objects:
        """Keep, of overlapping polygons, the most probable."""
        return suppress(self, grid=grid, prob_thresh=prob_thresh, nms_thresh=nms_thresh)

    def draw(self, objects: Objects, *, prob_thresh: float) -> NDArray[np.int32]:
        """Draw the objects of at least this probability; int32 labels of the shape."""
        return draw_polygons(objects, self.shape, prob_thresh=prob_thresh)


def predict_patches(
    model: SparseStarDist2D, patches: Sequence[NDArray[np.float32]]
) -> list[RawPrediction]:
    """Run the network on normalised patches of one shape (Y, X, C), several at a time.

    Y and X must be multiples of what the network divides them by: nothing is padded here.
    """
    if not patches:
        return []
    at_once = max(1, _LARGEST_BATCH // (patches[0].shape[0] * patches[0].shape[1]))
    raws = []
    for start in range(0, len(patches), at_once):
        stack = np.stack(patches[start : start + at_once])
        prob, dist = (
            np.asarray(output, np.float32) for output in model.forward(tf.constant(stack))
        )
        # As stardist's own predict does: no ray is shorter than nothing.
        dist = np.maximum(dist, 1e-3)
        shape = stack.shape[1], stack.shape[2]
        raws += [RawPrediction(p[..., 0], d, shape) for p, d in zip(prob, dist, strict=True)]
    return raws


def suppress(
    raw: RawPrediction, *, grid: Sequence[int], prob_thresh: float, nms_thresh: float
) -> Objects:
    """Keep, of overlapping polygons, the most probable."""
    points, prob, dist = non_maximum_suppression(
        raw.dist, raw.prob, grid=tuple(grid), prob_thresh=prob_thresh, nms_thresh=nms_thresh
    )
    return Objects(points, prob, dist)


def draw_polygons(
    objects: Objects, shape: tuple[int, int], *, prob_thresh: float
) -> NDArray[np.int32]:
    """Draw the polygons of at least this probability; int32 labels of the shape.

    What less probable polygons there were does not matter: none of them can suppress a more
    probable one. So one suppression serves all higher thresholds.
    """
    kept = objects[objects.prob >= prob_thresh]
    return polygons_to_label(kept.dist, kept.points, prob=kept.prob, shape=shape).astype(np.int32)


def predict_labels(
    model: SparseStarDist2D, image: NDArray[np.float32], *, scale: float | None = None
) -> NDArray[np.int32]:
    """Predict the labels of one normalised image with the model's own thresholds.

    They are what ``model.predict_instances`` of plain stardist gives, with ``scale=`` where the
    model has one; see `predict_objects`.
    """
    return predict_objects(model, image, scale=scale)[0]


def predict_objects(
    model: SparseStarDist2D,
    image: NDArray[np.float32],
    *,
    prob_thresh: float | None = None,
    scale: float | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Predict the labels of one normalised image, and how probable each object is.

    Parameters
    ----------
    model : SparseStarDist2D
    image : float32 array of shape (Y, X, C)
        Normalised per channel: 1st percentile 0, 99.8th percentile 1.
    prob_thresh : float in (0, 1), optional
        Least object probability; default: the model's own threshold. A lower one adds objects
        and leaves the others as they are.
    scale : float > 0, optional
        By what the image is zoomed before the network sees it; default: see `find_scale`.

    Returns
    -------
    labels : int32 array of shape (Y, X)
    probabilities : float32 array of shape (n,)
        Of the objects 1..n, in [0, 1]. One that others cover wholly has no pixel in `labels`.
    """
    if scale is None:
        scale = find_scale(model, image, model.scale)
    tiles = tuple(int(np.ceil(side * scale / _LARGEST_TILE)) for side in image.shape[:2])
    labels, details = model.predict_instances(
        image,
        prob_thresh=prob_thresh,
        scale=None if scale == 1.0 else scale,
        n_tiles=(*tiles, 1),
        show_tile_progress=False,
    )
    return np.asarray(labels, np.int32), np.asarray(details["prob"], np.float32)


def find_scale(model: SparseStarDist2D, image: NDArray[np.float32], scale: ModelScale) -> float:
    """Find by what an image is to be zoomed: by the scale's factor, or by what its cells ask for.

    Where every image has its own factor, the model measures the cells in the middle of the image.
    """
    wanted = scale.working_diameter
    if not scale.per_image or wanted is None:
        return scale.factor
    diameter = measure_diameter(model, image, wanted)
    return scale.for_diameter(diameter or wanted / scale.factor).factor


def measure_diameter(
    model: SparseStarDist2D, image: NDArray[np.float32], wanted: float
) -> float | None:
    """Measure the median diameter, pixels, of the cells in the middle of a normalised image.

    The model looks at factors from 0.18 to 2.8. Cells have the same diameter at several of them,
    what is taken for a cell at a wrong one has another at each: the diameter at which most agree
    is taken. A factor counts by how sure the model is there (mean probability, cubed) and by how
    near cells come to `wanted`, the working diameter of the model. None if no factor shows two.
    """
    diameters, weights = [], []
    for factor in _FACTORS:
        side = min(_MIDDLE, round(_LARGEST_LOOK / factor))
        seen = image[tuple(_middle(length, side) for length in image.shape[:2])]
        labels, probabilities = predict_objects(model, seen, scale=factor)
        found = median_diameter([labels])
        if found is None or len(probabilities) < _FEW:
            continue
        doubt = np.log(factor * found / wanted) / _TOLERANCE
        diameters.append(np.log(found))
        weights.append(probabilities.mean() ** 3 * np.exp(-(doubt**2)))
    if not diameters:
        return None
    # (factors, factors): how much the second says what the first says
    apart = np.subtract.outer(diameters, diameters) / _ALIKE
    agreement = np.exp(-0.5 * apart**2) * weights
    most = agreement[agreement.sum(axis=1).argmax()]
    return float(np.exp(np.average(diameters, weights=most)))


def _middle(length: int, side: int) -> slice:
    start = max(0, (length - side) // 2)
    return slice(start, start + side)
