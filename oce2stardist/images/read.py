"""Read an image file into one array of shape (Y, X, C) or (Z, Y, X, C), opening it once."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from oce2stardist.errors import InputError, first_line, is_out_of_memory
from oce2stardist.files.digests import digest_arrays, digest_content
from oce2stardist.images.formats import IMAGE_SUFFIXES, RASTER_SUFFIXES, TIFF_SUFFIXES
from oce2stardist.images.microscope import find_inside, read_inside, split_path
from oce2stardist.images.pixel_size import PixelSize, VoxelSize, tiff_pixel_size, tiff_voxel_size
from oce2stardist.images.raster import decode_raster, raster_shape, without_palette
from oce2stardist.images.tiff import (
    check_whole,
    images_of,
    open_alone,
    open_tiff,
    white,
    without_alpha,
)
from oce2stardist.labels import Image

_log = logging.getLogger(__name__)
MAX_ELEMENTS = 2**31
PLANE, STACK = "YX", "ZYX"
"""Axes of what is read, besides channels."""


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What a run needs of an image file, all from the same bytes."""

    pixels: Image  # as `read_image` gives them
    pixel_size: PixelSize | None
    digest: str  # SHA-256 of the file, or of the values where the file holds other images, too
    voxel_size: VoxelSize | None = None  # of a stack

    @property
    def is_stack(self) -> bool:
        """Whether the pixels have shape (Z, Y, X, C)."""
        return self.pixels.ndim == 4

    @classmethod
    def read(cls, path: Path, *, axes: str | None, space: str | None = PLANE) -> "ImageFile":
        """Open the file once and read all of it; refuses what `read_image` refuses.

        `space` is `PLANE`, or `STACK` for a TIFF of shape (Z, Y, X, C); None takes what the axes
        of a TIFF say.
        """
        if split_path(path) is not None:
            stored = _read_microscope(path)
            content = digest_arrays({"": stored.values})
            return cls(_to_float32(stored, path), stored.pixel_size, content)
        with _opened(path) as file:
            stored = _decode(file, path, axes, space)
            content = digest_content(file)
        return cls(_to_float32(stored, path), stored.pixel_size, content, stored.voxel_size)


def read_image(path: str | Path, *, axes: str | None = None) -> Image:
    """Read a 2-D image as float32 of shape (Y, X, C); stored values, not rescaled.

    Samples (RGB) and channels both become channels. An alpha channel is dropped, the palette of a
    PNG applied, grey values turned where 0 is white. A dimension that the file does not name is
    only taken for channels where it is the last of three and of size 3 or 4.

    Parameters
    ----------
    path : str or Path
        TIFF, OME-TIFF, ImageJ TIFF, PNG, BMP or JPEG of integers, floats or booleans; CZI, LIF or
        ND2 of one image, or the path of one in it, such as ``exp.lif/scene0002``.
    axes : str, optional
        One letter per stored dimension, such as ``"CYX"``, in place of what the file says.
        Dimensions other than Y, X and C must have size 1.
    """
    path = Path(path)
    if split_path(path) is not None:
        return _to_float32(_read_microscope(path), path)
    with _opened(path) as file:
        stored = _decode(file, path, axes, PLANE)
    return _to_float32(stored, path)


@dataclass(frozen=True, eq=False)
class _Stored:
    """What a file holds: values, channels last, and the one from which they count down, if any."""

    values: NDArray[Any]
    pixel_size: PixelSize | None = None
    white: float | None = None
    voxel_size: VoxelSize | None = None


def _to_float32(stored: _Stored, path: Path) -> Image:
    values = stored.values
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{path} must hold integers or floats. Got {values.dtype}; save real numbers."
        )
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, refused below
        image = values.astype(np.float32)
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        raise InputError(
            f"{path} must hold finite numbers. Got NaN or infinity in {bad} of {image.size} "
            "values; replace them."
        )
    return image if stored.white is None else stored.white - image


def read_pixel_size(path: str | Path) -> PixelSize | None:
    """Read the size of a pixel, where an image file says it in a unit of length.

    OME-TIFF, ImageJ's TIFF and files of microscopes say it; see `tiff_pixel_size`.
    """
    path = Path(path)
    try:
        if split_path(path) is not None:
            return find_inside(path)[1].pixel_size
        if path.suffix.lower() not in TIFF_SUFFIXES:
            return None
        with open_alone(path) as file, open_tiff(file, path) as tiff:
            return tiff_pixel_size(tiff)
    except Exception as error:  # a broken file is refused where its pixels are read
        _log.debug("no pixel size in %s: %s", path, error)
        return None


def narrowest(pixels: Image) -> NDArray[Any]:
    """Take the smallest type that holds the values: those of cameras are whole numbers."""
    if pixels.min() >= 0 and pixels.max() <= 65535 and np.all(pixels == np.rint(pixels)):
        return pixels.astype(np.uint8 if pixels.max() <= 255 else np.uint16)
    return pixels


def read_pixels(
    path: Path, axes: str | None, *, indices: bool = False, space: str = PLANE
) -> NDArray[Any]:
    """Read the stored values as (Y, X, C), also where 0 is white: labels are numbers.

    Of a palette PNG its colours, or `indices` into it.
    """
    with _opened(path) as file:
        if indices and path.suffix.lower() == ".png":
            return _read_raster(without_palette(file.read()), path, axes)
        return _decode(file, path, axes, space).values


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open an image file; what goes wrong while it is open becomes an `InputError`."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"{path} must be an image ({', '.join(IMAGE_SUFFIXES)}). "
            f"Got {path.suffix or 'no suffix'}; convert it."
        )
    try:
        with open_alone(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them
        if is_out_of_memory(error):
            raise InputError(
                f"{path} can't be read: there is no memory left for it. Close other programs, or "
                "cut it into smaller images."
            ) from error
        raise InputError(
            f"{path} can't be read as an image: {first_line(error)}. Save it again as TIFF or PNG."
        ) from error


def _decode(file: BinaryIO, path: Path, axes: str | None, space: str | None) -> _Stored:
    if path.suffix.lower() in RASTER_SUFFIXES:
        return _Stored(_read_raster(file.read(), path, axes))
    with open_tiff(file, path) as tiff:
        return _read_tiff(tiff, path, axes, space)


def _read_tiff(tiff: tifffile.TiffFile, path: Path, axes: str | None, space: str | None) -> _Stored:
    images = images_of(tiff)
    if len(images) != 1:
        raise several_images(path, len(images))
    image = images[0]
    _check_size(path, image.shape)
    check_whole(image)
    shape = without_alpha(image, path)
    named = image.axes if axes is None else _parse(axes, shape)
    if space is None:
        has_planes = any(axis in "Zz" and size > 1 for axis, size in zip(named, shape, strict=True))
        space = STACK if has_planes else PLANE
    names = _name_axes(path, shape, named, space)
    stored = image.asarray()
    if stored.shape != image.shape:  # tifffile only remarks it
        raise ValueError(f"it holds values of shape {stored.shape}, not {image.shape}")
    values = stored[tuple(slice(size) for size in shape)]
    depth = None if space == PLANE else tiff_voxel_size(tiff)
    pixels = _channels_last(values, names, space)
    return _Stored(pixels, tiff_pixel_size(tiff), white(image), depth)


def several_images(path: Path, n: int) -> InputError:
    """Say that a file holds several images."""
    return InputError(f"{path} must hold one image. Got {n}; split it into one file each.")


def _read_raster(data: bytes, path: Path, axes: str | None) -> NDArray[Any]:
    _check_size(path, raster_shape(data, path))
    pixels = decode_raster(data, path)
    names = "YXC"[: pixels.ndim] if axes is None else _parse(axes, pixels.shape)
    return _channels_last(pixels, _name_axes(path, pixels.shape, names, PLANE), PLANE)


def _read_microscope(path: Path) -> _Stored:
    """Read one image of a file that names its axes itself."""
    image = find_inside(path)[1]
    _check_size(path, image.shape)
    return _Stored(read_inside(path), image.pixel_size)


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    if not 0 < math.prod(shape) <= MAX_ELEMENTS:
        raise InputError(
            f"{path} must hold 1 to {MAX_ELEMENTS} values. Got shape {shape}; "
            f"crop it or split it into tiles."
        )


def _parse(axes: str, shape: tuple[int, ...]) -> str:
    """Check the axes that a user named."""
    names = axes.upper()
    if len(names) != len(shape) or len(set(names)) != len(names) or not {"Y", "X"} <= set(names):
        raise InputError(
            f"axes must have one letter for each dimension, among them Y and X. "
            f"Got {axes!r} for shape {shape}; write for example CYX."
        )
    return names


def name_unnamed(axes: str, shape: tuple[int, ...]) -> str:
    """Name the axes that a file does not name: Y and X, and C for a third and last of 3 or 4.

    Where they are not so many, or other, the letters stay that tifffile gives them, Q and I.
    ``-`` is an axis of one element.
    """
    sizes = [size for size in shape if size > 1]
    unnamed = any(axis in "QI" and size > 1 for axis, size in zip(axes, shape, strict=True))
    if unnamed and (len(sizes) == 2 or (len(sizes) == 3 and sizes[-1] in (3, 4))):
        letters = iter("YXC")
        return "".join("-" if size == 1 else next(letters) for size in shape)
    return axes


def _name_axes(path: Path, shape: tuple[int, ...], axes: str, space: str) -> str:
    """Call every dimension Y, X, C, S, of stacks Z or, where it is to be squeezed, ``-``."""
    names = "".join(
        "-" if size == 1 and name not in space else name
        for name, size in zip(name_unnamed(axes, shape), shape, strict=True)
    )
    left = names.replace("-", "").replace("C", "", 1).replace("S", "", 1)
    if sorted(left) != sorted(space):
        wanted, advice = "a stack, like the others", "split what else there is, or pass --axes ZYX"
        if space == PLANE:
            wanted, advice = "2-D with channels", "split a stack into one file per plane"
            advice += (
                ", or say what it is: --axes ZYX makes pseudo take it for a stack, --axes CYX "
            )
            advice += "or YXC are channels"
        raise InputError(f"{path} must be {wanted}. Got shape {shape} with axes {axes}; {advice}.")
    return names


def _channels_last(stored: NDArray[Any], names: str, space: str) -> NDArray[Any]:
    """Squeeze and reorder to (Y, X, C) or (Z, Y, X, C); channels C and samples S share an axis."""
    letters = names.replace("-", "")
    squeezed = stored.squeeze(axis=tuple(i for i, name in enumerate(names) if name == "-"))
    order = sorted(range(len(letters)), key=lambda i: f"{space}CS".index(letters[i]))
    ordered = squeezed.transpose(order)
    return ordered.reshape(*ordered.shape[: len(space)], -1)
