"""Make the tables of an experiment: best values bold, the oracle never, with links to runs."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from oce2stardist.reports.drawing.page import Cell, Part, Rich
from oce2stardist.reports.drawing.series import (
    ALL,
    is_missing,
    name_method,
    name_series,
    say_fraction,
    say_group,
)
from oce2stardist.reports.experiment_files import CellOutcome, link_to

_KEYS = ("data_set", "method", "fraction", "alpha", "scale", "oracle")
_ORACLE = "oracle: picked with the truth"

Row = Mapping[Hashable, Any]
Table = list[list[Cell]]


def summary_table(summary: pd.DataFrame, results: pd.DataFrame) -> Table:
    """Make a row of every row of summary.csv; columns without any value are left out.

    The best F1 and SEG of each data set and group are bold; the oracle's never.
    """
    runs = _runs_by_row(results)
    best = _find_best(summary)
    records = summary.to_dict("records")
    rows = [_describe(row, runs.get(_key(row), []), best) for row in records]
    silent = {
        "group": summary["group"].eq(ALL).all(),
        "scale": summary["scale"].fillna(1).eq(1).all(),
        "F1": summary["f1_mean"].isna().all(),
        "SEG": summary["seg_mean"].isna().all(),
    }
    names = [
        name for name in rows[0] if not silent.get(name, all(row[name] is None for row in rows))
    ]
    return [list(names), *([row[name] for name in names] for row in rows)]


def pivot_table(summary: pd.DataFrame) -> Table:
    """Make a row per data set and group, and a column per method, as Table 1 of the paper.

    Cells read "F1 / SEG", best in bold; "missing" where a method could not be had.
    """
    best = _find_best(summary)
    records = summary.to_dict("records")
    methods = list(dict.fromkeys(_name(row) for row in sorted(records, key=_is_oracle)))
    by_place = {(row["data_set"], row["group"], _name(row)): row for row in records}
    has_groups = (summary["group"] != ALL).any()
    table: Table = [["data set", *["group"] * bool(has_groups), *methods]]
    for data_set, own in summary.groupby("data_set", sort=False):
        for group in sorted(own["group"].unique(), key=lambda name: (name == ALL, name)):
            cells = (by_place.get((data_set, group, method)) for method in methods)
            names: list[Cell] = [str(data_set), *[say_group(group)] * bool(has_groups)]
            table.append([*names, *(_both_scores(row, best) for row in cells)])
    return table


def outcomes_table(outcomes: Iterable[CellOutcome]) -> Table:
    """List cells that did not finish, with their reasons and a link to their folders."""
    rows: Table = [["run", "kind", "status", "reason"]]
    for outcome in outcomes:
        link = Rich([Part(outcome.name, href=link_to(outcome.run))])
        rows.append([link, outcome.kind, outcome.status, outcome.reason])
    return rows


def _describe(
    row: Row, runs: Sequence[tuple[Any, str]], best: Mapping[tuple[Any, ...], float]
) -> dict[str, Cell]:
    return {
        "data set": row["data_set"],
        "group": say_group(row["group"]),
        "method": name_method(str(row["method"])) + _mark_oracle(row),
        "annotated cells": None if is_missing(row["cells"]) else round(row["cells"]),
        "share": _number(row["fraction"], say_fraction),
        "alpha": _number(row["alpha"]),
        "scale": _number(row["scale"]),
        "repeats": None if is_missing(row["repeats"]) else int(row["repeats"]),
        "F1": _score(row, "f1", best),
        "± F1": _number(row["f1_sd"], "{:.3f}".format),
        "SEG": _score(row, "seg", best),
        "± SEG": _number(row["seg_sd"], "{:.3f}".format),
        "runs": _link_runs(runs),
    }


def _mark_oracle(row: Row) -> str:
    return f" ({_ORACLE})" if row["oracle"] and row["method"] != "oracle" else ""


def _name(row: Row) -> str:
    """Name the column of the pivoted table that a row belongs to."""
    return name_series(row) + _mark_oracle(row)


def _is_oracle(row: Row) -> bool:
    return bool(row["oracle"]) or row["method"] == "oracle"


def _number(value: Any, write: Callable[[float], str] = "{:g}".format) -> Cell:
    """Write a number, without zeros at its end unless told how."""
    return None if is_missing(value) else Rich([Part(write(value))], is_number=True)


def _find_best(summary: pd.DataFrame) -> dict[tuple[Any, ...], float]:
    """Find the highest scores of each data set and group, as written; without the oracle's."""
    best: dict[tuple[Any, ...], float] = {}
    for row in summary.to_dict("records"):
        for measure in ("f1", "seg"):
            value = row[f"{measure}_mean"]
            if not _is_oracle(row) and not is_missing(value):
                place = (row["data_set"], row["group"], measure)
                best[place] = max(best.get(place, -math.inf), round(value, 3))
    return best


def _part(row: Row, measure: str, best: Mapping[tuple[Any, ...], float]) -> Part:
    """Write a score, bold if it is the best of its row and fairly so."""
    value = row[f"{measure}_mean"]
    if is_missing(value):
        return Part("missing" if measure == "f1" else "–")
    highest = best.get((row["data_set"], row["group"], measure))
    return Part(f"{value:.3f}", is_bold=not _is_oracle(row) and round(value, 3) == highest)


def _score(row: Row, measure: str, best: Mapping[tuple[Any, ...], float]) -> Cell:
    return Rich([_part(row, measure, best)], is_number=True)


def _both_scores(row: Row | None, best: Mapping[tuple[Any, ...], float]) -> Cell:
    if row is None:
        return None
    if is_missing(row["f1_mean"]):
        return Rich([Part("missing")], is_number=True)
    parts = [_part(row, "f1", best), Part(" / "), _part(row, "seg", best)]
    return Rich(parts, is_number=True)


def _runs_by_row(results: pd.DataFrame) -> dict[tuple[Any, ...], list[tuple[Any, str]]]:
    """List the runs (seed, folder) behind each row of the summary, by seed."""
    runs: dict[tuple[Any, ...], list[tuple[Any, str]]] = {}
    pooled = results[results["image"] == ALL].sort_values("seed")
    for row in pooled.to_dict("records"):
        own = runs.setdefault(_key(row), [])
        if (row["seed"], row["run"]) not in own and row["run"]:
            own.append((row["seed"], row["run"]))
    return runs


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(None if is_missing(row[name]) else row[name] for name in _KEYS)


def _link_runs(runs: Sequence[tuple[Any, str]]) -> Cell:
    """Link to a run, or to each of several by its seed."""
    if not runs:
        return None
    if len(runs) == 1:
        return Rich([Part("run", href=link_to(runs[0][1]))])
    parts = [Part("seeds")]
    for seed, run in runs:
        name = "–" if is_missing(seed) else f"{seed:g}"
        parts += [Part("\N{NO-BREAK SPACE}"), Part(name, href=link_to(run))]
    return Rich(parts)
