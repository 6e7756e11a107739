"""Put the tables of an experiment together from the scores of its grid cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oce2stardist.evaluation.scores import Scores, pool_scores
from oce2stardist.experiments.cells import GridRun, Outcome
from oce2stardist.experiments.compare import ALL
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
_CURVES = ["data_set", "method", "fraction", "alpha", "scale", "seed", "oracle", "group", "iou"]


def write_tables(
    folder: Path, study: str, cells: Sequence[GridRun], outcomes: Mapping[str, Outcome]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write results.csv, summary.csv and curves.csv of an experiment.

    Parameters
    ----------
    folder : Path
        Of the experiment.
    study : str
    cells : sequence of GridRun
        Those that the tables show. One that is not finished has a row without scores.
    outcomes : mapping of key to Outcome

    Returns
    -------
    results, summary : DataFrame
        As written.
    """
    results, curves = [], []
    for cell in cells:
        run = f"cells/{cell.folder_name}"
        row = _row_of(cell, folder / run) | {"study": study, "run": run}
        path = folder / run / "scores.csv"
        outcome = outcomes.get(cell.key)
        if outcome is None or outcome.status != "finished":
            results.append(pd.DataFrame([row | {"image": ALL, "group": ALL, "n_true": 0}]))
            continue
        scores = _read_scores(path)
        results.append(_with(_rows(scores[np.isclose(scores["iou"], IOU)]), row))
        curves.append(_with(_curve(scores), row))
    table = pd.concat(results, ignore_index=True).reindex(columns=_RESULTS)
    curve_columns = [*_CURVES, "f1", "seg_at"]
    curve_table = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    summary = summarise(table)
    _write(folder / "results.csv", table)
    _write(folder / "summary.csv", summary)
    _write(folder / "curves.csv", curve_table.reindex(columns=curve_columns))
    return table, summary


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Take mean and standard deviation of the pooled scores over repeats.

    Parameters
    ----------
    results : DataFrame
        As results.csv.

    Returns
    -------
    DataFrame
        As summary.csv; cells is the mean, and sd is NaN where there is one repeat.
    """
    pooled = results[results["image"] == ALL]
    groups = pooled.groupby(["study", *WHAT, "group"], dropna=False, sort=False)
    summary = groups.agg(
        cells=("cells", "mean"),
        repeats=("f1", "count"),
        f1_mean=("f1", "mean"),
        f1_sd=("f1", "std"),
        seg_mean=("seg", "mean"),
        seg_sd=("seg", "std"),
    ).reset_index()
    columns = ["study", "data_set", "method", "fraction", "cells", "alpha", "scale", "oracle"]
    scores = ["group", "repeats", "f1_mean", "f1_sd", "seg_mean", "seg_sd"]
    return summary[columns + scores]


def _read_scores(path: Path) -> pd.DataFrame:
    """Read scores.csv of a cell; an image may be named "NA" or "007"."""
    texts = {"image": str, "group": str}
    empty = {name: [""] for name in pd.read_csv(path, nrows=0).columns if name not in texts}
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)


def _row_of(cell: GridRun, folder: Path) -> dict[str, Any]:
    row = {"oracle": False} | dict(cell.row)
    drawn = folder / "model" / "training" / "cells.csv"
    if drawn.exists():
        row["cells"] = len(pd.read_csv(drawn))
    return row


def _rows(scores: pd.DataFrame) -> pd.DataFrame:
    """One row for each image, then those pooled over each group and over all."""
    pooled = [{"image": ALL, "group": name} | _pool(part) for name, part in _parts(scores)]
    images = scores[["image", "group", *_SCORES]]
    return pd.concat([images, pd.DataFrame(pooled)], ignore_index=True)


def _parts(scores: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    groups = sorted(set(scores["group"]) - {""})
    return [(name, scores[scores["group"] == name]) for name in groups] + [(ALL, scores)]


def _pool(scores: pd.DataFrame) -> dict[str, Any]:
    fields = [*_SCORES, "iou_threshold"]
    rows = scores.rename(columns={"iou": "iou_threshold"})[fields].to_dict("records")
    pooled = pool_scores([Scores(**row) for row in rows])
    return {name: value for name, value in pooled.to_dict().items() if name in _SCORES}


def _curve(scores: pd.DataFrame) -> pd.DataFrame:
    """Pool F1 and SEG at every IoU threshold."""
    rows = []
    for group, part in _parts(scores):
        for iou, at in part.groupby("iou"):
            n_true = at["n_true"].sum()
            weighted = float((at["seg_at"].fillna(0) * at["n_true"]).sum())
            seg_at = weighted / n_true if n_true else np.nan
            rows.append({"group": group, "iou": iou, "f1": _pool(at)["f1"], "seg_at": seg_at})
    return pd.DataFrame(rows)


def _with(table: pd.DataFrame, row: Mapping[str, Any]) -> pd.DataFrame:
    return table.assign(**{name: value for name, value in row.items() if name not in table})


def _write(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, float_format="%.6g"))
