"""Take one image to labels block by block: what all methods share, and what is kept on disk.

Dask workers call the methods of planes; each reads and writes files, and may be repeated.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.arrays import read_array, read_arrays, write_arrays
from oce2stardist.files.atomic import replacing
from oce2stardist.images.blocks import Block, BlockGrid, Window
from oce2stardist.images.lazy import LazyImage


@dataclass(frozen=True)
class BlockwiseImage(ABC):
    """One image, how it is cut, and where what is known of it lies."""

    image: LazyImage
    device: str
    side: int  # of a block, pixels
    work: Path  # folder for what is known of blocks
    store: Path  # zarr group of the labels
    arrays: tuple[str, ...]  # the label arrays in it, the finest first
    known_reach: float
    """How far cells reach, stored pixels, as far as known before any is looked for. Labels do not
    depend on it: a block with a cell that reaches farther is worked on again."""

    @property
    def grid(self) -> BlockGrid:
        """The blocks."""
        return BlockGrid(self.image.shape[:2], self.side)

    @property
    @abstractmethod
    def identity(self) -> list[Any]:
        """List all that the labels depend on, beside image and blocks; plain values."""

    @property
    def samples(self) -> list[Window]:
        """Choose small windows, spread over the image, in which `look_around` looks."""
        return []

    def look_around(self, sample: Window) -> float:
        """Measure how far cells reach in one of the samples, stored pixels."""
        raise NotImplementedError("A plane with samples must look at them.")

    @abstractmethod
    def find(self, block: Block, reach: float) -> float:
        """Write the objects that belong to a block; return how far they reach, stored pixels."""

    @abstractmethod
    def drop_doubles(self, block: Block, reach: float) -> int:
        """Write those that stay beside what other blocks found; return how many went."""

    @abstractmethod
    def draw(self, block: Block, reach: float) -> None:
        """Draw all objects that reach into a block."""

    def finish(self, output: Path) -> None:  # noqa: B027 - most planes have nothing more
        """Write what is kept of the objects beside their labels."""

    def found(self, block: Block) -> Path:
        """Name the file of the objects found in a block."""
        return self.work / "found" / f"{block.name}.safetensors"

    def kept(self, block: Block) -> Path:
        """Name the file of those that stay once the blocks around it are known."""
        return self.work / "kept" / f"{block.name}.safetensors"

    def ids(self, row: int) -> Path:
        """Name the file of the ids of a row of blocks."""
        return self.work / "ids" / f"{row:06d}.safetensors"

    def number_rows(self) -> int:
        """Number all objects of the image by position, row of blocks after row; return how many.

        Rows of blocks follow each other from top to bottom, so the order by (y, x) of the centres,
        and with it every id, does not depend on the blocks.
        """
        total = 0
        for row in range(self.grid.rows):
            points = [read_array(self.kept(block), "points") for block in self.grid.row(row)]
            y, x = np.concatenate(points).T
            ids = np.empty(len(y), np.int32)
            if total + len(ids) > np.iinfo(np.int32).max:
                raise InputError(
                    f"an image must hold fewer than 2**31 objects. Got more in {self.image.name}; "
                    "cut it."
                )
            ids[np.lexsort((x, y))] = np.arange(total + 1, total + 1 + len(ids))
            parts = np.split(ids, np.cumsum([len(centres) for centres in points])[:-1])
            write_arrays(self.ids(row), {str(n): part for n, part in enumerate(parts)})
            total += len(ids)
        return total

    def ids_of(self, blocks: list[Block]) -> NDArray[np.int32]:
        """Read the ids of the objects of several blocks, one block after another."""
        rows = {row: read_arrays(self.ids(row)) for row in {block.row for block in blocks}}
        return np.concatenate([rows[block.row][str(block.column)] for block in blocks])

    def write_labels(self, block: Block, labels: NDArray[np.int32]) -> None:
        """Write the labels of a block, and that it is drawn."""
        self._label_array(0)[self.at(block.core)] = labels
        with replacing(self.work / "drawn" / block.name) as temporary:
            temporary.touch()

    def halve(self, level: int, region: tuple[slice, slice]) -> None:
        """Write a region of a coarser level: every second pixel of the finer one."""
        fine = tuple(slice(2 * side.start, 2 * side.stop) for side in region)
        values = self._label_array(level - 1)[self.at(fine)]
        self._label_array(level)[self.at(region)] = values[::2, ::2]

    def _label_array(self, level: int) -> Any:
        import zarr

        return zarr.open_group(str(self.store), mode="r+")[self.arrays[level]]

    def at(self, window: tuple[slice, ...]) -> tuple[Any, ...]:
        """Index a window of this time point in the label arrays."""
        fixed = dict(self.image.fixed)
        return (*(fixed.get(axis, 0) for axis in self.image.label_axes[:-2]), *window)
