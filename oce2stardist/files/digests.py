"""Hashes of files and arrays, by which a run recognises its inputs."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def hash_file(path: Path) -> str:
    """Hash the content of a file."""
    with path.open("rb") as file:
        return digest_content(file)


def digest(paths: Iterable[Path]) -> str:
    """Hash names and contents of files; the same for the same files in any folder."""
    return digest_named((path.name, hash_file(path)) for path in paths)


def digest_content(file: BinaryIO) -> str:
    """Hash all that an open file holds, piece by piece."""
    content = hashlib.sha256()
    file.seek(0)
    while piece := file.read(2**20):
        content.update(piece)
    return content.hexdigest()


def digest_named(contents: Iterable[tuple[str, str]]) -> str:
    """Hash names of files with the hashes of their contents, as `digest` does."""
    total = hashlib.sha256()
    for name, content in sorted(contents, key=lambda named: named[0]):
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Hash names, shapes, types and contents of arrays."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content = hashlib.sha256(array.tobytes()).hexdigest()
        total.update(f"{name}\0{array.shape}\0{array.dtype}\0{content}\n".encode())
    return total.hexdigest()
