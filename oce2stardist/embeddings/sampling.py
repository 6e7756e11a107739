"""Draw which pixels are compared: displacements and anchor/reference pairs within kappa."""

import math

import numpy as np
from numpy.typing import NDArray

from oce2stardist.labels import cell_size


def displacements_within(kappa: float, *, ndim: int) -> NDArray[np.int64]:
    """List every non-zero integer displacement no longer than kappa pixels, (N, ndim)."""
    reach = int(np.floor(kappa))
    side = np.arange(-reach, reach + 1)
    grid = np.stack(np.meshgrid(*[side] * ndim, indexing="ij"), axis=-1).reshape(-1, ndim)
    squared = (grid**2).sum(axis=1)
    return grid[(squared > 0) & (squared <= kappa**2)].astype(np.int64)


def draw_displacements(
    kappa: float, count: int, rng: np.random.Generator, *, ndim: int
) -> NDArray[np.int64]:
    """Draw `count` different displacements within kappa; shape (count, ndim).

    A displacement and its negative describe the same pairs, so only one half of the disc is
    drawn from; at most all of it. Every displacement is equally likely, but the lengths
    are spread evenly (systematic sampling): the loss depends mostly on the length, and
    its mean over a step would otherwise vary with the luck of the draw.
    """
    every = displacements_within(kappa, ndim=ndim)
    half = every[len(every) // 2 :]  # they are in order: the negatives of these come before
    shuffled = rng.permutation(half)
    by_length = shuffled[np.argsort((shuffled**2).sum(axis=1), kind="stable")]
    count = min(count, len(half))
    positions = np.floor((rng.random() + np.arange(count)) * len(half) / count)
    return by_length[positions.astype(np.int64)]


def draw_pairs(
    shape: tuple[int, ...], *, kappa: float, density: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw anchors and, for each, references within kappa (paper, section 3 and App. A).

    Parameters
    ----------
    shape : tuple of int
        Size, (Y, X) or (Z, Y, X), of the network's output.
    kappa : float
        Radius in pixels within which references are drawn.
    density : float, in (0, 1]
        Share of the pixels that become anchors, and share of the pixels of the disc, or ball, of
        radius kappa that become references of each anchor.

    Returns
    -------
    anchors, references : int64 arrays of shape (pairs, 2 or 3)
        Pixel coordinates. Anchors keep kappa from the border, so that every displacement
        is possible; where no pixel is that far from it, nothing can be drawn.
    """
    reach = int(np.floor(kappa))
    inner = np.array(shape) - 2 * reach
    if inner.min() < 1:
        raise ValueError(
            f"the output must be larger than twice kappa. Got {shape} and kappa {kappa}; "
            "enlarge embedding.crop_size."
        )
    n_anchors = max(1, round(density * math.prod(shape)))
    n_references = max(1, round(density * cell_size(2 * kappa, ndim=len(shape))))
    anchors = np.stack([rng.integers(reach, reach + size, n_anchors) for size in inner], axis=-1)
    disc = displacements_within(kappa, ndim=len(shape))
    steps = disc[rng.integers(0, len(disc), (n_anchors, n_references))]
    references = anchors[:, None] + steps
    return np.repeat(anchors, n_references, axis=0), references.reshape(-1, len(shape))
