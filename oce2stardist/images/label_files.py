"""Label images on disk: int32 arrays of shape (Y, X), or (Z, Y, X) of stacks."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import replacing
from oce2stardist.images.formats import LABEL_SUFFIXES, TIFF_SUFFIXES
from oce2stardist.images.read import PLANE, STACK, name_unnamed, read_pixels
from oce2stardist.images.tiff import images_of, open_alone, open_tiff
from oce2stardist.labels import UNLABELLED

MAX_LABEL = 2**31 - 1
_SOFTWARE = "oce2stardist"


def read_labels(
    path: str | Path, *, shape: tuple[int, ...] | None = None, image: str | Path | None = None
) -> NDArray[np.int32]:
    """Read a label image (Y, X): TIFF or PNG of integers from -1 to 2**31 - 1, or of booleans.

    Of a stack (Z, Y, X), unless another `shape` is asked for. Of a palette its indices are the
    labels, of grey stored as colours the grey values.
    It must have the shape, where one is given: that of `image`, which is for the message.
    """
    path = Path(path)
    if path.suffix.lower() not in LABEL_SUFFIXES:
        raise InputError(
            f"labels must be in a file of {', '.join(LABEL_SUFFIXES)}. Got {path.name}; save them "
            "as one of these, which keep the numbers of objects."
        )
    if shape is None or len(shape) == 3:
        axes = _stack_axes(path)
        stored = read_pixels(path, axes, indices=True, space=STACK if axes else PLANE)
    else:
        stored = read_pixels(path, None, indices=True)
    n_channels = stored.shape[-1]
    is_grey = n_channels in (3, 4) and bool((stored[..., :3] == stored[..., :1]).all())
    if n_channels != 1 and not is_grey:
        raise InputError(
            f"{path} must hold one channel of labels. Got {n_channels} channels; "
            "save object numbers, not colours."
        )
    labels = stored[..., 0]
    if labels.dtype.kind not in "biu":
        raise InputError(
            f"labels in {path} must be integer. Got {labels.dtype}; save them as int32, uint16 "
            "or uint8."
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < UNLABELLED or highest > MAX_LABEL:
        raise InputError(
            f"labels in {path} must lie from {UNLABELLED} to {MAX_LABEL}. "
            f"Got {lowest} to {highest}; number the objects from 1."
        )
    if shape is not None and labels.shape != tuple(shape):
        raise InputError(
            f"labels must have the shape of their image. Got {labels.shape} in {path} and "
            f"{tuple(shape)} in {image or 'the image'}; crop or resample the labels first."
        )
    return labels.astype(np.int32)


def _stack_axes(path: Path) -> str | None:
    """Name the axes of a TIFF of labels that has planes; None of others.

    Labels have no channels, so a first of three dimensions that has no name is Z, unless the last
    looks like colours (see `name_unnamed`).
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with open_alone(path) as file, open_tiff(file, path) as tiff:
            (image,) = images_of(tiff)
            axes = name_unnamed(image.axes, image.shape)
            long = [axis for axis, size in zip(axes, image.shape, strict=True) if size > 1]
    except Exception:  # whoever reads it says what is wrong
        return None
    if len(long) != 3 or long[0] not in "ZQI" or long[1:] != ["Y", "X"]:
        return None
    return axes.replace(long[0], "Z", 1)


def write_labels(
    path: str | Path, labels: NDArray[np.integer], *, image: str | Path | None = None
) -> None:
    """Write labels of shape (Y, X) or (Z, Y, X) as a compressed int32 TIFF.

    The file of the image that they belong to is noted in it, for `read_image_file`.
    """
    assert labels.ndim in (2, 3) and labels.dtype.kind in "biu", (labels.shape, labels.dtype)
    assert labels.size == 0 or int(labels.max()) <= MAX_LABEL, labels.max()
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels.astype(np.int32),
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": STACK[-labels.ndim :]}
            | ({} if image is None else {"image_file": str(image)}),
            software=_SOFTWARE,
        )


def read_image_file(path: str | Path) -> Path | None:
    """Return the file of the image that labels belong to, if `write_labels` noted it.

    It may be relative to the folder in which a command was given.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            (described,) = tiff.shaped_metadata or ({},)
            noted = dict(described).get("image_file")
    except Exception:  # whatever a file that is no TIFF makes the reader raise
        return None
    return Path(noted) if isinstance(noted, str) else None


def is_ours(path: str | Path) -> bool:
    """Tell whether `write_labels` wrote a file."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return tiff.pages[0].tags.valueof("Software") == _SOFTWARE
    except Exception:  # whatever a file that is no TIFF makes the reader raise
        return False
