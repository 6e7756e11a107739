"""Reads the CSV files that runs leave or users write."""

import warnings
from pathlib import Path

import pandas as pd
from pandas.errors import ParserWarning

from oce2stardist.errors import InputError, one_line


def read_table(path: Path, columns: set[str]) -> pd.DataFrame:
    """Read a CSV file as text; an image may be called 001 or NA."""
    table = _read(path, str)
    missing = sorted(columns.difference(table.columns))
    if missing:
        raise InputError(
            f"{path} must have the columns {', '.join(sorted(columns))}. "
            f"Got {', '.join(table.columns)}; {missing[0]} is missing."
        )
    return table


def read_objects(path: Path) -> pd.DataFrame:
    """Read the objects.csv or cells.csv of a run: images as text, numbers as numbers."""
    return _read(path, {"image": str})


def _read(path: Path, dtype: type[str] | dict[str, type[str]]) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # Of rows longer than the head pandas would cut the end off.
            warnings.simplefilter("error", ParserWarning)
            return pd.read_csv(path, dtype=dtype, keep_default_na=False, index_col=False)
    except (OSError, ValueError, ParserWarning) as error:  # pandas' errors are ValueErrors
        raise InputError(f"{path} can't be read as a table: {one_line(error)}") from error
