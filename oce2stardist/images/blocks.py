"""Cuts a plane into blocks, and tells which of them lie near each other."""

from collections.abc import Iterator
from dataclasses import dataclass

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Block:
    """A block's place in the grid of blocks, and the pixels that only it is responsible for."""

    row: int
    column: int
    core: Window

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.row:06d}-{self.column:06d}"


@dataclass(frozen=True)
class BlockGrid:
    """Square blocks over a plane of shape (Y, X); those at its ends may be smaller."""

    shape: tuple[int, int]
    side: int

    @property
    def rows(self) -> int:
        """Blocks on top of each other."""
        return -(-self.shape[0] // self.side)

    @property
    def columns(self) -> int:
        """Blocks beside each other."""
        return -(-self.shape[1] // self.side)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[Block]:
        for row in range(self.rows):
            yield from self.row(row)

    def row(self, row: int) -> Iterator[Block]:
        """Yield the blocks of a row from left to right."""
        for column in range(self.columns):
            yield self.at(row, column)

    def at(self, row: int, column: int) -> Block:
        """Return the block at a place."""
        starts = row * self.side, column * self.side
        rows, columns = (
            slice(start, min(start + self.side, size))
            for start, size in zip(starts, self.shape, strict=True)
        )
        return Block(row, column, (rows, columns))

    def near(self, block: Block, distance: float) -> list[Block]:
        """List the block and all that hold pixels at most so far from it, along rows or columns."""
        steps = -(-max(1, int(distance)) // self.side)
        rows = range(max(0, block.row - steps), min(self.rows, block.row + steps + 1))
        columns = range(max(0, block.column - steps), min(self.columns, block.column + steps + 1))
        return [self.at(row, column) for row in rows for column in columns]


def widen(window: Window, margin: int, shape: tuple[int, int], *, align: int = 1) -> Window:
    """Widen a window on all sides, as far as the plane reaches.

    It begins at multiples of `align`, and ends at them or at the end of the plane.
    """
    rows, columns = (
        slice(
            max(0, (side.start - margin) // align * align),
            min(size, -(-(side.stop + margin) // align) * align),
        )
        for side, size in zip(window, shape, strict=True)
    )
    return rows, columns
