"""Which of the images that a path names are taken at once, and which block by block."""

from dataclasses import dataclass
from pathlib import Path

from oce2stardist.errors import InputError
from oce2stardist.images.find import TIFF_SUFFIXES, find_images
from oce2stardist.images.lazy import LazyImage
from oce2stardist.images.open import is_ome_zarr, list_images

LARGEST_AT_ONCE = 64
"""Megapixels of an image that is taken at once."""


@dataclass(frozen=True)
class Sources:
    """Image files to take at once, and OME-Zarr and TIFF to go through in blocks."""

    at_once: list[Path]
    in_blocks: list[Path]


def find_sources(
    source: str | Path, *, axes: str | None = None, largest: float = LARGEST_AT_ONCE
) -> Sources:
    """List what a folder, glob, file or OME-Zarr holds.

    Parameters
    ----------
    source : str or Path
        As for `oce2stardist.images.find.find_images`; a folder may hold OME-Zarr, too.
    axes : str, optional
        Of the TIFF files.
    largest : float
        Megapixels above which a TIFF is taken in blocks; so are all OME-Zarr and all TIFF
        with several time points.

    Raises
    ------
    InputError
        If there is none, or two have the same stem.
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


def open_in_blocks(found: Sources, *, axes: str | None = None) -> list[LazyImage]:
    """List all images of a set that holds one, at least, to go through in blocks.

    A run treats all its images alike, so small TIFF beside large ones are read lazily, too.

    Returns
    -------
    list of LazyImage
        Empty where every image is taken at once.

    Raises
    ------
    InputError
        If there is a PNG beside those to go through in blocks.
    """
    if not found.in_blocks:
        return []
    others = [path for path in found.at_once if path.suffix.lower() not in TIFF_SUFFIXES]
    if others:
        raise InputError(
            "images beside those that are read in blocks must be TIFF or OME-Zarr. Got "
            f"{others[0]}; convert it, or run it on its own."
        )
    paths = sorted([*found.at_once, *found.in_blocks])
    return [image for path in paths for image in list_images(path, axes=axes)]


def _is_big(path: Path, axes: str | None, largest: float) -> bool:
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        images = list_images(path, axes=axes)
    except InputError:  # whoever reads it at once says what is wrong
        return False
    several = len({image.time for image in images}) > 1
    return several or any(image.shape[0] * image.shape[1] > largest * 1e6 for image in images)
