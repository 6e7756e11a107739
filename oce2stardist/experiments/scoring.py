"""Score the predicted labels of a test set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.datasets import LabelledImage, LabelledImages, keep_field_of_interest
from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import (
    leave_out_border,
    overlap_matrix,
    score_overlap,
    seg_at_thresholds,
)

IOU_THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))
"""0.5, 0.55 ... 0.95."""

SCORE_COLUMNS = (
    "image", "group", "iou", "f1", "seg", "seg_at", "precision", "recall", "tp", "fp", "fn",
    "n_true", "n_predicted",
)  # fmt: skip


def score_labels(
    predicted: Mapping[str, NDArray[np.integer]],
    test: LabelledImages,
    *,
    border: int = 0,
    border_by_centroid: float = 0.0,
) -> pd.DataFrame:
    """Score predicted labels at IoU thresholds from 0.5 to 0.95.

    Parameters
    ----------
    predicted : mapping of image stem to integer array of shape (Y, X)
        Of every image in `test`, at its scale; others are not looked at.
    test : LabelledImages
        Read once, one image after the other.
    border : int, >= 0
        Width of the rim outside the field of interest, pixels: objects wholly in it are left
        out, predicted or true. For data sets of the Cell Tracking Challenge.
    border_by_centroid : float, >= 0
        Leave out objects, predicted or true, whose centroid is nearer than this to the edge,
        pixels. For data sets whose objects at the edge are not annotated.

    Returns
    -------
    DataFrame
        A row per image and threshold, with the columns `SCORE_COLUMNS`: `seg` is that of the
        image whatever the threshold, `seg_at` counts cells below it as 0. Both are nan where
        there is no true cell.

    Raises
    ------
    InputError
        If an image has no prediction, or one of another shape.
    """
    rows = []
    for one in test:
        if one.stem not in predicted:
            raise InputError(
                f"predicted must hold every test image. Got none for {one.stem}; predict it, too."
            )
        found, true = (
            without_border(labels, border, border_by_centroid)
            for labels in (predicted[one.stem], one.labels)
        )
        rows += _score_image(one, found, true)
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def without_border(
    labels: NDArray[np.integer], border: int, by_centroid: float
) -> NDArray[np.integer]:
    """Leave out the objects that do not count, by either rule of `score_labels`."""
    if border > 0:
        labels = keep_field_of_interest(labels, border)
    return leave_out_border(labels, by_centroid) if by_centroid > 0 else labels


def _score_image(
    one: LabelledImage, found: NDArray[np.integer], true: NDArray[np.integer]
) -> list[dict[str, Any]]:
    overlap = overlap_matrix(found, true)
    scores = score_overlap(overlap, iou_thresholds=IOU_THRESHOLDS)
    seg_at = seg_at_thresholds(overlap, iou_thresholds=IOU_THRESHOLDS)
    return [
        {"image": one.stem, "group": one.group, "seg_at": at, **vars(score)}
        | {"iou": score.iou_threshold}
        for score, at in zip(scores, seg_at, strict=True)
    ]
