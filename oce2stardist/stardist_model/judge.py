"""How good a StarDist model is on annotated cells that it does not train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
    from oce2stardist.stardist_model.predict import Polygons, RawPrediction

DEFAULT_THRESHOLDS = (0.5, 0.4)
"""StarDist's, of probability and of suppression; kept where the cells can't tell better ones."""

_CHECKED_PROBS = (0.3, 0.4, 0.5, 0.6, 0.7)
_FINAL_PROBS = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
_FINAL_NMS = (0.3, 0.4, 0.5)
_MOST_WINDOWS = 64
"""Cells that a check looks at: with thousands of annotated cells more would tell no more."""


class Judge:
    """Scores a model on annotated cells that it does not train on.

    Parameters
    ----------
    images : dict of float32 arrays of shape (Y, X, C)
        Normalised, by stem.
    known : dict of int32 arrays of shape (Y, X)
        Held-back cells and their background, -1 elsewhere.
    multiple_of : int
        That the network wants its input's sides to be.
    seed : int
        Draws the cells that are looked at, where there are more than 64.
    """

    def __init__(
        self,
        images: dict[str, Image],
        known: dict[str, Labels],
        *,
        multiple_of: int,
        seed: int,
    ) -> None:
        self.windows = find_windows(
            known, multiple_of=multiple_of, at_most=_MOST_WINDOWS, seed=seed
        )
        self._seed = seed
        self._patches = [one.cut(images[one.stem]) for one in self.windows]

    def predict(self, model: "SparseStarDist2D") -> list["RawPrediction"]:
        """Run the network on every window."""
        from oce2stardist.stardist_model.predict import predict_patches

        return predict_patches(model, self._patches)

    def score(self, model: "SparseStarDist2D") -> tuple[float, float]:
        """Return the mean F1 over IoU 0.5 to 0.9 at the best of a few probability thresholds.

        And its standard error.
        """
        counts = count_grid(
            self.windows,
            self.predict(model),
            _CHECKED_PROBS,
            DEFAULT_THRESHOLDS[1:],
            grid=model.config.grid,
        )
        best = max((one for row in counts for one in row), key=mean_f1)
        return mean_f1(best), standard_error(best, seed=self._seed)


def count_grid(
    windows: Sequence[Window],
    raws: Sequence["RawPrediction"],
    probs: Sequence[float],
    nms: Sequence[float],
    *,
    grid: Sequence[int],
) -> list[list[Counts]]:
    """Match the predictions with the annotated cells at every pair of thresholds."""
    from oce2stardist.stardist_model.predict import suppress

    columns = []
    for nms_thresh in nms:
        by_window = [
            _count_at(
                window,
                suppress(raw, grid=grid, prob_thresh=min(probs), nms_thresh=nms_thresh),
                probs,
            )
            for window, raw in zip(windows, raws, strict=True)
        ]
        columns.append([np.concatenate(one) for one in zip(*by_window, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def _count_at(window: Window, polygons: "Polygons", probs: Sequence[float]) -> list[Counts]:
    """Match one window's polygons at each threshold; equal ones are drawn once."""
    from oce2stardist.stardist_model.predict import draw_polygons

    by_number: dict[int, Counts] = {}
    counts = []
    for prob in probs:
        number = int((polygons.prob >= prob).sum())
        if number not in by_number:
            labels = draw_polygons(polygons, prob_thresh=prob)
            by_number[number] = count_matches([window], [labels])
        counts.append(by_number[number])
    return counts


@dataclass(frozen=True)
class Verdict:
    """The thresholds that were chosen on annotated cells, and how the cells were matched there.

    ``counts`` is None where there was no cell to judge by.
    """

    prob_thresh: float
    nms_thresh: float
    counts: Counts | None


def judge_thresholds(
    windows: Sequence[Window], raws: Sequence["RawPrediction"], *, grid: Sequence[int], seed: int
) -> Verdict:
    """Choose both thresholds by the mean F1 of the windows' cells.

    Of those that the cells can't tell from the best, the ones nearest to StarDist's defaults.
    """
    if not windows:
        return Verdict(*DEFAULT_THRESHOLDS, None)
    rows = count_grid(windows, raws, _FINAL_PROBS, _FINAL_NMS, grid=grid)
    pairs = [(prob, nms) for prob in _FINAL_PROBS for nms in _FINAL_NMS]
    counts = [one for row in rows for one in row]
    prob_default, nms_default = DEFAULT_THRESHOLDS

    def distance(index: int) -> float:
        prob, nms = pairs[index]
        return abs(prob - prob_default) + abs(nms - nms_default)

    order = sorted(range(len(pairs)), key=distance)
    chosen = nearest_to_default_among_best(np.array(counts), order, seed=seed)
    return Verdict(*pairs[chosen], counts[chosen])
