"""Label images on disk: int32 arrays of shape (Y, X)."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import replacing
from oce2stardist.images.formats import LABEL_SUFFIXES
from oce2stardist.images.read import read_pixels
from oce2stardist.labels import UNLABELLED

MAX_LABEL = 2**31 - 1
_SOFTWARE = "oce2stardist"


def read_labels(
    path: str | Path, *, shape: tuple[int, int] | None = None, image: str | Path | None = None
) -> NDArray[np.int32]:
    """Read a label image (Y, X): TIFF or PNG of integers from -1 to 2**31 - 1, or of booleans.

    Of a palette its indices are the labels, of grey stored as colours the grey values.
    It must have the shape (Y, X), where one is given: that of `image`, which is for the message.
    """
    path = Path(path)
    if path.suffix.lower() not in LABEL_SUFFIXES:
        raise InputError(
            f"labels must be in a file of {', '.join(LABEL_SUFFIXES)}. Got {path.name}; save them "
            "as one of these, which keep the numbers of objects."
        )
    stored = read_pixels(path, None, indices=True)
    is_grey = stored.shape[2] in (3, 4) and bool((stored[..., :3] == stored[..., :1]).all())
    if stored.shape[2] != 1 and not is_grey:
        raise InputError(
            f"{path} must hold one channel of labels. Got {stored.shape[2]} channels; "
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


def write_labels(
    path: str | Path, labels: NDArray[np.integer], *, image: str | Path | None = None
) -> None:
    """Write labels of shape (Y, X) as a compressed int32 TIFF.

    The file of the image that they belong to is noted in it, for `read_image_file`.
    """
    assert labels.ndim == 2 and labels.dtype.kind in "biu", (labels.shape, labels.dtype)
    assert labels.size == 0 or int(labels.max()) <= MAX_LABEL, labels.max()
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels.astype(np.int32),
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "YX"} | ({} if image is None else {"image_file": str(image)}),
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
