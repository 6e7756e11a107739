"""Weigh the objects of an image by how much an annotator would settle there.

An *open* object is one that an annotator would settle: the model and the pseudo labels contradict
each other there, or one of them is not sure. Every object weighs between 0 (nothing to settle)
and 1.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.evaluation.scores import overlap_matrix
from oce2stardist.labels import BACKGROUND, UNLABELLED, centroids, object_sizes

_PARTNER_IOU = 0.5
"""Partners have a larger IoU than this, so that no object can have two."""

# How often the model was wrong about such objects, and so how much there is to settle, was
# measured on 80 images of bbbc039: 78 %, 44 %, 21 % and 2 %. Contradictions weigh more than
# their 21 %, as otherwise the pseudo label is wrong.
_NEARLY_FOUND_PSEUDO_WEIGHT = 1.0
_NEARLY_FOUND_WEIGHT = 0.5
_CONTRADICTION_WEIGHT = 0.5
AGREED_WEIGHT = 0.1


def compare_objects(
    model: NDArray[np.integer] | None,
    probabilities: NDArray[np.floating] | None,
    pseudo: NDArray[np.integer] | None,
    confidence: Mapping[int, float] | None = None,
    *,
    known: NDArray[np.bool_] | None = None,
    prob_thresh: float = 0.5,
) -> pd.DataFrame:
    """List the objects of one image that are not annotated, and how open each is.

    Parameters
    ----------
    model : integer array of shape (Y, X), or None
        What the model predicts at half its probability threshold; labels 1..n.
    probabilities : array of shape (n,), or None
        Object probability of the labels 1..n, in [0, 1]. Those below `prob_thresh`, the model's
        own threshold, are only nearly found.
    pseudo : integer array of shape (Y, X), or None
        Pseudo labels; -1 where nothing is known of them.
    confidence : mapping of int to float, optional
        Confidence of pseudo objects by their label, in [0, 1]; 1 where not given.
    known : bool array of shape (Y, X), optional
        Annotated pixels, cells and background. Objects mostly on these are settled: left out.

    Returns
    -------
    DataFrame
        One row per object, a model's and a pseudo object of IoU > 0.5 being one: ``y``,
        ``x`` (centroid) and ``area`` in pixels; ``kind`` ("agreed", "model_only",
        "pseudo_only" or "nearly_found"); ``in_model``, ``in_pseudo``; ``probability`` and
        ``confidence``, NaN where there is none; ``weight`` in [0, 1].

    Notes
    -----
    Weights: 1 for a pseudo object that the model nearly found; 0.5 for another nearly found, and
    for a contradiction, an object that only one side has and the other denies. Where both sides
    agree, or only one can be asked, at most 0.1: times the larger doubt, the squared distance of
    the probability from 1 (1 at the threshold) or what confidence lacks to 1.
    """
    if model is None and pseudo is None:
        raise ValueError("model or pseudo must be given. Got None for both.")
    predicted = _model_objects(model, probabilities, pseudo, confidence or {}, prob_thresh)
    missed = _pseudo_objects(pseudo, model, confidence or {})
    objects = pd.concat([predicted, missed], ignore_index=True)
    if known is not None:
        settled = [
            _mostly_on(labels, rows["label"].to_numpy(np.int64), known)
            for labels, rows in ((model, predicted), (pseudo, missed))
        ]
        objects = objects[~np.concatenate(settled)].reset_index(drop=True)
    objects["weight"] = _weigh(objects, prob_thresh)
    return objects.drop(columns="label")


def _model_objects(
    model: NDArray[np.integer] | None,
    probabilities: NDArray[np.floating] | None,
    pseudo: NDArray[np.integer] | None,
    confidence: Mapping[int, float],
    prob_thresh: float,
) -> pd.DataFrame:
    """Describe what the model found or nearly found, each with its pseudo partner."""
    if model is None or probabilities is None:  # they come together
        return _describe(None)
    table = _describe(model)
    partner, is_judged = _partners(model, pseudo)
    table["probability"] = np.asarray(probabilities, float)[table["label"].to_numpy() - 1]
    is_found = table["probability"].to_numpy() >= prob_thresh
    table["in_model"] = is_found
    table["in_pseudo"] = partner > 0
    table["confidence"] = [confidence.get(int(i), 1.0) if i else math.nan for i in partner]
    kinds = np.where(is_judged & (partner == 0), "model_only", "agreed")
    table["kind"] = np.where(is_found, kinds, "nearly_found")
    return table


def _pseudo_objects(
    pseudo: NDArray[np.integer] | None,
    model: NDArray[np.integer] | None,
    confidence: Mapping[int, float],
) -> pd.DataFrame:
    """Describe the pseudo objects that the model did not even nearly find."""
    if pseudo is None:
        return _describe(None)
    table = _describe(pseudo)
    partner, _ = _partners(pseudo, model)
    table["in_pseudo"] = True
    table["confidence"] = [confidence.get(int(i), 1.0) for i in table["label"]]
    table["kind"] = "agreed" if model is None else "pseudo_only"
    return table[partner == 0]


def _describe(labels: NDArray[np.integer] | None) -> pd.DataFrame:
    """List label, centroid and area of objects; the other columns hold what is not known."""
    labels = np.empty((0, 0), np.int32) if labels is None else labels
    ids, areas = object_sizes(labels)
    y, x = centroids(labels, ids).T
    table = pd.DataFrame({"label": ids, "y": y, "x": x, "area": areas})
    unknown = {"probability": math.nan, "confidence": math.nan}
    return table.assign(kind="agreed", in_model=False, in_pseudo=False, **unknown)


def _partners(
    labels: NDArray[np.integer], others: NDArray[np.integer] | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Find each object's partner in `others`, 0 if none, and whether others know its place."""
    if others is None:
        others = np.full_like(labels, UNLABELLED, dtype=np.int32)
    overlap = overlap_matrix(labels, others)
    pairs = overlap.pixels.tocoo()
    iou = pairs.data / (
        overlap.predicted_sizes[pairs.row] + overlap.true_sizes[pairs.col] - pairs.data
    )
    close = iou > _PARTNER_IOU
    partner = np.zeros(len(overlap.predicted_ids), np.int64)
    partner[pairs.row[close]] = overlap.true_ids[pairs.col[close]]
    return partner, 2 * overlap.predicted_known > overlap.predicted_sizes


def _mostly_on(
    labels: NDArray[np.integer] | None, ids: NDArray[np.int64], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell for each id whether more than half of its pixels are known."""
    if labels is None:
        return np.zeros(len(ids), bool)
    sizes = pd.Series(*object_sizes(labels)[::-1])
    covered = pd.Series(*object_sizes(np.where(known, labels, BACKGROUND))[::-1])
    share = covered.reindex(ids, fill_value=0) / sizes.reindex(ids)
    return np.asarray(share > 0.5, bool)


def _weigh(objects: pd.DataFrame, prob_thresh: float) -> NDArray[np.float64]:
    """Weigh objects as `compare_objects` says."""
    probability = objects["probability"].to_numpy(float)
    hesitation = np.clip((1 - probability) / (1 - prob_thresh), 0, 1)
    doubt = 1 - objects["confidence"].to_numpy(float)
    agreed = AGREED_WEIGHT * np.fmax(np.fmax(hesitation**2, doubt), 0)
    nearly = np.where(objects["in_pseudo"], _NEARLY_FOUND_PSEUDO_WEIGHT, _NEARLY_FOUND_WEIGHT)
    kind = objects["kind"].to_numpy(str)
    return np.select(
        [kind == "agreed", kind == "nearly_found"], [agreed, nearly], _CONTRADICTION_WEIGHT
    )
