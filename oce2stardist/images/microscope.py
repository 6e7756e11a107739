"""Read CZI, LIF and ND2, each by the library for it.

A file holds scenes (tiles that were stitched, positions, series), each of one or several time
points: every one of these is an image of its own, whose path is that of the file with its name,
``exp.lif/scene0002_t0000``, as if the file were a folder. The only image of a file is the file.
"""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from oce2stardist.errors import InputError, first_line, is_out_of_memory, say_install
from oce2stardist.images.blocks import Window
from oce2stardist.images.formats import MICROSCOPE_SUFFIXES
from oce2stardist.images.microscope_readers import SOURCES, Source
from oce2stardist.images.pixel_size import PixelSize

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inside:
    """One image in the file of a microscope: a time point of a scene."""

    name: str  # "" for the only one
    scene: int
    time: int
    shape: tuple[int, int, int]  # (Y, X, C)
    pixel_size: PixelSize | None


def split_path(path: Path) -> tuple[Path, str] | None:
    """Split the path of an image into that of its microscope's file and its name in it.

    None for what lies in no such file.
    """
    if path.suffix.lower() in MICROSCOPE_SUFFIXES:
        return path, ""
    inside = path.parent.suffix.lower() in MICROSCOPE_SUFFIXES and not path.parent.is_dir()
    return (path.parent, path.name) if inside else None


def paths_inside(file: Path) -> list[Path]:
    """List the paths of the images in a file."""
    return [file / image.name if image.name else file for image in list_inside(file)]


def list_inside(file: Path) -> tuple[Inside, ...]:
    """List the images in a file; scenes with other axes are left out with a warning.

    There is at least one.
    """
    try:
        about = os.stat(file)
    except OSError as error:
        raise InputError(f"{file} can't be read: {error.strerror}; check the path.") from error
    return _list(file, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4096)
def _list(file: Path, size: int, modified: int) -> tuple[Inside, ...]:
    with _opened(file) as source:
        scenes = source.scenes()
    poor = {at: scene for at, scene in enumerate(scenes) if scene.trouble}
    if len(poor) == len(scenes):
        trouble = poor[0].trouble if poor else "no image"
        raise InputError(
            f"{file} must hold 2-D images, with channels, scenes and time points. Got {trouble}; "
            "project or split what else there is, and export it as OME-TIFF."
        )
    if poor:
        at, scene = next(iter(poor.items()))
        _log.warning(
            "%d of %d scenes of %s are left out, such as number %d: %s",
            len(poor), len(scenes), file, at, scene.trouble,
        )  # fmt: skip
    listed = []
    for at, scene in enumerate(scenes):
        for time in range(scene.times):
            parts = [f"scene{at:04d}"] if len(scenes) > 1 else []
            parts += [f"t{time:04d}"] if scene.times > 1 else []
            listed.append(Inside("_".join(parts), at, time, scene.shape, scene.pixel_size))
    return tuple(listed)


def find_inside(path: Path) -> tuple[Path, Inside]:
    """Find the image that a path names."""
    found = split_path(path)
    assert found is not None, path
    file, name = found
    images = list_inside(file)
    for image in images:
        if image.name == name:
            return file, image
    raise InputError(
        f"{path} must name one image of {file.name}. Got {len(images)} images in it, such as "
        f"{file.name}/{images[0].name}; name one of them, or the file where several may be given."
    )


def read_inside(path: Path, window: Window | None = None) -> NDArray[Any]:
    """Read the image that a path names, or a window of it, as stored, of shape (Y, X, C)."""
    file, image = find_inside(path)
    height, width, channels = image.shape
    rows, columns = window or (slice(0, height), slice(0, width))
    with _opened(file) as source:
        pixels = source.read(image.scene, image.time, (rows, columns))
    wanted = (rows.stop - rows.start, columns.stop - columns.start, channels)
    if pixels.shape != wanted:
        raise InputError(f"{path} must hold {wanted} values. Got {pixels.shape}; export it again.")
    return pixels


@contextmanager
def _opened(file: Path) -> Iterator[Source]:
    """Open a file; what goes wrong while it is open becomes an `InputError`."""
    kind = SOURCES[file.suffix.lower()]
    try:
        importlib.import_module(kind.package)
    except ImportError as error:
        raise InputError(
            f"the package {kind.package} must be installed to read {file.name}. Got none; "
            f"{say_install('microscope')}"
        ) from error
    try:
        source = kind(file)
        try:
            yield source
        finally:
            source.close()
    except InputError:
        raise
    except Exception as error:  # readers raise whatever a broken file makes them
        if is_out_of_memory(error):
            raise InputError(
                f"{file} can't be read: there is no memory left for it. Close other programs, or "
                "export smaller images."
            ) from error
        raise InputError(
            f"{file} can't be read as {file.suffix[1:].upper()}: {first_line(error)}. Open it with "
            "the microscope's program, and export OME-TIFF if that can."
        ) from error
