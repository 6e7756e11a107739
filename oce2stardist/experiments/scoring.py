"""Score the predicted labels of a test set."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.datasets import LabelledImages, keep_field_of_interest
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


@dataclass(frozen=True)
class Border:
    """Which objects, predicted or true, don't count because they lie at the edge."""

    rim: int = 0
    """Width of the rim outside the field of interest, pixels: objects wholly in it don't count.
    For data sets of the Cell Tracking Challenge."""
    by_centroid: float = 0.0
    """Objects whose centroid is nearer than this to the edge, pixels, don't count. For data sets
    whose objects at the edge are not annotated."""

    def leave_out(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """Keep the objects that count."""
        if self.rim > 0:
            labels = keep_field_of_interest(labels, self.rim)
        return leave_out_border(labels, self.by_centroid) if self.by_centroid > 0 else labels


def score_labels(
    predicted: Mapping[str, NDArray[np.integer]], test: LabelledImages, border: Border
) -> pd.DataFrame:
    """Score predicted labels, at the scale of the truth, at IoU thresholds from 0.5 to 0.95.

    The images of `test` are read once, one after the other.

    Returns
    -------
    DataFrame
        A row per image and threshold, with the columns `SCORE_COLUMNS`: `seg` is that of the
        image whatever the threshold, `seg_at` counts cells below it as 0. Both are nan where
        there is no true cell.
    """
    rows = []
    for image in test:
        if image.stem not in predicted:
            raise InputError(
                f"predicted must hold every test image. Got none for {image.stem}; predict it, too."
            )
        overlap = overlap_matrix(*map(border.leave_out, (predicted[image.stem], image.labels)))
        scores = score_overlap(overlap, iou_thresholds=IOU_THRESHOLDS)
        seg_at = seg_at_thresholds(overlap, iou_thresholds=IOU_THRESHOLDS)
        rows += [
            {"image": image.stem, "group": image.group, "iou": score.iou_threshold, "seg_at": seg}
            | vars(score)
            for score, seg in zip(scores, seg_at, strict=True)
        ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)
