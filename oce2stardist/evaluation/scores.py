"""Score predicted labels against ground truth.

F1 counts objects found by one-to-one matching at a threshold on their IoU; SEG
is the segmentation score of the Cell Tracking Challenge. Both are read off one
sparse matrix of overlaps, so time grows with pixels and never with predicted
times true objects.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from oce2stardist.errors import InputError
from oce2stardist.labels import BACKGROUND, centroids, object_sizes, remove_objects


@dataclass(frozen=True)
class Scores:
    """Scores of one image or, pooled, of many.

    Attributes
    ----------
    f1, precision, recall : float in [0, 1]
        ``2TP / (2TP + FP + FN)``, ``TP / (TP + FP)``, ``TP / (TP + FN)``. All are
        1.0 where there is neither a true nor a predicted object (stardist gives
        0 there), and 0.0 where only the denominator's objects are missing.
    seg : float in [0, 1] or nan
        Mean over true cells; nan where there is none.
    tp, fp, fn : int
        Objects matched, predicted but not true, true but not predicted.
    n_true, n_predicted : int
        ``tp + fn`` and ``tp + fp``, without objects ignored for lying on unlabelled pixels.
    iou_threshold : float in (0, 1]
        Least IoU of a match. SEG does not depend on it.
    """

    f1: float
    seg: float
    precision: float
    recall: float
    tp: int
    fp: int
    fn: int
    n_true: int
    n_predicted: int
    iou_threshold: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, with None for a missing SEG (JSON has no nan)."""
        fields = asdict(self)
        if math.isnan(self.seg):
            fields["seg"] = None
        return fields


@dataclass(frozen=True)
class Overlap:
    """Shared pixels of predicted and true objects.

    Ids ascend and may have gaps; sizes are in pixels; `predicted_known` counts the pixels of each
    predicted object where the truth is known, that is not -1. `pixels` is a sparse int64 array of
    shape (predicted, true); pairs without any common pixel are not stored.
    """

    predicted_ids: NDArray[np.int64]
    true_ids: NDArray[np.int64]
    predicted_sizes: NDArray[np.int64]
    true_sizes: NDArray[np.int64]
    predicted_known: NDArray[np.int64]
    pixels: csr_array


def overlap_matrix(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> Overlap:
    """Count the pixels that each predicted object shares with each true one.

    Objects are > 0. In `truth`, values below 0 are unlabelled.
    """
    if predicted.shape != truth.shape:
        raise InputError(
            f"predicted must have the shape of truth. Got {predicted.shape} and {truth.shape}; "
            "predict at the scale of the truth, or crop or resample one of them."
        )
    inside = (predicted > BACKGROUND) | (truth > BACKGROUND)
    # factorize hashes where np.unique sorts: linear in pixels, whatever the ids
    rows, row_ids = pd.factorize(predicted[inside].astype(np.int64), sort=True)
    columns, column_ids = pd.factorize(truth[inside].astype(np.int64), sort=True)
    pairs, keys = pd.factorize(rows * len(column_ids) + columns)
    shape = (len(row_ids), len(column_ids))
    row, column = np.divmod(keys, max(1, shape[1]))  # no object at all: nothing to divide
    table = csr_array((np.bincount(pairs, minlength=len(keys)), (row, column)), shape=shape)

    is_predicted, is_true = row_ids > BACKGROUND, column_ids > BACKGROUND
    of_predicted = table[np.flatnonzero(is_predicted)]
    return Overlap(
        predicted_ids=row_ids[is_predicted],
        true_ids=column_ids[is_true],
        predicted_sizes=of_predicted.sum(axis=1),
        true_sizes=table.sum(axis=0)[is_true],
        predicted_known=of_predicted[:, np.flatnonzero(column_ids >= BACKGROUND)].sum(axis=1),
        pixels=of_predicted[:, np.flatnonzero(is_true)],
    )


def score_image(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], *, iou_threshold: float = 0.5
) -> Scores:
    """Score the predicted labels of one image; see `score_sparse` for every rule."""
    return score_sparse(predicted, truth, iou_thresholds=[iou_threshold])[0]


def score_sparse(
    predicted: NDArray[np.integer],
    annotations: NDArray[np.integer],
    *,
    iou_thresholds: Sequence[float],
) -> list[Scores]:
    """Score predicted labels against annotations that may leave pixels unlabelled.

    Parameters
    ----------
    predicted : integer array
        Objects are > 0.
    annotations : integer array of the same shape
        Annotated cells > 0, known background 0, unknown -1.
    iou_thresholds : sequence of float in (0, 1]

    Returns
    -------
    list of Scores
        One per threshold, in the order given.

    Notes
    -----
    Objects with an IoU of the threshold or more may be matched, each once. Above
    0.5 that leaves one way; otherwise the way with most matches counts and, of
    several such, one that leaves fewest false positives.

    An unmatched predicted object is a false positive only if more than half of its
    pixels are known (>= 0); otherwise it is ignored. Without unlabelled pixels the
    counts are those of ``stardist.matching.matching``.

    SEG [1]_: each true cell R scores its IoU with the one predicted S for which
    ``|R & S| > |R| / 2``, or 0 without such an S.

    References
    ----------
    .. [1] Maška et al., Bioinformatics 30(11), 2014, doi:10.1093/bioinformatics/btu080.
    """
    for threshold in iou_thresholds:
        if not 0 < threshold <= 1:
            raise InputError(
                f"iou_threshold must be above 0 and at most 1. Got {threshold}; 0.5 is usual."
            )
    return score_overlap(overlap_matrix(predicted, annotations), iou_thresholds=iou_thresholds)


def score_overlap(overlap: Overlap, *, iou_thresholds: Sequence[float]) -> list[Scores]:
    """Score an overlap that is at hand, by the rules of `score_sparse`."""
    pairs = overlap.pixels.tocoo()
    predicted, true = pairs.row, pairs.col
    iou = _pair_ious(overlap)
    n_true = len(overlap.true_ids)
    seg = _mean_or_nan(seg_ious(overlap))
    is_known = 2 * overlap.predicted_known > overlap.predicted_sizes

    scores = []
    for threshold in iou_thresholds:
        close = iou >= threshold
        tp = _most_matches(predicted[close], true[close])
        # Some largest matching holds as many known objects as a matching of these
        # alone can (augmenting a matching never frees a vertex it covers).
        close &= is_known[predicted]
        fp = int(is_known.sum()) - _most_matches(predicted[close], true[close])
        scores.append(_scores(tp=tp, fp=fp, fn=n_true - tp, seg=seg, iou_threshold=threshold))
    return scores


def seg_ious(overlap: Overlap) -> NDArray[np.float64]:
    """Find what each true cell adds to SEG, their mean; float array of shape (true,).

    It is the IoU with the one predicted object that covers more than half of the cell, in (0, 1];
    0 where there is none.
    """
    pairs = overlap.pixels.tocoo()
    covers_most = 2 * pairs.data > overlap.true_sizes[pairs.col]
    ious = np.zeros(len(overlap.true_ids))
    ious[pairs.col[covers_most]] = _pair_ious(overlap)[covers_most]
    return ious


def seg_at_thresholds(overlap: Overlap, *, iou_thresholds: Sequence[float]) -> list[float]:
    """Compute SEG with cells counting 0 that are outlined worse than an IoU threshold.

    It falls as the threshold rises, from SEG at 0; nan where there is no true cell. At 0.5 it may
    be less than SEG: an object may cover most of a cell and much beside it. These are the curves
    of the paper's appendix C (Wolf et al., ICCV 2023, arXiv:2310.08501).
    """
    ious = seg_ious(overlap)
    return [_mean_or_nan(np.where(ious >= threshold, ious, 0.0)) for threshold in iou_thresholds]


def _pair_ious(overlap: Overlap) -> NDArray[np.float64]:
    """Compute the IoU of every stored pair of `overlap.pixels`, in the order of its COO form."""
    pairs = overlap.pixels.tocoo()
    sizes = overlap.predicted_sizes[pairs.row] + overlap.true_sizes[pairs.col]
    return np.asarray(pairs.data / (sizes - pairs.data), np.float64)


def _mean_or_nan(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else math.nan


def _most_matches(predicted: NDArray[np.integer], true: NDArray[np.integer]) -> int:
    """Return the size of the largest one-to-one matching among candidate pairs."""
    if predicted.size == 0:
        return 0
    graph = csr_array((np.ones(predicted.size, np.int8), (predicted, true)))
    return int(np.count_nonzero(maximum_bipartite_matching(graph) >= 0))


def _scores(*, tp: int, fp: int, fn: int, seg: float, iou_threshold: float) -> Scores:
    # no object anywhere and none predicted is a perfect answer
    nothing = float(tp + fp + fn == 0)
    return Scores(
        f1=nothing or 2 * tp / (2 * tp + fp + fn),
        seg=seg,
        precision=tp / (tp + fp) if tp + fp else nothing,
        recall=tp / (tp + fn) if tp + fn else nothing,
        tp=tp,
        fp=fp,
        fn=fn,
        n_true=tp + fn,
        n_predicted=tp + fp,
        iou_threshold=float(iou_threshold),
    )


def pool_scores(scores: Sequence[Scores]) -> Scores:
    """Pool the counts of at least one image; SEG becomes the mean over all their true cells."""
    thresholds = sorted({score.iou_threshold for score in scores})
    if len(thresholds) != 1:
        raise ValueError(
            f"scores must be at one IoU threshold. Got thresholds {thresholds}; "
            "pool each threshold by itself."
        )
    n_true = sum(score.n_true for score in scores)
    # images without a true cell have SEG nan and no weight
    seg_sum = sum(score.seg * score.n_true for score in scores if score.n_true)
    return _scores(
        tp=sum(score.tp for score in scores),
        fp=sum(score.fp for score in scores),
        fn=sum(score.fn for score in scores),
        seg=seg_sum / n_true if n_true else math.nan,
        iou_threshold=thresholds[0],
    )


def leave_out_border(labels: NDArray[np.integer], width: float) -> NDArray[np.integer]:
    """Set to background the objects whose centroid lies close to the image edge.

    Apply it to predicted and true labels alike before scoring. An object goes if its centroid is
    nearer than `width`, in pixels, to the centre of an outermost pixel, along any axis; unlabelled
    pixels stay so. Returns a copy.
    """
    ids, _ = object_sizes(labels)
    centres, far_edge = centroids(labels, ids), np.array(labels.shape) - 1
    distance = np.minimum(centres, far_edge - centres).min(axis=1)
    return remove_objects(labels, ids[distance < width])
