"""What a model and the pseudo labels leave open, and the windows in which it is quickest settled.

An *open* object is one that an annotator would settle: the model and the pseudo labels contradict
each other there, or one of them is not sure. Every object weighs between 0 (nothing to settle)
and 1, and a window of the image is worth the weight in it for each object outlined.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans

from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import overlap_matrix
from oce2stardist.labels import BACKGROUND, UNLABELLED, object_sizes

DIAMETERS = 5.0
"""Side of a window in median diameters: a few dozen cells at most, a few minutes of outlining."""

_SMALLEST_WINDOW = 8
_PARTNER_IOU = 0.5
"""Partners have a larger IoU than this, so that no object can have two."""

# How often the model was wrong about such objects, and so how much there is to settle, was
# measured on 80 images of bbbc039: 78 %, 44 %, 21 % and 2 %. Contradictions weigh more than
# their 21 %, as otherwise the pseudo label is wrong.
_NEARLY_FOUND_PSEUDO_WEIGHT = 1.0
_NEARLY_FOUND_WEIGHT = 0.5
_CONTRADICTION_WEIGHT = 0.5
_AGREED_WEIGHT = 0.1

_UNSURE = 0.5 * _AGREED_WEIGHT
"""An object which both sides found is called unsure from this weight on."""

_GETTING_THERE = 5.0
"""Finding a window and reading it costs about as much as outlining this many objects, so that
one doubtful object alone in a window is worth less than several."""

_MOST_KNOWN = 0.5
"""Share of known pixels from which a window counts as annotated already."""

_KINDS = ("agreed", "model_only", "pseudo_only", "nearly_found")
_COUNTS = ("n_model_only", "n_pseudo_only", "n_nearly_found", "n_unsure")


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
        Object probability of the labels 1..n, in [0, 1]. Those below `prob_thresh` are only
        nearly found.
    pseudo : integer array of shape (Y, X), or None
        Pseudo labels; -1 where nothing is known of them.
    confidence : mapping of int to float, optional
        Confidence of pseudo objects by their label, in [0, 1]; 1 where not given.
    known : bool array of shape (Y, X), optional
        Annotated pixels, cells and background. Objects mostly on these are left out: they
        are settled.
    prob_thresh : float in (0, 1)
        The model's own threshold.

    Returns
    -------
    DataFrame
        One row per object, a model's and a pseudo object of IoU > 0.5 being one: ``y``,
        ``x`` (centroid) and ``area`` in pixels; ``kind`` ("agreed", "model_only",
        "pseudo_only" or "nearly_found"); ``in_model``, ``in_pseudo``; ``probability`` and
        ``confidence``, NaN where there is none; ``weight`` in [0, 1].

    Raises
    ------
    ValueError
        If there is neither a model nor pseudo labels.

    Notes
    -----
    Weights: 1 for a pseudo object that the model nearly found; 0.5 for another nearly found, and
    for a contradiction, an object that only one side has and the other denies. Where both sides
    agree, or only one can be asked, at most 0.1: times the larger doubt, the squared distance of
    the probability from 1 (1 at the threshold) or what confidence lacks to 1.
    """
    if model is None and pseudo is None:
        raise ValueError("model or pseudo must be given. Got None for both.")
    found = _model_objects(model, probabilities, pseudo, confidence or {}, prob_thresh)
    missed = _pseudo_objects(pseudo, model, confidence or {})
    objects = pd.concat([found, missed], ignore_index=True)
    if known is not None:
        settled = [
            _mostly_on(labels, rows["label"].to_numpy(np.int64), known)
            for labels, rows in ((model, found), (pseudo, missed))
        ]
        objects = objects[~np.concatenate(settled)].reset_index(drop=True)
    objects["weight"] = _weigh(objects, prob_thresh)
    return objects.drop(columns="label")


def window_side(objects: Sequence[pd.DataFrame], *, diameters: float = DIAMETERS) -> int:
    """Choose the side of windows, in pixels, from the objects of all images.

    Returns
    -------
    int
        `diameters` times the median equivalent diameter, at least 8; 128 without objects.
    """
    areas = np.concatenate([rows["area"].to_numpy(float) for rows in objects] or [np.empty(0)])
    if areas.size == 0:
        return 128
    diameter = float(np.median(np.sqrt(4 * areas / np.pi)))
    return max(_SMALLEST_WINDOW, round(diameters * diameter))


def propose_windows(
    objects: pd.DataFrame,
    shape: tuple[int, int],
    *,
    window: int,
    known: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Score a window around every object of one image; they overlap.

    Parameters
    ----------
    objects : DataFrame
        As `compare_objects` makes it.
    shape : (int, int)
        Of the image, (Y, X).
    window : int, >= 8
        Side of the windows, pixels; images that are smaller are one window.
    known : bool array of shape (Y, X), optional
        Annotated pixels.

    Returns
    -------
    DataFrame
        ``y0``, ``x0``, ``y1``, ``x1`` (pixels; ``image[y0:y1, x0:x1]``); ``is_open``, unless
        more than half is annotated; ``score``; ``n_objects``, ``n_model``, ``n_pseudo``,
        ``n_disagree``; ``n_model_only`` and so on, counts of each reason; ``mean_confidence``;
        ``mean_log_area``.

    Raises
    ------
    InputError
        If `window` is too small.

    Notes
    -----
    Objects belong to the windows that hold their centroid. The score is their weight divided
    by their number and five more (getting to a window has its price, too), times the share of
    pixels not known yet; 0 if more than half are known.
    """
    if window < _SMALLEST_WINDOW:
        raise InputError(
            f"window must be at least {_SMALLEST_WINDOW} pixels. Got {window}; leave it out "
            "for five times the median diameter."
        )
    sides = np.minimum(window, shape)
    centroids = objects[["y", "x"]].to_numpy(float).reshape(-1, 2)
    corners = np.rint(centroids + 0.5 - sides / 2).astype(np.int64)
    corners = np.unique(np.clip(corners, 0, np.array(shape) - sides), axis=0)  # (windows, 2)
    sums = pd.DataFrame(
        _inside(corners, sides, centroids) @ _features(objects).to_numpy(float),
        columns=_features(objects).columns,
    )
    table = pd.DataFrame(np.hstack([corners, corners + sides]), columns=["y0", "x0", "y1", "x1"])
    unknown = 1 - _known_share(corners, sides, known)
    rate = sums["weight"] / (sums["n_objects"] + _GETTING_THERE)
    table["is_open"] = unknown >= 1 - _MOST_KNOWN
    table["score"] = np.where(table["is_open"], unknown * rate, 0.0)
    counted = ["n_objects", "n_model", "n_pseudo", "n_disagree", *_COUNTS]
    table[counted] = sums[counted].round().astype(np.int64)
    rated = sums["n_rated"].where(sums["n_rated"] > 0)
    table["mean_confidence"] = sums["rating"] / rated
    table["mean_log_area"] = sums["log_area"] / sums["n_objects"]
    return table


def choose_windows(
    candidates: pd.DataFrame,
    *,
    count: int,
    n_images: int,
    taken: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Take the best windows of all images, none overlapping another.

    Parameters
    ----------
    candidates : DataFrame
        What `propose_windows` returns for each image, with its name as ``image``.
    count : int, >= 1
        At most this many are taken; windows of score 0 never are.
    n_images : int, >= 1
        Images that were looked at. No more than ``ceil(count / n_images) + 1`` windows are
        taken of one, unless the other images have none left.
    taken : DataFrame, optional
        Windows chosen before, which the new ones must not overlap either.

    Returns
    -------
    DataFrame
        Rows of `candidates`, the highest score first.
    """
    useful = candidates[candidates["score"] > 0]
    order = useful.sort_values(["score", "image", "y0", "x0"], ascending=[False, True, True, True])
    chosen = _take(order, count=count, n_images=n_images, taken=taken)
    return chosen.sort_values(["score", "image", "y0", "x0"], ascending=[False, True, True, True])


def choose_typical_windows(
    candidates: pd.DataFrame,
    *,
    count: int,
    n_images: int,
    taken: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Take windows that stand for many others: the middles of groups of alike ones.

    Windows are grouped by how many objects they hold, how large these are and how sure, with
    k-means into `count` groups; of each the window nearest to its middle is taken, the largest
    group first. It takes the parameters of `choose_windows`, and `seed`.

    Returns
    -------
    DataFrame
        Rows of `candidates`, with the share of all candidates in the group as ``stands_for``.
    """
    if candidates.empty:
        return candidates.assign(stands_for=np.empty(0))
    columns = ["n_objects", "mean_log_area", "mean_confidence"]
    features = candidates[columns].fillna(0.0).to_numpy(float)
    features = (features - features.mean(axis=0)) / _spread(features)
    groups = min(count, len(np.unique(features, axis=0)))
    means = KMeans(groups, n_init=4, random_state=seed).fit(features)
    distances = np.linalg.norm(features - means.cluster_centers_[means.labels_], axis=1)
    sizes = np.bincount(means.labels_)[means.labels_]
    grouped = candidates.assign(
        stands_for=sizes / len(candidates), group=means.labels_, distance=distances
    ).sort_values(["distance", "image", "y0", "x0"])
    # The middles of all groups come before the second nearest window of any.
    grouped["turn"] = grouped.groupby("group").cumcount()
    order = grouped.sort_values(["turn", "stands_for"], ascending=[True, False], kind="stable")
    chosen = _take(order, count=count, n_images=n_images, taken=taken)
    return chosen.drop(columns=["group", "distance", "turn"])


def explain(window: Mapping[str, object]) -> str:
    """Say in words why a window was chosen, from its counts."""
    share = window.get("stands_for", math.nan)
    parts = [
        f"{window[column]} {words}"
        for column, words in (
            ("n_model_only", "only found by the model"),
            ("n_pseudo_only", "only in the pseudo labels"),
            ("n_nearly_found", "nearly found"),
            ("n_unsure", "unsure"),
        )
        if window[column]
    ]
    if isinstance(share, float) and not math.isnan(share):
        parts.insert(0, f"typical of {share:.0%} of the places")
    return ", ".join(parts) or "objects that are less sure than elsewhere"


def _model_objects(
    model: NDArray[np.integer] | None,
    probabilities: NDArray[np.floating] | None,
    pseudo: NDArray[np.integer] | None,
    confidence: Mapping[int, float],
    prob_thresh: float,
) -> pd.DataFrame:
    """Describe what the model found or nearly found, each with its pseudo partner."""
    if model is None:
        return _describe(None)
    table = _describe(model)
    partner, is_judged = _partners(model, pseudo)
    if probabilities is None:
        probabilities = np.ones(int(model.max(initial=0)))
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
    ids, areas = object_sizes(np.empty(0, np.int32) if labels is None else labels)
    centroids = np.empty((0, 2))
    if labels is not None and ids.size:
        centroids = np.array(ndi.center_of_mass(labels > BACKGROUND, labels, ids))  # (objects, 2)
    table = pd.DataFrame({"label": ids, "y": centroids[:, 0], "x": centroids[:, 1], "area": areas})
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
    agreed = _AGREED_WEIGHT * np.fmax(np.fmax(hesitation**2, doubt), 0)
    nearly = np.where(objects["in_pseudo"], _NEARLY_FOUND_PSEUDO_WEIGHT, _NEARLY_FOUND_WEIGHT)
    kind = objects["kind"].to_numpy(str)
    return np.select(
        [kind == "agreed", kind == "nearly_found"], [agreed, nearly], _CONTRADICTION_WEIGHT
    )


def _features(objects: pd.DataFrame) -> pd.DataFrame:
    """Make the numbers of each object that windows add up."""
    kind = objects["kind"]
    # A probability and a confidence are no common measure: the confidence goes in only where
    # no model was asked.
    rating = objects["probability"].fillna(objects["confidence"].where(kind == "agreed"))
    return pd.DataFrame(
        {
            "weight": objects["weight"],
            "n_objects": 1.0,
            "n_model": objects["in_model"],
            "n_pseudo": objects["in_pseudo"],
            "n_disagree": kind.isin(["model_only", "pseudo_only"]),
            "n_model_only": kind == "model_only",
            "n_pseudo_only": kind == "pseudo_only",
            "n_nearly_found": kind == "nearly_found",
            "n_unsure": (kind == "agreed") & (objects["weight"] >= _UNSURE),
            "rating": rating.fillna(0.0),
            "n_rated": rating.notna(),
            "log_area": np.log(objects["area"]),
        }
    ).astype(float)


def _inside(
    corners: NDArray[np.int64], sides: NDArray[np.int64], points: NDArray[np.float64]
) -> csr_array:
    """Mark which points (n, 2) lie in which windows; sparse array (windows, n)."""
    if len(points) == 0:
        return csr_array((len(corners), 0))
    # Pixel centres are whole numbers, so a window reaches half a pixel beyond its outermost.
    centres = (corners + sides / 2 - 0.5) / sides
    held = cKDTree(points / sides).query_ball_point(centres, 0.5, p=np.inf)
    lengths = [len(of) for of in held]
    columns = np.concatenate([np.asarray(of, np.int64) for of in held])
    rows = np.repeat(np.arange(len(corners)), lengths)
    return csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(corners), len(points)))


def _known_share(
    corners: NDArray[np.int64], sides: NDArray[np.int64], known: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """Compute the share of known pixels in each window, from one table of running sums."""
    if known is None:
        return np.zeros(len(corners))
    sums = np.pad(known.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    (y0, x0), (y1, x1) = corners.T, (corners + sides).T
    pixels = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return np.asarray(pixels / np.prod(sides))


def _take(
    order: pd.DataFrame, *, count: int, n_images: int, taken: pd.DataFrame | None
) -> pd.DataFrame:
    """Go through windows in order, first with a limit for each image and then without."""
    if count < 1 or n_images < 1:
        raise ValueError(f"count and n_images must be at least 1. Got {count} and {n_images}.")
    boxes: dict[str, list[NDArray[np.int64]]] = {}
    if taken is not None:
        for image, box in _boxes(taken):
            boxes.setdefault(image, []).append(box)
    chosen: list[int] = []
    windows = _boxes(order)
    for limit in (math.ceil(count / n_images) + 1, count + sum(map(len, boxes.values()))):
        for at, (image, box) in enumerate(windows):
            if len(chosen) == count:
                break
            there = boxes.setdefault(image, [])
            if len(there) < limit and not any(_overlap(box, other) for other in there):
                there.append(box)
                chosen.append(at)
    return order.iloc[chosen]


def _boxes(windows: pd.DataFrame) -> list[tuple[str, NDArray[np.int64]]]:
    corners = windows[["y0", "x0", "y1", "x1"]].to_numpy(np.int64).reshape(-1, 4)
    return list(zip(windows["image"].astype(str), corners, strict=True))


def _overlap(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return bool((one[:2] < other[2:]).all() and (other[:2] < one[2:]).all())


def _spread(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the standard deviation of each column, 1 where it does not vary."""
    spread = features.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
