"""Judge a StarDist model on annotated cells that it does not train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oce2stardist.evaluation.held_back import (
    Counts,
    Window,
    count_matches,
    find_windows,
    mean_f1,
    nearest_to_default_among_best,
    standard_error,
)
from oce2stardist.labels import Image, Labels

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D
    from oce2stardist.stardist_model.predict import RawPrediction
    from oce2stardist.stardist_model.volume_network import SparseStarDist3D
    from oce2stardist.stardist_model.volume_predict import RawVolume

    Network = SparseStarDist2D | SparseStarDist3D
    Raw = RawPrediction | RawVolume

DEFAULT_THRESHOLDS = (0.5, 0.4)
"""StarDist's, of probability and of suppression."""

_CHECKED_PROBS = (0.3, 0.4, 0.5, 0.6, 0.7)
_FINAL_PROBS = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
_FINAL_NMS = (0.3, 0.4, 0.5)
_MOST_WINDOWS = 64
"""Cells that a check looks at, drawn from more: with thousands more would tell no more."""


class Judge:
    """Score a model on annotated cells that it does not train on.

    Parameters
    ----------
    images : dict of float32 arrays of shape (Y, X, C) or (Z, Y, X, C)
        Normalised, by stem.
    known : dict of int32 arrays of shape (Y, X) or (Z, Y, X)
        Held-back cells and their background, -1 elsewhere.
    multiple : int or one for each axis
        Pixels of which the sides of the network's input must be multiples.
    """

    def __init__(
        self,
        images: dict[str, Image],
        known: dict[str, Labels],
        *,
        multiple: int | tuple[int, ...],
        seed: int,
    ) -> None:
        self.windows = find_windows(known, multiple_of=multiple, at_most=_MOST_WINDOWS, seed=seed)
        self._seed = seed
        self._patches = [window.cut(images[window.stem]) for window in self.windows]

    def predict(self, model: "Network") -> Sequence["Raw"]:
        """Run the network on every window."""
        return model.predict_patches(self._patches)

    def score(self, model: "Network") -> tuple[float, float]:
        """Return mean F1 at the best of a few probability thresholds, and its standard error."""
        raws, grid = self.predict(model), model.config.grid
        counts = _count_grid(self.windows, raws, _CHECKED_PROBS, DEFAULT_THRESHOLDS[1:], grid=grid)
        best = max(counts, key=mean_f1)
        return mean_f1(best), standard_error(best, seed=self._seed)


def _count_grid(
    windows: Sequence[Window],
    raws: Sequence["Raw"],
    probs: Sequence[float],
    nms: Sequence[float],
    *,
    grid: Sequence[int],
) -> NDArray[np.int64]:
    """Match the predictions with the annotated cells at every pair of thresholds.

    Returns an array of shape (probs * nms, windows, IoUs, 3), as `count_matches` counts.
    """
    counts = [
        [
            _count_at(window, raw, probs, nms_thresh=nms_thresh, grid=grid)
            for window, raw in zip(windows, raws, strict=True)
        ]
        for nms_thresh in nms
    ]
    by_pair = np.moveaxis(np.array(counts), 2, 0)  # (probs, nms, windows, IoUs, 3)
    return by_pair.reshape(-1, *by_pair.shape[2:])


def _count_at(
    window: Window,
    raw: "Raw",
    probs: Sequence[float],
    *,
    nms_thresh: float,
    grid: Sequence[int],
) -> list[NDArray[np.int64]]:
    """Match one window's objects at each probability threshold; equal ones are drawn once."""
    objects = raw.suppress(grid=grid, prob_thresh=min(probs), nms_thresh=nms_thresh)
    by_number: dict[int, NDArray[np.int64]] = {}
    counts = []
    for prob in probs:
        number = int((objects.prob >= prob).sum())
        if number not in by_number:
            labels = raw.draw(objects, prob_thresh=prob)
            by_number[number] = count_matches([window], [labels])[0]
        counts.append(by_number[number])
    return counts


@dataclass(frozen=True)
class Verdict:
    """The thresholds that were chosen on annotated cells, and how the cells were matched there."""

    prob_thresh: float
    nms_thresh: float
    counts: Counts | None  # None where there was no cell to judge by
    windows: Sequence[Window] = ()  # of the cells, as the network sees them


def judge_thresholds(
    windows: Sequence[Window],
    raws: Sequence["Raw"],
    *,
    grid: Sequence[int],
    usual: tuple[float, float],
    seed: int,
) -> Verdict:
    """Choose both thresholds by the mean F1 of the windows' cells.

    Of those that the cells can't tell from the best, the ones nearest to the `usual`, of
    probability and of suppression.
    """
    if not windows:
        return Verdict(*usual, None)
    counts = _count_grid(windows, raws, _FINAL_PROBS, _FINAL_NMS, grid=grid)
    pairs = list(product(_FINAL_PROBS, _FINAL_NMS))

    def distance(index: int) -> float:
        return sum(abs(one - other) for one, other in zip(pairs[index], usual, strict=True))

    order = sorted(range(len(pairs)), key=distance)
    chosen = nearest_to_default_among_best(counts, order, seed=seed)
    return Verdict(*pairs[chosen], counts[chosen], windows)


def count_at_defaults(
    model: "SparseStarDist2D", windows: Sequence[Window], patches: Sequence[Image]
) -> Counts:
    """Match what a model finds at its own thresholds with the annotated cells."""
    from oce2stardist.stardist_model.predict import predict_patches

    thresholds = model.thresholds.prob, model.thresholds.nms
    raws = predict_patches(model, patches)
    return count_predicted(windows, raws, thresholds=thresholds, grid=model.config.grid)


def count_predicted(
    windows: Sequence[Window],
    raws: Sequence["Raw"],
    *,
    thresholds: tuple[float, float],
    grid: Sequence[int],
) -> Counts:
    """Match what is found at thresholds of probability and suppression with the windows' cells."""
    prob, nms = thresholds
    return _count_grid(windows, raws, (prob,), (nms,), grid=grid)[0]
