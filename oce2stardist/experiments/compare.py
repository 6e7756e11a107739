"""Compare two results of experiments: what differs by more than chance, and what does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap, sem, t

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_text
from oce2stardist.files.tables import read_table

SETTING = ("data_set", "method", "fraction", "alpha", "scale")
"""Columns that say what was run; with the group they match the rows of two results."""

ALL = "(all)"
"""What `results.csv` calls the row over all images, and the group of all images."""

LEAST_IMAGES = 6
"""Of fewer images all may favour one side by chance more often than one time in twenty."""

_COUNTS = ("tp", "fp", "fn", "n_true")
_NUMBERS = (*SETTING[2:], "seed", "seg", *_COUNTS)
_SCORES = ("f1", "seg")
_PARTS = ("a", "b", "difference", "low", "high")
_KEY = [*SETTING, "group"]
_COMPARED = [
    *("images", "images_only_a", "images_only_b", "paired", "same_truth", "repeats_a"),
    *("repeats_b", *(f"{score}_{part}" for score in _SCORES for part in _PARTS)),
]
_Key = tuple[Any, ...]
_NONE = -1.0
"""Stands for an absent number in a key: NaN does not equal itself."""


@dataclass(frozen=True)
class Comparison:
    """Differences of two results, B minus A.

    Attributes
    ----------
    rows : DataFrame
        One row for each `SETTING` and ``group`` that both have: how many ``images`` were
        compared and how many left out (``images_only_a``), whether they are ``paired`` and have
        as many true cells in both (``same_truth``), repeats of each, and for `f1` and `seg`
        ``f1_a``, ``f1_b``, ``f1_difference``, ``f1_low`` and ``f1_high`` (95 % interval).
    only_a, only_b : DataFrame
        Settings and groups of which the other has nothing.
    unscored : DataFrame
        Settings that both have, but without scores in ``side``: ``A``, ``B`` or ``A and B``.
    """

    a: Path
    b: Path
    rows: pd.DataFrame
    only_a: pd.DataFrame
    only_b: pd.DataFrame
    unscored: pd.DataFrame
    n_boot: int

    def write_csv(self, file: Path) -> None:
        """Write all tables as one; ``found`` says what a row without numbers lacks."""
        parts = [
            self.rows.assign(found="in both"),
            self.only_a.assign(found="only in A"),
            self.only_b.assign(found="only in B"),
            self.unscored.assign(found="no scores in " + self.unscored["side"].astype(str)),
        ]
        rows = [row for part in parts for row in part.to_dict("records")]
        table = pd.DataFrame(rows, columns=[*_KEY, *_COMPARED, "found"])
        write_text(file, table.to_csv(index=False))

    def as_text(self) -> str:
        """Lay a comparison out as a Markdown table, with what it lacks below."""
        lines = [f"A: {self.a}", f"B: {self.b}", ""]
        lines += _format(self.rows) if len(self.rows) else ["Nothing was scored in both."]
        lines += [
            f"Intervals: 95 %, {self.n_boot} bootstrap draws of images, widened by Student's t of "
            "repeats; one run says nothing of other seeds. Of twenty rows without any "
            "difference, one may seem to differ by chance.",
        ]
        titles = ("Only in A", "Only in B", "Without scores")
        for title, table in zip(titles, (self.only_a, self.only_b, self.unscored), strict=True):
            if len(table):
                lines += ["", f"{title}:"]
                lines += [f"- {_name(row)}" for row in table.to_dict("records")]
        return "\n".join(lines)


def compare_results(a: Path, b: Path, *, n_boot: int = 2000, seed: int = 0) -> Comparison:
    """Compare F1 and SEG of everything that two results have in common.

    docs/experiments.md says how the intervals come about.

    Parameters
    ----------
    a, b : Path
        Folders of experiments, or their `results.csv`.
    n_boot : int, >= 100
        Bootstrap draws of images.
    seed : int, >= 0
    """
    if n_boot < 100:
        raise InputError(f"n_boot must be at least 100. Got {n_boot}; 2000 is usual.")
    files = [path / "results.csv" if path.is_dir() else path for path in (Path(a), Path(b))]
    (scored_a, all_a), (scored_b, all_b) = (_read_sums(file) for file in files)
    if not all_a & all_b:
        raise InputError(
            f"{files[0]} and {files[1]} must share a {', '.join(_KEY)}. "
            f"Got none of {len(all_a)} and {len(all_b)} in both; compare the same study."
        )
    compared: dict[_Key, dict[str, Any]] = {}
    unscored: dict[_Key, dict[str, Any]] = {}
    for key in all_a & all_b:
        without = [side for side, own in (("A", scored_a), ("B", scored_b)) if key not in own]
        if without:
            unscored[key] = {"side": " and ".join(without)}
        else:
            compared[key] = _compare(scored_a[key], scored_b[key], n_boot, seed)
    return Comparison(
        a=files[0],
        b=files[1],
        rows=_tabulate(compared, _COMPARED),
        only_a=_tabulate({key: {} for key in all_a - all_b}),
        only_b=_tabulate({key: {} for key in all_b - all_a}),
        unscored=_tabulate(unscored, ["side"]),
        n_boot=n_boot,
    )


def read_results(file: Path) -> pd.DataFrame:
    """Read `results.csv`, with "" where an image has no group and no name taken for a number."""
    if not file.is_file():
        raise InputError(
            f"{file} must exist. Got no such file; give the folder of an experiment or its "
            "results.csv."
        )
    table = read_table(file, {"data_set", "method", "image", "group", *_NUMBERS})
    for name in _NUMBERS:
        numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
        wrong = numbers.isna() & ~table[name].isin(["", "nan", "NaN"])
        if name in _COUNTS:
            wrong |= numbers < 0
        if wrong.any():
            raise InputError(
                f"{name} in {file} must hold numbers, counts from 0 on. "
                f"Got {table.loc[wrong, name].iloc[0]!r}; write the table again."
            )
        table[name] = numbers
    return table


def _read_sums(file: Path) -> tuple[dict[_Key, pd.DataFrame], set[_Key]]:
    """Take what scores are made of, for every scored setting and group, and list all settings.

    For each image (rows) and repeat: TP, FP + FN, SEG times true cells, and true cells.
    """
    table = read_results(file)
    numbers = [*SETTING[2:], "seed"]
    table[numbers] = table[numbers].round(9).fillna(_NONE)  # one number, however it was written
    images = table[(table["image"] != ALL) & table["tp"].notna()]
    again = images.duplicated([*_KEY, "image", "seed"])
    if again.any():
        raise InputError(
            f"{file} must have one row for every image and repeat of a setting. "
            f"Got {images.loc[again, 'image'].iloc[0]!r} twice; write the table again."
        )
    seg_sum = images["seg"].fillna(0) * images["n_true"]
    images = images.assign(wrong=images["fp"] + images["fn"], seg_sum=seg_sum, part=ALL)
    grouped = images[~images["group"].isin(["", ALL])]
    parts = pd.concat([images, grouped.assign(part=grouped["group"])])
    values = ["tp", "wrong", "seg_sum", "n_true"]
    sums: dict[_Key, pd.DataFrame] = {
        tuple(key): rows.pivot(index=["group", "image"], columns="seed", values=values)
        for key, rows in parts.groupby([*SETTING, "part"])
    }
    settings = table[list(SETTING)].drop_duplicates().itertuples(index=False, name=None)
    return sums, sums.keys() | {(*setting, ALL) for setting in settings}


def _compare(all_a: pd.DataFrame, all_b: pd.DataFrame, n_boot: int, seed: int) -> dict[str, Any]:
    """Compare one setting: everything of its row but its name."""
    a, b = all_a.dropna(), all_b.dropna()  # an image that a repeat lacks is left out
    common = a.index.intersection(b.index)
    paired = len(common) > 0
    if paired:
        a, b = a.loc[common], b.loc[common]
    sums_a, sums_b = (side.to_numpy().T.reshape(4, -1, len(side)) for side in (a, b))

    def differ(of_a: NDArray[np.intp], of_b: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
        """Score drawn images, given by position and of shape (draws, images)."""
        drawn_a, drawn_b = sums_a[..., of_a].sum(axis), sums_b[..., of_b].sum(axis)
        # A draw without true cells, which has no SEG, tells of no difference.
        return np.nan_to_num(_score(drawn_b).mean(axis=1) - _score(drawn_a).mean(axis=1))

    repeats_a, repeats_b = _score(sums_a.sum(axis=-1)), _score(sums_b.sum(axis=-1))
    mean_a, mean_b = repeats_a.mean(axis=-1), repeats_b.mean(axis=-1)
    difference = mean_b - mean_a
    low = high = np.full(2, np.nan)
    if min(len(a), len(b)) > 1:
        low, high = bootstrap(
            (np.arange(len(a)), np.arange(len(b))),
            differ,
            paired=paired,
            n_resamples=n_boot,
            batch=100,  # bounds memory
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
        same_seeds = list(a["tp"].columns) == list(b["tp"].columns)
        wider = _spread_of_repeats(repeats_a, repeats_b, paired=same_seeds)
        low = difference - np.hypot(np.maximum(difference - low, 0), wider)
        high = difference + np.hypot(np.maximum(high - difference, 0), wider)
    scores = np.stack([mean_a, mean_b, difference, low, high], axis=-1)
    return {
        "images": len(common) if paired else len(a) + len(b),
        "images_only_a": len(all_a) - len(common),
        "images_only_b": len(all_b) - len(common),
        "paired": paired,
        "same_truth": not paired or np.array_equal(sums_a[3, 0], sums_b[3, 0]),
        "repeats_a": repeats_a.shape[-1],
        "repeats_b": repeats_b.shape[-1],
    } | dict(zip(_COMPARED[7:], scores.ravel(), strict=True))


def _score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn sums of shape (4, seeds, ...) into F1 and SEG, of shape (2, seeds, ...)."""
    tp, wrong, seg, n_true = sums
    objects = 2 * tp + wrong
    f1 = np.divide(2 * tp, objects, out=np.ones_like(tp), where=objects > 0)
    return np.stack([f1, np.divide(seg, n_true, out=np.full_like(tp, np.nan), where=n_true > 0)])


def _spread_of_repeats(
    a: NDArray[np.float64], b: NDArray[np.float64], *, paired: bool
) -> NDArray[np.float64]:
    """Take half the width of Student's (Welch's) interval of the mean difference.

    `a` and `b` are F1 and SEG, of shape (2, repeats); paired repeats are in the same order.
    Single repeats add nothing.
    """
    sides = [side for side in ([b - a] if paired else [a, b]) if side.shape[-1] > 1]
    variances = np.array([sem(side, axis=-1) ** 2 for side in sides])
    freedom = np.array([[side.shape[-1] - 1] for side in sides])
    total, parts = variances.sum(axis=0), (variances**2 / freedom).sum(axis=0)
    welch = np.divide(total**2, parts, out=np.ones(2), where=parts > 0)
    width: NDArray[np.float64] = t.ppf(0.975, welch) * np.sqrt(total)
    return width


def _tabulate(rows: Mapping[_Key, Mapping[str, Any]], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Make a table of rows by key, those of all images first."""
    ordered = sorted(rows, key=lambda key: (*key[:-1], key[-1] != ALL, key[-1]))
    records = [{**dict(zip(_KEY, key, strict=True)), **rows[key]} for key in ordered]
    table = pd.DataFrame(records, columns=[*_KEY, *columns])
    return table.replace({name: {_NONE: np.nan} for name in SETTING[2:]})


def _name(row: Mapping[Any, Any]) -> str:
    numbers = [f"{name} {row[name]:g}" for name in SETTING[2:] if pd.notna(row[name])]
    group = [] if row["group"] == ALL else [row["group"]]
    side = [f"(in {row['side']})"] if "side" in row else []
    return " ".join([row["data_set"], *group, row["method"], *numbers, *side])


def _format(rows: pd.DataFrame) -> list[str]:
    header = ["", "images", "F1 A", "F1 B", "B − A", "SEG A", "SEG B", "B − A", "in words"]
    body = [
        [_name(row), str(row["images"])]
        + [cell for score in _SCORES for cell in _format_score(row, score)]
        + [_in_words(row)]
        for row in rows.to_dict("records")
    ]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rule = ["-" * width for width in widths]
    padded = [map(str.ljust, line, widths) for line in (header, rule, *body)]
    return [f"| {' | '.join(line)} |" for line in padded] + [""]


def _format_score(row: Mapping[Any, Any], score: str) -> list[str]:
    a, b, difference, low, high = (row[f"{score}_{part}"] for part in _PARTS)
    if np.isnan(difference):
        return ["", "", ""]
    interval = "" if np.isnan(low) else f" ({low:+.3f} to {high:+.3f})"
    return [f"{a:.3f}", f"{b:.3f}", f"{difference:+.3f}{interval}"]


def _in_words(row: Mapping[Any, Any]) -> str:
    left_out = row["paired"] and row["images_only_a"] + row["images_only_b"] > 0
    notes = {
        "Unpaired: no image in common.": not row["paired"],
        f"On the {row['images']} images of both.": left_out,
        "The same images have other numbers of true cells.": not row["same_truth"],
        "One run.": min(row["repeats_a"], row["repeats_b"]) == 1,
    }
    said = [f"{score.upper()}: {_judge(row, score)}." for score in _SCORES]
    return " ".join(said + [note for note, applies in notes.items() if applies])


def _judge(row: Mapping[Any, Any], score: str) -> str:
    difference, low, high = (row[f"{score}_{part}"] for part in _PARTS[2:])
    if np.isnan(difference):
        return "no true cells"
    if row["images"] < LEAST_IMAGES:
        return "too few images to tell"
    if difference == low == high == 0:
        return "the same"
    if low > 0:
        return "B is higher"
    return "A is higher" if high < 0 else "cannot be told apart"
