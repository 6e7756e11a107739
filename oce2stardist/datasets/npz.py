"""Read the arrays of a NumPy archive (.npz) piece by piece, without unpickling anything.

An archive is a ZIP file with one .npy file, a header and the values, per array. The header
is read and checked first; memory is taken for one piece at a time.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from oce2stardist.errors import InputError, first_line

# What a broken or encrypted archive, or one packed by a method unknown here, makes zipfile raise.
# NotImplementedError is a RuntimeError.
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of a stored array, and where in its .npy file the values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int


@contextmanager
def reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; name it in the InputError that any defect of it becomes."""
    if not path.is_file():
        raise InputError(f"{path} must exist. Got no such file; check the path.")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(
            f"{path} must be a whole .npz file. Got one that can't be read: {first_line(error)}; "
            "copy or download it again."
        ) from error


def list_fields(archive: zipfile.ZipFile) -> list[str]:
    """List the names of the arrays."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_header(archive: zipfile.ZipFile, field: str) -> ArrayHeader:
    """Read the header of one array and compare it with the size of its file.

    Raises InputError where the array holds Python objects or is not in C order, ValueError where
    something is broken, as `reading` expects.
    """
    path = archive.filename
    with archive.open(f"{field}.npy") as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version} of {field} is unknown")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
        offset = stream.tell()
    if min(shape, default=0) < 0:
        raise ValueError(f"{field} has the shape {shape}")
    if dtype.hasobject:
        raise InputError(
            f"{field} in {path} must hold plain numbers or text. Got pickled Python objects, "
            f"which could run programs and are never read; save {field} as a plain array."
        )
    if fortran_order and len(shape) > 1:
        raise InputError(
            f"{field} in {path} must be stored in C order. Got Fortran order; "
            "save it again with numpy.ascontiguousarray."
        )
    stored = archive.getinfo(f"{field}.npy").file_size
    if stored != offset + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{field} of shape {shape} and type {dtype} has {stored} bytes")
    return ArrayHeader(shape, dtype, offset)


def read_pieces(
    archive: zipfile.ZipFile, field: str, header: ArrayHeader, positions: Sequence[int]
) -> Iterator[NDArray[Any]]:
    """Yield ``array[position]`` for every position, holding one at a time.

    Ascending positions are read in one pass; each step back may start from the beginning.
    The archive's checksum is compared only where everything is read in order.
    """
    shape = header.shape[1:]
    n_bytes = math.prod(shape) * header.dtype.itemsize
    with archive.open(f"{field}.npy") as stream:
        for position in positions:
            stream.seek(header.offset + position * n_bytes)
            yield np.frombuffer(_read_exactly(stream, n_bytes), header.dtype).reshape(shape)


def read_whole(archive: zipfile.ZipFile, field: str, header: ArrayHeader) -> NDArray[Any]:
    """Read a small array; its header says how small."""
    with archive.open(f"{field}.npy") as stream:
        stream.seek(header.offset)
        n_bytes = math.prod(header.shape) * header.dtype.itemsize
        return np.frombuffer(_read_exactly(stream, n_bytes), header.dtype).reshape(header.shape)


def _read_exactly(stream: IO[bytes], n_bytes: int) -> bytes:
    read = stream.read(n_bytes)
    if len(read) < n_bytes:
        raise EOFError("it ends before its last value")
    return read
