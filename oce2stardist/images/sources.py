"""Lists the images that a path names: which are taken at once, and which block by block."""

from dataclasses import dataclass
from pathlib import Path

from oce2stardist.errors import InputError, one_line
from oce2stardist.images.find import find_images, image_stem
from oce2stardist.images.formats import TIFF_SUFFIXES
from oce2stardist.images.lazy import LazyImage, time_points
from oce2stardist.images.microscope import find_inside, split_path
from oce2stardist.images.ome_zarr import is_ome_zarr, list_ome_zarr, need_zarr
from oce2stardist.images.pixel_size import tiff_pixel_size
from oce2stardist.images.read import name_unnamed, several_images
from oce2stardist.images.tiff import (
    check_whole,
    images_of,
    open_alone,
    open_tiff,
    white,
    without_alpha,
)

LARGEST_AT_ONCE = 64
"""Megapixels of an image that is taken at once."""


@dataclass(frozen=True)
class Sources:
    """Image files to take at once, and OME-Zarr and TIFF to go through in blocks."""

    at_once: list[Path]
    in_blocks: list[Path]

    @property
    def listed(self) -> list[Path]:
        """All of them, OME-Zarr first."""
        return sorted(
            [*self.at_once, *self.in_blocks], key=lambda path: (not is_ome_zarr(path), path)
        )


def find_sources(
    source: str | Path, *, axes: str | None = None, largest: float = LARGEST_AT_ONCE
) -> Sources:
    """List the images of a folder (files and OME-Zarr), a glob, one file or one OME-Zarr.

    A TIFF, or an image in the file of a microscope, of more than `largest` megapixels is taken in
    blocks; so are all OME-Zarr and all TIFF with several time points.
    """
    source = Path(source)
    if is_ome_zarr(source):
        return Sources([], [source])
    stores = sorted(filter(is_ome_zarr, source.iterdir())) if source.is_dir() else []
    try:
        files = find_images(source)
    except InputError:
        if not stores:
            raise
        files = []
    big = [path for path in files if _is_big(path, axes, largest)]
    return Sources([path for path in files if path not in big], stores + big)


def open_in_blocks(sources: Sources, *, axes: str | None = None) -> list[LazyImage]:
    """List all images of a set that holds one, at least, to go through in blocks; else none.

    A run treats all its images alike, so small TIFF beside large ones are read lazily, too.
    """
    if not sources.in_blocks:
        return []
    others = [path for path in sources.at_once if not _has_windows(path)]
    if others:
        raise InputError(
            "images beside those that are read in blocks must be TIFF, OME-Zarr, CZI, LIF or ND2. "
            f"Got {others[0]}; convert it, or run it on its own."
        )
    paths = sorted([*sources.at_once, *sources.in_blocks])
    return [image for path in paths for image in list_images(path, axes=axes)]


def _has_windows(path: Path) -> bool:
    """Tell whether windows of a file can be read."""
    return path.suffix.lower() in TIFF_SUFFIXES or split_path(path) is not None


def _is_big(path: Path, axes: str | None, largest: float) -> bool:
    if not _has_windows(path):
        return False
    try:
        images = list_images(path, axes=axes)
    except InputError:  # whoever reads it at once says what is wrong
        return False
    several = len({image.time for image in images}) > 1
    return several or any(image.shape[0] * image.shape[1] > largest * 1e6 for image in images)


def list_images(path: Path, *, axes: str | None = None) -> list[LazyImage]:
    """List the 2-D images in an OME-Zarr or TIFF, every field, every time point; or a microscope's.

    An OME-Zarr is NGFF 0.4 or 0.5 and holds an image, a plate, or a collection of images. In the
    file of a microscope, the image that the path names is listed.
    `axes` has one letter per stored dimension of a TIFF, in place of what the file says.
    """
    need_zarr()
    if split_path(path) is not None:
        file, image = find_inside(path)
        stem, size = image_stem(path), image.pixel_size
        return [LazyImage(stem, file, image.name, "yxc", image.shape, (), size, stem)]
    if is_ome_zarr(path):
        return list_ome_zarr(path)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise InputError(
            f"{path} must be OME-Zarr or TIFF to be read in blocks. Got "
            f"{path.suffix or 'no suffix'}; convert it."
        )
    return _list_tiff(path, axes)


def _list_tiff(path: Path, axes: str | None) -> list[LazyImage]:
    stem = image_stem(path)
    try:
        with open_alone(path) as opened, open_tiff(opened, path) as file:
            images = [one for one in images_of(file) if {"Y", "X"} <= set(one.axes) or axes]
            if len(images) > 1 and images[0].kind != "ome":
                raise several_images(path, len(images))
            for one in images:
                check_whole(one)
            arrays = [str(file.series.index(one)) for one in images]
            shapes = [without_alpha(one, path) for one in images]
            whites = [white(one) for one in images]
            letters = [axes or one.axes for one in images]
            size = tiff_pixel_size(file)
    except InputError:
        raise
    except Exception as error:  # whatever a broken file makes it raise
        raise InputError(f"{path} must be a readable TIFF. Got: {one_line(error)}") from error
    listed: list[LazyImage] = []
    for number, array in enumerate(arrays):
        shape = shapes[number]
        named = _name_axes(path, letters[number].upper(), shape).lower()
        name = stem if len(arrays) == 1 else f"{stem}_field{number:04d}"
        listed += time_points(name, path, array, named, shape, size, whites[number])
    return listed


def _name_axes(path: Path, axes: str, shape: tuple[int, ...]) -> str:
    """Name every axis of a TIFF by the rule of `read_image`; refuse what stays unnamed."""
    if len(axes) != len(shape):
        raise InputError(
            f"{path} must have one axis letter per dimension. Got {axes} for shape "
            f"{shape}; pass others as --axes."
        )
    named = name_unnamed(axes, shape)
    if any(axis in "QI" and n > 1 for axis, n in zip(named, shape, strict=True)):
        raise InputError(
            f"{path} must say what its axes are. Got {axes} of shape {shape}; "
            "pass --axes, such as CYX."
        )
    return named
