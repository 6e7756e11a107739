"""What more cells would bring: a known curve is found again, and its doubt is honest."""

from itertools import pairwise

import numpy as np
import pytest

from oce2stardist.evaluation.held_back import IOUS
from oce2stardist.evaluation.learning_curve import Step, fit_learning_curve


def counts(found):
    """Cells found or missed, with no false positive."""
    found = np.asarray(found, bool)
    each = np.stack([found, np.zeros_like(found), ~found], axis=-1).astype(np.int64)
    return np.repeat(each[:, None], len(IOUS), axis=1)


def share_found(f1):
    """Recall that gives this F1 where nothing false is found."""
    return f1 / (2 - f1)


def curve_steps(n_judges, rng, *, floor=0.05, slope=0.8, exponent=0.5, sizes=(10, 20, 40)):
    """Draw steps along F1 = 1 - floor - slope * n ** -exponent."""
    luck = rng.random((len(sizes), n_judges))
    f1 = [1 - floor - slope * n**-exponent for n in sizes]
    return [
        Step(fewer, more, *(counts(lucky < share_found(one)) for one in ends))
        for fewer, more, lucky, ends in zip(sizes, sizes[1:], luck, pairwise(f1), strict=False)
    ]


def test_a_known_curve_is_continued():
    steps = curve_steps(1500, np.random.default_rng(0))
    gain, low, high = fit_learning_curve(steps, seed=0).gain(80)
    true = 0.8 * (40**-0.5 - 80**-0.5)
    assert low < true < high and high - low < 0.06
    assert gain == pytest.approx(true, abs=0.015)


def test_nine_of_ten_intervals_hold_the_truth_or_more():
    rng, true = np.random.default_rng(1), 0.8 * (40**-0.5 - 80**-0.5)
    hits = 0
    for _ in range(30):
        _, low, high = fit_learning_curve(curve_steps(30, rng), seed=0).gain(80)
        hits += low <= true <= high
    assert hits >= 25


def test_a_flat_curve_promises_nothing_and_cells_that_agree_leave_a_doubt():
    found = counts([True] * 18 + [False] * 2)
    steps = [Step(8, 16, found, found), Step(16, 32, found, found)]
    gain, low, high = fit_learning_curve(steps, seed=0).gain(64)
    assert abs(gain) < 0.005 and low < -0.005 and high > 0.005


def test_few_judges_say_less_than_many():
    widths = []
    for n in (8, 200):
        found = counts([True] * n)
        _, low, high = fit_learning_curve([Step(16, 32, found, found)], seed=0).gain(64)
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]


def test_nothing_is_promised_above_1():
    every, none = counts([True] * 30), counts([False] * 30)
    curve = fit_learning_curve([Step(8, 16, none, every)], seed=0)
    assert curve.gain(1000)[2] <= 1 - curve.last.min()
    assert curve.f1 == (0.0, 1.0) and curve.cells == (8, 16)


def test_the_points_of_the_curve_differ_by_the_steps_on_the_cells_that_both_judged():
    hard, easy = counts([True, False, False, False]), counts([True, True, True, False])
    steps = [Step(5, 10, hard, easy), Step(10, 20, easy[:3], easy[:3])]
    # of the last cells all are found: 1; before, F1 was lower by that of 3 found of 4 (6/7) less
    # that of 1 found of 4 (2/5)
    assert fit_learning_curve(steps, seed=0).f1 == pytest.approx((1 - (6 / 7 - 2 / 5), 1.0, 1.0))


def test_the_same_seed_tells_the_same():
    steps = curve_steps(20, np.random.default_rng(3))
    assert fit_learning_curve(steps, seed=5).gain(80) == fit_learning_curve(steps, seed=5).gain(80)


@pytest.mark.parametrize("steps", [[], [Step(4, 8, counts([]), counts([]))]])
def test_steps_that_nobody_judged_are_refused(steps):
    with pytest.raises(ValueError, match="every step must be judged by cells"):
        fit_learning_curve(steps, seed=0)
