"""Draw pairs of predicted and true labels, hard ones among them, for tests of scores."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Labels = NDArray[np.integer]
Pair = tuple[Labels, Labels]


def random_labels(rng: np.random.Generator, shape: tuple[int, int] = (30, 40)) -> Labels:
    """Blocks of random size with random ids: many partial overlaps, exact halves among them."""
    size = rng.integers(1, 7)
    coarse = rng.integers(0, rng.integers(2, 40), [-(-n // size) for n in shape])
    return np.kron(coarse, np.ones((size, size), int))[: shape[0], : shape[1]]


def relabel(
    rng: np.random.Generator, labels: Labels, *, low: int = 60_000, high: int = 10_000_000
) -> Labels:
    """Give the objects ids in random order, with gaps; by default most of them above 65535."""
    ids = np.zeros(labels.max() + 1, np.int32)
    ids[1:] = rng.choice(np.arange(low, high), labels.max(), replace=False)
    return np.where(labels > 0, ids[np.maximum(labels, 0)], labels)


def draw_blocks(rng: np.random.Generator) -> Pair:
    """Blocks, the predicted ones partly those of the truth."""
    truth, other = random_labels(rng), random_labels(rng)
    return np.where(rng.random(truth.shape) < rng.random(), truth, other), truth


def draw_sizes(rng: np.random.Generator) -> Pair:
    """Images of one pixel to a hundred by a hundred and thirty."""
    shape = (int(rng.integers(1, 101)), int(rng.integers(1, 131)))
    return random_labels(rng, shape), random_labels(rng, shape)


def draw_touching(rng: np.random.Generator) -> Pair:
    """Cells without a gap between them; the predicted ones grow from points nearby."""
    shape, n = (48, 64), int(rng.integers(2, 40))
    points = rng.random((n, 2)) * shape
    moved = points + rng.normal(0, rng.uniform(0, 4), points.shape)
    return _nearest(moved, shape), _nearest(points, shape)


def draw_gaps(rng: np.random.Generator) -> Pair:
    """Touching cells whose ids have gaps and differ from prediction to truth."""
    predicted, truth = draw_touching(rng)
    return relabel(rng, predicted, low=1, high=3000), relabel(rng, truth, low=1, high=3000)


def draw_tiny(rng: np.random.Generator) -> Pair:
    """Objects of one to a few pixels, some missing, some moved by one."""
    truth, _ = ndi.label(rng.random((40, 50)) < rng.uniform(0.01, 0.3))
    kept = rng.random(truth.max() + 1) < 0.8
    predicted = np.where(kept[truth], truth, 0)
    return np.roll(predicted, rng.integers(0, 2, 2), axis=(0, 1)), truth


def draw_shrunken(rng: np.random.Generator) -> Pair:
    """Cells apart from each other, the predicted ones thinner."""
    _, truth = draw_touching(rng)
    depth = ndi.distance_transform_edt(truth == ndi.minimum_filter(truth, 3))
    return np.where(depth > rng.uniform(0, 3), truth, 0), np.where(depth > 0, truth, 0)


def draw_joined(rng: np.random.Generator) -> Pair:
    """Some neighbours joined into one object, others cut into two."""
    _, truth = draw_touching(rng)
    joined = np.concatenate([[0], rng.integers(1, truth.max() + 1, truth.max())])[truth]
    cut = joined * 2 - (np.arange(truth.shape[1]) % 17 < 8)
    return np.where(rng.random() < 0.5, cut, joined), truth


def draw_nothing_predicted(rng: np.random.Generator) -> Pair:
    """Cells, and an empty prediction."""
    truth = draw_touching(rng)[1]
    return np.zeros_like(truth), truth


def draw_nothing_true(rng: np.random.Generator) -> Pair:
    """A prediction, and no cells."""
    return draw_nothing_predicted(rng)[::-1]


def draw_nothing(rng: np.random.Generator) -> Pair:
    """Neither."""
    empty = np.zeros(rng.integers(1, 50, 2), np.int32)
    return empty, empty.copy()


KINDS: tuple[Callable[[np.random.Generator], Pair], ...] = (
    draw_blocks, draw_sizes, draw_touching, draw_gaps, draw_tiny, draw_shrunken, draw_joined,
    draw_nothing_predicted, draw_nothing_true, draw_nothing,
)  # fmt: skip


def _nearest(points: NDArray[np.floating], shape: tuple[int, int]) -> Labels:
    grid = np.stack(np.indices(shape), axis=-1).reshape(-1, 1, 2)
    nearest = ((grid - points) ** 2).sum(axis=-1).argmin(axis=1)
    return (nearest + 1).reshape(shape).astype(np.int32)
