"""Lists the images that a path names, without reading their pixels."""

from collections.abc import Iterator
from pathlib import Path

from oce2stardist.errors import InputError, one_line
from oce2stardist.images.find import TIFF_SUFFIXES, image_stem
from oce2stardist.images.lazy import LazyImage
from oce2stardist.images.ome_zarr import is_ome_zarr, list_ome_zarr, need_zarr
from oce2stardist.images.pixel_size import PixelSize, tiff_pixel_size
from oce2stardist.images.read import check_announced, name_unnamed

__all__ = ["is_ome_zarr", "list_images"]


def list_images(path: Path, *, axes: str | None = None) -> list[LazyImage]:
    """List the 2-D images in an OME-Zarr or TIFF: every field, every time point.

    Parameters
    ----------
    path : Path
        An OME-Zarr (NGFF 0.4 or 0.5; an image, a plate, or a collection of images) or a TIFF.
    axes : str, optional
        One letter per stored dimension of a TIFF, in place of what the file says.

    Raises
    ------
    InputError
        If it can't be opened or has axes other than T, C, Y, X of more than one element.
    """
    need_zarr()
    if is_ome_zarr(path):
        return list_ome_zarr(path)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise InputError(
            f"{path} must be OME-Zarr or TIFF to be read in blocks. Got "
            f"{path.suffix or 'no suffix'}; convert it."
        )
    return _list_tiff(path, axes)


def _list_tiff(path: Path, axes: str | None) -> list[LazyImage]:
    import tifffile

    stem = image_stem(path)
    try:
        with tifffile.TiffFile(path) as file:
            series = [one for one in file.series if {"Y", "X"} <= set(one.axes) or axes]
            for one in series:
                check_announced(one, path.stat().st_size)
            described = [(one.axes, tuple(one.shape)) for one in series]
            size = tiff_pixel_size(file)
    except Exception as error:  # whatever a broken file makes it raise
        raise InputError(f"{path} must be a readable TIFF. Got: {one_line(error)}") from error
    images: list[LazyImage] = []
    for number, (stored_axes, shape) in enumerate(described):
        letters = _name_axes(path, (axes or stored_axes).upper(), shape)
        name = stem if len(described) == 1 else f"{stem}_field{number:04d}"
        images += time_points(name, path, str(number), letters.lower(), shape, size)
    return images


def _name_axes(path: Path, axes: str, shape: tuple[int, ...]) -> str:
    """Name every axis of a TIFF by the rule of `read_image`; refuse what stays unnamed."""
    if len(axes) != len(shape):
        raise InputError(
            f"{path} must have one axis letter per dimension. Got {axes} for shape "
            f"{shape}; pass others as --axes."
        )
    named = name_unnamed(axes, shape)
    if any(one in "QI" and size > 1 for one, size in zip(named, shape, strict=True)):
        raise InputError(
            f"{path} must say what its axes are. Got {axes} of shape {shape}; "
            "pass --axes, such as CYX."
        )
    return named


def time_points(
    name: str,
    path: Path,
    array: str,
    axes: str,
    shape: tuple[int, ...],
    size: PixelSize | None,
) -> Iterator[LazyImage]:
    """Yield one image for each time point.

    Raises
    ------
    InputError
        If another axis has more than one element.
    """
    sizes = dict(zip(axes, shape, strict=True))
    others = {axis: n for axis, n in sizes.items() if axis not in "tcsyx" and n > 1}
    if others or not {"y", "x"} <= set(axes) or 0 in shape:
        raise InputError(
            f"{path} must hold images with axes T, C, Y and X. Got {axes.upper()} of shape "
            f"{shape}; project or split what else there is."
        )
    n_times = sizes.get("t", 1)
    for time in range(n_times):
        fixed = (("t", time),) if "t" in axes else ()
        suffix = f"_t{time:04d}" if n_times > 1 else ""
        yield LazyImage(name + suffix, path, array, axes, shape, fixed, size, stem=name)
