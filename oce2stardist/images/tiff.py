"""Which images a TIFF holds, for reading it at once and in blocks."""

import io
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from oce2stardist.images.ome_tiff import own_description

_log = logging.getLogger(__name__)
_PLAIN = (1, 5, 8, 32773, 32946)
"""TIFF compressions with a bound: none, LZW, Deflate, PackBits, Deflate's older number."""

_LARGEST_RATIO = 2000
"""LZW reaches 1365, Deflate 1032."""

_ASSOCIATED = re.compile(r"(?<![a-z])(label|macro|thumb|overview|preview)", re.IGNORECASE)
"""What scanners of slides call the pictures beside the slide."""

_ALPHA = (1, 2)
"""ExtraSamples: associated and unassociated alpha."""

_WINDOW = 4096
"""Pixels a side that are read, at most, to tell a level without a mark."""

_ALIKE = 0.7
"""Correlation above which a smaller image is a level of the larger one: taste. Levels have 0.9 and
more, also those that take every second pixel; images of other places have about 0."""


def open_alone(path: Path) -> BinaryIO:
    """Open a file so that tifffile looks for no others beside it."""
    return _Alone(io.FileIO(path))


class _Alone(io.BufferedReader):
    """A file without a number: only beside those of a disk tifffile looks for others."""

    def fileno(self) -> int:
        """Say that there is none."""
        raise io.UnsupportedOperation("fileno")


@contextmanager
def open_tiff(file: BinaryIO, path: Path) -> Iterator[tifffile.TiffFile]:
    """Open the TIFF that `path` names and `open_alone` opened.

    Of images that lie in several OME-TIFF it has what this file holds; no other is read.
    """
    with tifffile.TiffFile(file, name=path.name) as tiff:
        described = own_description(tiff, path.parent)
        if described is None:
            yield tiff
            return
        file.seek(0)
        with tifffile.TiffFile(file, name=path.name, omexml=described) as own:
            yield own


def images_of(tiff: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """List the images of a TIFF, without levels of pyramids and pictures of slides' labels.

    Levels need not be marked as such. Each image is to be checked by `check_whole` before it is
    read.
    """
    tiff.filehandle.seek(tiff.pages.next_page_offset or 0)
    if any(tiff.filehandle.read(tiff.tiff.offsetsize)):  # the last page points nowhere
        raise ValueError("it ends before its last page")
    listed = [level for series in tiff.series for level in _told_by_size(series)]
    images = [series for series in listed if not series.keyframe.is_reduced] or listed
    if not images:
        return []
    largest = max(images, key=lambda series: math.prod(series.shape))
    return [one for one in images if one is largest or not _is_part_of(one, largest)]


def check_whole(image: tifffile.TiffPageSeries) -> None:
    """Refuse an image that tifffile reads in part, with zeros for the rest or without it.

    So is one that announces more than its compression can bring into so few bytes, before memory
    for its pixels is taken.

    Raises
    ------
    ValueError
    """
    tiff = image.keyframe.parent
    announced = math.prod(image.shape) * image.dtype.itemsize
    n_bytes = tiff.filehandle.size
    if image.keyframe.compression in _PLAIN and announced > 2**24 + _LARGEST_RATIO * n_bytes:
        raise ValueError(f"it announces {announced} bytes of pixels and has {n_bytes}")
    if any(page is None or page.parent is not tiff for page in image):
        raise ValueError("some of its planes are missing or lie in other files")
    declared = tiff.imagej_metadata or {}
    planes = math.prod(declared.get(key, 1) for key in ("channels", "slices", "frames"))
    if planes * image.keyframe.imagelength * image.keyframe.imagewidth > math.prod(image.shape):
        raise ValueError(f"it holds fewer planes than the {planes} it declares")


def without_alpha(image: tifffile.TiffPageSeries, path: Path) -> tuple[int, ...]:
    """Return the shape of an image less its opacity, the last of the samples (axis S)."""
    extra = image.keyframe.extrasamples
    if "S" not in image.axes or not extra or extra[-1] not in _ALPHA:
        return tuple(image.shape)
    _say_dropped(path)
    return tuple(
        size - 1 if axis == "S" else size
        for axis, size in zip(image.axes, image.shape, strict=True)
    )


@lru_cache
def _say_dropped(path: Path) -> None:
    """Say it once, however often the file is read."""
    _log.warning("dropped the alpha channel of %s", path)


def white(image: tifffile.TiffPageSeries) -> float | None:
    """Return the value from which stored ones count down, where 0 is white; else None."""
    if image.keyframe.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return None
    kind = image.dtype.kind
    return {"b": 1.0, "i": -1.0, "f": 0.0}.get(kind, 2.0**image.keyframe.bitspersample - 1)


def _told_by_size(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPageSeries]:
    """List an image with the levels that tifffile takes for such by their sizes alone."""
    return series.levels if series.kind == "generic" else [series]


def _is_part_of(image: tifffile.TiffPageSeries, slide: tifffile.TiffPageSeries) -> bool:
    """Tell whether a smaller image is a picture that comes with another one, or a level of it."""
    if math.prod(image.shape) >= math.prod(slide.shape):
        return False
    described = image.keyframe.description.lstrip()
    said = f"{image.name}\n{'' if described[:1] in ('<', '{') else described}"
    return _ASSOCIATED.search(said) is not None or _is_level(image, slide)


def _is_level(image: tifffile.TiffPageSeries, full: tifffile.TiffPageSeries) -> bool:
    """Tell whether an image is another one made smaller by a whole number, and shows the same."""
    if image.axes != full.axes or image.dtype != full.dtype or not {"Y", "X"} <= set(image.axes):
        return False
    y, x = image.axes.index("Y"), image.axes.index("X")
    factor = round(full.shape[y] / image.shape[y])
    reduced = list(full.shape)
    for side in (y, x):
        reduced[side] = image.shape[side]
        if factor < 2 or abs(full.shape[side] / factor - image.shape[side]) > 1:
            return False
    if tuple(reduced) != image.shape:
        return False
    looked_at = [_middle(image.shape[side], _WINDOW) for side in (y, x)]
    few = _first_plane(image, y, x, looked_at)
    # Where there is most to see, as many pixels of the level as fit into the window.
    brightest = np.unravel_index(np.argmax(np.abs(few - np.median(few))), few.shape)
    places = []
    for side, within, at in zip((y, x), looked_at, brightest, strict=True):
        size = min(image.shape[side], full.shape[side] // factor)
        n = min(size, within.stop - within.start, max(1, _WINDOW // factor))
        start = within.start + min(max(0, int(at) - n // 2), within.stop - within.start - n)
        start = min(start, size - n)
        places.append(slice(start, start + n))
    few = _first_plane(image, y, x, places)
    scaled = [slice(place.start * factor, place.stop * factor) for place in places]
    many = _first_plane(full, y, x, scaled)
    means = many.reshape(few.shape[0], factor, few.shape[1], factor).mean(axis=(1, 3))
    picked = (many[at::factor, at::factor] for at in (0, factor // 2))
    return any(_alike(few, candidate) for candidate in (means, *picked))


def _middle(size: int, most: int) -> slice:
    start = max(0, (size - most) // 2)
    return slice(start, min(size, start + most))


def _first_plane(
    series: tifffile.TiffPageSeries, y: int, x: int, window: list[slice]
) -> NDArray[np.float64]:
    """Read a window of the first plane; of a large image through zarr."""
    check_whole(series)
    index: list[Any] = [0] * len(series.shape)
    index[y], index[x] = window
    if math.prod(series.shape) <= _WINDOW**2:
        return np.asarray(series.asarray(level=0)[tuple(index)], float)
    import zarr

    with series.aszarr(level=0) as store:
        stored: Any = zarr.open(store, mode="r")
        return np.asarray(stored[tuple(index)], float)


def _alike(few: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    if few.std() == 0 or others.std() == 0:  # they show nothing by which one could tell
        return False
    return float(np.corrcoef(few.ravel(), others.ravel())[0, 1]) > _ALIKE
