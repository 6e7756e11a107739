"""What the tables of an experiment say, in words, and never more than they say.

Every function returns sentences, one to a line of a report; where there are several data sets,
each begins with its name. They are about all images of a data set, the rows of the group
``(all)``, unless another group is given.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from oce2stardist.experiments.compare import ALL

PLATEAU = 0.01
"""F1 within this is called unchanged, as annotations are added."""
EQUAL = 0.005
"""F1 lower by no more than this does the same."""
NEAR_BEST = 0.02
"""A scale whose F1 is lower by no more than this is in the range that works."""

_ROUNDING = 1e-9


def answer(
    study: str, summary: pd.DataFrame, results: pd.DataFrame | None = None, *, group: str = ALL
) -> list[str]:
    """Say what a study found.

    Parameters
    ----------
    study : {"fractions", "unsupervised", "scales"}
    summary : DataFrame
        `summary.csv`.
    results : DataFrame, optional
        `results.csv`; with it, what pseudo labels add has a standard deviation over repeats.
    group : str
        Images of which the sentences speak.

    Returns
    -------
    list of str
    """
    if study == "fractions":
        return answer_fractions(summary, results, group=group)
    if study == "unsupervised":
        return answer_unsupervised(summary, group=group)
    if study == "scales":
        return answer_scales(summary, group=group)
    raise ValueError(
        f"study must be fractions, unsupervised or scales. Got {study!r}; choose one of these."
    )


def answer_fractions(
    summary: pd.DataFrame, results: pd.DataFrame | None = None, *, group: str = ALL
) -> list[str]:
    """Say how many cells are enough, and what pseudo labels are worth.

    For every alpha: from which number of cells on more annotation changes nothing; for every
    alpha above 0 beside alpha 0: how many cells replace how many, what is gained at every
    number of cells, and whether anything is lost.
    """
    sentences = []
    for name, rows in _by_data_set(summary, group):
        trained = rows[(rows["method"] == "finetune") & rows["f1_mean"].notna()]
        curves = {
            float(alpha): curve.sort_values("cells").reset_index(drop=True)
            for alpha, curve in trained.groupby("alpha")
        }
        said = [describe_plateau(curve, alpha) for alpha, curve in curves.items()]
        said += _describe_pseudo(rows)
        for alpha, curve in curves.items():
            if alpha > 0 and 0 in curves:
                drawn = (
                    None if results is None else _pooled(results, rows["data_set"].iloc[0], group)
                )
                said += [
                    describe_saving(curve, curves[0.0], alpha),
                    describe_gain(curve, curves[0.0], alpha, drawn),
                    describe_loss(curve, curves[0.0], alpha),
                ]
        sentences += [name + sentence for sentence in said or ["No training has a score."]]
    return sentences


def describe_plateau(curve: pd.DataFrame, alpha: float) -> str:
    """Say beyond how many cells F1 changes by less than `PLATEAU`.

    It is the smallest number such that the highest and the lowest F1 from it on, it included,
    are less than `PLATEAU` apart: so neither the next step nor the last changes more.

    Parameters
    ----------
    curve : DataFrame
        Rows of the summary of one alpha, by rising ``cells``.
    alpha : float
    """
    subject = f"Alpha {alpha:g}"
    cells, f1 = curve["cells"].to_numpy(), curve["f1_mean"].to_numpy()
    if len(curve) < 2:
        return (
            f"{subject}: F1 {f1[0]:.3f} with {_cells(cells[0])}; one number of cells can't say "
            "whether more would help."
        )
    spread = _from_here_on(f1, np.maximum) - _from_here_on(f1, np.minimum)
    first = int(np.argmax(spread < PLATEAU - _ROUNDING))  # the last has no spread
    if first == len(f1) - 1:
        return (
            f"{subject}: from {_number(cells[-2])} to {_cells(cells[-1])} F1 still changes by "
            f"{f1[-1] - f1[-2]:+.3f}, to {f1[-1]:.3f}; beyond how many cells more changes "
            f"nothing can't be said {_runs(curve)}."
        )
    return (
        f"{subject}: beyond {_cells(cells[first])}, annotating more (up to {_number(cells[-1])}) "
        f"changes F1 by less than {PLATEAU:g}: {f1[first]:.3f} there, {f1[-1]:.3f} with most "
        f"{_runs(curve)}{_caution(curve, PLATEAU)}."
    )


def describe_saving(curve: pd.DataFrame, alone: pd.DataFrame, alpha: float) -> str:
    """Say how many cells with pseudo labels do what how many do without.

    Either is the smallest number of cells whose F1 is at most `EQUAL` below the best of
    annotations alone.

    Parameters
    ----------
    curve, alone : DataFrame
        Rows of the summary with this alpha and with alpha 0, by rising ``cells``.
    alpha : float
    """
    best = alone["f1_mean"].max()
    f1, f1_alone = curve["f1_mean"].to_numpy(), alone["f1_mean"].to_numpy()
    reached = np.flatnonzero(f1 >= best - EQUAL - _ROUNDING)
    at_best = alone["cells"].iloc[int(np.argmax(f1_alone))]
    without = f"F1 {best:.3f} with {_cells(at_best)}"
    both = _runs(pd.concat([curve, alone]))
    if not reached.size:
        return (
            f"With pseudo labels (alpha {alpha:g}) F1 stays more than {EQUAL:g} below the best "
            f"without ({without}): at most {f1.max():.3f} {both}."
        )
    enough = int(reached[0])
    enough_alone = int(np.flatnonzero(f1_alone >= best - EQUAL - _ROUNDING)[0])
    few, many = curve["cells"].iloc[enough], alone["cells"].iloc[enough_alone]
    scores = (
        f"F1 {f1[enough]:.3f} and {f1_alone[enough_alone]:.3f}, the best without is {best:.3f} "
        f"with {_cells(at_best)} {both}{_caution(pd.concat([curve, alone]), EQUAL)}."
    )
    if round(few) < round(many):
        return (
            f"With pseudo labels (alpha {alpha:g}), {_cells(few)} do what {_number(many)} do "
            f"without: {scores}"
        )
    if round(few) == round(many):
        return (
            f"With pseudo labels (alpha {alpha:g}) as many cells are needed as without, "
            f"{_number(few)} of those tried: {scores}"
        )
    return (
        f"With pseudo labels (alpha {alpha:g}), {_cells(few)} are needed to do what "
        f"{_number(many)} do without: {scores}"
    )


def describe_gain(
    curve: pd.DataFrame, alone: pd.DataFrame, alpha: float, results: pd.DataFrame | None = None
) -> str:
    """Say what pseudo labels add to F1 at every number of cells that was tried with and without.

    Parameters
    ----------
    curve, alone : DataFrame
        Rows of the summary with this alpha and with alpha 0.
    alpha : float
    results : DataFrame, optional
        Pooled rows of the results: differences are taken seed by seed for their standard
        deviation.
    """
    both = _side_by_side(curve, alone)
    if both.empty:
        return f"What pseudo labels add (alpha {alpha:g}) can't be said: no fraction has both."
    parts = []
    for fraction, cells, gain in both[["fraction", "cells_alone", "gain"]].to_numpy(float):
        sd = _sd_of_gain(results, fraction, alpha)
        spread = "" if np.isnan(sd) else f" ± {sd:.3f}"
        parts.append(f"{gain:+.3f}{spread} at {_cells(cells)}")
    runs = _runs(pd.concat([curve, alone]), with_sd=False)
    return f"Pseudo labels (alpha {alpha:g}) change F1 by {_join(parts)} {runs}."


def describe_loss(curve: pd.DataFrame, alone: pd.DataFrame, alpha: float) -> str:
    """Say where pseudo labels lower F1 by more than `EQUAL`.

    Parameters
    ----------
    curve, alone : DataFrame
        Rows of the summary with this alpha and with alpha 0.
    alpha : float
    """
    both = _side_by_side(curve, alone)
    if both.empty:
        return f"Whether pseudo labels (alpha {alpha:g}) do harm can't be said."
    worse = both[both["gain"] < -EQUAL - _ROUNDING]
    runs = _runs(pd.concat([curve, alone]))
    if worse.empty:
        return (
            f"With pseudo labels (alpha {alpha:g}) F1 is nowhere lower than without by more than "
            f"{EQUAL:g} {runs}."
        )
    where = [f"{-row.gain:.3f} at {_cells(row.cells_alone)}" for row in worse.itertuples()]
    return (
        f"With pseudo labels (alpha {alpha:g}) F1 is lower than without by {_join(where)} {runs}."
    )


def answer_unsupervised(summary: pd.DataFrame, *, group: str = ALL) -> list[str]:
    """Say which method is best on each data set, and how often each is.

    Methods of one F1 to three decimals share the first place. The oracle, which looks at the truth,
    takes no part; methods without scores are named.
    """
    sentences, wins, contests = [], dict[str, int](), 0
    for name, rows in _by_data_set(summary, group, always_named=True):
        scored = rows[rows["f1_mean"].notna() & ~_is_oracle(rows)].sort_values(
            "f1_mean", ascending=False, kind="stable"
        )
        for method in rows.loc[rows["f1_mean"].isna(), "method"].unique():
            sentences.append(f"{name}{method} has no score.")
        if scored.empty:
            sentences.append(f"{name}no method has a score.")
            continue
        rounded = scored["f1_mean"].round(3)
        first = scored[rounded == rounded.iloc[0]]
        others = scored[rounded < rounded.iloc[0]]
        winners = list(first["method"])
        if len(scored) > 1:
            contests += 1
            for method in winners:
                wins[method] = wins.get(method, 0) + 1
        sentences.append(name + _describe_best(winners, first, others))
        for row in rows[_is_oracle(rows) & rows["f1_mean"].notna()].itertuples():
            sentences.append(
                f"{name}the oracle, which looks at the truth and takes no part, has "
                f"F1 {row.f1_mean:.3f}."
            )
    if contests > 1:
        counted = sorted(wins.items(), key=lambda item: (-item[1], item[0]))
        parts = [f"{method} on {count}" for method, count in counted]
        sentences.append(f"Highest F1, of {contests} data sets: {_join(parts)}.")
    return sentences


def answer_scales(summary: pd.DataFrame, *, group: str = ALL) -> list[str]:
    """Say the best scale, and between which scales around it F1 is within `NEAR_BEST` of its."""
    sentences = []
    for name, rows in _by_data_set(summary, group):
        tried = rows[rows["scale"].notna() & rows["f1_mean"].notna() & ~_is_oracle(rows)]
        several = tried[["method", "alpha", "fraction"]].drop_duplicates().shape[0] > 1
        for _, curve in tried.groupby(["method", "alpha", "fraction"], dropna=False, sort=False):
            subject = f"{_describe_setting(curve.iloc[0])}: " if several else ""
            sentences.append(name + subject + describe_scales(curve.sort_values("scale")))
        if tried.empty:
            sentences.append(f"{name}no scale has a score.")
    return sentences


def describe_scales(curve: pd.DataFrame) -> str:
    """Say the best scale and the range around it, of rows of the summary by rising ``scale``."""
    scales, f1 = curve["scale"].to_numpy(), curve["f1_mean"].to_numpy()
    best = int(np.argmax(f1))
    if len(scales) == 1:
        return f"F1 {f1[0]:.3f} at scale {scales[0]:g}, the only one tried {_runs(curve)}."
    near = f1 >= f1[best] - NEAR_BEST - _ROUNDING
    low = high = best
    while low > 0 and near[low - 1]:
        low -= 1
    while high + 1 < len(scales) and near[high + 1]:
        high += 1
    if low == high:
        reach = f"the scales beside it are more than {NEAR_BEST:g} lower"
    else:
        reach = f"from scale {scales[low]:g} to {scales[high]:g} F1 is at most {NEAR_BEST:g} lower"
    edge = ""
    if best in (0, len(scales) - 1):
        side = "smallest" if best == 0 else "largest"
        edge = f" It is the {side} that was tried: the best may lie beyond."
    return (
        f"Best at scale {scales[best]:g} with F1 {f1[best]:.3f}; {reach}; lowest {f1.min():.3f} "
        f"at {scales[int(np.argmin(f1))]:g} {_runs(curve)}.{edge}"
    )


def _by_data_set(
    summary: pd.DataFrame, group: str, *, always_named: bool = False
) -> Iterable[tuple[str, pd.DataFrame]]:
    """Rows of one group, data set by data set, each with what its sentences begin with."""
    rows = summary[summary["group"] == group]
    named = always_named or rows["data_set"].nunique() > 1
    for name, of_set in rows.groupby("data_set", sort=False):
        yield (f"{name}: " if named else ""), of_set


def _is_oracle(rows: pd.DataFrame) -> "pd.Series[bool]":
    return (rows["method"] == "oracle") | (rows["oracle"].astype(str).str.lower() == "true")


def _describe_pseudo(rows: pd.DataFrame) -> list[str]:
    found = rows[(rows["method"] == "pseudo") & rows["f1_mean"].notna() & ~_is_oracle(rows)]
    return [
        f"Pseudo labels alone, without an annotated cell, have F1 {row.f1_mean:.3f} "
        f"{_runs(found.loc[[row.Index]])}."
        for row in found.itertuples()
    ]


def _describe_best(winners: Sequence[str], first: pd.DataFrame, others: pd.DataFrame) -> str:
    f1 = first["f1_mean"].iloc[0]
    verb = "is best" if len(winners) == 1 else "share the first place"
    said = f"{_join(winners)} {verb}, F1 {f1:.3f}"
    if others.empty and len(winners) == 1:
        return f"{winners[0]} is the only method with a score, F1 {f1:.3f} {_runs(first)}."
    if not others.empty:
        second = others.iloc[0]
        said += f"; next {second['method']}, {second['f1_mean']:.3f}"
    return f"{said} {_runs(pd.concat([first, others]))}."


def _describe_setting(row: "pd.Series[Any]") -> str:
    numbers = [f"{name} {row[name]:g}" for name in ("fraction", "alpha") if pd.notna(row[name])]
    return " ".join([str(row["method"]), *numbers])


def _side_by_side(curve: pd.DataFrame, alone: pd.DataFrame) -> pd.DataFrame:
    """Match the fractions that both have; ``gain`` is what the first has more."""
    columns = ["fraction", "cells", "f1_mean"]
    both = curve[columns].merge(alone[columns], on="fraction", suffixes=("", "_alone"))
    both["gain"] = both["f1_mean"] - both["f1_mean_alone"]
    return both.sort_values("cells_alone")


def _pooled(results: pd.DataFrame, data_set: str, group: str) -> pd.DataFrame:
    """Rows over all images of a group, one for each training."""
    is_pooled = (results["image"] == ALL) & (results["group"] == group)
    chosen = is_pooled & (results["data_set"] == data_set) & (results["method"] == "finetune")
    return results[chosen]


def _sd_of_gain(results: pd.DataFrame | None, fraction: float, alpha: float) -> float:
    """Standard deviation of the gain over seeds; nan for fewer than two that both have."""
    if results is None:
        return np.nan
    of_fraction = results[np.isclose(results["fraction"].astype(float), fraction)]
    by_alpha = of_fraction.pivot_table(index="seed", columns="alpha", values="f1")
    if alpha not in by_alpha or 0 not in by_alpha:
        return np.nan
    gains = (by_alpha[alpha] - by_alpha[0]).dropna()
    return float(gains.std(ddof=1)) if len(gains) > 1 else np.nan


def _from_here_on(values: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    """The extreme of each value and all behind it."""
    return extreme.accumulate(values[::-1])[::-1]


def _runs(rows: pd.DataFrame, *, with_sd: bool = True) -> str:
    """How many repeats the means are of, and how much these differ."""
    fewest, most = int(rows["repeats"].min()), int(rows["repeats"].max())
    if most == 1:
        return "(one run each)"
    number = f"{most} runs each" if fewest == most else f"{fewest} to {most} runs each"
    sd = rows["f1_sd"].max()
    return f"({number}, sd up to {sd:.3f})" if with_sd and pd.notna(sd) else f"({number})"


def _caution(rows: pd.DataFrame, limit: float) -> str:
    """What to add where repeats differ by as much as what is called equal."""
    sd = rows["f1_sd"].max()
    return ", so repeats differ by as much" if pd.notna(sd) and sd >= limit else ""


def _cells(number: float) -> str:
    return f"{_number(number)} cell{'' if round(number) == 1 else 's'}"


def _number(number: float) -> str:
    return f"{round(number):,}"


def _join(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
