"""Draw salt-and-pepper noise that depends on the pixel, not on the window it is drawn for."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

_BLOCK = {2: 128, 3: 32}
"""By dimensions: side, in pixels, of the squares, or cubes, that are drawn at once."""

_FEWEST_COPIES, _MOST_COPIES = 8, 16
"""By measurement: fewer lose objects, more hardly gain any."""


def noise_turns(
    window: Sequence[slice], *, noise: float, seed: int, cycle: int = 0
) -> NDArray[np.int32]:
    """Tell for every pixel of a window in which noisy copy it is replaced.

    Parameters
    ----------
    window : two or three slices, (y, x) or (z, y, x)
        Start and stop, pixels; also beyond the image, at negative numbers too.
    noise : float, in (0, 1)
        Probability of a pixel to be replaced in a copy.
    cycle : int, >= 0
        Copies come in cycles of `copies_per_cycle`; each cycle is drawn anew.

    Returns
    -------
    int32 array of the window's shape
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
    field = np.empty([span.stop - span.start for span in window], np.float32)
    side = _BLOCK[len(window)]
    spans = [range(span.start // side, -(-span.stop // side)) for span in window]
    for place in product(*spans):
        met = [_overlap(span, at * side, side) for span, at in zip(window, place, strict=True)]
        block = _draw_block(place, side=side, seed=seed, cycle=cycle)
        field[tuple(here for here, _ in met)] = block[tuple(there for _, there in met)]
    return np.floor(field / np.float32(noise)).astype(np.int32)


def copies_per_cycle(noise: float) -> int:
    """Count the copies in which a pixel can have its turn once: 100 at a noise of 0.01."""
    return max(1, int(1 / noise + 1e-6))


def _overlap(span: slice, start: int, side: int) -> tuple[slice, slice]:
    """Tell where a span and the block at `start` meet, counted from the one and the other."""
    first, last = max(span.start, start), min(span.stop, start + side)
    return slice(first - span.start, last - span.start), slice(first - start, last - start)


def _draw_block(place: tuple[int, ...], *, side: int, seed: int, cycle: int) -> NDArray[np.float32]:
    """Draw the block at a place, counted in blocks; uniform in [0, 1)."""
    # The generator counts in the lowest word, so blocks never come to share numbers.
    counter = np.zeros(4, np.int64)
    counter[-len(place) :] = place
    key = np.array([seed, cycle], np.uint64)
    generator = np.random.Generator(np.random.Philox(counter=counter.astype(np.uint64), key=key))
    return generator.random([side] * len(place), dtype=np.float32)


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
