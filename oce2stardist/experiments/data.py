"""Open the data sets of an experiment, thin them out, and hash them for the keys of its runs."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from oce2stardist.datasets import LabelledSet, open_data_set, pair_folders
from oce2stardist.errors import InputError
from oce2stardist.experiments.config import DataConfig
from oce2stardist.files.digests import hash_file


def open_data(data: DataConfig) -> LabelledSet:
    """Open a data set as an experiment's config names it; pixels are read when asked for."""
    path = Path(data.path)
    if data.kind == "pairs":
        images = pair_folders(path / "images", path / "masks", **data.options)
        images = images[:: data.test_every]
        return LabelledSet(data.title, images, images)
    opened = open_data_set(data.kind, path, **data.options)
    train, test = opened.train[:: data.every], opened.test[:: data.test_every]
    return replace(opened, name=data.title, train=train, test=test)


def hash_data(data: DataConfig, hashes: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Hash names and contents of a data set's files; return that, and the files' own hashes.

    The latter are by file, size and time. `hashes` are those of an earlier call: what has not
    changed is not read again.
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
        seen[mark] = hashes.get(mark) or hash_file(path)
        total.update(f"{path.relative_to(root).as_posix()}\0{seen[mark]}\n".encode())
    return total.hexdigest(), seen
