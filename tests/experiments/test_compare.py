"""Comparing two results: known differences are drawn or counted by hand."""

import time

import numpy as np
import pandas as pd
import pytest

from oce2stardist.errors import InputError
from oce2stardist.experiments.compare import compare_results, read_results

N_TRUE = 50


def draw_rows(
    rng, *, recall=0.9, images=40, seeds=(0,), seed_sd=0.0, first=0, hardness=(0.0,), **setting
):
    """One setting: the true cells of each image are found with a chance, per image and seed."""
    rows = []
    for seed in seeds:
        shift = rng.normal(0, seed_sd)
        for at in range(first, first + images):
            chance = np.clip(recall + shift + hardness[at % len(hardness)], 0, 1)
            tp, fp = int(rng.binomial(N_TRUE, chance)), int(rng.binomial(5, 0.5))
            rows.append(
                {
                    "data_set": "drawn", "method": "finetune", "fraction": 0.01, "alpha": 0.5,
                    "scale": np.nan, "seed": seed, "image": f"image{at:03d}", "group": "",
                    "seg": 0.8 * tp / N_TRUE, "tp": tp, "fp": fp, "fn": N_TRUE - tp,
                    "n_true": N_TRUE,
                }
                | setting
            )  # fmt: skip
    return rows


def write(folder, *parts):
    folder.mkdir(exist_ok=True)
    rows = [row for part in parts for row in part]
    pooled = rows[0] | {"image": "(all)", "group": "(all)"}
    pd.DataFrame([*rows, pooled]).to_csv(folder / "results.csv", index=False)
    return folder


def compare(tmp_path, a, b, **options):
    return compare_results(write(tmp_path / "a", *a), write(tmp_path / "b", *b), **options)


def compare_one(tmp_path, a, b):
    """Compare one setting; returns its row, and the text."""
    comparison = compare(tmp_path, [a], [b])
    assert len(comparison.rows) == 1
    return comparison.rows.iloc[0], comparison.as_text()


def f1_of(rows):
    tp, fp, fn = (sum(row[name] for row in rows) for name in ("tp", "fp", "fn"))
    return 2 * tp / (2 * tp + fp + fn)


def width(row):
    return row["f1_high"] - row["f1_low"]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_scores_are_pooled_over_images_and_averaged_over_repeats(tmp_path, seeds):
    rng = np.random.default_rng(0)
    a, b = (draw_rows(rng, recall=recall, seeds=seeds, seed_sd=0.1) for recall in (0.8, 0.7))
    row, _ = compare_one(tmp_path, a, b)
    for side, rows in (("a", a), ("b", b)):
        repeats = [[own for own in rows if own["seed"] == seed] for seed in seeds]
        assert row[f"f1_{side}"] == pytest.approx(np.mean([f1_of(own) for own in repeats]))
        assert row[f"seg_{side}"] == pytest.approx(np.mean([own["seg"] for own in rows]))
        assert row[f"repeats_{side}"] == len(seeds)
    assert row["f1_difference"] == pytest.approx(row["f1_b"] - row["f1_a"])


def test_a_result_equals_itself(tmp_path):
    rows = draw_rows(np.random.default_rng(2), seeds=range(3), seed_sd=0.05)
    row, text = compare_one(tmp_path, rows, rows)
    assert row["f1_low"] == row["f1_difference"] == row["f1_high"] == 0
    assert "F1: the same. SEG: the same. |" in text


def test_a_plain_difference_is_seen_and_its_side_named(tmp_path):
    rng = np.random.default_rng(3)
    a, b = draw_rows(rng, recall=0.7), draw_rows(rng, recall=0.9)
    (there, text), (back, text_back) = compare_one(tmp_path, a, b), compare_one(tmp_path, b, a)
    assert there["f1_low"] > 0
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert len({len(line) for line in table}) == 1
    assert "drawn finetune fraction 0.01 alpha 0.5" in table[2]
    assert "F1: B is higher. SEG: B is higher. One run." in table[2]
    assert "F1: A is higher." in text_back
    assert back["f1_low"] == pytest.approx(-there["f1_high"])


def test_the_same_chance_twice_is_told_apart_one_time_in_twenty(tmp_path):
    rng = np.random.default_rng(4)
    parts = [[], []]
    for at in range(200):
        hardness = rng.normal(0, 0.1, 40)
        for side in parts:
            side.append(draw_rows(rng, hardness=hardness, data_set=f"set{at}"))
    rows = compare(tmp_path, *parts).rows
    told = ((rows["f1_low"] > 0) | (rows["f1_high"] < 0)).mean()
    assert 0.02 < told < 0.10  # standard error 0.015


def test_three_repeats_of_the_same_are_not_told_apart_more_often(tmp_path):
    rng = np.random.default_rng(21)
    options = {"recall": 0.8, "seeds": range(3), "seed_sd": 0.03}
    sets = [f"set{at}" for at in range(150)]
    parts = [[draw_rows(rng, data_set=name, **options) for name in sets] for _ in range(2)]
    rows = compare(tmp_path, *parts).rows
    assert ((rows["f1_low"] > 0) | (rows["f1_high"] < 0)).mean() < 0.09  # drawn seeds: 0.25


def test_repeats_of_other_seeds_are_unpaired(tmp_path):
    rng = np.random.default_rng(22)
    a = draw_rows(rng, seeds=range(4), seed_sd=0.02, recall=0.8)
    shifted = [row | {"seed": row["seed"] + 10} for row in a]
    same, other = (compare_one(tmp_path, a, b)[0] for b in (a, shifted))
    assert same["f1_low"] == 0
    assert other["f1_low"] < 0 < other["f1_high"]
    sd = np.std([f1_of(a[40 * at : 40 * at + 40]) for at in range(4)], ddof=1)
    # the draws of images are the same; what is left is Welch's t with 6 degrees of freedom
    assert other["f1_high"] == pytest.approx(2.447 * sd * np.sqrt(2 / 4), rel=1e-3)


def test_the_interval_has_the_width_of_theory(tmp_path):
    # no false positives: F1 = 2m / (1 + m) of the mean recall m, whose variance is known
    rng = np.random.default_rng(5)
    a, b = ([row | {"fp": 0} for row in draw_rows(rng, recall=0.8, images=400)] for _ in range(2))
    row, _ = compare_one(tmp_path, a, b)
    sd_of_mean = np.sqrt(2 * 0.8 * 0.2 / (400 * N_TRUE)) * 2 / 1.8**2
    assert width(row) == pytest.approx(2 * 1.96 * sd_of_mean, rel=0.1)


def test_pairing_takes_out_how_hard_the_images_are(tmp_path):
    rng = np.random.default_rng(6)
    hard = {"images": 100, "hardness": rng.normal(0, 0.2, 200)}
    a, b = draw_rows(rng, recall=0.6, **hard), draw_rows(rng, recall=0.65, **hard)
    elsewhere = [row | {"image": f"other{row['image']}"} for row in b]
    paired, _ = compare_one(tmp_path, a, b)
    unpaired, text = compare_one(tmp_path, a, elsewhere)
    assert "Unpaired: no image in common." in text
    assert paired["paired"] and not unpaired["paired"]
    assert paired["f1_low"] > 0
    assert width(unpaired) > 2 * width(paired)


def test_images_that_only_one_has_are_left_out_and_counted(tmp_path):
    rng = np.random.default_rng(7)
    a, b = draw_rows(rng), draw_rows(rng, images=30, first=15)
    row, text = compare_one(tmp_path, a, b)
    assert (row["images"], row["images_only_a"], row["images_only_b"]) == (25, 15, 5)
    assert "On the 25 images of both." in text
    assert row["f1_a"] == pytest.approx(f1_of(a[15:]))


def test_an_image_that_one_repeat_lacks_is_left_out_and_counted(tmp_path):
    a = draw_rows(np.random.default_rng(8), seeds=range(2))
    row, _ = compare_one(tmp_path, a[:-1], a)
    assert (row["images"], row["images_only_a"], row["images_only_b"]) == (39, 1, 1)


def test_repeats_that_differ_widen_the_interval(tmp_path):
    rng = np.random.default_rng(9)
    options = {"seeds": range(5), "images": 200}
    steady = [draw_rows(rng, **options) for _ in range(2)]
    moody = [draw_rows(rng, seed_sd=0.05, recall=0.8, **options) for _ in range(2)]
    narrow, wide = (compare_one(tmp_path, a, b)[0] for a, b in (steady, moody))
    assert width(wide) > 3 * width(narrow)


def test_groups_are_compared_alone_and_together(tmp_path):
    rng = np.random.default_rng(10)
    a = [draw_rows(rng, group=group) for group in ("lung", "skin")]
    rows = compare(tmp_path, a, a).rows
    assert rows["group"].tolist() == ["(all)", "lung", "skin"]
    assert rows["images"].tolist() == [80, 40, 40]  # one name in two groups is two images


def test_rows_of_only_one_result_are_listed_and_written(tmp_path):
    rng = np.random.default_rng(11)
    common, a, b = (draw_rows(rng, alpha=alpha) for alpha in (0.0, 0.5, 1.0))
    comparison = compare(tmp_path, [common, a], [common, b])
    assert comparison.only_a["alpha"].tolist() == [0.5]
    assert comparison.only_b["alpha"].tolist() == [1.0]
    text = comparison.as_text()
    assert "Only in A:\n- drawn finetune fraction 0.01 alpha 0.5\n" in text
    assert text.endswith("Only in B:\n- drawn finetune fraction 0.01 alpha 1")
    file = tmp_path / "new" / "comparison.csv"
    comparison.write_csv(file)
    table = pd.read_csv(file)
    assert table["found"].tolist() == ["in both", "only in A", "only in B"]
    assert table["alpha"].tolist() == [0.0, 0.5, 1.0]
    assert table["f1_low"].notna().tolist() == [True, False, False]
    columns = ["data_set", "method", "fraction", "alpha", "scale", "group"]
    assert table.columns[:6].tolist() == columns


def test_methods_without_scores_are_listed(tmp_path):
    rng = np.random.default_rng(12)
    common, scored = draw_rows(rng), draw_rows(rng, method="cellpose", seed=np.nan)
    none = dict.fromkeys(("seg", "tp", "fp", "fn"), np.nan)
    missing = [scored[0] | none | {"image": "(all)", "group": "(all)", "n_true": 0}]
    comparison = compare(tmp_path, [common, missing], [common, scored])
    assert comparison.unscored[["method", "side"]].to_numpy().tolist() == [["cellpose", "A"]]
    listed = "Without scores:\n- drawn cellpose fraction 0.01 alpha 0.5 (in A)"
    assert listed in comparison.as_text()
    assert len(comparison.rows) == 1


def test_few_images_do_not_tell(tmp_path):
    rng = np.random.default_rng(13)
    a, b = (draw_rows(rng, recall=recall, images=5) for recall in (0.2, 0.9))
    assert "F1: too few images to tell." in compare_one(tmp_path, a, b)[1]
    assert np.isnan(compare_one(tmp_path, a[:1], b[:1])[0]["f1_low"])


def test_images_without_cells_have_no_seg_and_perfect_f1(tmp_path):
    nothing = {"tp": 0, "fp": 0, "fn": 0, "n_true": 0, "seg": np.nan}
    rows = draw_rows(np.random.default_rng(14), **nothing)
    row, text = compare_one(tmp_path, rows, rows)
    assert row["f1_a"] == 1
    assert np.isnan(row["seg_difference"]) and np.isnan(row["seg_low"])
    assert "SEG: no true cells." in text


def test_another_truth_is_said(tmp_path):
    a = draw_rows(np.random.default_rng(15))
    b = [row | {"n_true": 49, "fn": row["fn"] - 1} for row in a if row["fn"]]
    assert "The same images have other numbers of true cells." in compare_one(tmp_path, a, b)[1]


def test_a_row_does_not_depend_on_other_rows_or_their_order(tmp_path):
    rng = np.random.default_rng(16)
    a, b, more = draw_rows(rng), draw_rows(rng), draw_rows(rng, alpha=0.0, images=39)
    alone, _ = compare_one(tmp_path, a, b)
    beside = compare(tmp_path, [more, a], [b[::-1], more]).rows
    assert beside["alpha"].tolist() == [0.0, 0.5]
    pd.testing.assert_series_equal(beside.iloc[1], alone, check_names=False)
    again = compare(tmp_path, [a], [b], seed=1).rows.iloc[0]
    assert again["f1_low"] != alone["f1_low"]


def test_thousands_of_images_take_seconds(tmp_path):
    rng = np.random.default_rng(17)
    for side in "ab":
        write(tmp_path / side, draw_rows(rng, images=3000, seeds=range(3)))
    start = time.process_time()
    compare_results(tmp_path / "a", tmp_path / "b")
    assert time.process_time() - start < 5


def test_names_that_look_like_missing_values_are_names(tmp_path):
    a = draw_rows(np.random.default_rng(20), images=1, group="NA", data_set="null")
    table = read_results(write(tmp_path / "a", a) / "results.csv")
    assert (table["group"][0], table["data_set"][0]) == ("NA", "null")


def test_missing_tables_and_columns_are_refused(tmp_path):
    a = write(tmp_path / "a", draw_rows(np.random.default_rng(0)))
    (tmp_path / "empty.csv").touch()
    table = pd.read_csv(a / "results.csv").drop(columns=["alpha", "tp"])
    table.to_csv(tmp_path / "less.csv", index=False)
    for name, message in (
        ("nowhere", r"nowhere must exist. Got no such file"),
        ("empty.csv", r"empty.csv can't be read as a table: No columns"),
        ("less.csv", r"less.csv must have the columns .*; alpha is missing"),
    ):
        with pytest.raises(InputError, match=message):
            compare_results(a, tmp_path / name)


ROWS = draw_rows(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ([ROWS[0] | {"tp": "many"}], r"tp in .*results.csv must hold numbers.*Got .*many"),
        ([ROWS[0] | {"tp": "-3"}], r"tp in .*results.csv must hold numbers.*Got .*-3"),
        (
            [row | {"data_set": "other"} for row in ROWS],
            r"must share a data_set.*Got none of 1 and 1 in both",
        ),
        (ROWS + ROWS[:1], r"one row for every image.*Got 'image000' twice"),
    ],
)
def test_what_is_no_result_to_compare_with_is_refused(tmp_path, b, message):
    with pytest.raises(InputError, match=message):
        compare(tmp_path, [ROWS], [b])


def test_too_few_draws_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"n_boot must be at least 100\. Got 10"):
        compare(tmp_path, [ROWS], [ROWS], n_boot=10)
