"""Hashes of files and arrays, by which a run recognises its inputs."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def hash_file(path: Path) -> str:
    """Hash the content of a file."""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


def digest(paths: Iterable[Path]) -> str:
    """Hash names and contents of files; the same for the same files in any folder."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda one: one.name):
        total.update(f"{path.name}\0{hash_file(path)}\n".encode())
    return total.hexdigest()


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Hash names, shapes, types and contents of arrays."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content = hashlib.sha256(array.tobytes()).hexdigest()
        total.update(f"{name}\0{array.shape}\0{array.dtype}\0{content}\n".encode())
    return total.hexdigest()
