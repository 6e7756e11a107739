"""Put the tables of an experiment together from the scores of its runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from oce2stardist.evaluation.scores import Scores, pool_scores
from oce2stardist.experiments.compare import ALL
from oce2stardist.experiments.grid_runs import GridRun, Outcome
from oce2stardist.files.atomic import write_text

IOU = 0.5
"""IoU threshold of results.csv and summary.csv."""

WHAT = ["data_set", "method", "fraction", "alpha", "scale", "oracle"]
"""What tells rows of the summary apart; repeats differ in nothing of it."""

_SCORES = ["f1", "seg", "precision", "recall", "tp", "fp", "fn", "n_true", "n_predicted"]
_RESULTS = [
    *("study", "data_set", "method", "fraction", "cells", "alpha", "scale", "seed", "oracle"),
    *("image", "group", *_SCORES, "run"),
]
_SUMMARY = [
    *("study", "data_set", "method", "fraction", "cells", "alpha", "scale", "oracle"),
    *("group", "repeats", "f1_mean", "f1_sd", "seg_mean", "seg_sd"),
]
_CURVES = [
    *("data_set", "method", "fraction", "alpha", "scale", "seed", "oracle", "group", "iou"),
    *("f1", "seg_at"),
]


def write_tables(
    folder: Path, study: str, runs: Sequence[GridRun], outcomes: Mapping[str, Outcome]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write results.csv, summary.csv and curves.csv of an experiment; return the first two.

    `outcomes` are by key; one of `runs` that is not finished has a row without scores.
    """
    results, curves = [], []
    for run in runs:
        name = f"cells/{run.folder_name}"
        row = {"oracle": False, **run.row, "study": study, "run": name}
        drawn = folder / name / "model" / "training" / "cells.csv"
        if drawn.exists():
            row["cells"] = len(pd.read_csv(drawn))
        outcome = outcomes.get(run.key)
        if outcome is None or outcome.status != "finished":
            results.append(pd.DataFrame([row | {"image": ALL, "group": ALL, "n_true": 0}]))
            continue
        images = _read_scores(folder / name / "scores.csv")
        pooled = _pool(images)
        at_iou = [scores[np.isclose(scores["iou"], IOU)] for scores in (images, pooled)]
        own = pd.concat(at_iou, ignore_index=True)[["image", "group", *_SCORES]]
        results.append(own.assign(**row))
        curves.append(pooled[["group", "iou", "f1", "seg_at"]].assign(**row))
    table = pd.concat(results, ignore_index=True).reindex(columns=_RESULTS)
    curve_table = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    summary = summarise(table)
    for name, content in (
        ("results.csv", table),
        ("summary.csv", summary),
        ("curves.csv", curve_table.reindex(columns=_CURVES)),
    ):
        write_text(folder / name, content.to_csv(index=False, float_format="%.6g"))
    return table, summary


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Take mean and standard deviation of the pooled scores over repeats: summary.csv."""
    pooled = results[results["image"] == ALL]
    groups = pooled.groupby(["study", *WHAT, "group"], dropna=False, sort=False)
    summary = groups.agg(
        cells=("cells", "mean"),
        repeats=("f1", "count"),
        f1_mean=("f1", "mean"),
        f1_sd=("f1", "std"),
        seg_mean=("seg", "mean"),
        seg_sd=("seg", "std"),
    )
    return summary.reset_index()[_SUMMARY]


def _read_scores(path: Path) -> pd.DataFrame:
    """Read scores.csv of a run; an image may be named "NA" or "007"."""
    texts = {"image": str, "group": str}
    empty = {name: [""] for name in pd.read_csv(path, nrows=0).columns if name not in texts}
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)


def _pool(scores: pd.DataFrame) -> pd.DataFrame:
    """Pool the images of each group, and all, at every IoU threshold."""
    groups = sorted(set(scores["group"]) - {""})
    parts = [(name, scores[scores["group"] == name]) for name in groups] + [(ALL, scores)]
    rows = []
    for group, part in parts:
        for iou, at in part.groupby("iou"):
            every = [Scores(**row, iou_threshold=iou) for row in at[_SCORES].to_dict("records")]
            n_true = at["n_true"].sum()
            weighted = float((at["seg_at"].fillna(0) * at["n_true"]).sum())
            seg_at = weighted / n_true if n_true else np.nan
            row = {"image": ALL, "group": group, "iou": iou, "seg_at": seg_at}
            rows.append(row | pool_scores(every).to_dict())
    return pd.DataFrame(rows)
