"""Finds the annotations of each image and reads them, whatever their format."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from oce2stardist.annotations import coco, geojson
from oce2stardist.annotations.imagej import read_rois
from oce2stardist.annotations.parsing import naming, read_limited
from oce2stardist.annotations.rasterise import Drawing, draw_shapes
from oce2stardist.annotations.shapes import Reading
from oce2stardist.errors import InputError, name_some
from oce2stardist.images.find import LABEL_ENDINGS, image_stem
from oce2stardist.images.formats import IMAGE_SUFFIXES, LABEL_SUFFIXES
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import BACKGROUND, UNLABELLED, Labels

ROI_SUFFIXES = (".zip", ".roi")
JSON_SUFFIXES = (".geojson", ".json")
SUFFIXES = (*LABEL_SUFFIXES, *ROI_SUFFIXES, *JSON_SUFFIXES)
ENDINGS = (*LABEL_ENDINGS, "_rois", "_RoiSet", "_annotations")
MAX_JSON_BYTES = 512 * 2**20

Size = tuple[int, int]  # (Y, X)


@dataclass(frozen=True)
class AnnotationSet:
    """What people annotated, by the stem of the image; images without annotations are absent.

    Labels (Y, X) are cells > 0, known background 0 and unknown -1. Notes, a line each, tell the
    user what matches no image, was left out or overlaps.
    """

    labels: dict[str, Labels]
    files: list[Path]  # those read, sorted; a folder stands for the .roi files in it
    notes: list[str]
    names: dict[str, dict[int, str]]  # label to the name or id that the tool gave, "" for none


@dataclass(frozen=True)
class _Entry:
    """Annotations of one image: where they lie, by which names they match, how to read them."""

    file: Path
    title: str
    names: tuple[str, ...]
    read: Callable[..., Reading] | None  # given the shape of the image; None for a label image


def read_annotations(
    paths: Mapping[str, Path],
    shapes: Mapping[str, Size],
    source: str | Path,
    *,
    zero_is_background: bool = False,
) -> AnnotationSet:
    """Read the annotations of a set of images.

    Parameters
    ----------
    paths, shapes : mapping of stem to Path and to (Y, X)
        The images.
    source : str or Path
        A folder or one file. For the image ``x.tif`` a folder may hold a label image, as
        `oce2stardist.images.find.label_paths` finds it, ``x.zip``, ``x.roi``, a folder ``x``
        of ``.roi`` files, ``x.geojson`` or ``x.json``, and COCO files of any name that list
        it. Names may end in ``_masks``, ``_mask``, ``_labels``, ``_rois``, ``_RoiSet`` or
        ``_annotations``. One file for one image need not have its name.
    zero_is_background : bool
        Whether everything that is not annotated, in an image that has annotations, is known
        background. If not, it is unknown, and so is 0 in a label image.
    """
    source = Path(source)
    files = _list_files(source)
    beside = source.is_dir() and any(
        path.parent.resolve() == source.resolve() for path in paths.values()
    )
    entries, notes = _open_all(files, beside=beside, alone=source.is_file())
    matched, stray = _match(entries, paths)
    if not matched and len(paths) == 1:
        matched, stray, note = _take_for_only_image(source, entries, stray, next(iter(paths)))
        notes += note
    if not matched:
        raise InputError(
            f"annotations in {source} must be named after the images. Got "
            f"{name_some([entry.title for entry in entries]) or 'none'} for the images "
            f"{name_some([path.name for path in paths.values()])}; those of x.tif may be x.tif in "
            f"another folder, x_masks.tif, x.zip, x.roi, x.geojson or COCO JSON that lists it."
        )
    if stray:
        notes.append(f"match no image: {name_some([entry.title for entry in stray])}")
    drawings = {
        stem: _draw(matched[stem], paths[stem], shapes[stem], zero_is_background)
        for stem in paths
        if stem in matched
    }
    return AnnotationSet(
        labels={stem: drawing.labels for stem, drawing in drawings.items()},
        files=sorted({entry.file for entry in matched.values()}),
        notes=notes + [note for drawing in drawings.values() for note in drawing.notes],
        names={stem: drawing.names for stem, drawing in drawings.items()},
    )


def _list_files(source: Path) -> list[Path]:
    """List what a folder holds but the hidden, folders only if there are selections in them."""
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{source} must be annotations ({', '.join(SUFFIXES)}). "
                f"Got {source.suffix or 'no suffix'}; export it in one of these formats."
            )
        return [source]
    if not source.is_dir():
        raise InputError(f"{source} must exist. Got no such file or folder; check the path.")
    visible = sorted(path for path in source.iterdir() if path.name[0] != ".")
    return [
        path
        for path in visible
        if (path.is_file() and path.suffix.lower() in SUFFIXES)
        or (path.is_dir() and any(path.glob("*.roi")))
    ]


def _open_all(
    files: Iterable[Path], *, beside: bool, alone: bool
) -> tuple[list[_Entry], list[str]]:
    """List the annotations in files, beside their images or one alone; note JSON of other kinds."""
    entries: list[_Entry] = []
    notes = []
    for file in files:
        suffix = file.suffix.lower()
        if file.is_dir() or suffix in ROI_SUFFIXES:
            reader = partial(read_rois, file)
            entries.append(_Entry(file, file.name, _names(file, itself=True), reader))
        elif suffix in LABEL_SUFFIXES:
            names = _names(file, itself=not beside)
            entries += [_Entry(file, file.name, names, None)] if names else []
        else:
            document = _parse_json(file)
            if coco.is_coco(document):
                for image in coco.list_images(document, file=file):
                    title = f"{image.file_name} in {file.name}"
                    reader = partial(coco.read_annotated, image, file=file)
                    entries.append(_Entry(file, title, (image.stem,), reader))
            elif geojson.is_geojson(document):
                reader = partial(_read_geojson, document, file)
                entries.append(_Entry(file, file.name, _names(file, itself=True), reader))
            elif alone:
                raise InputError(
                    f"{file} must be GeoJSON or COCO JSON. Got neither; export it as one of them."
                )
            else:
                notes.append(f"{file.name}: left out, neither GeoJSON nor COCO JSON")
    return entries, notes


def _read_geojson(document: Any, file: Path, *, shape: Size) -> Reading:
    return geojson.read_features(document, file=file)


def _parse_json(file: Path) -> Any:
    data = read_limited(file, at_most=MAX_JSON_BYTES)
    with naming(str(file), expected="JSON"):
        return json.loads(data.decode("utf-8-sig"))


def _names(file: Path, *, itself: bool) -> tuple[str, ...]:
    """List the stems of the images that a file or folder may belong to, the likeliest first.

    Without ``itself``, only a name with one of the endings counts.
    """
    name = file.name if file.is_dir() else image_stem(file)
    if Path(name).suffix.lower() in IMAGE_SUFFIXES:  # x.tif.geojson
        name = image_stem(name)
    shortened = [name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)]
    return (name, *shortened) if itself else tuple(shortened)


def _match(
    entries: Iterable[_Entry], paths: Mapping[str, Path]
) -> tuple[dict[str, _Entry], list[_Entry]]:
    """Give every image its annotations; also return those that match none."""
    matched: dict[str, _Entry] = {}
    stray = []
    for entry in entries:
        stem = next((name for name in entry.names if name in paths), None)
        if stem is None:
            stray.append(entry)
        elif stem in matched:
            raise InputError(
                f"{paths[stem]} must have its annotations in one file. Got "
                f"{matched[stem].title} and {entry.title}; move one away."
            )
        else:
            matched[stem] = entry
    return matched, stray


def _take_for_only_image(
    source: Path, entries: list[_Entry], stray: list[_Entry], stem: str
) -> tuple[dict[str, _Entry], list[_Entry], list[str]]:
    """Take one file, or a folder of nothing but ``.roi`` files, for the only image."""
    if source.is_file() and len(entries) == 1:
        (entry,) = entries
    elif entries and all(entry.file.suffix.lower() == ".roi" for entry in entries):
        entry = _Entry(source, source.name, (), partial(read_rois, source))
    else:
        return {}, stray, []
    return {stem: entry}, [], [f"{entry.title}: taken for {stem}, the only image"]


def _draw(entry: _Entry, image: Path, shape: Size, zero_is_background: bool) -> Drawing:
    ground = BACKGROUND if zero_is_background else UNLABELLED
    if entry.read is None:
        labels = read_labels(entry.file, shape=shape, image=image)
        labels[labels == BACKGROUND] = ground
        ids = np.unique(labels[labels > BACKGROUND]).tolist()
        return Drawing(labels, dict.fromkeys(ids, ""), [])
    reading = entry.read(shape=shape)
    drawing = draw_shapes(reading.shapes, shape=shape, ground=ground, file=entry.file)
    return Drawing(drawing.labels, drawing.names, reading.notes + drawing.notes)
