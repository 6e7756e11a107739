"""Let points, strokes, boxes and verdicts decide about pseudo objects.

What becomes of a pseudo object, by the first line that applies:

==================================================  ==========  ===================  ===============
what was said of it                                 it becomes  sparse               pseudo
==================================================  ==========  ===================  ===============
verdict *wrong*; a mark named *ignore*; it lies     unknown     -1                   -1
in a box, or fills one, that it does not fit
verdict *background*                                removed     0                    0
a mark named *background*                           removed     0 within a reach of  as sparse
                                                                the mark, beyond -1
several marks, in it or in what they join           split       cells                cells, same ids
one mark, over it and others                        joined      cell                 cell, same id
one mark, verdict *right*, or a box that it fits    confirmed   cell                 cell, same id
nothing                                             as it was   -1                   object
==================================================  ==========  ===================  ===============

A *mark* is a point or a stroke; marks of cells that touch each other are one. A *reach* is the
median diameter of all pseudo objects: wherever one clicks in a cell of that size, all of it is
within a reach. A mark where no object is means a cell without known outline: background of the
pseudo labels within a reach of it becomes -1 in both. Pixels of a background mark are 0. A mark
lies on an object with `_SHARE` of the pixels that it has on any; where most of a stroke is on none,
it lies on no object. A box fits the object whose own bounding box has the largest IoU with it, if
that is `_FITS` or more.

Objects are split by a watershed from the marks on the distance to the outline: where one has a
neck, it is cut there. Joined objects are filled up to their convex hull, where nothing else is.

What was outlined wins over hints, pixel by pixel. Where an outline holds the mark, or most of a
confirmed object, that object is none.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label as label_pieces
from skimage.morphology import convex_hull_image
from skimage.segmentation import watershed

from oce2stardist.errors import InputError, plural
from oce2stardist.labels import (
    BACKGROUND,
    UNLABELLED,
    Labels,
    centroids,
    median_diameter,
    object_sizes,
    renumber,
)

if TYPE_CHECKING:
    from oce2stardist.annotations.hints import Box, Hints, Stroke
    from oce2stardist.annotations.shapes import ObjectVerdict, Role

Source = Literal["confirmed", "split", "joined"]
"""Where a cell comes from that nobody outlined; beside "manual" and "pseudo" in objects.csv."""

_SHARE = 0.25
"""Taste: a hand that slips over an edge draws less of its stroke there."""

_FITS = 0.5
"""IoU: what counts as found, see `evaluation.scores`."""

_MOST = 0.5

_MOVED = 1.0
"""Pixels: centroids in objects.csv are rounded; other objects are farther away."""

_ROLES: Mapping[str, "Role"] = {"right": "cell", "wrong": "unknown", "background": "background"}


@dataclass(frozen=True)
class ConfirmedCell:
    """A cell that a hint vouches for: where it comes from, and the mark in it, if any."""

    source: Source
    pseudo_id: int  # of several the first
    mark: NDArray[np.int64] | None  # (pixels, 2)


@dataclass(frozen=True)
class HintedImage:
    """What hints make of the pseudo labels of one image; arrays of shape (Y, X).

    Attributes
    ----------
    labels : int32
        The pseudo labels without the objects that were refuted.
    known : int32
        Confirmed cells 1..n, which `cells` describes, known background 0, else -1.
    is_doubtful : bool
        Where background of pseudo labels may be a cell.
    n_removed, n_unknown, n_missed : int
        Objects removed or made unknown, marks in no object.
    """

    labels: Labels
    known: Labels
    is_doubtful: NDArray[np.bool_]
    cells: Sequence[ConfirmedCell]
    n_removed: int
    n_unknown: int
    n_missed: int

    def doubt(self, labels: Labels) -> Labels:
        """Make background of pseudo labels unknown where a cell may be."""
        unsure = self.is_doubtful & (labels == BACKGROUND)
        return np.where(unsure, np.int32(UNLABELLED), labels)


def follow_hints(
    labels: Mapping[str, Labels], hints: Mapping[str, "Hints"]
) -> dict[str, HintedImage]:
    """Let hints decide about the pseudo objects of their images, by the table of this module.

    Parameters
    ----------
    labels : mapping of image stem to int32 array of shape (Y, X)
        Pseudo labels: objects > 0, background 0, unlabelled -1.
    hints : mapping of image stem to Hints
        Of these images.

    Raises
    ------
    InputError
        If a verdict is on no object, or hints contradict each other.
    """
    for stem in hints:
        if stem not in labels:
            raise InputError(
                f"points and verdicts must be on pseudo labels. Got some of {stem}, which has "
                "none; pass --pseudo, the run folder of `oce2stardist pseudo` on these images."
            )
    reach = median_diameter(labels.values()) or 0.0
    return {stem: _Image(stem, labels[stem], own, reach).follow() for stem, own in hints.items()}


def summarise(images: Iterable[HintedImage]) -> str:
    """Say in one sentence what hints did."""
    images = list(images)
    sources = Counter(cell.source for image in images for cell in image.cells)
    n_removed, n_unknown, n_missed = (
        sum(getattr(image, name) for image in images)
        for name in ("n_removed", "n_unknown", "n_missed")
    )
    return (
        f"points and verdicts confirm {plural(sources['confirmed'], 'pseudo object')}, split some "
        f"into {plural(sources['split'], 'cell')}, join some into "
        f"{plural(sources['joined'], 'cell')}, remove {n_removed:,}, leave {n_unknown:,} unknown; "
        f"{plural(n_missed, 'cell')} {'has' if n_missed == 1 else 'have'} no outline"
    )


class _Image:
    """One image while its hints are followed."""

    def __init__(self, stem: str, labels: Labels, hints: "Hints", reach: float) -> None:
        self._stem, self._given, self._hints, self._reach = stem, labels, hints, reach
        self._labels = np.maximum(labels, UNLABELLED).astype(np.int32)
        self._known = np.full(labels.shape, UNLABELLED, np.int32)
        self._doubtful = np.zeros(labels.shape, np.bool_)
        self._cells: list[ConfirmedCell] = []
        numbered, ids = renumber(self._labels)
        extents = ndi.find_objects(np.maximum(numbered, BACKGROUND))
        self._extents = dict(zip(ids.tolist(), extents, strict=True))
        # object -> what it is said to be -> who says so
        self._said: dict[int, dict[Role, str]] = defaultdict(dict)

    def follow(self) -> HintedImage:
        """Gather what was said of every object, and do it."""
        hints, strokes = self._hints, _unite(self._hints.strokes, self._labels.shape)
        self._check_verdicts(hints.verdicts)
        touched = [_touched(self._labels, stroke) for stroke in strokes]
        whole = self._fit_boxes(hints.boxes)
        for number, verdict in hints.verdicts.items():
            what = f"the verdict {verdict.word} on object {number}"
            self._said[number].setdefault(_ROLES[verdict.word], what)
            if verdict.word == "right":
                whole[number] = what
        for stroke, ids in zip(strokes, touched, strict=True):
            for number in ids:
                self._said[number].setdefault(stroke.role, stroke.what)
        unknown = {number for number, said in self._said.items() if "unknown" in said}
        removed = {number for number, said in self._said.items() if "background" in said} - unknown
        for number in removed:
            if "cell" in self._said[number]:
                raise self._contradiction(number, *self._said[number].values())
        self._forget(unknown, strokes)
        self._remove(removed, strokes)
        gone = unknown | removed
        marks = [
            (stroke, [number for number in ids if number not in gone])
            for stroke, ids in zip(strokes, touched, strict=True)
            if stroke.role == "cell"
        ]
        missed = [stroke.pixels for stroke, ids in marks if not ids]
        self._doubtful |= self._near(missed)
        for ids, inside in _group([mark for mark in marks if mark[1]], whole.keys() - gone):
            self._confirm(ids, inside, whole)
        return HintedImage(
            np.where(np.isin(self._given, list(gone)), np.int32(BACKGROUND), self._given),
            self._known,
            self._doubtful,
            self._cells,
            n_removed=len(removed),
            n_unknown=len(unknown),
            n_missed=len(missed),
        )

    def _check_verdicts(self, verdicts: Mapping[int, "ObjectVerdict"]) -> None:
        ids = object_sizes(self._labels)[0]
        strangers = np.setdiff1d(list(verdicts), ids)
        if strangers.size:
            raise InputError(
                f"verdicts must be on objects of the pseudo labels. Got {int(strangers[0])} in "
                f"{self._stem}, which has no such object; take the numbers of the run you pass."
            )
        told = {number: one.centroid for number, one in verdicts.items() if one.centroid}
        numbers = np.array(sorted(told), np.int64)
        for number, place in zip(
            numbers.tolist(), centroids(self._labels, numbers).tolist(), strict=True
        ):
            if np.abs(np.subtract(place, told[number])).max() > _MOVED:
                y, x = told[number]
                raise InputError(
                    f"verdicts must be on objects of the run that is passed. Got object {number} "
                    f"of {self._stem} at y {y:g}, x {x:g}, which lies at y {place[0]:.1f}, "
                    f"x {place[1]:.1f}; the pseudo labels were made anew: judge these."
                )

    def _fit_boxes(self, boxes: Sequence["Box"]) -> dict[int, str]:
        """Find the objects that fit boxes; make unknown what does not."""
        whole: dict[int, str] = {}
        size_of = _sizes(self._labels)
        for box in boxes:
            inside = _sizes(self._labels[box.window])
            area = self._labels[box.window].size
            fits = {number: _iou(self._extents[number], box.window) for number in inside}
            best = max(fits, key=fits.__getitem__, default=None)
            if best is not None and fits[best] >= _FITS:
                if best in whole:
                    raise self._contradiction(best, whole[best], box.what)
                whole[best] = box.what
                self._said[best].setdefault("cell", box.what)
                continue
            self._doubtful[box.window] = True
            for number, shared in inside.items():
                if shared > _MOST * min(size_of[number], area):
                    self._said[number].setdefault("unknown", box.what)
        return whole

    def _forget(self, unknown: set[int], strokes: Iterable["Stroke"]) -> None:
        """Make objects unknown, and what was marked so."""
        is_unknown = np.isin(self._labels, list(unknown))
        self._labels[is_unknown] = BACKGROUND
        self._doubtful |= is_unknown
        for stroke in strokes:
            if stroke.role == "unknown":
                self._doubtful[tuple(stroke.pixels.T)] = True

    def _remove(self, removed: set[int], strokes: Iterable["Stroke"]) -> None:
        """Make objects background as far as that is known, and what was marked as such."""
        marked = [stroke.pixels for stroke in strokes if stroke.role == "background"]
        judged = [i for i in removed if self._hints.verdicts.get(i) is not None]
        is_removed = np.isin(self._labels, list(removed))
        is_known = self._near(marked) | np.isin(self._labels, judged)
        self._known[is_removed & is_known] = BACKGROUND
        self._doubtful |= is_removed & ~is_known
        self._labels[is_removed] = BACKGROUND
        for pixels in marked:
            self._known[tuple(pixels.T)] = BACKGROUND

    def _confirm(self, ids: list[int], inside: list["Stroke"], whole: Mapping[int, str]) -> None:
        """Make one cell of objects, or as many as there are marks."""
        alone = next((number for number in ids if number in whole), None)
        if alone is not None and (len(inside) > 1 or len(ids) > 1):
            raise self._contradiction(alone, whole[alone], inside[-1].what)
        window = _around([self._extents[number] for number in ids])
        labels = self._labels[window]
        region = np.isin(labels, ids)
        if len(ids) > 1:
            hull = convex_hull_image(region, offset_coordinates=False)  # of the centres of pixels
            region |= hull & (labels == BACKGROUND)
        if len(inside) < 2:
            mark = inside[0].pixels if inside else None
            source: Source = "joined" if len(ids) > 1 else "confirmed"
            self._add(window, region, ConfirmedCell(source, ids[0], mark))
            return
        seeds = np.zeros(self._labels.shape, np.int32)
        for number, stroke in enumerate(inside, start=1):
            seeds[tuple(stroke.pixels.T)] = number
        markers = np.where(region, seeds[window], 0)
        parts = watershed(-_depth(region), markers, connectivity=2, mask=region)
        for number, stroke in enumerate(inside, start=1):
            self._add(window, parts == number, ConfirmedCell("split", ids[0], stroke.pixels))

    def _add(
        self, window: tuple[slice, ...], region: NDArray[np.bool_], cell: ConfirmedCell
    ) -> None:
        self._cells.append(cell)
        known = self._known[window]
        known[region & (known != BACKGROUND)] = len(self._cells)

    def _near(self, marks: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
        """Mark the pixels within a reach of any of these."""
        is_marked = np.zeros(self._labels.shape, np.bool_)
        if not marks:
            return is_marked
        is_marked[tuple(np.concatenate(marks).T)] = True
        return np.asarray(ndi.distance_transform_edt(~is_marked) <= self._reach)

    def _contradiction(self, number: int, *whats: str) -> InputError:
        return InputError(
            f"what is said of pseudo object {number} of {self._stem} must agree. Got "
            f"{' and '.join(whats)}; remove one."
        )


def _unite(strokes: Iterable["Stroke"], shape: tuple[int, ...]) -> list["Stroke"]:
    """Make one of the marks of cells that touch each other."""
    cells = [stroke for stroke in strokes if stroke.role == "cell"]
    is_marked = np.zeros(shape, np.bool_)
    for stroke in cells:
        is_marked[tuple(stroke.pixels.T)] = True
    pieces = label_pieces(is_marked, connectivity=2)
    drawn_in = [(one, np.unique(pieces[tuple(one.pixels.T)]).tolist()) for one in cells]
    united = [
        replace(group[0], pixels=np.concatenate([stroke.pixels for stroke in group]))
        for _, group in _group(drawn_in, ())
    ]
    return united + [stroke for stroke in strokes if stroke.role != "cell"]


def _touched(labels: Labels, stroke: "Stroke") -> list[int]:
    """List the objects on which a stroke lies."""
    below = labels[tuple(stroke.pixels.T)]
    ids, counts = np.unique(below[below > BACKGROUND], return_counts=True)
    if counts.sum() < _MOST * len(below):
        return []
    return [int(number) for number in ids[counts >= _SHARE * counts.sum()]]


def _group(
    marks: Sequence[tuple["Stroke", list[int]]], alone: Iterable[int]
) -> list[tuple[list[int], list["Stroke"]]]:
    """Put objects and marks together that are connected; `alone` are objects without marks, too."""
    ids = sorted({number for _, touched in marks for number in touched}.union(alone))
    place = {number: len(marks) + at for at, number in enumerate(ids)}
    pairs = [(at, place[number]) for at, (_, touched) in enumerate(marks) for number in touched]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    size = len(marks) + len(ids)
    graph = csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    count, of_node = connected_components(graph, directed=False)
    groups: list[tuple[list[int], list[Stroke]]] = [([], []) for _ in range(count)]
    for number in ids:
        groups[of_node[place[number]]][0].append(number)
    for at, (stroke, _) in enumerate(marks):
        groups[of_node[at]][1].append(stroke)
    return sorted(groups, key=lambda group: group[0])


def _depth(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Measure how deep pixels lie in a region; beyond the border of the image is outside."""
    return np.asarray(ndi.distance_transform_edt(np.pad(region, 1)))[1:-1, 1:-1]


def _around(windows: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """Find the smallest window that holds all of these."""
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*windows, strict=True)
    )


def _sizes(labels: Labels) -> dict[int, int]:
    """Count the pixels of every object."""
    ids, sizes = object_sizes(labels)
    return dict(zip(ids.tolist(), sizes.tolist(), strict=True))


def _iou(one: tuple[slice, ...], other: tuple[slice, ...]) -> float:
    """Compare two boxes."""
    shared = 1
    for side, with_side in zip(one, other, strict=True):
        start, stop = max(side.start, with_side.start), min(side.stop, with_side.stop)
        shared *= max(0, stop - start)
    sizes = [int(np.prod([side.stop - side.start for side in sides])) for sides in (one, other)]
    return shared / (sum(sizes) - shared)
