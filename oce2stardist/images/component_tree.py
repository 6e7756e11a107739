"""Components of an image at many thresholds, nested: their shapes, and the best disjoint ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tree:
    """Components of all thresholds; those of one level follow each other.

    node : int32 array of shape (Y, X), the highest component a pixel is in
    parent : int array of shape (nodes,), counted within the level below
    levels : the slice of nodes of every level, the whole image first
    """

    node: NDArray[np.int32]
    parent: NDArray[np.int64]
    levels: list[slice]


def grow_tree(levels: NDArray[np.uint8]) -> Tree:
    """Label what is at least as high as each level, and tell what each component lies in."""
    node = np.zeros(levels.shape, np.int32)
    parents, slices = [np.zeros(1, np.int64)], [slice(0, 1)]
    for level in range(1, int(levels.max()) + 1):
        above = levels >= level
        labels, count = ndi.label(above)
        inside = labels[above] - 1
        parent = np.empty(count, np.int64)
        parent[inside] = node[above] - slices[-1].start
        slices.append(slice(slices[-1].stop, slices[-1].stop + count))
        node[above] = inside + slices[-1].start
        parents.append(parent)
    return Tree(node, np.concatenate(parents), slices)


def _pass_down(tree: Tree, values: Floats, level: int) -> Floats:
    """Sum values of the nodes of a level by their parents."""
    here, below = tree.levels[level], tree.levels[level - 1]
    sums = np.bincount(tree.parent[here], values[here], below.stop - below.start)
    return np.asarray(sums, np.float64)


@dataclass(frozen=True, eq=False)
class Parts:
    """Properties of the nodes of a tree, arrays of shape (nodes,); centre (nodes, 2)."""

    area: Floats
    diameter: Floats
    centre: Floats
    roundness: Floats
    steepness: Floats


def measure_parts(tree: Tree, grey: NDArray[np.float32]) -> Parts:
    """Measure all components at once, by sums over pixels that add up along the tree.

    Roundness is the area relative to that of the ellipse with the same second moments: 1
    for any ellipse. Steepness is the mean grey difference across the outline.
    """
    sums = np.concatenate([_sum_moments(tree), _sum_outlines(tree, grey)])
    for level in range(len(tree.levels) - 1, 0, -1):
        for row in sums:
            row[tree.levels[level - 1]] += _pass_down(tree, row, level)
    area, y, x, yy, xx, yx, length, contrast = sums
    y, x = y / area, x / area
    # 1/12 is the moment of a pixel.
    spread = (yy / area - y**2 + 1 / 12) * (xx / area - x**2 + 1 / 12) - (yx / area - y * x) ** 2
    return Parts(
        area=area,
        diameter=np.sqrt(4 * area / np.pi),
        centre=np.stack([y, x], axis=1) + (np.array(grey.shape) - 1) / 2,
        roundness=np.clip(area / (4 * np.pi * np.sqrt(np.maximum(spread, 1e-9))), 0, 1),
        steepness=contrast / np.maximum(length, 1),
    )


def _sum_moments(tree: Tree) -> Floats:
    """Sum 1, y, x, y², x² and yx over the pixels of each node, from the image's middle."""
    shape, count = tree.node.shape, tree.levels[-1].stop
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape)
    node = tree.node.ravel()
    y, x = y[:, None], x[None]
    powers = (np.ones((1, 1)), y, x, y * y, x * x, y * x)
    return np.stack(
        [np.bincount(node, np.broadcast_to(power, shape).ravel(), count) for power in powers]
    )


def _sum_outlines(tree: Tree, grey: NDArray[np.float32]) -> Floats:
    """Sum 1 and the grey difference over the outlines of the nodes.

    Neighbouring pixels of different nodes are on the outline of the higher one and of all
    its ancestors down to the lower one, which is one of them: hence plus here, minus there.
    """
    count = tree.levels[-1].stop
    sums = np.zeros((2, count))
    for axis in (0, 1):
        node, other = _neighbours(tree.node, axis)
        value, other_value = _neighbours(grey, axis)
        differ = node != other
        # Nodes are numbered level by level, so the higher one has the larger number.
        higher = np.maximum(node, other)[differ]
        lower = np.minimum(node, other)[differ]
        contrast = np.abs(value - other_value)[differ]
        for row, weights in zip(sums, (None, contrast), strict=True):
            row += np.bincount(higher, weights, count) - np.bincount(lower, weights, count)
    return sums


def _neighbours(array: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    return (array[1:], array[:-1]) if axis == 0 else (array[:, 1:], array[:, :-1])


def choose_parts(tree: Tree, score: Floats, area: Floats) -> NDArray[np.bool_]:
    """Choose disjoint components: one rather than those within it if its score is higher.

    The score of several is their mean, weighted by area.
    """
    best, covered = score.copy(), np.where(score > 0, area, 0)
    chosen = score > 0
    for level in range(len(tree.levels) - 1, 1, -1):
        below = tree.levels[level - 1]
        within = _pass_down(tree, covered, level)
        mean = _pass_down(tree, best * covered, level) / np.maximum(within, 1e-9)
        chosen[below] = (score[below] > 0) & (score[below] >= mean)
        best[below] = np.where(chosen[below], score[below], mean)
        covered[below] = np.where(chosen[below], area[below], within)
    taken = np.zeros_like(chosen)
    for level in range(1, len(tree.levels)):
        here = tree.levels[level]
        parent = tree.parent[here] + tree.levels[level - 1].start
        taken[here] = taken[parent] | chosen[parent]
    return chosen & ~taken
