"""Arrays that the threads of a job leave for each other."""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from oce2stardist.files.arrays import read_array, read_arrays, write_arrays

ARRAYS = {
    "points": np.arange(12.0).reshape(4, 3).T,
    "corners": np.empty((0, 2), np.int64),
    "pixels": np.array([True, False]),
    "reach": np.array(2.5),
}


def test_arrays_come_back_with_their_shapes_types_and_values(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.safetensors", ARRAYS)
    stored = read_arrays(tmp_path / "a.safetensors")
    assert list(sorted(stored)) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert stored[name].dtype == array.dtype
        np.testing.assert_array_equal(stored[name], array, strict=True)
    np.testing.assert_array_equal(
        read_array(tmp_path / "a.safetensors", "points"), ARRAYS["points"]
    )


def test_no_thread_that_reads_needs_pythons_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, ARRAYS)

    def refuse(*_: object, **__: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(ast, "parse", refuse)

    def read(_: int) -> float:
        return float(read_arrays(path)["reach"])

    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(read, range(100))) == {2.5}
