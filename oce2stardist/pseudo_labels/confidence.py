"""Measure how sure each pseudo object is: whether other settings find it, too."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def best_overlaps(labels: NDArray[np.integer], others: NDArray[np.integer]) -> NDArray[np.float64]:
    """Find, for every object, its largest IoU with an object of another label image.

    Labels are 1..n, background 0. Returns shape (n,), for labels 1..n; 0 for ids that do not occur.
    """
    count, other_count = int(labels.max(initial=0)), int(others.max(initial=0))
    if count == 0 or other_count == 0:
        return np.zeros(count)
    both = (labels > 0) & (others > 0)
    pairs = (np.ones(int(both.sum()), np.int64), (labels[both], others[both]))
    pixels = csr_array(pairs, shape=(count + 1, other_count + 1)).tocoo()  # sums the ones
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    other_sizes = np.bincount(others.ravel(), minlength=other_count + 1)
    overlap = pixels.data / (sizes[pixels.row] + other_sizes[pixels.col] - pixels.data)
    best = np.zeros(count + 1)
    np.maximum.at(best, pixels.row, overlap)
    return best[1:]


def agreement(
    labels: NDArray[np.integer], variants: Sequence[NDArray[np.integer]]
) -> NDArray[np.float64]:
    """Average each object's `best_overlaps` with several other segmentations of its image.

    An object that comes out the same under other bandwidths and from other noisy copies is
    more often a true one (benchmarks/TRIALS.md, "Confidence"). Without a variant, all have 1.
    """
    if not variants:
        return np.ones(int(labels.max(initial=0)))
    return np.asarray(np.mean([best_overlaps(labels, other) for other in variants], axis=0))
