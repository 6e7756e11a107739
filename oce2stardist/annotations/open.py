"""Finds files of annotations, and lists what they hold by image, whatever their format."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from oce2stardist.annotations import coco, foreign, geojson, labelme, napari_csv, tables
from oce2stardist.annotations.imagej import is_roi, read_rois
from oce2stardist.annotations.parsing import naming, read_limited
from oce2stardist.annotations.shapes import Reading
from oce2stardist.errors import InputError
from oce2stardist.images.find import LABEL_ENDINGS, image_stem, possible_stems
from oce2stardist.images.formats import LABEL_SUFFIXES

ROI_SUFFIXES = (".zip", ".roi")
JSON_SUFFIXES = (".geojson", ".json")
SUFFIXES = (*LABEL_SUFFIXES, *ROI_SUFFIXES, *JSON_SUFFIXES, ".csv")
ENDINGS = (*LABEL_ENDINGS, "_rois", "_RoiSet", "_annotations")
MAX_JSON_BYTES = 512 * 2**20

Size = tuple[int, int]  # (Y, X)


@dataclass(frozen=True)
class Entry:
    """Annotations of one image: where they lie, by which names they match, how to read them."""

    file: Path
    title: str
    names: tuple[str, ...]
    read: Callable[..., Reading] | None  # given the shape of the image; None for a label image


def list_files(source: Path) -> list[Path]:
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


def open_all(files: Iterable[Path], *, beside: bool) -> tuple[list[Entry], dict[Path, str]]:
    """List the annotations in files, which may lie beside their images.

    Also tell which files are left out and why.
    """
    entries: list[Entry] = []
    left_out = {}
    for file in files:
        suffix = file.suffix.lower()
        if file.is_dir() or suffix in ROI_SUFFIXES:
            reader = partial(read_rois, file)
            entries.append(Entry(file, file.name, _names(file, itself=True), reader))
        elif suffix in LABEL_SUFFIXES:
            names = _names(file, itself=not beside)
            entries += [Entry(file, file.name, names, None)] if names else []
        elif suffix == ".csv" and (tables := _open_table(file)):
            entries += tables
        elif suffix not in JSON_SUFFIXES:
            left_out[file] = foreign.explain_file(file)
        else:
            document = _parse_json(file)
            if coco.is_coco(document):
                for image in coco.list_images(document, file=file):
                    title = f"{image.file_name} in {file.name}"
                    reader = partial(coco.read_annotated, image, file=file)
                    entries.append(Entry(file, title, (image.stem,), reader))
            elif geojson.is_geojson(document):
                reader = partial(_read_geojson, document, file)
                entries.append(Entry(file, file.name, _names(file, itself=True), reader))
            elif labelme.is_labelme(document):
                reader = partial(labelme.read_labelme, document, file=file)
                names = *_names(file, itself=True), labelme.image_stem_of(document)
                entries.append(Entry(file, file.name, names, reader))
            else:
                left_out[file] = foreign.explain_json(document)
    return entries, left_out


def _open_table(file: Path) -> list[Entry]:
    """List the annotations in a CSV file by image; none in a table of something else."""
    columns = tables.columns_of(file)
    for is_one, read in (
        (napari_csv.is_shapes, napari_csv.read_shapes),
        (napari_csv.is_points, napari_csv.read_points),
    ):
        if is_one(columns):
            return [Entry(file, file.name, _names(file, itself=True), partial(read, file))]
    for is_one, read_rows in (
        (tables.is_points, tables.read_points),
        (tables.is_verdicts, tables.read_verdicts),
    ):
        if is_one(columns):
            return [
                Entry(file, file.name, _names(file, itself=True), partial(read_rows, rows, file))
                if image is None
                else Entry(
                    file,
                    f"{image} in {file.name}",
                    tables.stems_of(image),
                    partial(read_rows, rows, file),
                )
                for image, rows in tables.split_by_image(file).items()
            ]
    return []


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
