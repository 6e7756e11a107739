"""Sentences about small tables whose answer is plain."""

import numpy as np
import pandas as pd
import pytest
from experiment_folders import summary_row

from oce2stardist.experiments.answers import answer

CELLS = {0.0025: 23, 0.01: 93, 0.1: 930, 1.0: 9297}


def row(f1, *, data_set="nuclei", repeats=3, **setting):
    sd = 0.002 if repeats > 1 else np.nan
    return summary_row(f1_mean=f1, data_set=data_set, repeats=repeats, f1_sd=sd, **setting)


def curve(alpha, *scores, **setting):
    setting |= {"method": "finetune", "alpha": alpha}
    places = zip(scores, CELLS.items(), strict=False)
    return [row(f1, fraction=share, cells=cells, **setting) for f1, (share, cells) in places]


def fractions(*parts):
    return answer("fractions", pd.DataFrame([r for part in parts for r in part]))


def saving(*scores):
    """What is said of these scores with pseudo labels, beside 0.938 with 93 cells without."""
    return fractions(curve(0, 0.90, 0.938, 0.94, 0.94), curve(0.5, *scores))[1]


def test_a_plateau_begins_at_the_first_number_that_all_larger_ones_equal():
    assert fractions(curve(0, 0.900, 0.931, 0.936, 0.940)) == [
        "Alpha 0: beyond 93 cells, annotating more (up to 9,297) changes F1 by less than 0.01: "
        "0.931 there, 0.940 with most (3 runs each, sd up to 0.002)."
    ]


def test_a_plateau_does_not_hide_a_bump_between():
    # 0.930 and 0.935 are near the last; from the lower to the higher more changes by 0.014
    assert "beyond 930 cells" in fractions(curve(0, 0.900, 0.928, 0.942, 0.935))[0]


@pytest.mark.parametrize("scores", [(0.80, 0.85, 0.90, 0.91), (0.9,)])
def test_the_last_number_of_cells_or_an_only_one_is_no_plateau(scores):
    (sentence,) = fractions(curve(0, *scores, repeats=1))
    assert "whether more would help can't be said (one run each)" in sentence


def test_a_saving_compares_the_smallest_numbers_that_do():
    sentences = fractions(curve(0, 0.90, 0.92, 0.938, 0.940), curve(0.5, 0.936, 0.94, 0.94, 0.94))
    assert sentences[1] == (
        "With pseudo labels (alpha 0.5), 23 cells do what 930 do without: F1 0.936 and 0.938, "
        "the best without is 0.940 (3 runs each, sd up to 0.002)."
    )


def test_no_saving_is_said():
    assert "93 cells do what 93 do without" in saving(0.90, 0.938, 0.94, 0.94)
    assert "930 cells do what 93 do without" in saving(0.90, 0.93, 0.94, 0.94)
    never = saving(0.90, 0.91, 0.92, 0.93)
    assert "stays more than 0.005 below the best without, 0.940: at most 0.930" in never


def test_without_alpha_0_nothing_is_compared():
    (sentence,) = fractions(curve(0.5, 0.9, 0.93, 0.935, 0.936))
    assert "beyond 93 cells" in sentence


def test_data_sets_are_named_where_there_are_several():
    sentences = fractions(curve(0, 0.9, 0.93), curve(0, 0.8, 0.81, data_set="tissue"))
    assert [sentence.split(":")[0] for sentence in sentences] == ["nuclei", "tissue"]


def test_trainings_that_failed_claim_nothing():
    failed = curve(0, np.nan, np.nan)
    assert fractions(failed) == ["Nothing has a score."]
    assert fractions(failed, [row(0.9)]) == ["No training has a score."]


def test_the_best_method_and_its_wins():
    nuclei = {"pseudo": 0.92, "stardist": 0.90, "oracle": 0.99}
    tissue = {"pseudo": 0.70, "stardist": 0.81, "classical": 0.81, "cellpose": np.nan}
    table = [row(f1, method=method, repeats=1) for method, f1 in nuclei.items()]
    table += [row(f1, method=method, data_set="tissue") for method, f1 in tissue.items()]
    assert answer("unsupervised", pd.DataFrame(table)) == [
        "nuclei: pseudo is best, F1 0.920; next stardist, 0.900 (one run each).",
        "tissue: stardist and classical share the first place, F1 0.810; next pseudo, 0.700 "
        "(3 runs each, sd up to 0.002).",
        "Highest F1, of 2 data sets: pseudo on 1, stardist on 1 and classical on 1.",
    ]


def scales(*scores, **setting):
    rows = [row(f1, scale=0.5 + at / 4, **setting) for at, f1 in enumerate(scores)]
    return answer("scales", pd.DataFrame(rows))


def test_the_best_scale_and_the_range_around_it():
    assert scales(0.89, 0.90, 0.92, 0.91, 0.89, repeats=1) == [
        "Best at scale 1 with F1 0.920 (one run each).",
        "From scale 0.75 to 1.25 F1 is at most 0.02 lower; lowest 0.890 at 0.5.",
    ]


def test_a_range_ends_where_f1_first_falls():
    assert "From scale 1 to 1 F1" in scales(0.915, 0.80, 0.92, 0.80, 0.915)[1]


def test_a_best_scale_at_the_edge_may_not_be_the_best():
    assert scales(0.80, 0.85, 0.90)[0].endswith("those tried: the best may lie beyond.")


def test_an_unknown_study_is_refused():
    with pytest.raises(ValueError, match=r"study must be fractions.* Got 'sizes'"):
        answer("sizes", pd.DataFrame())


def test_images_of_another_group_take_no_part():
    alone = curve(0, 0.9, 0.93)
    assert fractions(alone, curve(0, 0.5, 0.501, group="skin")) == fractions(alone)
