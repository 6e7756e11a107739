"""Read stacks: TIFF, ImageJ hyperstacks, OME-TIFF and OME-Zarr with planes along Z.

What is a stack, its axes tell: those of the file, or those that the user names. A dimension without
a name is never taken for Z, so a movie or channels are not taken for a stack, nor the other way
round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oce2stardist.errors import InputError
from oce2stardist.files.digests import digest_arrays
from oce2stardist.images.find import find_images, image_stem
from oce2stardist.images.formats import TIFF_SUFFIXES
from oce2stardist.images.image_set import ImageSet, read_images
from oce2stardist.images.ome_zarr import (
    axis_sizes,
    is_ome_zarr,
    need_zarr,
    open_group,
    read_attributes,
)
from oce2stardist.images.pixel_size import VoxelSize, to_micrometres
from oce2stardist.images.read import MAX_ELEMENTS, STACK, ImageFile
from oce2stardist.images.tiff import images_of, open_alone, open_tiff


@dataclass(frozen=True)
class Reading:
    """What a user says of files in place of their metadata, or None.

    Attributes
    ----------
    axes : str, optional
        One letter for each dimension, such as ``ZYX`` or ``CYX``.
    voxel_size : VoxelSize, optional
        Of all stacks.
    """

    axes: str | None
    voxel_size: VoxelSize | None

    def refuse_voxel_size(self, images: str | Path) -> None:
        """Refuse a voxel size for images that have no planes."""
        if self.voxel_size is not None:
            raise InputError(
                f"--voxel-size is for stacks. Got '{images}', whose first image has no axis Z of "
                "several planes; pass --axes ZYX if it is a stack, or leave the option out."
            )


def refuse_for_stacks(**given: object) -> None:
    """Refuse options, by name, that do not work on stacks."""
    for name, value in given.items():
        if value:
            raise InputError(
                f"--{name} does not work on stacks yet. Got stacks with planes along Z; leave it "
                "out, or pass planes as images of their own."
            )


def is_stack(path: Path, *, axes: str | None) -> bool:
    """Tell whether an image, the first of a set, has several planes along Z."""
    try:
        sizes = _zarr_sizes(path) if is_ome_zarr(path) else _tiff_sizes(path, axes)
    except Exception:  # whoever reads it says what is wrong
        return False
    return sizes.get("z", 1) > 1


def read_images_or_stacks(source: str | Path, reading: Reading) -> ImageSet:
    """Read all images of a folder, glob or file, or all stacks where the first one is a stack.

    What is there is listed once, and every TIFF opened once.
    """
    listed = list_stacks(source)
    if is_ome_zarr(listed[0]):
        if is_stack(listed[0], axes=reading.axes):
            return read_stacks(source, reading, files=listed)
        reading.refuse_voxel_size(source)
        return read_images(source, axes=reading.axes)
    first = ImageFile.read(listed[0], axes=reading.axes, space=None)
    if first.is_stack:
        return read_stacks(source, reading, files=listed, first=first)
    reading.refuse_voxel_size(source)
    return read_images(source, axes=reading.axes, files=listed, first=first)


def read_stacks(
    source: str | Path,
    reading: Reading,
    *,
    files: Sequence[Path] | None = None,
    first: ImageFile | None = None,
) -> ImageSet:
    """Read all stacks of a folder, glob, file or OME-Zarr as (Z, Y, X, C).

    Parameters
    ----------
    source : path or glob
    reading : Reading
    files : sequence of Path, optional
        What `source` held when it was listed. Default: it is listed now.
    first : ImageFile, optional
        The first of the files, where it was read already.

    Raises
    ------
    InputError
        If a file is no stack, or neither it nor the user says how large a voxel is.
    """
    listed = list_stacks(source) if files is None else files
    paths = {_stem(path): path for path in listed}
    opened = {} if first is None else {_stem(listed[0]): first}
    opened |= {
        stem: _read(path, reading.axes) for stem, path in paths.items() if stem not in opened
    }
    sizes = {stem: reading.voxel_size or _told(paths[stem], file) for stem, file in opened.items()}
    image_set = ImageSet(
        paths,
        {stem: file.pixels for stem, file in opened.items()},
        str(source),
        digests={stem: file.digest for stem, file in opened.items()},
        voxel_sizes=sizes,
    )
    image_set.check_channels()
    return image_set


def list_stacks(source: str | Path) -> list[Path]:
    """List the images of a folder, glob or file; the OME-Zarr of a folder come first."""
    source = Path(source)
    if is_ome_zarr(source):
        return [source]
    stores = sorted(filter(is_ome_zarr, source.iterdir())) if source.is_dir() else []
    try:
        return [*stores, *find_images(source)]
    except InputError:
        if not stores:
            raise
        return stores


def _stem(path: Path) -> str:
    if path.suffix.lower() == ".zarr":
        return path.name.removesuffix(".zarr").removesuffix(".ome") or path.name
    return image_stem(path)


def _read(path: Path, axes: str | None) -> ImageFile:
    if is_ome_zarr(path):
        return _read_zarr(path)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise InputError(
            f"stacks must be TIFF or OME-Zarr. Got {path}, and others that are stacks; export "
            "OME-TIFF, or put it into another folder."
        )
    return ImageFile.read(path, axes=axes, space=STACK)


def _told(path: Path, file: ImageFile) -> VoxelSize:
    if file.voxel_size is not None:
        return file.voxel_size
    raise InputError(
        f"{path} must say how large its voxels are. Got no size of all three sides; pass "
        "--voxel-size Z,Y,X in micrometres, such as 2,0.5,0.5 (1,1,1 where planes lie as far "
        "apart as pixels)."
    )


def _tiff_sizes(path: Path, axes: str | None) -> dict[str, int]:
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return {}
    with open_alone(path) as file, open_tiff(file, path) as tiff:
        (image,) = images_of(tiff)
        return dict(zip((axes or image.axes).lower(), image.shape, strict=True))


def _zarr_sizes(path: Path) -> dict[str, int]:
    _, letters, array = _open_zarr(path)
    return dict(zip(letters, array.shape, strict=True))


def _open_zarr(path: Path) -> tuple[dict[str, Any], str, Any]:
    """Open the full image of an OME-Zarr; returns its description and its axes as well."""
    need_zarr()
    scales = read_attributes(path)[0]["multiscales"][0]
    letters = "".join(str(axis["name"]) for axis in scales["axes"]).lower()
    return scales, letters, open_group(path)[str(scales["datasets"][0]["path"])]


def _read_zarr(path: Path) -> ImageFile:
    try:
        scales, letters, array = _open_zarr(path)
        sides = axis_sizes(scales, letters)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} must hold one OME-Zarr image with axes and datasets. Got none of {error}; "
            "pass the group that has them."
        ) from error
    sizes = dict(zip(letters, array.shape, strict=True))
    others = {axis: n for axis, n in sizes.items() if axis not in "czyx" and n > 1}
    if others or not set("zyx") <= set(letters) or not 0 < array.size <= MAX_ELEMENTS:
        raise InputError(
            f"{path} must be a stack with axes Z, Y, X and perhaps C, of up to {MAX_ELEMENTS} "
            f"values. Got {letters.upper()} of shape {array.shape}; split or crop it."
        )
    kept = [axis for axis in letters if axis in "czyx"]
    values = np.asarray(array).reshape([sizes[axis] for axis in kept])
    if "c" not in kept:
        values, kept = values[..., None], [*kept, "c"]
    pixels = values.transpose([kept.index(axis) for axis in "zyxc"]).astype(np.float32)
    if not np.isfinite(pixels).all():
        raise InputError(f"{path} must hold finite numbers. Got NaN or infinity; replace them.")
    told = [to_micrometres(*sides[axis]) for axis in "zyx"] if sides else [None]
    size = None if None in told else VoxelSize(*(float(side or 0) for side in told))
    return ImageFile(pixels, None, digest_arrays({"": pixels}), size)
