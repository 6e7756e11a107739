"""Salt-and-pepper noise that depends on the pixel, not on the window it is drawn for."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 128
"""Side, in pixels, of the squares that are drawn at once."""

_FEWEST_COPIES, _MOST_COPIES = 12, 24
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
    seed : int, >= 0
    cycle : int, >= 0
        Copies come in cycles of `copies_per_cycle`; each cycle is drawn anew.

    Returns
    -------
    int32 array of shape (Y, X)
        Copy ``i`` of the cycle replaces the pixels whose turn is ``i``. Values of
        ``copies_per_cycle(noise)`` and above, where ``1 / noise`` is no whole number, have
        no turn in this cycle.

    Notes
    -----
    Within a cycle no pixel is replaced twice, so one draw serves all its copies; in each
    copy, pixels are replaced independently of each other. The numbers come from a counter
    generator (Philox), whose key is the seed and the cycle and whose counter is the
    position: a window costs no more where it lies far from the origin, and windows that
    overlap agree.
    """
    field = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    for top in _block_starts(rows):
        for left in _block_starts(columns):
            block = _draw_block(top // _BLOCK, left // _BLOCK, seed=seed, cycle=cycle)
            inside, of_block = _overlap(rows, top), _overlap(columns, left)
            field[inside[0], of_block[0]] = block[inside[1], of_block[1]]
    return np.floor(field / np.float32(noise)).astype(np.int32)


def copies_per_cycle(noise: float) -> int:
    """Count the copies in which a pixel can have its turn once: 100 at a noise of 0.01."""
    return max(1, int(1 / noise + 1e-6))


def _block_starts(span: slice) -> range:
    return range(span.start // _BLOCK * _BLOCK, span.stop, _BLOCK)


def _overlap(span: slice, start: int) -> tuple[slice, slice]:
    """Where a span and the block at `start` meet, counted from the span and from the block."""
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
    """Choose the number of noisy copies for a set of images: 24 for small sets, 12 for others.

    Parameters
    ----------
    megapixels : float, > 0
        Of the whole set, at working scale.

    Returns
    -------
    int
        Even, so that both values of the noise are seen equally often.

    Notes
    -----
    The map that separates cells from background, the smoothed logarithm of the spread, is off
    by 0.4 to 0.5 over the square root of the copies (root mean square, U2OS and HeLa nuclei).
    Pseudo labels gained clearly up to 12 copies and little from there to 32; more than 12 are
    taken where that costs a minute on two cores.
    """
    affordable = 120 / megapixels
    return 2 * int(np.clip(affordable / 2, _FEWEST_COPIES / 2, _MOST_COPIES / 2))
