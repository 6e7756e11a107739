"""Named arrays in one file, read and written by any number of threads at once.

Not NumPy's .npz: NumPy reads the headers of these with Python's parser, and Python 3.11 lets
the parser fail ("AST constructor recursion depth mismatch") where two threads parse at once.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from oce2stardist.files.atomic import write_bytes


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays of any shape by their names, whole or not at all."""
    # Not ascontiguousarray: it would turn a number, an array of no axis, into a vector.
    write_bytes(path, save({name: np.array(array, order="C") for name, array in arrays.items()}))


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read one of the arrays that `write_arrays` wrote, without the others."""
    with safe_open(path, framework="np") as stored:
        array: NDArray[Any] = stored.get_tensor(name)
    return array


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays that `write_arrays` wrote, by their names."""
    with safe_open(path, framework="np") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
