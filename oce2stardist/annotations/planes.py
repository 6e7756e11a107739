"""Annotations of stacks: label volumes, label images of single planes, and ImageJ selections.

For the stack ``x.tif`` a folder may hold a label volume ``x.tif`` (in another folder, or named
``x_labels.tif`` and so on), label images of planes ``x_z012.tif``, where 0 is the first plane, or
the selections ``x.zip``, ``x.roi`` or a folder ``x`` of ``.roi`` files, each of which tells its
slice. A number in label images is one cell, on whatever planes it is; so is a name that several
selections have.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oce2stardist.annotations.foreign import explain_file
from oce2stardist.annotations.imagej import read_rois, slices_of
from oce2stardist.annotations.open import ENDINGS, ROI_SUFFIXES, list_files
from oce2stardist.annotations.rasterise import draw_shapes
from oce2stardist.annotations.read import AnnotationSet
from oce2stardist.errors import InputError, name_some
from oce2stardist.images.find import image_stem, possible_stems
from oce2stardist.images.formats import LABEL_SUFFIXES
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import BACKGROUND, UNLABELLED, Labels

_PLANE = re.compile(r"^(.+)[_-]z(\d{1,6})$", re.IGNORECASE)

Shape3D = tuple[int, int, int]


@dataclass(frozen=True)
class _Entry:
    """A file of annotations of a stack; of one plane where `plane` is given."""

    file: Path
    plane: int | None = None


def read_stack_annotations(
    paths: Mapping[str, Path],
    shapes: Mapping[str, Shape3D],
    source: str | Path,
    *,
    zero_is_background: bool,
) -> AnnotationSet:
    """Read the annotations of stacks.

    Parameters
    ----------
    paths, shapes : mapping of stem to Path and to (Z, Y, X)
        The stacks.
    source : path
        A folder or one file; see the module. One file for one stack need not have its name.
    zero_is_background : bool
        Whether 0 is known background on planes on which a cell is outlined. If not, it is unknown,
        as everything is on planes without outlines.

    Returns
    -------
    AnnotationSet
        Labels (Z, Y, X); a cell that is on no two planes that follow each other is a cut.
    """
    source = Path(source)
    beside = source.is_dir() and any(
        path.parent.resolve() == source.resolve() for path in paths.values()
    )
    files: list[Path] = []
    left_out: list[Path] = []
    for file in list_files(source):
        is_annotation = file.is_dir() or file.suffix.lower() in (*LABEL_SUFFIXES, *ROI_SUFFIXES)
        (files if is_annotation else left_out).append(file)
    matched: dict[str, list[_Entry]] = {}
    stray = []
    for file in files:
        found = _match(file, paths, beside=beside)
        if found is None and source.is_file() and len(paths) == 1:
            found = next(iter(paths)), _Entry(file)
        if found is None:
            stray.append(file)
        else:
            matched.setdefault(found[0], []).append(found[1])
    if not matched:
        told = [f"{file.name}: {explain_file(file)}" for file in left_out[:3]]
        raise InputError(
            f"annotations of stacks in {source} must be label volumes (x.tif), label images of "
            "planes (x_z012.tif) or ImageJ selections (x.zip, x.roi) named after them. Got "
            f"{name_some([file.name for file in stray]) or '; '.join(told) or 'none'} for the "
            f"stacks {name_some([path.name for path in paths.values()])}; rename them."
        )
    notes = [f"match no stack: {name_some([file.name for file in stray])}"] if stray else []
    labels = {}
    for stem in filter(matched.__contains__, paths):
        said = _Said(paths[stem], shapes[stem], zero_is_background, notes)
        labels[stem] = _read_stack(matched[stem], said)
    return AnnotationSet(
        labels=labels,
        files=sorted({entry.file for entries in matched.values() for entry in entries}),
        notes=notes,
        names={},
        instances="labels",
    )


def _match(file: Path, paths: Mapping[str, Path], *, beside: bool) -> tuple[str, _Entry] | None:
    """Find the stack that a file belongs to, and whether it is of one plane."""
    name = file.name if file.is_dir() else image_stem(file)
    is_label = not file.is_dir() and file.suffix.lower() in LABEL_SUFFIXES
    for place, stem in enumerate(possible_stems(name, ENDINGS)):
        if stem in paths and not (beside and is_label and place == 0):
            return stem, _Entry(file)
        split = _PLANE.match(stem)
        for own in possible_stems(split[1], ENDINGS) if split else []:
            if own in paths and split:
                return own, _Entry(file, int(split[2]))
    return None


@dataclass(frozen=True)
class _Said:
    """Of which stack something is said, what 0 means, and where notes for the user go."""

    image: Path
    shape: Shape3D
    zero_is_background: bool
    notes: list[str]


def _read_stack(entries: list[_Entry], said: _Said) -> Labels:
    """Put what files say of one stack together; they must not say it twice of one plane."""
    labels = np.full(said.shape, UNLABELLED, np.int32)
    said_by: dict[int, Path] = {}
    for entry in entries:
        for plane, drawn in _planes_in(entry, said):
            if plane in said_by and said_by[plane] != entry.file:
                raise InputError(
                    f"{said.image} must have the annotations of a plane in one file. Got plane "
                    f"{plane} in {said_by[plane].name} and {entry.file.name}; move one away."
                )
            said_by[plane] = entry.file
            labels[plane] = drawn
    return labels


def _planes_in(entry: _Entry, said: _Said) -> Iterable[tuple[int, Labels]]:
    """List the planes of which a file says something, with their labels (Y, X)."""
    file, shape = entry.file, said.shape
    if file.is_dir() or file.suffix.lower() not in LABEL_SUFFIXES:
        return _draw_selections(file, said)
    if entry.plane is None:
        planes = list(enumerate(read_labels(file, shape=shape, image=said.image)))
    else:
        _check_plane(entry.plane, shape, file)
        planes = [(entry.plane, read_labels(file, shape=shape[1:], image=said.image))]
    hidden = ((plane, _hide_zero(drawn, said)) for plane, drawn in planes)
    return [(plane, drawn) for plane, drawn in hidden if (drawn != UNLABELLED).any()]


def _hide_zero(drawn: Labels, said: _Said) -> Labels:
    """Make 0 in a label image of a plane unknown, unless it is background beside cells."""
    if said.zero_is_background and (drawn > BACKGROUND).any():
        return drawn
    return np.where(drawn == BACKGROUND, np.int32(UNLABELLED), drawn)


def _draw_selections(file: Path, said: _Said) -> list[tuple[int, Labels]]:
    """Draw ImageJ selections on their planes; those of one name are one cell."""
    shape = said.shape
    planes = []
    numbers: dict[str, int] = {}
    for slice_number in slices_of(file):
        if slice_number == 0:
            raise InputError(
                f"selections of stacks must tell their slice. Got some in {file} that tell none; "
                "draw them with the stack open, and add them to the ROI Manager."
            )
        _check_plane(slice_number - 1, shape, file)
        reading = read_rois(file, shape=shape[1:], slice_number=slice_number)
        if reading.marks:
            raise InputError(
                f"annotations of stacks must be outlines. Got points or lines in {file}; outline "
                "cells on some planes."
            )
        outlines = [drawn for drawn in reading.shapes if drawn.role != "box"]
        has_cells = any(drawn.role == "cell" for drawn in outlines)
        ground = BACKGROUND if said.zero_is_background and has_cells else UNLABELLED
        drawing = draw_shapes(outlines, shape=shape[1:], ground=ground, file=file)
        said.notes.extend(reading.notes + drawing.notes)
        lookup = np.arange(int(drawing.labels.max(initial=0)) + 1, dtype=np.int32)
        for label, name in drawing.names.items():
            key = name or f"{slice_number}/{label}"
            lookup[label] = numbers.setdefault(key, len(numbers) + 1)
        is_cell = drawing.labels > BACKGROUND
        planes.append(
            (slice_number - 1, np.where(is_cell, lookup[drawing.labels.clip(0)], drawing.labels))
        )
    return planes


def _check_plane(plane: int, shape: Shape3D, file: Path) -> None:
    if not 0 <= plane < shape[0]:
        raise InputError(
            f"planes must lie in their stack, which has 0 to {shape[0] - 1}. Got {plane} in "
            f"{file}; planes of label images are counted from 0, slices of ImageJ from 1."
        )
