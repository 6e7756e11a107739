"""Compare two results of experiments: what differs by more than chance, and what does not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

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
_COLUMNS = [
    *(*_KEY, "images", "images_only_a", "images_only_b", "paired", "same_truth"),
    *("repeats_a", "repeats_b", *(f"{score}_{part}" for score in _SCORES for part in _PARTS)),
]
_Key = tuple[Any, ...]
_NONE = -1.0
"""Stands for an absent number in a key: NaN does not equal itself."""


@dataclass(frozen=True)
class Comparison:
    """Differences of two results, B minus A.

    Attributes
    ----------
    a, b : Path
        The two files.
    rows : DataFrame
        What both have, one row per setting and group. `SETTING` and ``group``; ``images``
        that were compared, ``images_only_a`` and ``images_only_b`` that were left out,
        ``paired``, ``same_truth``: whether images have as many true cells in both;
        ``repeats_a`` and ``repeats_b``; for `f1` and `seg` each ``f1_a``, ``f1_b``,
        ``f1_difference``, ``f1_low`` and ``f1_high`` (95 % interval).
    only_a, only_b : DataFrame
        Settings and groups of which the other has nothing.
    unscored : DataFrame
        Settings that both have, but one or both without scores, such as a method whose
        weights could not be had; ``side`` says which: ``A``, ``B`` or ``A and B``.
    n_boot : int
        Bootstrap draws.
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
            self.unscored.assign(found=[f"no scores in {side}" for side in self.unscored["side"]]),
        ]
        rows = [row for part in parts for row in part.to_dict("records")]
        write_text(file, pd.DataFrame(rows, columns=[*_COLUMNS, "found"]).to_csv(index=False))

    def as_text(self) -> str:
        """Lay a comparison out as a Markdown table, with what it lacks below."""
        lines = [f"A: {self.a}", f"B: {self.b}", ""]
        lines += _format(self.rows) if len(self.rows) else ["Nothing was scored in both."]
        lines += [
            f"Intervals: 95 %, {self.n_boot} bootstrap draws of images, widened by Student's t of "
            "repeats; one run says nothing of other seeds. Of twenty rows without any "
            "difference, one may seem to differ by chance.",
        ]
        for words, table in (
            ("Only in A", self.only_a),
            ("Only in B", self.only_b),
            ("Without scores", self.unscored),
        ):
            if len(table):
                lines += ["", f"{words}:"]
                lines += [f"- {_name(row)}" for row in table.to_dict("records")]
        return "\n".join(lines)


def compare_results(a: Path, b: Path, *, n_boot: int = 2000, seed: int = 0) -> Comparison:
    """Compare F1 and SEG of everything that two results have in common.

    Parameters
    ----------
    a, b : Path
        Folders of experiments, or their `results.csv`.
    n_boot : int, >= 100
        Bootstrap draws.
    seed : int, >= 0

    Raises
    ------
    InputError
        If a table is missing or not such a table, has an image twice, or the two have no
        setting in common.

    Notes
    -----
    Rows match by data set, method, fraction, alpha, scale and group. Scores are taken as in
    `summary.csv`: for each repeat counts are pooled over images (SEG is the mean over true
    cells), then the repeats are averaged.

    Images are drawn (bootstrap), each with all of its repeats: those that both
    sides have for both or neither, others are left out and counted; without any common image
    each side is drawn by itself. Repeats (seeds) are too few to draw, three of one sign would
    be taken for proof one time in four: Student's t of their differences (Welch's, where the
    seeds differ) widens the interval, as the root of the sum of squares.
    """
    if n_boot < 100:
        raise InputError(f"n_boot must be at least 100. Got {n_boot}; 2000 is usual.")
    files = [_find_table(a), _find_table(b)]
    (scored_a, known_a), (scored_b, known_b) = (_sums_by_key(file) for file in files)
    if not known_a & known_b:
        raise InputError(
            f"{files[0]} and {files[1]} must share a {', '.join(_KEY)}. "
            f"Got none of {len(known_a)} and {len(known_b)} in both; compare the same study."
        )
    both = scored_a.keys() & scored_b.keys()
    rows = _tabulate(both)
    compared = [_compare(scored_a[key], scored_b[key], n_boot, seed) for key in _in_order(both)]
    unscored = (known_a & known_b) - both
    sides = (("A", scored_a), ("B", scored_b))
    return Comparison(
        a=files[0],
        b=files[1],
        rows=pd.concat([rows, pd.DataFrame(compared, columns=_COLUMNS[len(_KEY) :])], axis=1),
        only_a=_tabulate(known_a - known_b),
        only_b=_tabulate(known_b - known_a),
        unscored=_tabulate(unscored).assign(
            side=[
                " and ".join(side for side, scored in sides if key not in scored)
                for key in _in_order(unscored)
            ]
        ),
        n_boot=n_boot,
    )


def read_results(file: Path) -> pd.DataFrame:
    """Read `results.csv`, with "" where an image has no group and no name taken for a number.

    Raises
    ------
    InputError
        If it is no such table.
    """
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


def _find_table(given: Path) -> Path:
    path = Path(given)
    file = path / "results.csv" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"{file} must exist. Got no such file; give the folder of an experiment or its "
            "results.csv."
        )
    return file


def _sums_by_key(file: Path) -> tuple[dict[_Key, pd.DataFrame], set[_Key]]:
    """Sum up every scored setting and group of a table, and list all that it has."""
    table = read_results(file)
    numbers = list(SETTING[2:])
    table[numbers] = table[numbers].round(9).fillna(_NONE)  # one number, however it was written
    images = table[(table["image"] != ALL) & table["tp"].notna()]
    grouped = images[~images["group"].isin(["", ALL])]
    parts = pd.concat([images.assign(part=ALL), grouped.assign(part=grouped["group"])])
    groups = parts.groupby([*SETTING, "part"])
    sums: dict[_Key, pd.DataFrame] = {tuple(key): _sums(rows, file) for key, rows in groups}
    settings = table[list(SETTING)].drop_duplicates().itertuples(index=False, name=None)
    return sums, sums.keys() | {(*setting, ALL) for setting in settings}


def _sums(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Take TP, FP + FN, SEG times true cells, and true cells: (images, 4 x seeds)."""
    rows = rows.fillna({"seed": _NONE})
    index = pd.MultiIndex.from_frame(rows[["group", "image", "seed"]])
    if not index.is_unique:
        raise InputError(
            f"{file} must have one row for every image and repeat of a setting. "
            f"Got {index[index.duplicated()][0][1]!r} twice; write the table again."
        )
    values = {
        "tp": rows["tp"],
        "wrong": rows["fp"] + rows["fn"],
        "seg": rows["seg"].fillna(0) * rows["n_true"],
        "n_true": rows["n_true"],
    }
    return pd.DataFrame(values).set_index(index).unstack("seed")


def _compare(all_a: pd.DataFrame, all_b: pd.DataFrame, n_boot: int, seed: int) -> dict[str, Any]:
    """Compare one setting: everything of its row but its name."""
    a, b = all_a.dropna(), all_b.dropna()  # an image that a repeat lacks is left out
    common = a.index.intersection(b.index)
    paired = len(common) > 0
    if paired:
        a, b = a.loc[common], b.loc[common]
    sums_a, sums_b = (side.to_numpy().reshape(len(side), 4, -1) for side in (a, b))

    repeats_a, repeats_b = _scores(sums_a.sum(axis=0)), _scores(sums_b.sum(axis=0))
    found = repeats_b.mean(axis=-1) - repeats_a.mean(axis=-1)
    low, high = np.full((2, 2), np.nan)
    if min(len(a), len(b)) > 1:
        drawn_a = _draw(sums_a, n_boot, np.random.default_rng([seed, 0]))
        drawn_b = _draw(sums_b, n_boot, np.random.default_rng([seed, int(not paired)]))
        told = ~np.isnan(found)  # SEG is nan without true cells
        drawn = (drawn_b - drawn_a)[told]
        low[told], high[told] = np.nanquantile(drawn, [0.025, 0.975], axis=-1)
        same_seeds = list(a["tp"].columns) == list(b["tp"].columns)
        wider = _spread_of_repeats(repeats_a, repeats_b, paired=same_seeds)
        low = found - np.hypot(np.maximum(found - low, 0), wider)
        high = found + np.hypot(np.maximum(high - found, 0), wider)
    columns = (repeats_a.mean(axis=-1), repeats_b.mean(axis=-1), found, low, high)
    return {
        "images": len(common) if paired else len(a) + len(b),
        "images_only_a": len(all_a) - len(common),
        "images_only_b": len(all_b) - len(common),
        "paired": paired,
        "same_truth": not paired or np.array_equal(sums_a[:, 3, 0], sums_b[:, 3, 0]),
        "repeats_a": repeats_a.shape[-1],
        "repeats_b": repeats_b.shape[-1],
    } | {
        f"{score}_{part}": column[at]
        for at, score in enumerate(_SCORES)
        for part, column in zip(_PARTS, columns, strict=True)
    }


def _draw(sums: NDArray[np.float64], n_boot: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw F1 and SEG, each averaged over repeats: an array of shape (2, draws).

    Of n images n - 1 are drawn, which makes the variance of a mean right for few: Rao and Wu,
    J. Am. Stat. Assoc. 83(401), 1988, doi:10.1080/01621459.1988.10478591.
    """
    n = len(sums)
    times = rng.multinomial(n - 1, np.full(n, 1 / n), n_boot).astype(float)  # (draws, images)
    return _scores(np.tensordot(times, sums, 1)).mean(axis=-1)


def _scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn sums of shape (..., 4, seeds) into F1 and SEG, of shape (2, ..., seeds)."""
    tp, wrong, seg, n_true = np.moveaxis(sums, -2, 0)
    objects = 2 * tp + wrong
    f1 = np.divide(2 * tp, objects, out=np.ones_like(tp), where=objects > 0)
    return np.stack([f1, np.divide(seg, n_true, out=np.full_like(tp, np.nan), where=n_true > 0)])


def _spread_of_repeats(
    a: NDArray[np.float64], b: NDArray[np.float64], *, paired: bool
) -> NDArray[np.float64]:
    """Take half the width of Student's interval of the mean difference; 0 of single repeats.

    `a` and `b` are F1 and SEG, of shape (2, repeats); paired repeats are in the same order.
    """
    sides = [side for side in ([b - a] if paired else [a, b]) if side.shape[-1] > 1]
    if not sides:
        return np.zeros(2)
    variances = np.array([side.var(axis=-1, ddof=1) / side.shape[-1] for side in sides])
    freedom = np.array([[side.shape[-1] - 1.0] for side in sides])
    total, parts = variances.sum(axis=0), (variances**2 / freedom).sum(axis=0)
    welch = np.divide(total**2, parts, out=np.ones(2), where=parts > 0)
    width: NDArray[np.float64] = t.ppf(0.975, welch) * np.sqrt(total)
    return width


def _in_order(keys: set[_Key]) -> list[Any]:
    return sorted(keys, key=lambda key: (*key[:-1], key[-1] != ALL, key[-1]))


def _tabulate(keys: set[_Key]) -> pd.DataFrame:
    return pd.DataFrame(_in_order(keys), columns=_KEY).replace(
        {name: {_NONE: np.nan} for name in SETTING[2:]}
    )


def _name(row: dict[Any, Any]) -> str:
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
    widths = [max(len(line[at]) for line in (header, *body)) for at in range(len(header))]
    rule = ["-" * width for width in widths]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        for line in (header, rule, *body)
    ]
    return [f"| {' | '.join(line)} |" for line in padded] + [""]


def _format_score(row: dict[Any, Any], score: str) -> list[str]:
    a, b, difference, low, high = (row[f"{score}_{part}"] for part in _PARTS)
    if np.isnan(difference):
        return ["", "", ""]
    interval = "" if np.isnan(low) else f" ({low:+.3f} to {high:+.3f})"
    return [f"{a:.3f}", f"{b:.3f}", f"{difference:+.3f}{interval}"]


def _in_words(row: dict[Any, Any]) -> str:
    said = [f"{score.upper()}: {_judge(row, score)}." for score in _SCORES]
    if not row["paired"]:
        said.append("Unpaired: no image in common.")
    elif row["images_only_a"] or row["images_only_b"]:
        said.append(f"On the {row['images']} images of both.")
    if not row["same_truth"]:
        said.append("The same images have other numbers of true cells.")
    if min(row["repeats_a"], row["repeats_b"]) == 1:
        said.append("One run.")
    return " ".join(said)


def _judge(row: dict[Any, Any], score: str) -> str:
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
