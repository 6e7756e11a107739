"""Tell label images that number cells from masks, from grey values and from the image itself.

A cell may be in two pieces: another one lies over it, or the border of the image cuts it. Its
pieces are close then. Of 58,682 cells in 898 label images of 13 sets, drawn by people or made by
programs, two had a piece further off than `_FAR`; of the labels of a mask nearly all have.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.errors import InputError, name_some
from oce2stardist.labels import BACKGROUND, Instances, Labels

_FAR = 2.0
"""Least gap between pieces that belong to no one cell, in diameters of the larger (taste)."""
_LIKE = 0.25
"""Least area of such a piece, as a share of the larger: specks are slips of the pen (taste)."""
_MANY = 5
"""Far pieces, beside the largest, that a single label may not have (measured: 1)."""
_SHARE = 0.5
"""Share of the labels that may not be in far pieces (measured: at most 1 of 7)."""
_SPECKS = 3
"""Far pieces of any size: what interpolation leaves of a number in the rims of other cells."""
_TINY = 2
"""Pixels: no cell of the sizes that StarDist can learn."""
_FEW = 100
"""Labels up to which a person may have set points."""
_HIGHEST = (2**8 - 1, 2**16 - 1)
"""Where numbers begin again."""
_CLASSES = 8
"""Values above 0 up to which a mask may hold classes; more are shades of grey (taste)."""
_NECK = 0.8
"""Width of the neck at which touching cells are parted, as a share of the thinner cell's."""


def as_instances(labels: Labels, *, instances: Instances, what: object) -> Labels:
    """Return labels (Y, X) that have one number for each cell; refuse what has not.

    `labels` takes them as they are; `auto` does so if they can be cells. `components` takes
    every connected piece of a mask as a cell (`number_pieces`). `what` is for the message.
    """
    if instances == "labels":
        return labels
    reason = why_no_instances(labels)
    if instances == "components":
        is_mask = reason is not None or np.unique(labels[labels > BACKGROUND]).size <= _CLASSES
        return number_pieces(labels, what=what) if is_mask else labels
    if reason is not None:
        raise InputError(
            f"{what} must have one number for each cell. Got {reason}; or pass --instances "
            "components (every piece is a cell) or labels (they are right)."
        )
    return labels


@dataclass(frozen=True)
class _Found:
    """Arrays of one entry a label: its number, its pixels, and its pieces."""

    ids: NDArray[np.int64]
    area: NDArray[np.int64]
    pieces: NDArray[np.int64]  # not much smaller than its largest
    far: NDArray[np.int64]  # those of them that are far from the largest
    specks: NDArray[np.int64]  # far from the largest, of any size


def why_no_instances(labels: Labels) -> str | None:
    """Say why labels (Y, X) can't be one number for each cell; None if they can."""
    found = _measure(labels)
    n_labels = found.ids.size
    if not n_labels:
        return None
    lost = _why_numbers_are_lost(found)
    if lost is not None:
        return lost
    scattered = (found.far > 0) | (found.specks >= _SPECKS)
    n_scattered = np.count_nonzero(scattered)
    if n_labels > 2 and n_scattered >= _SHARE * n_labels:
        return (
            f"{n_scattered} of {n_labels} labels in pieces far apart: grey rims of a mask, numbers "
            "that were interpolated, or the image itself; number the cells"
        )
    most = int(found.far.argmax())
    few = n_labels <= 2 and found.far[most] > 0
    white = n_labels == 1 and found.ids[0] in _HIGHEST and found.pieces[0] > 1
    if few or white or found.far[most] >= _MANY:
        return (
            f"label {found.ids[most]} in {found.pieces[most]} pieces: a foreground mask; number "
            "its pieces"
        )
    tiny = np.count_nonzero(found.area <= _TINY)
    if n_labels > _FEW and tiny > _SHARE * n_labels:
        return (
            f"{tiny} of {n_labels} labels of at most {_TINY} pixels: the image itself; number the "
            "cells"
        )
    largest = int(found.area.argmax())
    covered = found.area[largest] / labels.size
    if covered >= _SHARE and _is_around(labels == found.ids[largest]):
        return (
            f"label {found.ids[largest]} on {covered:.0%} of the image and on all its sides: the "
            "background; give it 0"
        )
    return None


def _measure(labels: Labels) -> _Found:
    from skimage.measure import label as connect

    connected = connect(np.maximum(labels, BACKGROUND), background=BACKGROUND, connectivity=2)
    rows, columns = np.nonzero(connected)
    piece = connected[rows, columns]
    order = np.argsort(piece, kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.diff(piece[order], prepend=0))
    if not starts.size:
        return _Found(*[np.empty(0, np.int64)] * 5)
    pixels = np.diff(starts, append=len(rows))
    of_label = labels[rows[starts], columns[starts]].astype(np.int64)
    low, high = (
        np.stack([find.reduceat(side, starts) for side in (rows, columns)], axis=1)
        for find in (np.minimum, np.maximum)
    )
    by_label = np.lexsort((-pixels, of_label))  # of each label the largest first
    ids, first, which = np.unique(of_label[by_label], return_index=True, return_inverse=True)
    largest = np.empty_like(pixels)  # (pieces,), that of the piece's label
    largest[by_label] = by_label[first[which]]
    gaps = np.maximum(low - high[largest], low[largest] - high).clip(0)  # (pieces, 2), of boxes
    is_far = np.hypot(*gaps.T) > _FAR * np.sqrt(4 * pixels[largest] / math.pi)
    is_like = pixels >= _LIKE * pixels[largest]
    number = np.searchsorted(ids, of_label)
    counts = (np.bincount(number, each) for each in (pixels, is_like, is_like & is_far, is_far))
    return _Found(ids, *(count.astype(np.int64) for count in counts))


def _why_numbers_are_lost(found: _Found) -> str | None:
    """Say that a type too small for them made numbers begin again, or held them at its end."""
    end = int(found.ids[-1])
    limit = next((top for top in _HIGHEST if 0.95 * top <= end <= top), None)
    are_cells = np.median(found.area / (found.specks + 1)) > 2 * _TINY  # no shades of grey
    if limit is None or found.ids.size < limit / 2 or not are_cells:
        return None
    several = np.flatnonzero(found.far)  # ranks among the numbers in use
    if end == limit and several.size and several[0] == found.ids.size - 1:
        return (
            f"many cells of number {end}: higher numbers were cut to it; save them with more bits"
        )
    low = several[: math.ceil(0.9 * several.size)]  # a slip aside
    if low.size < 2 or low.size < 0.4 * (low[-1] + 1):
        return None
    return (
        f"1 to {found.ids[low[-1]]} several times and nothing above {end}: higher numbers began "
        "again at 0 when they were saved; save them with more bits"
    )


def _is_around(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a mask is on every side of the image, and all of it or around the rest."""
    if not all(side.any() for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])):
        return False
    enclosed = np.count_nonzero(ndi.binary_fill_holes(mask)) - np.count_nonzero(mask)
    return bool(mask.all()) or enclosed > 0.01 * mask.size  # not for a vacuole or a slip


def number_pieces(labels: Labels, *, what: object) -> Labels:
    """Number the connected pieces of a mask (Y, X), those of each class apart; -1 stays.

    Where nothing is 0, the class around all others is the background. Grey rims, of masks that
    were resized or saved as JPEG, are cut at half of the highest value.
    Where cells touch, a piece is parted at necks (`_part`), which goes by outlines alone: cells
    that touch along a broad side stay one.
    """
    values = np.unique(labels[labels > BACKGROUND])
    if values.size and not (labels <= BACKGROUND).any():
        around = [value for value in values[:_CLASSES] if _is_around(labels == value)]
        if len(around) == 1:
            return number_pieces(np.where(labels == around[0], BACKGROUND, labels), what=what)
        raise InputError(
            f"{what} must have 0 for the background to be numbered by pieces. Got "
            f"{name_some([str(value) for value in values])} and no 0; set the background to 0."
        )
    classes = labels
    if values.size > _CLASSES:
        highest = int(values[-1])
        above = labels[labels > BACKGROUND] / highest
        if np.count_nonzero((above > 0.1) & (above < 0.9)) > 0.5 * above.size:
            raise InputError(
                f"{what} must be a mask to be numbered by pieces. Got {values.size} values up to "
                f"{highest}, most of them in between; is it the image itself?"
            )
        classes = np.where(labels > highest / 2, highest, np.minimum(labels, BACKGROUND))
        values = values[-1:]
    numbered = np.minimum(labels, BACKGROUND)
    for value in values.tolist():
        parts = _part(classes == value)
        numbered = np.where(parts > 0, parts + max(int(numbered.max()), 0), numbered)
    return numbered.astype(np.int32)


def _part(mask: NDArray[np.bool_]) -> Labels:
    """Number connected pieces, parted at every neck narrower than `_NECK` of both sides of it.

    A watershed of the distance to the ground; of two peaks one counts if the way between them
    leads through less than that share of its height, which is a height in logarithms.
    """
    from skimage.measure import label as connect
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    depth = ndi.gaussian_filter(ndi.distance_transform_edt(mask), 1.0)  # steps of pixels: no peaks
    height = np.where(mask, np.log(np.maximum(depth, 0.1)), math.log(0.1))
    step = -math.log(_NECK)
    peaks = connect(mask & (height - reconstruction(height - step, height) >= step - 1e-9))
    return np.asarray(watershed(-depth, peaks, mask=mask), np.int32)
