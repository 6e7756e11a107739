"""Choose the windows in which most is settled for each object outlined; see `open_objects`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans

from oce2stardist.errors import InputError
from oce2stardist.suggestion.open_objects import AGREED_WEIGHT

_DIAMETERS = 5.0
"""Side of a window in median diameters: a few dozen cells at most, a few minutes of outlining."""

_SMALLEST_WINDOW = 8

_UNSURE = 0.5 * AGREED_WEIGHT
"""An object which both sides found is called unsure from this weight on."""

_GETTING_THERE = 5.0
"""Finding a window and reading it costs about as much as outlining this many objects, so that
one doubtful object alone in a window is worth less than several."""

_MOST_KNOWN = 0.5
"""Share of known pixels from which a window counts as annotated already."""

_COUNTS = ("n_model_only", "n_pseudo_only", "n_nearly_found", "n_unsure")


def window_side(objects: Sequence[pd.DataFrame]) -> int:
    """Choose the side of windows, in pixels, from the objects of all images; 128 without any."""
    areas = np.concatenate([rows["area"].to_numpy(float) for rows in objects] or [np.empty(0)])
    if areas.size == 0:
        return 128
    diameter = float(np.median(np.sqrt(4 * areas / np.pi)))
    return max(_SMALLEST_WINDOW, round(_DIAMETERS * diameter))


def propose_windows(
    objects: pd.DataFrame,
    shape: tuple[int, int],
    *,
    window: int,
    known: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Score a window around every object of one image, as `compare_objects` lists them.

    They overlap, and measure `window` pixels a side; images that are smaller are one window.
    `known` marks annotated pixels (Y, X).

    Returns
    -------
    DataFrame
        ``y0``, ``x0``, ``y1``, ``x1`` (pixels; ``image[y0:y1, x0:x1]``); ``is_open``, unless
        more than half is annotated; ``score``; ``n_objects``, ``n_model``, ``n_pseudo``,
        ``n_disagree``; ``n_model_only`` and so on, counts of each reason; ``mean_confidence``;
        ``mean_log_area``.

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
    features = _features(objects)
    added = _inside(corners, sides, centroids) @ features.to_numpy(float)
    sums = pd.DataFrame(added, columns=features.columns)
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


def choose_windows(candidates: pd.DataFrame, *, count: int, n_images: int) -> pd.DataFrame:
    """Take the best windows of all images, none overlapping another.

    Of `candidates`, which `propose_windows` returns for each image, with its name as ``image``, at
    most `count` are taken, the highest score first, and those of score 0 never. Of `n_images` that
    were looked at no more than ``ceil(count / n_images) + 1`` windows are taken of one, unless the
    others have none left.
    """
    useful = candidates[candidates["score"] > 0]
    order = useful.sort_values(["score", "image", "y0", "x0"], ascending=[False, True, True, True])
    chosen = _take(order, count=count, n_images=n_images, taken=None)
    return chosen.sort_values(["score", "image", "y0", "x0"], ascending=[False, True, True, True])


def choose_typical_windows(
    candidates: pd.DataFrame, *, count: int, n_images: int, taken: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Take windows that stand for many others: the middles of groups of alike ones.

    Windows are grouped by how many objects they hold, how large these are and how sure, with
    k-means into `count` groups; of each the window nearest to its middle is taken, the largest
    group first, with the share of all candidates in it as ``stands_for``. The parameters are those
    of `choose_windows`; windows must not overlap those `taken` before either.
    """
    if candidates.empty:
        return candidates.assign(stands_for=np.empty(0))
    columns = ["n_objects", "mean_log_area", "mean_confidence"]
    features = candidates[columns].fillna(0.0).to_numpy(float)
    spread = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    groups = min(count, len(np.unique(features, axis=0)))
    means = KMeans(groups, n_init=4, random_state=0).fit(features)
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
    columns = np.concatenate([np.asarray(points_held, np.int64) for points_held in held])
    rows = np.repeat(np.arange(len(corners)), [len(points_held) for points_held in held])
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
