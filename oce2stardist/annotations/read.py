"""Finds the annotations of each image and reads them, whatever their format."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from oce2stardist.annotations import coco, foreign, geojson, labelme, napari_csv
from oce2stardist.annotations.imagej import is_roi, read_rois
from oce2stardist.annotations.parsing import naming, read_limited
from oce2stardist.annotations.rasterise import Drawing, draw_shapes
from oce2stardist.annotations.shapes import Reading
from oce2stardist.annotations.units import Drawn, warn_of_micrometres
from oce2stardist.errors import InputError, name_some
from oce2stardist.images.find import LABEL_ENDINGS, image_stem, possible_stems
from oce2stardist.images.formats import LABEL_SUFFIXES
from oce2stardist.images.instances import as_instances
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.pixel_size import PixelSize
from oce2stardist.labels import BACKGROUND, UNLABELLED, Instances, Labels

ROI_SUFFIXES = (".zip", ".roi")
JSON_SUFFIXES = (".geojson", ".json")
SUFFIXES = (*LABEL_SUFFIXES, *ROI_SUFFIXES, *JSON_SUFFIXES, ".csv")
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
    instances: Instances  # how labels were taken


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
        shapes), and COCO files of any name that list it. Names may have one of `ENDINGS`. One
        file for one image need not have its name.
    zero_is_background : bool
        Whether everything that is not annotated, in an image that has annotations, is known
        background. If not, it is unknown, and so is 0 in a label image.
    instances : {"auto", "labels", "components"}
        How labels are taken: see `oce2stardist.images.instances`.
    pixel_sizes : mapping of stem to PixelSize, optional
        Outlines in micrometres are told by them.
    """
    source = Path(source)
    files = _list_files(source)
    beside = source.is_dir() and any(
        path.parent.resolve() == source.resolve() for path in paths.values()
    )
    entries, left_out = _open_all(files, beside=beside)
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
    drawings, drawn = {}, []
    for stem in filter(matched.__contains__, paths):
        entry, shape = matched[stem], shapes[stem]
        reading = entry.read(shape=shape) if entry.read is not None else None
        drawings[stem] = _draw(entry, reading, paths[stem], shape, zero_is_background, instances)
        if reading is not None:
            drawn.append(Drawn(entry.title, reading.shapes, shape, (pixel_sizes or {}).get(stem)))
    notes += warn_of_micrometres(drawn)
    return AnnotationSet(
        labels={stem: drawing.labels for stem, drawing in drawings.items()},
        files=sorted({entry.file for entry in matched.values()}),
        notes=notes + [note for drawing in drawings.values() for note in drawing.notes],
        names={stem: drawing.names for stem, drawing in drawings.items()},
        instances=instances,
    )


def _refuse(
    source: Path, entries: list[_Entry], left_out: dict[Path, str], paths: Mapping[str, Path]
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


def _list_files(source: Path) -> list[Path]:
    """List what a folder holds but the hidden, folders only if there are selections in them."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(f"{source} must exist. Got no such file or folder; check the path.")
    visible = sorted(path for path in source.iterdir() if path.name[0] != ".")
    return [
        path
        for path in visible
        if path.is_file() or (path.is_dir() and any(map(is_roi, path.iterdir())))
    ]


def _open_all(files: Iterable[Path], *, beside: bool) -> tuple[list[_Entry], dict[Path, str]]:
    """List the annotations in files, which may lie beside their images.

    Also tell which files are left out and why.
    """
    entries: list[_Entry] = []
    left_out = {}
    for file in files:
        suffix = file.suffix.lower()
        if file.is_dir() or suffix in ROI_SUFFIXES:
            reader = partial(read_rois, file)
            entries.append(_Entry(file, file.name, _names(file, itself=True), reader))
        elif suffix in LABEL_SUFFIXES:
            names = _names(file, itself=not beside)
            entries += [_Entry(file, file.name, names, None)] if names else []
        elif suffix == ".csv" and napari_csv.is_napari(file):
            reader = partial(napari_csv.read_shapes, file)
            entries.append(_Entry(file, file.name, _names(file, itself=True), reader))
        elif suffix not in JSON_SUFFIXES:
            left_out[file] = foreign.explain_file(file)
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
            elif labelme.is_labelme(document):
                reader = partial(labelme.read_labelme, document, file=file)
                names = *_names(file, itself=True), labelme.image_stem_of(document)
                entries.append(_Entry(file, file.name, names, reader))
            else:
                left_out[file] = foreign.explain_json(document)
    return entries, left_out


def _read_geojson(document: Any, file: Path, *, shape: Size) -> Reading:
    return geojson.read_features(document, file=file)


def _parse_json(file: Path) -> Any:
    data = read_limited(file, at_most=MAX_JSON_BYTES)
    with naming(str(file), expected="JSON"):
        return json.loads(data)  # UTF-8, 16 or 32, with or without a mark of their order


def _names(file: Path, *, itself: bool) -> tuple[str, ...]:
    """List the stems of the images that a file or folder may belong to, the likeliest first.

    Without ``itself``, only a name with one of the endings counts.
    """
    name = file.name if file.is_dir() else image_stem(file)
    if not itself and not name.lower().endswith(tuple(ending.lower() for ending in ENDINGS)):
        return ()
    return tuple(possible_stems(name, ENDINGS)[0 if itself else 1 :])


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
    elif entries and all(is_roi(entry.file) for entry in entries):
        entry = _Entry(source, source.name, (), partial(read_rois, source))
    else:
        return {}, stray, []
    return {stem: entry}, [], [f"{entry.title}: taken for {stem}, the only image"]


def _draw(
    entry: _Entry,
    reading: Reading | None,
    image: Path,
    shape: Size,
    zero_is_background: bool,
    instances: Instances,
) -> Drawing:
    ground = BACKGROUND if zero_is_background else UNLABELLED
    if reading is None:
        labels = read_labels(entry.file, shape=shape, image=image)
        labels = as_instances(labels, instances=instances, what=entry.file)
        labels[labels == BACKGROUND] = ground
        ids = np.unique(labels[labels > BACKGROUND]).tolist()
        return Drawing(labels, dict.fromkeys(ids, ""), [])
    drawing = draw_shapes(reading.shapes, shape=shape, ground=ground, file=entry.file)
    labels = as_instances(drawing.labels, instances=instances, what=entry.file)
    ids = np.unique(labels[labels > BACKGROUND]).tolist()
    names = drawing.names if labels is drawing.labels else dict.fromkeys(ids, "")
    return Drawing(labels, names, reading.notes + drawing.notes)
