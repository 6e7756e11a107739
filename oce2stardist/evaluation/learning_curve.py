"""Say what more annotated cells would bring, from networks trained on fewer of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oce2stardist.evaluation.held_back import Counts

_DRAWS = 4000
"""Draws of the bootstrap, each with an exponent of its own."""

_EXPONENTS = (0.2, 1.0)
"""How fast the error falls with the number of cells n, as n ** -exponent. Three sizes can't tell
the exponent, so it is drawn evenly from here: taste, as wide as curves of small sets are steep
(Viering and Loog, "The Shape of Learning Curves", 2021)."""

_IMAGINED = 0.5
"""Cells that only the smaller training finds, and as many that only the larger finds, beside the
real ones: where all real cells agree, they leave a doubt (Agresti and Min, "Effects and non-effects
of paired identical observations", 2005)."""

_STREAM = 4  # of random numbers, beside those of `held_back`


@dataclass(frozen=True)
class Step:
    """Two trainings, the first on fewer cells, judged by the same cells.

    Attributes
    ----------
    fewer, more : int
        Cells that each was trained on, 1 <= fewer < more.
    before, after : int64 arrays of shape (cells, IoUs, 3)
        How each cell that judged was matched, as `count_matches` counts.
    """

    fewer: int
    more: int
    before: Counts
    after: Counts


@dataclass(frozen=True)
class LearningCurve:
    """F1 at IoU 0.5 over the number of cells trained on; error a * n ** -b above a floor.

    Attributes
    ----------
    cells : tuple of int
        Numbers of cells that were trained on, ascending.
    f1 : tuple of float
        At these; that of the last as measured, those before less the steps between them.
    slopes, exponents, last : float64 arrays of shape (draws,)
        a, b, and F1 with the last number of cells, of each draw of the bootstrap.
    """

    cells: tuple[int, ...]
    f1: tuple[float, ...]
    slopes: NDArray[np.float64]
    exponents: NDArray[np.float64]
    last: NDArray[np.float64]

    def gain(self, cells: int) -> tuple[float, float, float]:
        """Return the median and the 90 % interval of what training on `cells` would add to F1.

        Counted from the last of `self.cells`, and at most what is missing to 1.
        """
        gains = self.slopes * _fall(self.cells[-1], cells, self.exponents)
        low, median, high = np.percentile(np.minimum(gains, 1 - self.last), [5, 50, 95])
        return float(median), float(low), float(high)


def fit_learning_curve(steps: Sequence[Step], *, seed: int) -> LearningCurve:
    """Fit a power law with a floor to steps from fewer to more cells, with its doubt.

    Parameters
    ----------
    steps : sequence of Step
        At least one; each begins with the number of cells at which the one before ends. The cells
        of the last judge how good the training with all cells is.

    Notes
    -----
    Only differences are fitted, each on the cells that both trainings judged by, so that hard and
    easy cells cancel; steps count as they have cells. The slope may be negative: a training on
    more cells can be the poorer one by chance, and a user would see that. Bayesian bootstrap over
    cells (Rubin 1981). Which cells train is not drawn again, and cells of one image are alike, so
    the interval is rather too narrow than too wide where few images are annotated.

    Raises
    ------
    ValueError
        If there is no step, or one that no cell judged.
    """
    if not steps or any(not len(step.before) for step in steps):
        raise ValueError("every step must be judged by cells. Got none; hold some back.")
    rng = np.random.default_rng([seed, _STREAM])
    exponents = rng.uniform(*_EXPONENTS, _DRAWS)
    moment, square = np.zeros(_DRAWS), np.zeros(_DRAWS)
    differences, last = [], np.zeros(_DRAWS)
    for step in steps:
        weights = rng.standard_exponential((_DRAWS, len(step.before)))
        imagined = rng.standard_gamma(_IMAGINED, (2, _DRAWS))
        before = _f1(step.before, weights, found=imagined[0], missed=imagined[1])
        last = _f1(step.after, weights, found=imagined[1], missed=imagined[0])
        falls = _fall(step.fewer, step.more, exponents)
        moment += len(step.before) * falls * (last - before)
        square += len(step.before) * falls**2
        differences.append(_pooled(step.after) - _pooled(step.before))
    level = _pooled(steps[-1].after)
    below = np.cumsum([0.0, *differences[::-1]])[::-1]
    return LearningCurve(
        (steps[0].fewer, *(step.more for step in steps)),
        tuple(float(level - one) for one in below),
        moment / square,
        exponents,
        last,
    )


def _fall(fewer: int, more: int, exponents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tell how much n ** -exponent falls from fewer cells to more."""
    return np.asarray(float(fewer) ** -exponents - float(more) ** -exponents)


def _f1(
    counts: Counts,
    weights: NDArray[np.float64],
    *,
    found: NDArray[np.float64],
    missed: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Pool F1 at IoU 0.5 over cells that count by weight (draws, cells), and imagined ones."""
    true, false, lost = (weights @ counts[:, 0]).T  # of shape (draws,) each
    true, lost = true + found, lost + missed
    return np.asarray(2 * true / (2 * true + false + lost))


def _pooled(counts: Counts) -> float:
    true, false, lost = counts[:, 0].sum(0).tolist()
    return 2 * true / max(2 * true + false + lost, 1)
