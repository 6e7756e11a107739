"""Components of an image at many thresholds, nested: their shapes, and the best disjoint ones."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.labels import equivalent_diameter

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tree:
    """Components of all thresholds; those of one level follow each other.

    node : int32 array of shape (Y, X) or (Z, Y, X), the highest component a pixel is in
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
    """Properties of the nodes of a tree, arrays of shape (nodes,); centre (nodes, 2 or 3).

    In stacks an area is a volume.
    """

    area: Floats
    diameter: Floats
    centre: Floats
    roundness: Floats
    steepness: Floats


def measure_parts(tree: Tree, grey: NDArray[np.float32]) -> Parts:
    """Measure all components at once, by sums over pixels that add up along the tree.

    Roundness is the area relative to that of the ellipse with the same second moments: 1
    for any ellipse, or ellipsoid. Steepness is the mean grey difference across the outline.
    """
    sums = np.concatenate([_sum_moments(tree), _sum_outlines(tree, grey)])
    for level in range(len(tree.levels) - 1, 0, -1):
        for row in sums:
            row[tree.levels[level - 1]] += _pass_down(tree, row, level)
    ndim = grey.ndim
    area, *moments, length, contrast = sums
    means = [one / area for one in moments[:ndim]]
    square = _determinant(area, means, moments[ndim:])
    return Parts(
        area=area,
        diameter=equivalent_diameter(area, ndim=ndim),
        centre=np.stack(means, axis=1) + (np.array(grey.shape) - 1) / 2,
        roundness=np.clip(area / (_ELLIPSE[ndim] * np.sqrt(np.maximum(square, 1e-9))), 0, 1),
        steepness=contrast / np.maximum(length, 1),
    )


_ELLIPSE = {2: 4 * np.pi, 3: 4 / 3 * np.pi * 5**1.5}
"""By dimensions, the area of an ellipse, or volume of an ellipsoid, over the root of the
determinant of its second moments: the square of a half axis is 4, or 5, times the moment along it.
"""


def _determinant(area: Floats, means: list[Floats], squares: list[Floats]) -> Floats:
    """Compute the determinants of the second moments of the nodes, those of `_sum_moments`."""
    ndim = len(means)
    # 1/12 is the moment of a pixel.
    own = [one / area - mean**2 + 1 / 12 for one, mean in zip(squares, means, strict=False)]
    pairs = combinations(range(ndim), 2)
    mixed = [
        one / area - means[a] * means[b] for one, (a, b) in zip(squares[ndim:], pairs, strict=True)
    ]
    if ndim == 2:
        return np.asarray(own[0] * own[1] - mixed[0] ** 2)
    (zz, yy, xx), (zy, zx, yx) = own, mixed
    whole = zz * yy * xx + 2 * zy * zx * yx
    return np.asarray(whole - zz * yx**2 - yy * zx**2 - xx * zy**2)


def _sum_moments(tree: Tree) -> Floats:
    """Sum 1, y, x, y², x² and yx over the pixels of each node, from the image's middle.

    Of a stack 1, z, y, x, their squares, and zy, zx and yx.
    """
    shape, count = tree.node.shape, tree.levels[-1].stop
    sides = np.ix_(*(np.arange(size) - (size - 1) / 2 for size in shape))
    node = tree.node.ravel()
    squares = [side * side for side in sides]
    mixed = [one * other for one, other in combinations(sides, 2)]
    powers = (np.ones([1] * len(shape)), *sides, *squares, *mixed)
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
    for axis in range(grey.ndim):
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
    before = (slice(None),) * axis
    later, earlier = (*before, slice(1, None)), (*before, slice(None, -1))
    return array[later], array[earlier]


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
