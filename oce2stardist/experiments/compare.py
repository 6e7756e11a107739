"""Two results of experiments side by side: what differs by more than chance, and what does not."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_text

SETTING = ("data_set", "method", "fraction", "alpha", "scale")
"""Columns that say what was run; with the group they match the rows of two results."""

ALL = "(all)"
"""What `results.csv` calls the row over all images, and the group of all images."""

LEAST_IMAGES = 6
"""Of fewer images all may favour one side by chance more often than one time in twenty."""

_TEXT = ("data_set", "method", "image", "group")
_NUMBERS = ("fraction", "alpha", "scale", "seed", "seg", "tp", "fp", "fn", "n_true")
_COUNTS = ("tp", "fp", "fn", "n_true")
_SHARE = 0.95


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
        ``paired``; ``repeats_a`` and ``repeats_b``; for `f1` and `seg` each ``f1_a``,
        ``f1_b``, ``f1_difference``, ``f1_low`` and ``f1_high`` (95 % interval);
        ``in_words``.
    only_a, only_b : DataFrame
        Settings and groups of which the other has nothing.
    unscored : DataFrame
        Settings that both have, but one or both without scores, such as a method whose
        weights could not be had; ``side`` says which: ``A``, ``B`` or ``A and B``.
    n_boot, seed : int
        Draws, and what they were drawn with.
    """

    a: Path
    b: Path
    rows: pd.DataFrame
    only_a: pd.DataFrame
    only_b: pd.DataFrame
    unscored: pd.DataFrame
    n_boot: int
    seed: int

    def write_csv(self, file: Path) -> None:
        """Write the rows, such as `comparison.csv`; missing folders are made.

        Rows that could not be compared are in it, too, without numbers; ``in_words`` says why.
        """
        rows = list(self.rows.to_dict("records"))
        for table, words in ((self.only_a, "only in A"), (self.only_b, "only in B")):
            rows += [row | {"in_words": words} for row in table.to_dict("records")]
        rows += [
            row | {"in_words": f"no scores in {row['side']}"}
            for row in self.unscored.to_dict("records")
        ]
        columns = list(self.rows.columns)
        write_text(file, pd.DataFrame(rows, columns=columns).to_csv(index=False))

    def as_text(self) -> str:
        """Lay a comparison out as a Markdown table with what it means below."""
        lines = [f"A: {self.a}", f"B: {self.b}", ""]
        if len(self.rows):
            lines += _format_rows(self.rows)
        lines += _summarise(self)
        for words, table in (
            ("Only in A", self.only_a),
            ("Only in B", self.only_b),
            ("Without scores", self.unscored),
        ):
            if len(table):
                lines += ["", f"{words}:"]
                lines += [f"- {_name_row(row)}" for row in table.to_dict("records")]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Counts:
    """Counts of one setting; images without truth have SEG 0 and no weight.

    Attributes
    ----------
    images : tuple of (group, image)
        Those that every repeat has.
    seeds : tuple of float
    partial : int
        Images left out because a repeat lacks them.
    sums : float array of shape (images, seeds, 4)
        TP, FP + FN, SEG times true cells, true cells.
    """

    images: tuple[tuple[str, str], ...]
    seeds: tuple[float, ...]
    partial: int
    sums: NDArray[np.float64]

    def choose(self, images: list[tuple[str, str]]) -> NDArray[np.float64]:
        position = {image: at for at, image in enumerate(self.images)}
        return self.sums[[position[image] for image in images]]


_Key = tuple[Any, ...]


def compare_results(a: Path, b: Path, *, n_boot: int = 2000, seed: int = 0) -> Comparison:
    """Compare F1 and SEG of everything that two results have in common.

    Parameters
    ----------
    a, b : Path
        Folders of experiments, or their `results.csv`.
    n_boot : int, >= 100
        Bootstrap draws.
    seed : int, >= 0

    Returns
    -------
    Comparison

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

    Two things could have come out otherwise, and the interval holds both. *Images*: of n, a
    draw takes n − 1 with replacement, which makes the variance of a mean right for few [1]_,
    each with all of its repeats. *Repeats* (seeds): there are too few of them to draw, three
    of one sign would be taken for proof one time in four; Student's t of their differences
    widens the interval instead, as the root of the sum of squares. What images and repeats
    share is thus counted twice: with several repeats an interval is rather too wide. A single
    repeat says nothing of others: its interval is of images alone, and ``in_words`` says so.

    Where both sides have an image, it is drawn for both or for neither (paired), and images
    that one side lacks are left out, counted in `images_only_a` and `images_only_b`. Without
    any common image each side is drawn by itself (unpaired). Repeats are paired where both
    sides have the same seeds; otherwise t is Welch's.

    Intervals are of 95 %, one a row: of twenty rows without any difference, one may exclude 0.

    References
    ----------
    .. [1] Rao and Wu, J. Am. Stat. Assoc. 83(401), 1988, doi:10.1080/01621459.1988.10478591.
    """
    if n_boot < 100:
        raise InputError(f"n_boot must be at least 100. Got {n_boot}; 2000 is usual.")
    files = (_find_table(a), _find_table(b))
    sides = [_count_all(read_results(file), file) for file in files]
    (counted_a, unscored_a), (counted_b, unscored_b) = sides
    known_a, known_b = counted_a.keys() | unscored_a, counted_b.keys() | unscored_b
    if not known_a & known_b:
        raise InputError(
            f"{files[0]} and {files[1]} must share a {', '.join((*SETTING, 'group'))}. "
            f"Got none of {len(known_a)} and {len(known_b)} in both; compare the same study."
        )
    rows = [
        dict(zip((*SETTING, "group"), key, strict=True))
        | _compare_counts(counted_a[key], counted_b[key], n_boot=n_boot, seed=seed)
        for key in _in_order(counted_a.keys() & counted_b.keys())
    ]
    _draw.cache_clear()
    either = (known_a & known_b) - (counted_a.keys() & counted_b.keys())
    unscored = _tabulate(either)
    unscored["side"] = [
        " and ".join(side for side, keys in (("A", unscored_a), ("B", unscored_b)) if key in keys)
        for key in _in_order(either)
    ]
    return Comparison(
        a=files[0],
        b=files[1],
        rows=pd.DataFrame(rows, columns=[*SETTING, "group", *_compared_columns()]),
        only_a=_tabulate(known_a - known_b),
        only_b=_tabulate(known_b - known_a),
        unscored=unscored,
        n_boot=n_boot,
        seed=seed,
    )


def read_results(file: Path) -> pd.DataFrame:
    """Read `results.csv`, with "" where an image has no group and no name taken for a number.

    Raises
    ------
    InputError
        If it is no such table.
    """
    absent = ["", "nan", "NaN"]
    try:
        table = pd.read_csv(
            file,
            dtype=dict.fromkeys((*_TEXT, "run"), "str"),
            keep_default_na=False,
            na_values=dict.fromkeys(_NUMBERS, absent),
        )
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{file} must be a table of results. Got {reason}; give the folder of an experiment."
        ) from error
    missing = [name for name in (*_TEXT, *_NUMBERS) if name not in table.columns]
    if missing:
        raise InputError(
            f"{file} must have the columns of results.csv. Got none named {', '.join(missing)}; "
            "give the folder of an experiment."
        )
    for name in _NUMBERS:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name].notna() & numbers.isna()
        if name in _COUNTS:
            wrong |= numbers < 0
        if wrong.any():
            raise InputError(
                f"{name} in {file} must hold numbers, counts from 0 on. "
                f"Got {table.loc[wrong, name].iloc[0]!r}; write the table again."
            )
        table[name] = numbers.astype(float)
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


def _count_all(table: pd.DataFrame, file: Path) -> tuple[dict[_Key, _Counts], set[_Key]]:
    """Split a table into the counts of every setting and group, and settings without scores."""
    for name in ("fraction", "alpha", "scale"):
        table[name] = table[name].round(9)  # one number, however it was computed and written
    is_image = (table["image"] != ALL) & table["tp"].notna()
    counted: dict[_Key, _Counts] = {}
    unscored: set[_Key] = set()
    for setting, rows in table.groupby(list(SETTING), dropna=False, sort=False):
        images = rows[is_image[rows.index]]
        if images.empty:
            unscored.add(_key(setting, ALL))
            continue
        counted[_key(setting, ALL)] = _count(images, file)
        for group, of_group in images.groupby("group", sort=False):
            if group not in ("", ALL):
                counted[_key(setting, str(group))] = _count(of_group, file)
    return counted, unscored


def _key(setting: Any, group: str) -> _Key:
    """Name a row so that absent numbers equal each other, which NaN does not."""
    return (*(None if pd.isna(value) else value for value in setting), group)


def _count(images: pd.DataFrame, file: Path) -> _Counts:
    names = pd.MultiIndex.from_frame(images[["group", "image"]])
    image_codes, image_names = pd.factorize(names)
    seed_codes, seeds = pd.factorize(images["seed"].fillna(-1), sort=True)
    present = np.zeros((len(image_names), len(seeds)), int)
    np.add.at(present, (image_codes, seed_codes), 1)
    if present.max() > 1:
        _, image = image_names[int(np.argmax(present.max(axis=1)))]
        raise InputError(
            f"{file} must have one row for every image and repeat of a setting. "
            f"Got {image!r} twice; write the table again."
        )
    n_true = images["n_true"].to_numpy()
    sums = np.zeros((len(image_names), len(seeds), 4))
    sums[image_codes, seed_codes] = np.stack(
        [
            images["tp"].to_numpy(),
            (images["fp"] + images["fn"]).to_numpy(),
            np.nan_to_num(images["seg"].to_numpy()) * n_true,
            n_true,
        ],
        axis=1,
    )
    whole = present.all(axis=1)
    return _Counts(
        images=tuple(image_names[whole]),
        seeds=tuple(float(seed) for seed in seeds),
        partial=int((~whole).sum()),
        sums=sums[whole],
    )


def _compared_columns() -> list[str]:
    scores = [
        f"{score}_{part}"
        for score in ("f1", "seg")
        for part in ("a", "b", "difference", "low", "high")
    ]
    about = ["images", "images_only_a", "images_only_b", "paired", "repeats_a", "repeats_b"]
    return [*about, *scores, "in_words"]


def _compare_counts(a: _Counts, b: _Counts, *, n_boot: int, seed: int) -> dict[str, Any]:
    """Compare one setting: everything of its row but its name."""
    others = set(b.images)
    common = [image for image in a.images if image in others]
    paired = bool(common)
    sums_a = a.choose(common) if paired else a.sums
    sums_b = b.choose(common) if paired else b.sums
    drawn_a = _bootstrap(sums_a, n_boot, seed, "images")
    drawn_b = _bootstrap(sums_b, n_boot, seed, "images" if paired else "images of B")
    repeats_a, repeats_b = _scores(sums_a.sum(axis=0)), _scores(sums_b.sum(axis=0))
    of_repeats = _spread_of_repeats(repeats_a, repeats_b, paired=a.seeds == b.seeds)
    fewest = min(len(sums_a), len(sums_b))
    row: dict[str, Any] = {
        "images": len(common) if paired else len(sums_a) + len(sums_b),
        "images_only_a": len(a.images) - len(common) + a.partial,
        "images_only_b": len(b.images) - len(common) + b.partial,
        "paired": paired,
        "repeats_a": len(a.seeds),
        "repeats_b": len(b.seeds),
    }
    words = []
    for at, score in enumerate(("f1", "seg")):
        ours, theirs = repeats_a[:, at].mean(), repeats_b[:, at].mean()
        low, high = _interval(theirs - ours, drawn_b[:, at] - drawn_a[:, at], of_repeats[at])
        if fewest < 2:
            low = high = np.nan
        row |= {
            f"{score}_a": ours,
            f"{score}_b": theirs,
            f"{score}_difference": theirs - ours,
            f"{score}_low": low,
            f"{score}_high": high,
        }
        words.append(f"{score.upper()}: {_judge(theirs - ours, low, high, fewest)}.")
    row["in_words"] = " ".join(words + _remark(a, b, row, _truth_differs(sums_a, sums_b, paired)))
    return row


@lru_cache(maxsize=4)  # of a thousand images each takes 16 MB
def _draw(stream: str, n: int, n_boot: int, seed: int) -> NDArray[np.float64]:
    """How often each of n things is drawn: an array of shape (n_boot, n).

    Rows of equal size share their draws: a row's interval does not depend on other rows.
    """
    rng = np.random.default_rng([seed, n, *stream.encode()])
    chosen = rng.integers(0, n, (n_boot, max(1, n - 1)))
    chosen += np.arange(n_boot)[:, None] * n
    return np.bincount(chosen.ravel(), minlength=n_boot * n).reshape(n_boot, n).astype(float)


def _bootstrap(
    sums: NDArray[np.float64], n_boot: int, seed: int, stream: str
) -> NDArray[np.float64]:
    """Draw F1 and SEG, each averaged over repeats: an array of shape (n_boot, 2)."""
    n_images, n_seeds, n_sums = sums.shape
    images = _draw(stream, n_images, n_boot, seed)
    totals = (images @ sums.reshape(n_images, -1)).reshape(n_boot, n_seeds, n_sums)
    return _scores(totals).mean(axis=1)


def _spread_of_repeats(
    a: NDArray[np.float64], b: NDArray[np.float64], *, paired: bool
) -> NDArray[np.float64]:
    """Half the width of Student's interval of the mean difference; 0 of single repeats.

    Parameters
    ----------
    a, b : float arrays of shape (repeats, 2)
        F1 and SEG.
    paired : bool
        Whether both have the same repeats in the same order.
    """
    sides = [b - a] if paired else [a, b]
    sides = [side for side in sides if len(side) > 1]
    if not sides:
        return np.zeros(2)
    variances = np.array([side.var(axis=0, ddof=1) / len(side) for side in sides])
    freedom = np.array([[len(side) - 1.0] for side in sides])
    total, parts = variances.sum(axis=0), (variances**2 / freedom).sum(axis=0)
    welch = np.divide(total**2, parts, out=np.ones(2), where=parts > 0)
    return t.ppf((1 + _SHARE) / 2, welch) * np.sqrt(total)


def _scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 and SEG on a last axis in place of sums; F1 is 1 where there is no object, SEG nan."""
    tp, wrong, seg, n_true = np.moveaxis(sums, -1, 0)
    objects = 2 * tp + wrong
    f1 = np.divide(2 * tp, objects, out=np.ones_like(tp), where=objects > 0)
    seg = np.divide(seg, n_true, out=np.full_like(tp, np.nan), where=n_true > 0)
    return np.stack([f1, seg], axis=-1)


def _interval(
    difference: float, drawn: NDArray[np.float64], of_repeats: float
) -> tuple[float, float]:
    finite = drawn[np.isfinite(drawn)]
    if not finite.size or np.isnan(difference):
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - _SHARE) / 2, (1 + _SHARE) / 2])
    below, above = max(0.0, difference - low), max(0.0, high - difference)
    return (
        difference - float(np.hypot(below, of_repeats)),
        difference + float(np.hypot(above, of_repeats)),
    )


def _judge(difference: float, low: float, high: float, n_images: int) -> str:
    if np.isnan(difference):
        return "no true cells"
    if n_images < LEAST_IMAGES:
        return "too few images to tell"
    if difference == low == high == 0:
        return "the same"
    if low > 0:
        return "B is higher"
    return "A is higher" if high < 0 else "cannot be told apart"


def _truth_differs(a: NDArray[np.float64], b: NDArray[np.float64], paired: bool) -> bool:
    return paired and bool((a[:, :1, 3] != b[:, :1, 3]).any())


def _remark(a: _Counts, b: _Counts, row: dict[str, Any], truth_differs: bool) -> list[str]:
    """What keeps a row from saying more."""
    remarks = []
    if not row["paired"]:
        remarks.append("Unpaired: no image in common.")
    elif row["images_only_a"] or row["images_only_b"]:
        remarks.append(f"On the {row['images']} images of both.")
    if truth_differs:
        remarks.append("The same images have other numbers of true cells.")
    alone = {len(a.seeds), len(b.seeds)}
    if alone == {1}:
        remarks.append("One run each.")
    elif 1 in alone:
        remarks.append(f"One run of {'A' if len(a.seeds) == 1 else 'B'}.")
    return remarks


def _in_order(keys: set[_Key]) -> list[_Key]:
    def rank(key: _Key) -> tuple[Any, ...]:
        *setting, group = key
        numbers = tuple(-1.0 if value is None else value for value in setting)
        return (*numbers, group != ALL, group)

    return sorted(keys, key=rank)


def _tabulate(keys: set[_Key]) -> pd.DataFrame:
    return pd.DataFrame(_in_order(keys), columns=[*SETTING, "group"])


def _name_row(row: dict[Any, Any]) -> str:
    numbers = [
        f"{name} {row[name]:g}" for name in ("fraction", "alpha", "scale") if pd.notna(row[name])
    ]
    group = [] if row["group"] == ALL else [row["group"]]
    side = [f"(in {row['side']})"] if "side" in row else []
    return " ".join([str(row["data_set"]), *group, str(row["method"]), *numbers, *side])


def _format_rows(rows: pd.DataFrame) -> list[str]:
    header = ["", "images", "F1 A", "F1 B", "B − A", "SEG A", "SEG B", "B − A", "in words"]
    body = [
        [
            _name_row(row),
            str(row["images"]),
            *(cell for score in ("f1", "seg") for cell in _format_score(row, score)),
            row["in_words"],
        ]
        for row in rows.to_dict("records")
    ]
    widths = [max(len(line[at]) for line in (header, *body)) for at in range(len(header))]
    rule = ["-" * width for width in widths]
    return [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (header, rule, *body)
    ] + [""]


def _format_score(row: dict[Any, Any], score: str) -> list[str]:
    parts = ("a", "b", "difference", "low", "high")
    a, b, difference, low, high = (row[f"{score}_{part}"] for part in parts)
    if np.isnan(difference):
        return ["", "", ""]
    interval = "" if np.isnan(low) else f" ({low:+.3f} to {high:+.3f})"
    return [f"{a:.3f}", f"{b:.3f}", f"{difference:+.3f}{interval}"]


def _summarise(comparison: Comparison) -> list[str]:
    rows = comparison.rows
    if rows.empty:
        return ["Nothing that both have was scored in both."]
    told = rows["in_words"].str.contains("F1: [AB] is higher")
    alike = rows["in_words"].str.contains("F1: cannot be told apart|F1: the same")
    lines = [
        f"F1 differs in {told.sum()} of {len(rows)} rows, cannot be told apart in {alike.sum()}. "
        f"Intervals: 95 %, {comparison.n_boot} bootstrap draws of images, widened by Student's t "
        "of repeats.",
    ]
    if len(rows) > 1:
        lines.append("Of twenty rows without any difference, one may seem to differ by chance.")
    if ((rows["repeats_a"] == 1) | (rows["repeats_b"] == 1)).any():
        lines.append(
            "With one run of a side, its interval leaves out what another seed would change."
        )
    return lines
