"""Sentences about small tables whose answer is plain."""

import numpy as np
import pandas as pd
import pytest

from oce2stardist.experiments.answers import (
    answer,
    answer_fractions,
    answer_scales,
    answer_unsupervised,
)

CELLS = {0.0025: 23, 0.01: 93, 0.1: 930, 1.0: 9297}


def row(f1, *, method="finetune", repeats=3, sd=0.002, **setting):
    return {
        "study": "fractions", "data_set": "nuclei", "method": method, "fraction": np.nan,
        "cells": np.nan, "alpha": np.nan, "scale": np.nan, "oracle": method == "oracle",
        "group": "(all)", "repeats": repeats, "f1_mean": f1,
        "f1_sd": sd if repeats > 1 else np.nan, "seg_mean": 0.8, "seg_sd": np.nan,
    } | setting  # fmt: skip


def curve(alpha, *scores, **setting):
    return [
        row(f1, fraction=fraction, cells=cells, alpha=alpha, **setting)
        for f1, (fraction, cells) in zip(scores, CELLS.items(), strict=False)
    ]


def fractions(*parts, results=None):
    return answer_fractions(pd.DataFrame([r for part in parts for r in part]), results)


def said(sentences, *words):
    """The one sentence with these words."""
    found = [sentence for sentence in sentences if all(word in sentence for word in words)]
    assert len(found) == 1, sentences
    return found[0]


def test_a_plateau_begins_at_the_first_number_that_all_larger_ones_equal():
    sentence = said(fractions(curve(0, 0.900, 0.931, 0.936, 0.940)), "beyond")
    assert sentence == (
        "Alpha 0: beyond 93 cells, annotating more (up to 9,297) changes F1 by less than 0.01: "
        "0.931 there, 0.940 with most (3 runs each, sd up to 0.002)."
    )


def test_a_plateau_does_not_hide_a_bump_between():
    # 0.930 and 0.935 are near the last; from the lower to the higher more changes by 0.014
    sentence = said(fractions(curve(0, 0.900, 0.928, 0.942, 0.935)), "beyond")
    assert "beyond 930 cells" in sentence


def test_a_plateau_of_exactly_the_limit_is_none():
    sentence = said(fractions(curve(0, 0.80, 0.85, 0.90, 0.91)), "Alpha 0")
    assert "from 930 to 9,297 cells F1 still changes by +0.010" in sentence
    assert "can't be said" in sentence


def test_one_number_of_cells_has_no_plateau():
    sentence = said(fractions(curve(0, 0.9, repeats=1)), "Alpha 0")
    assert "one number of cells can't say" in sentence


def test_repeats_that_vary_by_the_limit_are_said():
    sentence = said(fractions(curve(0, 0.90, 0.931, 0.936, 0.940, sd=0.012)), "beyond")
    assert sentence.endswith("(3 runs each, sd up to 0.012), so repeats differ by as much.")


def test_one_run_each_is_said_in_every_sentence():
    sentences = fractions(
        curve(0, 0.9, 0.92, 0.93, 0.94, repeats=1), curve(0.5, 0.93, 0.94, 0.94, 0.94, repeats=1)
    )
    assert all("(one run each)" in sentence for sentence in sentences)


def test_a_saving_compares_the_smallest_numbers_that_do():
    sentences = fractions(curve(0, 0.90, 0.92, 0.938, 0.940), curve(0.5, 0.936, 0.94, 0.94, 0.94))
    assert said(sentences, "With pseudo labels", "do what") == (
        "With pseudo labels (alpha 0.5), 23 cells do what 930 do without: F1 0.936 and 0.938, "
        "the best without is 0.940 with 9,297 cells (3 runs each, sd up to 0.002)."
    )


def test_no_saving_is_said():
    alone = curve(0, 0.90, 0.938, 0.94, 0.94)
    same = fractions(alone, curve(0.5, 0.90, 0.938, 0.94, 0.94))
    assert "as many cells are needed as without, 93 of those tried" in said(same, "needed")
    later = fractions(alone, curve(0.5, 0.90, 0.93, 0.94, 0.94))
    assert "930 cells are needed to do what 93 do without" in said(later, "needed")
    never = fractions(alone, curve(0.5, 0.90, 0.91, 0.92, 0.93))
    assert "stays more than 0.005 below the best without" in said(never, "stays")
    assert "at most 0.930" in said(never, "stays")


def test_gains_are_those_at_each_number_of_cells():
    sentences = fractions(curve(0, 0.90, 0.92), curve(0.5, 0.914, 0.918))
    assert said(sentences, "change F1 by") == (
        "Pseudo labels (alpha 0.5) change F1 by +0.014 at 23 cells and -0.002 at 93 cells "
        "(3 runs each)."
    )


def test_gains_have_the_deviation_of_differences_seed_by_seed():
    pooled = {"data_set": "nuclei", "method": "finetune", "image": "(all)", "group": "(all)"}
    f1 = {0.0: [0.90, 0.80, 0.70], 0.5: [0.91, 0.82, 0.73]}
    results = pd.DataFrame(
        [
            pooled | {"fraction": 0.0025, "alpha": alpha, "seed": seed, "f1": value}
            for alpha, values in f1.items()
            for seed, value in enumerate(values)
        ]
    )
    summary = curve(0, 0.80, sd=0.1), curve(0.5, 0.82, sd=0.09)
    assert "+0.020 ± 0.010 at 23 cells" in said(fractions(*summary, results=results), "change")
    single = results[results["seed"] == 0]
    assert "±" not in said(fractions(*summary, results=single), "change")


def test_losses_are_named_where_they_are():
    alone = curve(0, 0.90, 0.92, 0.94, 0.95)
    fine = fractions(alone, curve(0.5, 0.93, 0.93, 0.935, 0.945))
    assert "nowhere lower than without by more than 0.005" in said(fine, "nowhere")
    harm = fractions(alone, curve(0.5, 0.93, 0.93, 0.93, 0.93))
    assert "is lower than without by 0.010 at 930 cells and 0.020 at 9,297 cells" in said(
        harm, "is lower"
    )


def test_without_alpha_0_nothing_is_compared():
    sentences = fractions(curve(0.5, 0.9, 0.93, 0.935, 0.936))
    assert len(sentences) == 1 and "beyond 93 cells" in sentences[0]


def test_pseudo_labels_alone_have_a_sentence():
    pseudo = [row(0.926, method="pseudo", fraction=0, cells=0, alpha=1, repeats=1)]
    sentence = said(fractions(curve(0, 0.9, 0.93), pseudo), "alone")
    assert sentence == (
        "Pseudo labels alone, without an annotated cell, have F1 0.926 (one run each)."
    )


def test_data_sets_are_named_where_there_are_several():
    sentences = fractions(curve(0, 0.9, 0.93), curve(0, 0.8, 0.81, data_set="tissue"))
    assert [sentence.split(":")[0] for sentence in sentences] == ["nuclei", "tissue"]


def test_trainings_that_failed_claim_nothing():
    assert fractions(curve(0, np.nan, np.nan)) == ["No training has a score."]


def test_the_best_method_and_its_wins():
    table = [
        row(0.92, method="pseudo", repeats=1), row(0.90, method="stardist", repeats=1),
        row(0.99, method="oracle", repeats=1),
        row(0.70, method="pseudo", data_set="tissue"),
        row(0.81, method="stardist", data_set="tissue"),
        row(0.81, method="classical", data_set="tissue"),
        row(np.nan, method="cellpose", data_set="tissue"),
    ]  # fmt: skip
    assert answer_unsupervised(pd.DataFrame(table)) == [
        "nuclei: pseudo is best, F1 0.920; next stardist, 0.900 (one run each).",
        "nuclei: the oracle, which looks at the truth and takes no part, has F1 0.990.",
        "tissue: cellpose has no score.",
        "tissue: stardist and classical share the first place, F1 0.810; next pseudo, 0.700 "
        "(3 runs each, sd up to 0.002).",
        "Highest F1, of 2 data sets: classical on 1, pseudo on 1 and stardist on 1.",
    ]


def test_a_method_without_rival_wins_nothing():
    table = [row(0.9, method="pseudo"), row(np.nan, method="stardist")]
    assert "pseudo is the only method with a score" in answer_unsupervised(pd.DataFrame(table))[1]
    none = answer_unsupervised(pd.DataFrame([row(np.nan, method="stardist")]))
    assert none == ["nuclei: stardist has no score.", "nuclei: no method has a score."]


def scales(*scores, first=0.5, step=0.25, **setting):
    return pd.DataFrame(
        [
            row(f1, method="pseudo", scale=first + step * at, **setting)
            for at, f1 in enumerate(scores)
        ]
    )


def test_the_best_scale_and_the_range_around_it():
    assert answer_scales(scales(0.89, 0.90, 0.92, 0.91, 0.89, repeats=1)) == [
        "Best at scale 1 with F1 0.920; from scale 0.75 to 1.25 F1 is at most 0.02 lower; "
        "lowest 0.890 at 0.5 (one run each)."
    ]


def test_a_range_ends_where_f1_first_falls():
    (sentence,) = answer_scales(scales(0.915, 0.80, 0.92, 0.80, 0.915))
    assert "the scales beside it are more than 0.02 lower" in sentence


def test_a_best_scale_at_the_edge_may_not_be_the_best():
    (sentence,) = answer_scales(scales(0.80, 0.85, 0.90))
    assert sentence.endswith("It is the largest that was tried: the best may lie beyond.")
    assert "the only one tried" in answer_scales(scales(0.8))[0]


def test_answer_chooses_by_study():
    assert answer("scales", scales(0.8, 0.9)) == answer_scales(scales(0.8, 0.9))
    table = pd.DataFrame(curve(0, 0.9, 0.93))
    assert answer("fractions", table) == answer_fractions(table)
    assert answer("unsupervised", table) == answer_unsupervised(table)
    with pytest.raises(ValueError, match=r"study must be fractions.* Got 'sizes'"):
        answer("sizes", table)


def test_another_group_has_answers_of_its_own():
    table = pd.DataFrame(curve(0, 0.9, 0.93) + curve(0, 0.5, 0.501, group="skin"))
    (sentence,) = answer_fractions(table, group="skin")
    assert "beyond 23 cells" in sentence and "0.501" in sentence
