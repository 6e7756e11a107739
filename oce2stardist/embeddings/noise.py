"""Draw salt-and-pepper noise that depends on the pixel, not on the window it is drawn for."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 128
"""Side, in pixels, of the squares that are drawn at once."""

_FEWEST_COPIES, _MOST_COPIES = 8, 16
"""By measurement: fewer lose objects, more hardly gain any."""


def noise_turns(
    rows: slice, columns: slice, *, noise: float, seed: int, cycle: int = 0
) -> NDArray[np.int32]:
    """Tell for every pixel of a window in which noisy copy it is replaced.

    Parameters
    ----------
    rows, columns : slice
        The window: start and stop, pixels; also beyond the image, at negative numbers too.
    noise : float, in (0, 1)
        Probability of a pixel to be replaced in a copy.
    cycle : int, >= 0
        Copies come in cycles of `copies_per_cycle`; each cycle is drawn anew.

    Returns
    -------
    int32 array of shape (Y, X)
        Copy ``i`` of the cycle replaces the pixels whose turn is ``i``. Where ``1 / noise`` is
        no whole number, some pixels have a turn beyond the cycle, that is, none in it.

    Notes
    -----
    Within a cycle no pixel is replaced twice, so one draw serves all its copies; in each
    copy, pixels are replaced independently of each other. The numbers come from a counter
    generator (Philox), whose key is the seed and the cycle and whose counter is the
    position: a window costs no more where it lies far from the origin, and windows that
    overlap agree.
    """
    field = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    for row in range(rows.start // _BLOCK, -(-rows.stop // _BLOCK)):
        in_rows, block_rows = _overlap(rows, row * _BLOCK)
        for column in range(columns.start // _BLOCK, -(-columns.stop // _BLOCK)):
            in_columns, block_columns = _overlap(columns, column * _BLOCK)
            block = _draw_block(row, column, seed=seed, cycle=cycle)
            field[in_rows, in_columns] = block[block_rows, block_columns]
    return np.floor(field / np.float32(noise)).astype(np.int32)


def copies_per_cycle(noise: float) -> int:
    """Count the copies in which a pixel can have its turn once: 100 at a noise of 0.01."""
    return max(1, int(1 / noise + 1e-6))


def _overlap(span: slice, start: int) -> tuple[slice, slice]:
    """Tell where a span and the block at `start` meet, counted from the one and the other."""
    first, last = max(span.start, start), min(span.stop, start + _BLOCK)
    return slice(first - span.start, last - span.start), slice(first - start, last - start)


def _draw_block(row: int, column: int, *, seed: int, cycle: int) -> NDArray[np.float32]:
    """Draw one block, uniform in [0, 1); `row` and `column` count blocks."""
    # The generator counts in the lowest word, so blocks never come to share numbers.
    counter = np.array([0, 0, row, column], np.int64).astype(np.uint64)
    key = np.array([seed, cycle], np.uint64)
    generator = np.random.Generator(np.random.Philox(counter=counter, key=key))
    return generator.random((_BLOCK, _BLOCK), dtype=np.float32)


def choose_copies(megapixels: float) -> int:
    """Choose the number of noisy copies for a set of images: 16 for small sets, 8 for others.

    The number is even, so that both values of the noise are seen equally often; megapixels are
    those of the whole set, at working scale.

    Notes
    -----
    The map that separates cells from background, the smoothed logarithm of the spread, is the surer
    the more copies there are, and the more noise is in each: 8 copies of 0.03 gave what 12 of 0.01
    do (benchmarks/TRIALS.md, "Both networks in less time"). More than 8 are taken where that
    costs less than a minute on two cores.
    """
    affordable = 120 / megapixels
    return 2 * int(np.clip(affordable / 2, _FEWEST_COPIES / 2, _MOST_COPIES / 2))
