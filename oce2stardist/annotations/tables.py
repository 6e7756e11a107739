"""Clicks and verdicts in plain tables (CSV), of one image or of many.

Points have the columns y and x in pixels, integers at centres of pixels as in objects.csv, and
perhaps label: what was clicked on. Verdicts have id (or label, as in objects.csv): the number of a
pseudo object in its label image, and verdict: a `Word`, or nothing for an object that nobody looked
at. Of their other columns only y and x matter, the centroid of the object: it must still have it.
The column image names the images, with or without suffix; a table without it is of the image that
it is named after.
"""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path, PureWindowsPath
from typing import get_args

import numpy as np
import pandas as pd

from oce2stardist.annotations.parsing import check_size
from oce2stardist.annotations.shapes import Mark, ObjectVerdict, Reading, Role, Word, role_of
from oce2stardist.errors import InputError
from oce2stardist.files.tables import read_table
from oce2stardist.images.find import image_stem

MAX_BYTES = 256 * 2**20
_POINTS = {"y", "x"}
_ALSO = {"image", "label"}
"""A table of points has no other columns: measured objects are no clicks."""

_WORDS: tuple[Word, ...] = get_args(Word)
_NEGATIVE = ("0", "negative")


def columns_of(file: Path) -> list[str]:
    """Read the first line of a CSV file."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        return next(csv.reader([lines.readline(10_000)]), [])


def is_points(columns: Collection[str]) -> bool:
    """Tell by its columns whether a table holds points."""
    return _POINTS <= set(columns) <= _POINTS | _ALSO


def is_verdicts(columns: Collection[str]) -> bool:
    """Tell by its columns whether a table holds verdicts."""
    return "verdict" in columns and bool({"id", "label"} & set(columns))


def role_of_label(label: str) -> Role:
    """Tell what was clicked on: as in `role_of`, but ``0`` and ``negative`` are background."""
    return "background" if label.strip().lower() in _NEGATIVE else role_of(label)


def split_by_image(file: Path) -> dict[str | None, pd.DataFrame]:
    """Read a table of text by the images that it names; a table that names none is that of None."""
    check_size(file, at_most=MAX_BYTES)
    table = read_table(file, set())
    if "image" not in table:
        return {None: table}
    return {str(name): rows for name, rows in table.groupby("image", sort=False)}


def stems_of(name: str) -> tuple[str, ...]:
    """List the stems that the name of an image in a table may mean, the likeliest first."""
    name = PureWindowsPath(name).name  # of both separators
    return name, image_stem(name)


def read_points(table: pd.DataFrame, file: Path, *, shape: tuple[int, int]) -> Reading:
    """Read the points of one image; `shape` is checked where they are used."""
    del shape
    y, x = (_numbers(table, name, file) for name in ("y", "x"))
    labels: Sequence[str] = table["label"].tolist() if "label" in table else [""] * len(table)
    places = np.stack([x, y], axis=1) + 0.5
    marks = [
        Mark((place[None],), role_of_label(label), "", int(row) + 1)
        for place, label, row in zip(places, labels, table.index, strict=True)
    ]
    return Reading([], [], marks)


def read_verdicts(table: pd.DataFrame, file: Path, *, shape: tuple[int, int]) -> Reading:
    """Read the verdicts on the pseudo objects of one image."""
    del shape
    words = table["verdict"].str.strip().str.lower()
    table, words = table[words != ""], words[words != ""]
    ids = _numbers(table, "id" if "id" in table else "label", file)
    has_centroids = set(table.columns) >= _POINTS
    y, x = (_numbers(table, name, file) if has_centroids else ids for name in ("y", "x"))
    verdicts: dict[int, ObjectVerdict] = {}
    for number, word, *centroid in zip(ids, words, y, x, strict=True):
        if word not in _WORDS:
            raise InputError(
                f"a verdict must be one of {', '.join(_WORDS)}. Got {word!r} in {file}; correct it."
            )
        if number < 1 or number != round(number):
            raise InputError(
                f"{file}: a verdict must be on a pseudo object, by its number in the label image. "
                f"Got {number:g}; count from 1."
            )
        verdict = ObjectVerdict(word, (centroid[0], centroid[1]) if has_centroids else None)
        if verdicts.setdefault(int(number), verdict).word != word:
            raise InputError(
                f"{file} must say one thing of an object. Got {verdicts[int(number)].word} and "
                f"{word} for {number:g}; remove one."
            )
    return Reading([], [], verdicts=verdicts)


def _numbers(table: pd.DataFrame, column: str, file: Path) -> np.ndarray:
    """Read a column of finite numbers."""
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        raise InputError(
            f"{file}: {column} must be a finite number. Got {table[column][bad].iloc[0]!r}."
        )
    return numbers
