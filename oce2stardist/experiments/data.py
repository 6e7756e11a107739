"""Open the data sets of an experiment, thin them out, and hash them for the keys of its cells."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from oce2stardist.datasets import LabelledSet, open_data_set, pair_folders
from oce2stardist.errors import InputError
from oce2stardist.experiments.config import DataConfig

_AT_ONCE = 1 << 20
"""Bytes read at a time."""


def open_data(data: DataConfig) -> LabelledSet:
    """Open a data set as an experiment's config names it; pixels are read when asked for.

    Raises
    ------
    InputError
        As the reader of its kind.
    """
    path = Path(data.path)
    if data.kind == "pairs":
        images = pair_folders(path / "images", path / "masks", **data.options)
        images = images[:: data.test_every]
        return LabelledSet(data.title, images, images)
    opened = open_data_set(data.kind, path, **data.options)
    return replace(
        opened,
        name=data.title,
        train=opened.train[:: data.every],
        test=opened.test[:: data.test_every],
    )


def hash_data(data: DataConfig, known: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Hash names and contents of a data set's files.

    Parameters
    ----------
    data : DataConfig
    known : mapping
        What an earlier call returned: files of unchanged size and time are not read again.

    Returns
    -------
    hash, and hashes by file, size and time

    Raises
    ------
    InputError
        If there is no such folder or it holds no file.
    """
    root = Path(data.path)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name[0] != ".")
    if not files:
        raise InputError(
            f"{root} must be a folder that holds the data set {data.title}. Got "
            f"{'no file in it' if root.is_dir() else 'no such folder'}; pass --data with its path."
        )
    total, seen = hashlib.sha256(), {}
    for path in files:
        status = path.stat()
        mark = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
        seen[mark] = known.get(mark) or _hash_file(path)
        total.update(f"{path.relative_to(root).as_posix()}\0{seen[mark]}\n".encode())
    return total.hexdigest(), seen


def _hash_file(path: Path) -> str:
    content = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_AT_ONCE):
            content.update(block)
    return content.hexdigest()
