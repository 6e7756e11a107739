"""Tables of an experiment say what the scores of its runs say, pooled and averaged."""

import numpy as np
import pandas as pd
import pytest
from experiment_folders import labelled

from oce2stardist.evaluation.scores import pool_scores, score_image
from oce2stardist.experiments.grid_runs import GridRun, Outcome
from oce2stardist.experiments.results import summarise, write_tables
from oce2stardist.experiments.scoring import IOU_THRESHOLDS, Border, score_labels

SHAPE = (40, 60)


def squares(*corners, side=10, shift=0):
    labels = np.zeros(SHAPE, np.int32)
    for index, (y, x) in enumerate(corners, start=1):
        labels[y + shift : y + shift + side, x : x + side] = index
    return labels


@pytest.fixture
def tables(tmp_path):
    """Two repeats of a method on three images of two groups, and a method without weights."""
    truth = {
        "1": squares((2, 2), (2, 20), (20, 2)),
        "b": squares((5, 5), (20, 40)),
        "c": squares((5, 5)),
    }
    groups = {"1": "lung", "b": "lung", "c": "skin"}
    test = labelled({stem: (labels, labels) for stem, labels in truth.items()}, groups)
    predictions = [
        {"1": squares((2, 2), (2, 20)), "b": squares((5, 5), shift=2), "c": squares((25, 45))},
        truth,
    ]
    runs = []
    for seed, predicted in enumerate(predictions):
        row = {"data_set": "d", "method": "finetune", "fraction": 0.1, "alpha": 0.5, "seed": seed}
        runs.append(GridRun(f"run{seed}", "finetune", {"seed": seed}, row=row))
        path = tmp_path / "cells" / runs[-1].folder_name / "scores.csv"
        path.parent.mkdir(parents=True)
        score_labels(predicted, test, Border()).to_csv(path, index=False)
    outcomes = {run.key: Outcome("finished") for run in runs}
    absent = GridRun("absent", "stardist", {}, row={"data_set": "d", "method": "StarDist"})
    outcomes[absent.key] = Outcome("missing", "no weights")
    results, summary = write_tables(tmp_path, "fractions", [*runs, absent], outcomes)
    return tmp_path, truth, predictions, results, summary


def one_row(table, **values):
    """The only row with these values."""
    for name, value in values.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


@pytest.mark.parametrize(("group", "stems"), [("(all)", "1bc"), ("lung", "1b"), ("skin", "c")])
def test_pooled_rows_are_the_scores_of_all_images_together(tables, group, stems):
    _, truth, predictions, results, _ = tables
    for seed, predicted in enumerate(predictions):
        expected = pool_scores([score_image(predicted[stem], truth[stem]) for stem in stems])
        row = one_row(results, seed=seed, image="(all)", group=group)
        for name in ("f1", "seg", "tp", "fp", "fn"):
            assert row[name] == pytest.approx(getattr(expected, name))


def test_every_image_has_a_row_that_names_its_run(tables):
    folder, truth, _, results, _ = tables
    images = results[results["image"] != "(all)"]
    assert len(images) == 2 * len(truth)
    assert set(images["group"]) == {"lung", "skin"}
    assert all((folder / run / "scores.csv").exists() for run in images["run"])


def test_the_summary_is_mean_and_deviation_over_repeats(tables):
    _, _, _, results, summary = tables
    pooled = results[(results["image"] == "(all)") & (results["group"] == "(all)")]
    values = pooled.loc[pooled["method"] == "finetune", "f1"].to_numpy(float)
    row = one_row(summary, method="finetune", group="(all)")
    assert row["repeats"] == 2
    assert row["f1_mean"] == pytest.approx(values.mean())
    assert row["f1_sd"] == pytest.approx(np.std(values, ddof=1))


def test_what_could_not_be_had_has_a_row_without_scores(tables):
    _, _, _, results, summary = tables
    row = one_row(results, method="StarDist")
    assert np.isnan(row["f1"])
    assert (row["image"], row["n_true"]) == ("(all)", 0)
    assert one_row(summary, method="StarDist")["repeats"] == 0


def test_one_repeat_has_no_deviation(tables):
    _, _, _, results, _ = tables
    summary = summarise(results[results["seed"] != 1])
    assert summary["f1_sd"].isna().all()


def test_curves_begin_with_the_scores_of_the_table_and_never_rise(tables):
    folder, _, _, results, _ = tables
    curves = pd.read_csv(folder / "curves.csv")
    assert set(np.round(curves["iou"], 2)) == set(IOU_THRESHOLDS)
    for (_, group), curve in curves.groupby(["seed", "group"]):
        curve = curve.sort_values("iou")
        assert (np.diff(curve["f1"]) <= 1e-12).all(), group
        assert (np.diff(curve["seg_at"]) <= 1e-12).all(), group
    first = curves[np.isclose(curves["iou"], 0.5) & (curves["group"] == "(all)")]
    pooled = results[(results["image"] == "(all)") & (results["group"] == "(all)")]
    pooled = pooled[pooled["method"] == "finetune"]
    np.testing.assert_allclose(first["f1"].to_numpy(), pooled["f1"].to_numpy(float), atol=1e-5)


def test_tables_come_back_from_their_files(tables):
    folder, _, _, results, summary = tables
    read = pd.read_csv(folder / "results.csv", dtype={"image": str})
    assert list(read.columns) == list(results.columns)
    assert read["image"].tolist() == results["image"].tolist()
    assert len(pd.read_csv(folder / "summary.csv")) == len(summary)
