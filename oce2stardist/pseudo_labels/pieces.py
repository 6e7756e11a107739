"""Join the pieces of one cell: convex unions without a dip between the pieces."""

import heapq
from dataclasses import dataclass
from functools import reduce
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from oce2stardist.labels import cell_size
from oce2stardist.pseudo_labels.halo import each_object

Points = NDArray[np.float64]  # (N, 2 or 3)

_EDGES = {
    2: 0.5 * np.array([(-1, 0), (1, 0), (0, -1), (0, 1)]),
    3: 0.5 * np.concatenate([np.eye(3), -np.eye(3)]),
}
"""By dimensions: from the centre of a pixel to the middle of its edges, of a voxel of its faces."""

_EXCHANGE = 0.38
"""Solidity that makes up for one diameter between centres, or for a dip down to the ground.

With `min_unity`, the weights of a logistic regression (same cell or not) on touching pieces
of training images; see benchmarks/TRIALS.md, "Pieces of cells".
"""

_MOST_DIAMETERS = 2.0
"""Largest equivalent diameter of a union, in median diameters (taste)."""


@dataclass
class _Piece:
    """A piece or a union of pieces, in numbers that add up."""

    area: int  # in stacks, the volume
    corners: Points  # of the convex hull
    embedded: NDArray[np.float64]  # sum over pixels, (2 or 3,)
    brightness: float  # sum over pixels


@dataclass
class _Seam:
    """The pixels on both sides of where two pieces touch."""

    count: int
    brightness: float  # sum over pixels


def merge_pieces(
    labels: NDArray[np.integer],
    offsets: NDArray[np.floating],
    signal: NDArray[np.floating] | None,
    *,
    diameter: float,
    min_unity: float,
) -> NDArray[np.int32]:
    """Join touching objects that look like pieces of one cell, the surest pair first.

    A bandwidth small enough to part neighbours cuts long cells into pieces. Two pieces are
    joined while the `unity` of their union is high enough: nuclei, and most cells, are nearly
    convex and two neighbours together are not; pieces of one cell embed close to each other;
    and between neighbours there is often a dark line. An addition to the paper
    (arXiv:2310.08501), measured in benchmarks/TRIALS.md.

    Each union has the smallest label of its pieces.

    Parameters
    ----------
    labels : integer array of shape (Y, X) or (Z, Y, X)
    offsets : array of shape (2, Y, X) or (3, Z, Y, X)
        Predicted offsets (y, x) or (z, y, x), pixels.
    signal : array of the shape of the labels, or None
        An image in which cells are bright and their surroundings 0, see `Signal`; where
        there is none, the dip between pieces is not looked at.
    diameter : float, > 0
        Of a median cell, pixels.
    min_unity : float
        Smallest unity of a union: its solidity (area over that of the convex hull), less 0.38
        for every diameter between the mean embeddings of the two pieces, and less 0.38 times
        the dip of the signal where they touch (0: as bright as the dimmer piece, 1: as dark as
        the ground). 1 or more joins nothing.
    """
    merged = labels.astype(np.int32, copy=True)
    if min_unity >= 1:
        return merged
    seams = _seams(merged, signal)
    pieces = _pieces(merged, offsets, signal, wanted=set(chain.from_iterable(seams)))
    neighbours: dict[int, set[int]] = {index: set() for index in pieces}
    for piece, other in seams:
        neighbours[piece].add(other)
        neighbours[other].add(piece)
    max_area = cell_size(_MOST_DIAMETERS * diameter, ndim=labels.ndim)
    queue: list[tuple[float, int, int]] = []

    def consider(piece: int, other: int) -> None:
        if pieces[piece].area + pieces[other].area <= max_area:
            seam = seams[_pair(piece, other)] if signal is not None else None
            unity = _unity(pieces[piece], pieces[other], seam, diameter)
            if unity >= min_unity:
                heapq.heappush(queue, (-unity, piece, other))

    for piece, other in seams:
        consider(piece, other)
    parent: dict[int, int] = {}
    union = int(merged.max(initial=0))
    while queue:
        _, piece, other = heapq.heappop(queue)
        if piece in parent or other in parent:
            continue  # one of them is part of a larger union by now
        union += 1
        parent[piece] = parent[other] = union
        pieces[union] = _joined(pieces[piece], pieces[other])
        neighbours[union] = (neighbours[piece] | neighbours[other]) - {piece, other}
        for third in neighbours[union]:
            keys = (_pair(piece, third), _pair(other, third))
            touching = [seams[key] for key in keys if key in seams]
            seams[_pair(union, third)] = _Seam(
                sum(seam.count for seam in touching), sum(seam.brightness for seam in touching)
            )
            neighbours[third] = (neighbours[third] - {piece, other}) | {union}
            consider(third, union)
    return _relabel(merged, parent)


def _unity(piece: _Piece, other: _Piece, seam: _Seam | None, diameter: float) -> float:
    area = piece.area + other.area
    # In two dimensions, `volume` is the area.
    solidity = area / ConvexHull(np.concatenate([piece.corners, other.corners])).volume
    way = piece.embedded / piece.area - other.embedded / other.area
    distance = reduce(np.hypot, way) / diameter
    dip = 0.0
    if seam is not None:
        dimmer = min(piece.brightness / piece.area, other.brightness / other.area)
        # A seam brighter than its pieces says nothing more: membranes are bright, too.
        dip = 1.0 - min(seam.brightness / seam.count / max(dimmer, 1e-9), 1.0)
    return float(solidity - _EXCHANGE * (distance + min(dip, 1.0)))


def _pair(piece: int, other: int) -> tuple[int, int]:
    return (piece, other) if piece < other else (other, piece)


def _seams(
    labels: NDArray[np.int32], signal: NDArray[np.floating] | None
) -> dict[tuple[int, int], _Seam]:
    """Find every pair of objects that touch along an axis, and how bright it is there."""
    seams: dict[tuple[int, int], _Seam] = {}
    for axis in range(labels.ndim):
        before = (slice(None),) * axis
        here, there = (*before, slice(None, -1)), (*before, slice(1, None))
        piece, other = labels[here], labels[there]
        touching = (piece != other) & (piece > 0) & (other > 0)
        pairs = np.sort(np.stack([piece[touching], other[touching]], axis=1), axis=1)
        bright = np.zeros(len(pairs))
        if signal is not None:
            bright = (signal[here][touching] + signal[there][touching]) / 2
        unique, index = np.unique(pairs, axis=0, return_inverse=True)
        counts = np.bincount(index.ravel(), minlength=len(unique))
        sums = np.bincount(index.ravel(), bright, minlength=len(unique))
        for (first, second), count, total in zip(unique.tolist(), counts, sums, strict=True):
            seam = seams.setdefault((first, second), _Seam(0, 0.0))
            seam.count += int(count)
            seam.brightness += float(total)
    return seams


def _pieces(
    labels: NDArray[np.int32],
    offsets: NDArray[np.floating],
    signal: NDArray[np.floating] | None,
    *,
    wanted: set[int],
) -> dict[int, _Piece]:
    pieces = {}
    for index, window, inside in each_object(labels):
        if index in wanted:
            origin = np.array([side.start for side in window])
            pixels = np.argwhere(inside) + origin
            place = (slice(None), *window)
            embedded = (pixels + offsets[place][:, inside].T).sum(axis=0)
            brightness = 0.0 if signal is None else float(signal[window][inside].sum())
            pieces[index] = _Piece(len(pixels), _corners(inside, origin), embedded, brightness)
    return pieces


def _corners(inside: NDArray[np.bool_], origin: NDArray[np.int64]) -> Points:
    """Find the corners of the convex hull of an object's pixels, (y, x) or (z, y, x)."""
    rows = np.nonzero(inside.any(axis=-1))
    first = inside[rows].argmax(axis=-1)
    last = inside.shape[-1] - 1 - inside[rows][:, ::-1].argmax(axis=-1)
    # only the ends of a row can be corners
    ends = [np.stack([*rows, end], axis=1) for end in (first, last)]
    corners = np.concatenate(ends)[:, None] + origin + _EDGES[inside.ndim]
    return _hull(corners.reshape(-1, inside.ndim))


def _joined(piece: _Piece, other: _Piece) -> _Piece:
    return _Piece(
        piece.area + other.area,
        _hull(np.concatenate([piece.corners, other.corners])),
        piece.embedded + other.embedded,
        piece.brightness + other.brightness,
    )


def _hull(points: Points) -> Points:
    return np.asarray(points[ConvexHull(points).vertices])


def _relabel(labels: NDArray[np.int32], parent: dict[int, int]) -> NDArray[np.int32]:
    """Give every union the smallest label of its pieces."""
    smallest: dict[int, int] = {}
    table = np.arange(labels.max(initial=0) + 1, dtype=np.int32)
    for piece in range(1, len(table)):
        root = piece
        while root in parent:
            root = parent[root]
        table[piece] = smallest.setdefault(root, piece)
    return np.where(labels > 0, table[np.maximum(labels, 0)], labels).astype(np.int32)
