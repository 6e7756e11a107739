"""Shapes to label images, in time proportional to the area that the shapes cover."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations.parsing import naming
from oce2stardist.annotations.shapes import (
    ANOTHER,
    MAX_SHAPES,
    NO_PIXEL,
    Outline,
    Patch,
    Role,
    Shape,
    Skipped,
    count,
    reaches_over,
)
from oce2stardist.errors import InputError, name_some
from oce2stardist.labels import BACKGROUND, UNLABELLED

HOLDS_CELLS = "a region that holds other cells, or is far larger, is no cell"
HELD = 3  # cells in one shape that make it a region, whatever its size (taste)
MOST_OF = 0.9  # of the pixels of a cell that lies in a region (taste: outlines are clicked by hand)
LARGER = 4.0  # times a cell that it holds: a region, where the tool draws regions so (taste)
FAR_LARGER = 16.0  # times the median cell: 4 diameters
MAX_CROSSINGS = 20_000_000  # of one outline with rows of pixels: 1 GB of work space

Claims = NDArray[np.uint8]  # (Y, X), how many cells claim a pixel: 0, 1 or 2 for several


@dataclass(frozen=True)
class Drawing:
    """Labels (Y, X), the names of the labels that occur in them, and notes for the user."""

    labels: NDArray[np.int32]
    names: dict[int, str]
    notes: list[str]


def draw_shapes(
    shapes: Sequence[Shape], *, shape: tuple[int, int], ground: int, file: Path
) -> Drawing:
    """Draw shapes by the rules of this package into an image of shape (Y, X).

    The cells become labels 1 to n in their order; one that gets no pixel leaves its number out.
    Where nothing was drawn the label is `ground`, -1 or 0.
    """
    if len(shapes) > MAX_SHAPES:
        raise InputError(
            f"{file} must hold at most {MAX_SHAPES} shapes an image. Got {len(shapes)}; "
            f"save dense labels as a label image."
        )
    skipped = Skipped()
    patched = [(drawn, to_patch(drawn, shape=shape, file=file)) for drawn in shapes]
    n_cut = sum(patch.is_cut for _, patch in patched)
    if n_cut > max(2, len(shapes) / 2):
        raise InputError(
            f"the shapes of {file} must lie inside their image of {shape[1]} x {shape[0]} pixels. "
            f"Got {n_cut} of {len(shapes)} that reach over its border; {ANOTHER}"
        )
    for drawn, patch in patched:
        if not patch.mask.any():
            skipped.add(drawn.name or str(drawn), reason=NO_PIXEL)
    for drawn in _find_regions(
        [(one, patch) for one, patch in patched if one.role == "cell"], shape
    ):
        skipped.add(drawn.name or str(drawn), reason=HOLDS_CELLS)
        patched = [(one, patch) for one, patch in patched if one is not drawn]
    cells = [drawn for drawn, _ in patched if drawn.role == "cell"]
    patches: dict[Role, list[Patch]] = {"background": [], "unknown": [], "cell": []}
    for drawn, patch in patched:
        patches[drawn.role].append(patch)
    labels = np.full(shape, ground, np.int32)
    _paint(labels, patches["background"], values=BACKGROUND)
    _paint(labels, patches["unknown"], values=UNLABELLED)
    claims = _paint_cells(labels, patches["cell"])
    present = set(np.flatnonzero(np.bincount(labels[labels > BACKGROUND])).tolist())
    notes = skipped.notes(file.name)
    if n_cut:
        notes.append(f"{file.name}: {count(n_cut, 'shape')} cut at the border of the image")
    notes += _overlap_notes(present, cells, patches.pop("cell"), claims, file.name)
    for role, regions in patches.items():
        notes += _contest_notes(role, regions, claims, file.name)
    return Drawing(labels, {label: cells[label - 1].name for label in sorted(present)}, notes)


def fill_rings(outline: Outline, *, shape: tuple[int, int]) -> Patch:
    """Find the pixels of an image (Y, X) whose centres lie inside an outline, by even and odd.

    A centre that lies on the outline counts as if it lay a little up and to the left, so that
    of two areas with a common edge exactly one gets it: the one whose right or lower edge it
    is. ImageJ does so: 1.53t has the same pixels for 191 random polygons (integer and
    half-integer corners, self-crossing), fitted ellipses, rotated rectangles and composites.
    """
    height, width = shape
    rows, columns = _crossings(outline.rings, height=height)
    if not rows.size:
        return Patch(0, 0, np.zeros((0, 0), np.bool_))
    columns = columns.clip(0, width)
    top, left = int(rows.min()), int(columns.min())
    size = (int(rows.max()) - top + 1, int(columns.max()) - left + 1)
    flat = (rows - top) * size[1] + columns - left
    # At each crossing the row changes between outside and inside.
    changes = np.bincount(flat, minlength=size[0] * size[1]).reshape(size)
    return Patch(top, left, (changes.cumsum(axis=1) & 1).astype(np.bool_)[:, :-1])


def _crossings(
    rings: tuple[NDArray[np.float64], ...], *, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find, for each edge and each row whose centre line it crosses, row and next column."""
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upwards = start[:, 1] > end[:, 1]
    upper, lower = np.where(upwards[:, None], end, start), np.where(upwards[:, None], start, end)
    first, stop = (
        np.floor(points[:, 1] + 0.5).clip(0, height).astype(np.int64) for points in (upper, lower)
    )
    crossed = stop - first
    if crossed.sum() > MAX_CROSSINGS:
        raise ValueError(
            f"it must cross at most {MAX_CROSSINGS} rows of pixels, got {crossed.sum()}"
        )
    edge = np.repeat(np.arange(len(start)), crossed)
    rows = np.arange(len(edge)) - np.repeat(crossed.cumsum() - crossed, crossed) + first[edge]
    (x0, y0), (x1, y1) = upper[edge].T, lower[edge].T
    x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    return rows, np.floor(x + 0.5).astype(np.int64)


def to_patch(drawn: Shape, *, shape: tuple[int, int], file: Path) -> Patch:
    """Unite the parts of a shape within the image."""
    patches = []
    for part in drawn.parts:
        is_cut = False
        inside = part
        if isinstance(part, Outline):
            is_cut = reaches_over(part.bounds, shape=shape, what=f"{drawn} of {file}")
            with naming(f"{drawn} of {file}", expected="an outline"):
                inside = fill_rings(part, shape=shape)
        assert isinstance(inside, Patch)
        top, left = max(inside.top, 0), max(inside.left, 0)
        rows = slice(top - inside.top, max(shape[0] - inside.top, 0))
        columns = slice(left - inside.left, max(shape[1] - inside.left, 0))
        patches.append(Patch(top, left, inside.mask[rows, columns], is_cut or inside.is_cut))
    return patches[0] if len(patches) == 1 else _unite(patches)


def _unite(patches: list[Patch]) -> Patch:
    is_cut = any(patch.is_cut for patch in patches)
    patches = [patch for patch in patches if patch.mask.size]
    if not patches:
        return Patch(0, 0, np.zeros((0, 0), np.bool_), is_cut)
    top, left = min(patch.top for patch in patches), min(patch.left for patch in patches)
    bottom = max(patch.top + patch.mask.shape[0] for patch in patches)
    right = max(patch.left + patch.mask.shape[1] for patch in patches)
    union = Patch(top, left, np.zeros((bottom - top, right - left), np.bool_), is_cut)
    for patch in patches:
        moved = Patch(patch.top - top, patch.left - left, patch.mask)
        union.mask[moved.window] |= patch.mask
    return union


def _find_regions(cells: list[tuple[Shape, Patch]], shape: tuple[int, int]) -> list[Shape]:
    """Find the shapes that are no cells but regions in which cells were drawn or detected.

    A cell may hold another, such as its nucleus: that alone makes no region.
    """
    if len(cells) < 2:
        return []
    labels = np.zeros(shape, np.int32)
    patches = [patch for _, patch in cells]
    _paint_cells(labels, patches)
    areas = np.array([np.count_nonzero(patch.mask) for patch in patches])
    visible = np.bincount(labels.ravel(), minlength=len(cells) + 1)[1:]
    regions = []
    for at, (drawn, patch) in enumerate(cells):
        inside, counts = np.unique(labels[patch.window][patch.mask], return_counts=True)
        others = inside != at + 1
        inside, counts = inside[others] - 1, counts[others]
        held = inside[(counts >= MOST_OF * visible[inside]) & (areas[inside] < areas[at])]
        usual = float(np.median(np.delete(areas, at)))
        if (
            len(held) >= HELD
            or (len(held) and 2 * areas[at] >= labels.size)
            or (drawn.may_be_region and len(held) and areas[at] >= LARGER * areas[held].max())
            or (drawn.may_be_region and areas[at] >= FAR_LARGER * usual > 0)
        ):
            regions.append(drawn)
    return regions


def _paint(labels: NDArray[np.int32], patches: list[Patch], *, values: int) -> None:
    for patch in patches:
        labels[patch.window][patch.mask] = values


def _paint_cells(labels: NDArray[np.int32], patches: list[Patch]) -> Claims:
    """Paint from the largest to the smallest, so that the smallest is on top; tell the claims."""
    claims = np.zeros(labels.shape, np.uint8)
    sizes = np.array([np.count_nonzero(patch.mask) for patch in patches])
    first_last = np.lexsort((np.arange(len(patches)), sizes))[::-1]
    for index in first_last.tolist():
        patch = patches[index]
        labels[patch.window][patch.mask] = index + 1
        claims[patch.window] = np.minimum(claims[patch.window] + patch.mask, 2)
    return claims


def _overlap_notes(
    present: set[int],
    cells: list[Shape],
    patches: list[Patch],
    claims: Claims,
    file: str,
) -> list[str]:
    """Tell where cells overlap, and which have no pixel left, being none of the ``present``."""
    shared = int(np.count_nonzero(claims > 1))
    if not shared:
        return []
    overlapping = sum(bool((claims[patch.window][patch.mask] > 1).any()) for patch in patches)
    notes = [
        f"{file}: {count(overlapping, 'cell')} overlap in {count(shared, 'pixel')}; each pixel "
        f"went to the smallest cell that claims it"
    ]
    covered = [
        cell.name or str(cell)
        for label, (cell, patch) in enumerate(zip(cells, patches, strict=True), start=1)
        if label not in present and patch.mask.any()
    ]
    if covered:
        notes.append(
            f"{file}: {count(len(covered), 'cell')} left without a pixel, wholly covered by "
            f"others ({name_some(covered)})"
        )
    return notes


def _contest_notes(role: Role, patches: list[Patch], claims: Claims, file: str) -> list[str]:
    """Tell how much of the background or unknown regions cells took."""
    drawn = np.zeros(claims.shape, np.bool_)
    for patch in patches:
        drawn[patch.window] |= patch.mask
    taken = int(np.count_nonzero(drawn & (claims > 0)))
    if not taken:
        return []
    return [f"{file}: {count(taken, 'pixel')} of {role} regions went to cells drawn there"]
