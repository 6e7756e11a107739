"""Verdicts on a run: each complaint by itself, and none where all is well."""

import numpy as np
import pytest

from oce2stardist.pseudo_labels.trust import (
    LEAST_AGREEMENT,
    LEAST_F1,
    LEAST_SEPARATION,
    judge_trust,
)

GOOD = {
    "separation": 0.9,
    "confidences": np.full(20, 0.9),
    "diameters": np.linspace(20, 28, 20),
    "annotated_f1": 0.9,
}


def test_nothing_speaks_against_good_labels():
    trust = judge_trust(**GOOD)
    assert trust.trusted
    assert trust.complaints == ()
    assert trust.measures == pytest.approx(
        {"separation": 0.9, "agreement": 0.9, "alike": 1.0, "F1 on annotated cells": 0.9}
    )
    assert trust.verdict.startswith("nothing speaks against these labels (separation 0.90, ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"separation": 0.3}, f"(separation 0.30, below {LEAST_SEPARATION:g})"),
        ({"confidences": np.full(20, 0.5)}, f"(mean agreement 0.50, below {LEAST_AGREEMENT:g})"),
        (  # the median is 20, and 8 of 20 lie between 13.3 and 30
            {"diameters": np.repeat([5.0, 20.0, 60.0], [6, 8, 6])},
            "(40% are within a factor of 1.5 of the median, below 50%)",
        ),
        ({"diameters": np.empty(0), "confidences": np.empty(0)}, "no object was found"),
        ({"annotated_f1": 0.2}, f"F1 on the annotated cells is 0.20, below {LEAST_F1:g}"),
    ],
    ids=["separation", "agreement", "size", "nothing", "annotations"],
)
def test_one_bad_measure_is_one_complaint(changes, words):
    trust = judge_trust(**GOOD | changes)
    assert not trust.trusted
    (complaint,) = trust.complaints
    assert words in complaint
    assert trust.verdict == (
        f"these pseudo labels can't be trusted: {complaint}. "
        "Look at the report before you train on them"
    )


def test_several_complaints_are_all_said():
    trust = judge_trust(**GOOD | {"separation": 0.0, "annotated_f1": 0.0})
    assert len(trust.complaints) == 2
    assert all(complaint in trust.verdict for complaint in trust.complaints)


BAD = GOOD | {"separation": 0.3, "confidences": np.full(20, 0.5)}


def test_enough_annotated_cells_that_are_found_overrule_what_other_measures_guess():
    trust = judge_trust(**BAD | {"annotated_f1": 0.95}, annotated_cells=20)
    assert trust.trusted
    assert len(trust.overruled) == 2
    assert trust.verdict.startswith("annotated cells speak for these labels (separation 0.30, ")
    assert "F1 on annotated cells 0.95" in trust.verdict


@pytest.mark.parametrize(("f1", "cells"), [(0.95, 4), (0.55, 20)], ids=["few cells", "middling"])
def test_few_or_half_convincing_cells_overrule_nothing(f1, cells):
    trust = judge_trust(**BAD | {"annotated_f1": f1}, annotated_cells=cells)
    assert not trust.trusted
    assert len(trust.complaints) == 2


@pytest.mark.parametrize(
    ("given", "measure"),
    [("annotated_f1", "F1 on annotated cells"), ("separation", "separation")],
)
def test_what_can_not_be_measured_is_no_complaint(given, measure):
    trust = judge_trust(**GOOD | {given: None})
    assert trust.trusted
    assert measure not in trust.measures


@pytest.mark.parametrize("unit", [0.1, 1.0, 30.0])
def test_the_unit_of_the_diameters_does_not_matter(unit):
    diameters = unit * np.random.default_rng(0).lognormal(3.0, 0.5, 200)
    measures = judge_trust(**GOOD | {"diameters": diameters, "confidences": np.ones(200)}).measures
    # Of a lognormal of width 0.5, P(|z| < ln(1.5) / 0.5) = 0.583 lies within 1.5 of the median.
    assert measures["alike"] == pytest.approx(0.583, abs=0.08)
