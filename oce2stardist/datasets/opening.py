"""Open a data set of any kind, as a configuration names it."""

import inspect
from pathlib import Path
from typing import Any

from oce2stardist.datasets.cell_tracking import open_cell_tracking
from oce2stardist.datasets.folders import open_folders
from oce2stardist.datasets.labelled import LabelledSet
from oce2stardist.datasets.tissuenet import open_tissuenet
from oce2stardist.errors import InputError

READERS = {
    "cell_tracking": open_cell_tracking,
    "folders": open_folders,
    "tissuenet": open_tissuenet,
}


def open_data_set(kind: str, path: str | Path, **options: Any) -> LabelledSet:
    """Open a data set; its images are read when asked for.

    The options are those of the function in `READERS`, and so are the errors.
    """
    if kind not in READERS:
        raise InputError(
            f"kind must be one of {', '.join(READERS)}. Got {kind!r}; name one of these."
        )
    reader: Any = READERS[kind]
    accepted = [name for name in inspect.signature(reader).parameters if name != "path"]
    unknown = [name for name in options if name not in accepted]
    if unknown:
        raise InputError(
            f"options of {kind} must be among {', '.join(accepted)}. "
            f"Got {unknown[0]!r}; leave it out or correct it."
        )
    return reader(path, **options)
