"""Finds the annotations of each image and reads them, whatever their format."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations.hints import Hints, find_hints
from oce2stardist.annotations.imagej import is_roi, read_rois
from oce2stardist.annotations.open import (
    ENDINGS,
    JSON_SUFFIXES,
    SUFFIXES,
    Entry,
    Size,
    list_files,
    open_all,
)
from oce2stardist.annotations.rasterise import Drawing, draw_shapes
from oce2stardist.annotations.shapes import Reading
from oce2stardist.annotations.units import Drawn, warn_of_micrometres
from oce2stardist.errors import InputError, name_some
from oce2stardist.images.find import possible_stems
from oce2stardist.images.instances import as_instances
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.pixel_size import PixelSize
from oce2stardist.labels import BACKGROUND, UNLABELLED, Instances, Labels


@dataclass(frozen=True)
class AnnotationSet:
    """What people annotated, by the stem of the image; images without annotations are absent.

    Labels (Y, X) are cells > 0, known background 0 and unknown -1. Hints are what was not outlined:
    points, strokes, boxes, and verdicts on pseudo objects; an image may have these alone. Notes, a
    line each, tell the user what matches no image, was left out or overlaps.
    """

    labels: dict[str, Labels]
    files: list[Path]  # those read, sorted; a folder stands for the .roi files in it
    notes: list[str]
    names: dict[str, dict[int, str]]  # label to the name or id that the tool gave, "" for none
    instances: Instances  # how labels were taken
    hints: dict[str, Hints] = field(default_factory=dict)

    @property
    def has_cells(self) -> bool:
        """Whether any cell was outlined."""
        return any((labels > BACKGROUND).any() for labels in self.labels.values())

    @property
    def clicked(self) -> dict[str, NDArray[np.int64]]:
        """A pixel, (n, 2), (y, x), of each cell that was clicked on, by the stem of the image."""
        return {stem: hints.cells_at for stem, hints in self.hints.items()}


def read_annotations(
    paths: Mapping[str, Path],
    shapes: Mapping[str, Size],
    source: str | Path,
    *,
    zero_is_background: bool = False,
    instances: Instances = "auto",
    pixel_sizes: Mapping[str, PixelSize | None] | None = None,
) -> AnnotationSet:
    """Read the annotations of a set of images.

    Parameters
    ----------
    paths, shapes : mapping of stem to Path and to (Y, X)
        The images.
    source : str or Path
        A folder or one file. For the image ``x.tif`` a folder may hold a label image, as
        `oce2stardist.images.find.label_paths` finds it, ``x.zip``, ``x.roi``, a folder ``x``
        of ``.roi`` files, ``x.geojson``, ``x.json`` (GeoJSON or LabelMe's), ``x.csv`` (napari's
        shapes or points, or a table, see `oce2stardist.annotations.tables`), and COCO files and
        tables of any name that list it. Names may have one of `ENDINGS`. One file for one image
        need not have its name. Outlines of an image are in one file, hints in any number.
    zero_is_background : bool
        Whether everything that is not annotated, in an image that has annotations and no hints,
        is known background. If not, it is unknown, and so is 0 in a label image.
    instances : {"auto", "labels", "components"}
        How labels are taken: see `oce2stardist.images.instances`.
    pixel_sizes : mapping of stem to PixelSize, optional
        Outlines in micrometres are told by them.
    """
    source = Path(source)
    files = list_files(source)
    beside = source.is_dir() and any(
        path.parent.resolve() == source.resolve() for path in paths.values()
    )
    entries, left_out = open_all(files, beside=beside)
    if source.is_file() and left_out:
        ((file, reason),) = left_out.items()
        raise InputError(
            f"{file} must be annotations ({', '.join(SUFFIXES)}). Got {file.name}: {reason}."
        )
    matched, stray = _match(entries, paths)
    notes = []
    if not matched and len(paths) == 1:
        matched, stray, note = _take_for_only_image(source, entries, stray, next(iter(paths)))
        notes += note
    if not matched:
        _refuse(source, entries, left_out, paths)
    notes += _note_left_out(left_out, [] if beside else paths.keys() - matched.keys())
    if stray:
        notes.append(f"match no image: {name_some([entry.title for entry in stray])}")
    drawings, drawn, hints = {}, [], {}
    for stem in filter(matched.__contains__, paths):
        shape = shapes[stem]
        readings = [
            (entry, None if entry.read is None else entry.read(shape=shape))
            for entry in matched[stem]
        ]
        said = [(entry.title, reading) for entry, reading in readings if reading is not None]
        found = find_hints(said, shape=shape)
        if found:
            hints[stem] = found
            if zero_is_background:
                notes.append(f"{stem}: 0 is unknown there, as hints are for what was not outlined")
        outlined = _find_outlines(readings, paths[stem])
        if outlined is None and found:
            notes += [note for _, reading in said for note in reading.notes]
            continue
        ground = BACKGROUND if zero_is_background and not found else UNLABELLED
        entry, reading = outlined or readings[0]
        drawings[stem] = _draw(entry, reading, paths[stem], shape, ground, instances)
        notes += [note for _, other in said if other is not reading for note in other.notes]
        if reading is not None:
            drawn.append(Drawn(entry.title, reading.shapes, shape, (pixel_sizes or {}).get(stem)))
    notes += warn_of_micrometres(drawn)
    return AnnotationSet(
        labels={stem: drawing.labels for stem, drawing in drawings.items()},
        files=sorted({entry.file for entries in matched.values() for entry in entries}),
        notes=notes + [note for drawing in drawings.values() for note in drawing.notes],
        names={stem: drawing.names for stem, drawing in drawings.items()},
        instances=instances,
        hints=hints,
    )


def _find_outlines(
    readings: Iterable[tuple[Entry, Reading | None]], image: Path
) -> tuple[Entry, Reading | None] | None:
    """Find the one file of several that outlines cells or regions; None if there is none."""
    outlining = [
        (entry, reading)
        for entry, reading in readings
        if reading is None or any(drawn.role != "box" for drawn in reading.shapes)
    ]
    if len(outlining) > 1:
        raise _refuse_twins(image, outlining[0][0], outlining[1][0])
    return outlining[0] if outlining else None


def _refuse_twins(image: Path, one: Entry, other: Entry) -> InputError:
    return InputError(
        f"{image} must have its annotations in one file. Got {one.title} and {other.title}; move "
        "one away."
    )


def _refuse(
    source: Path, entries: list[Entry], left_out: dict[Path, str], paths: Mapping[str, Path]
) -> NoReturn:
    """Say why no image has annotations: there are none to be read, or they have other names."""
    if left_out and not entries:
        more = f"; and {len(left_out) - 3} more files" if len(left_out) > 3 else ""
        told = [f"{file.name}: {reason}" for file, reason in left_out.items()][:3]
        raise InputError(
            f"{source} must hold annotations that can be read ({', '.join(SUFFIXES)}). Got "
            f"{'; '.join(told)}{more}."
        )
    also = "".join(f"; {note}" for note in _note_left_out(left_out, paths)[:3])
    raise InputError(
        f"annotations in {source} must be named after the images. Got "
        f"{name_some([entry.title for entry in entries]) or 'none'} for the images "
        f"{name_some([path.name for path in paths.values()])}; those of x.tif may be x.tif in "
        f"another folder, x.zip, x.roi, x.geojson, x.json, x.csv, each also with "
        f"{', '.join(ENDINGS)}, or COCO JSON that lists it{also}."
    )


def _note_left_out(left_out: Mapping[Path, str], unmatched: Collection[str]) -> list[str]:
    """Word notes on JSON, and on other files that are named after images without annotations.

    Tables and documents of any kind lie in folders.
    """
    return [
        f"{file.name}: left out, {reason}"
        for file, reason in left_out.items()
        if file.suffix.lower() in JSON_SUFFIXES
        or not set(unmatched).isdisjoint(possible_stems(file.stem, (*ENDINGS, "_seg")))
    ]


def _match(
    entries: Iterable[Entry], paths: Mapping[str, Path]
) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """Give every image its annotations; also return those that match none."""
    matched: dict[str, list[Entry]] = {}
    stray = []
    for entry in entries:
        stem = next((name for name in entry.names if name in paths), None)
        if stem is None:
            stray.append(entry)
            continue
        others = matched.setdefault(stem, [])
        # two images of one name in a document; a table may spell a name in two ways
        twin = next((one for one in others if one.file == entry.file), None)
        if twin is not None and entry.file.suffix.lower() != ".csv":
            raise _refuse_twins(paths[stem], twin, entry)
        others.append(entry)
    return matched, stray


def _take_for_only_image(
    source: Path, entries: list[Entry], stray: list[Entry], stem: str
) -> tuple[dict[str, list[Entry]], list[Entry], list[str]]:
    """Take one file, or a folder of nothing but ``.roi`` files, for the only image."""
    if source.is_file() and len(entries) == 1:
        (entry,) = entries
    elif entries and all(is_roi(entry.file) for entry in entries):
        entry = Entry(source, source.name, (), partial(read_rois, source))
    else:
        return {}, stray, []
    return {stem: [entry]}, [], [f"{entry.title}: taken for {stem}, the only image"]


def _draw(
    entry: Entry,
    reading: Reading | None,
    image: Path,
    shape: Size,
    ground: int,
    instances: Instances,
) -> Drawing:
    if reading is None:
        labels = read_labels(entry.file, shape=shape, image=image)
        labels = as_instances(labels, instances=instances, what=entry.file)
        labels[labels == BACKGROUND] = ground
        ids = np.unique(labels[labels > BACKGROUND]).tolist()
        return Drawing(labels, dict.fromkeys(ids, ""), [])
    outlines = [drawn for drawn in reading.shapes if drawn.role != "box"]
    drawing = draw_shapes(outlines, shape=shape, ground=ground, file=entry.file)
    labels = as_instances(drawing.labels, instances=instances, what=entry.file)
    ids = np.unique(labels[labels > BACKGROUND]).tolist()
    names = drawing.names if labels is drawing.labels else dict.fromkeys(ids, "")
    return Drawing(labels, names, reading.notes + drawing.notes)
