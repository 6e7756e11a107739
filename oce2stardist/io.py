"""Finds, reads and writes images and label images; writes every file whole or not at all.

Images are float32 arrays of shape (Y, X, C), labels int32 arrays of shape (Y, X).
"""

import contextlib
import functools
import glob
import logging
import math
import os
import platform
import secrets
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import imagecodecs
import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray
from skimage.color import hsv2rgb
from skimage.segmentation import find_boundaries

from oce2stardist.errors import InputError, is_out_of_memory
from oce2stardist.labels import BACKGROUND, UNLABELLED

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png")
LABEL_ENDINGS = ("_masks", "_mask", "_labels")
MAX_ELEMENTS = 2**31
MAX_LABEL = 2**31 - 1
MAX_STEM_BYTES = 240
"""A file name holds 255 bytes; results are named after the image, with an ending."""

_PLAIN = (1, 5, 8, 32773, 32946)
"""TIFF compressions with a bound: none, LZW, Deflate, PackBits, Deflate's older number."""
_LARGEST_RATIO = 2000
"""LZW reaches 1365, Deflate 1032."""

Read = TypeVar("Read")

_SOFTWARE = "oce2stardist"

_MARK = ".oce2stardist-"
"""What names of temporary files begin with."""

_MICROMETRES = {
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometers"), 1.0),
    **{"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6},
}

_log = logging.getLogger(__name__)


def image_stem(path: str | Path) -> str:
    """Return the name without its suffix; ``.ome.tif`` is one suffix."""
    path = Path(path)
    if path.suffix.lower() in TIFF_SUFFIXES and path.stem.lower().endswith(".ome"):
        return path.stem[: -len(".ome")]
    return path.stem


def find_images(source: str | Path) -> list[Path]:
    """List the images that ``source`` names, sorted by name.

    Parameters
    ----------
    source : str or Path
        A folder (not searched recursively), a glob pattern or one file.

    Returns
    -------
    list of Path
        At least one; no two share an `image_stem`.

    Notes
    -----
    Hidden files are left out. So are files named like labels (``x_masks.tif``,
    ``x_mask.tif``, ``x_labels.tif``) where there are others.
    """
    source = Path(source)
    if source.exists() or not glob.has_magic(str(source)):
        files = _list_files(source)
    else:
        matches = map(Path, glob.glob(str(source), recursive=True))
        files = [path for path in matches if path.is_file()]
    found = sorted(filter(_has_image_name, files), key=lambda path: path.name)
    if not found:
        raise InputError(
            f"{source} must hold images ({', '.join(IMAGE_SUFFIXES)}). "
            f"Got {_some(files)}; name other files or convert these."
        )
    if not source.is_file():
        found = [path for path in found if not _is_named_like_labels(path)] or found
    first_of: dict[str, Path] = {}
    for path in found:
        _check_name(path)
        first = first_of.setdefault(image_stem(path), path)
        if first is not path:
            raise InputError(
                f"images must have different names without their suffixes. "
                f"Got {first} and {path}; rename one or leave it out."
            )
    return found


def read_image(path: str | Path, *, axes: str | None = None) -> NDArray[np.float32]:
    """Read a 2-D image, its channels last.

    Parameters
    ----------
    path : str or Path
        TIFF, OME-TIFF, ImageJ TIFF or PNG of integers, floats or booleans.
    axes : str, optional
        One letter per stored dimension, such as ``"CYX"``, in place of what the
        file says. Dimensions other than Y, X and C must have size 1.

    Returns
    -------
    float32 array of shape (Y, X, C)
        Stored values, not rescaled.

    Notes
    -----
    Samples (RGB) and channels both become channels. The alpha channel of a PNG
    is dropped, its palette applied. A dimension that the file does not name is
    only taken for channels where it is the last of three and of size 3 or 4.
    """
    stored = _read_pixels(Path(path), axes)
    if stored.dtype.kind not in "biuf":
        raise InputError(
            f"{path} must hold integers or floats. Got {stored.dtype}; save real numbers."
        )
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, refused below
        image = stored.astype(np.float32)
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        raise InputError(
            f"{path} must hold finite numbers. Got NaN or infinity in {bad} of {image.size} "
            f"values; replace them."
        )
    return image


def read_pixel_size(path: str | Path) -> tuple[float, float] | None:
    """Read the size of a pixel, where the file says it in a unit of length.

    Parameters
    ----------
    path : str or Path
        An image. OME-TIFF and ImageJ's TIFF say it. The dots per inch of other TIFF and PNG
        files are not believed: most are 72 by default.

    Returns
    -------
    (y, x) in micrometres, or None
    """
    path = Path(path)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            sizes = _ome_pixel_size(tiff) or _imagej_pixel_size(tiff)
    except Exception as error:  # a broken description is no reason not to read the image
        _log.debug("no pixel size in %s: %s", path, error)
        return None
    if sizes is None or not all(0 < size < math.inf for size in sizes):
        return None
    return sizes


def _ome_pixel_size(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    if tiff.ome_metadata is None:
        return None
    image = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    y, x = (
        _to_micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit"))
        for axis in "YX"
    )
    return None if y is None or x is None else (y, x)


def _imagej_pixel_size(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Read ImageJ's: pixels per unit in the tags, the unit in the description."""
    unit = (tiff.imagej_metadata or {}).get("unit")
    tags = tiff.pages.first.tags
    if not unit or "XResolution" not in tags or "YResolution" not in tags:
        return None
    sizes = []
    for name in ("YResolution", "XResolution"):
        pixels, units = tags[name].value
        size = _to_micrometres(units / pixels if pixels else None, unit)
        if size is None:
            return None
        sizes.append(size)
    return sizes[0], sizes[1]


def _to_micrometres(value: float | None, unit: str | None) -> float | None:
    """Convert a length; no unit means micrometres, as in OME; None for what is no length."""
    # ImageJ writes \\u00B5 where its file format has no µ; U+03BC is the Greek letter.
    name = (unit or "µm").replace("\\u00B5", "µ").replace("\u03bc", "µ").strip()
    factor = _MICROMETRES.get(name, _MICROMETRES.get(name.lower()))
    return None if value is None or factor is None else float(value) * factor


def read_labels(
    path: str | Path,
    *,
    shape: tuple[int, int] | None = None,
    image: str | Path | None = None,
) -> NDArray[np.int32]:
    """Read a label image.

    Parameters
    ----------
    path : str or Path
        TIFF or PNG of integers from -1 to 2**31 - 1, or of booleans.
    shape : tuple of int, optional
        The (Y, X) that the labels must have.
    image : str or Path, optional
        The file with that shape, for the message.

    Returns
    -------
    int32 array of shape (Y, X)
    """
    stored = _read_pixels(Path(path), None)
    if stored.shape[2] != 1:
        raise InputError(
            f"{path} must hold one channel of labels. Got {stored.shape[2]} channels; "
            f"save object numbers, not colours."
        )
    labels = stored[..., 0]
    if labels.dtype.kind not in "biu":
        raise InputError(
            f"labels in {path} must be integer. Got {labels.dtype}; "
            f"save them as int32, uint16 or uint8."
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


def label_paths(images: Iterable[Path], source: str | Path) -> dict[Path, Path]:
    """Find the label file of each image by name.

    Parameters
    ----------
    images : iterable of Path
        As `find_images` lists them.
    source : str or Path
        A folder or one file. The labels of ``x.tif`` are ``x``, ``x_masks``,
        ``x_mask`` or ``x_labels`` with any suffix that images may have. Where
        ``source`` holds the images too, ``x`` itself does not count.

    Returns
    -------
    dict of Path to Path
        In the order of ``images``, without those that have no labels.
    """
    images, source = list(images), Path(source)
    files = list(filter(_has_image_name, _list_files(source)))
    beside_images = source.is_dir() and any(
        image.parent.resolve() == source.resolve() for image in images
    )
    if beside_images:
        files = list(filter(_is_named_like_labels, files))
    image_of = {image_stem(image): image for image in images}
    labels_of: dict[Path, Path] = {}
    strays = []
    for file in files:
        stem = image_stem(file)
        names = [stem.removesuffix(end) for end in LABEL_ENDINGS if stem.endswith(end)]
        if not beside_images:
            names.insert(0, stem)
        image = next((image_of[name] for name in names if name in image_of), None)
        if image is None:
            strays.append(file)
        elif image in labels_of:
            raise InputError(
                f"{image} must have one label file. Got {labels_of[image]} and {file}; "
                f"move one away."
            )
        else:
            labels_of[image] = file
    if not labels_of:
        raise InputError(
            f"label files in {source} must be named after the images. Got labels "
            f"{_some(files)} and images {_some(images)}; the labels of x.tif may be "
            f"x.tif in another folder or x_masks.tif."
        )
    if strays:
        _log.warning("label files that match no image: %s", _some(strays))
    return {image: labels_of[image] for image in images if image in labels_of}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` once its file is whole.

    The temporary file lies hidden in the folder of ``path``, which is created,
    and has the same suffix. Where the block raises, it is removed and what was
    at ``path`` stays as it was. What a killed process left in the folder is removed
    by the next one that writes there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.absolute(), os.getpid())
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder, not there yet, that becomes ``path`` once it is whole.

    As `replacing` does for files. A folder that was at ``path`` is removed afterwards.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.absolute(), os.getpid())
    temporary, old = _temporary(path), _temporary(path)
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _temporary(path: Path) -> Path:
    """Name a file or folder beside `path` that tells which process writes it."""
    # Of a long name the end is enough: with more before it, it would be too long.
    name = f"{_MARK}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}-{path.name[-50:]}"
    return path.with_name(name)


@functools.lru_cache(maxsize=256)
def _remove_leftovers(folder: Path, pid: int) -> None:
    """Remove temporary files and folders of dead processes; each process looks once a folder.

    `pid`, that of this process, lets a fork look for itself.
    """
    del pid
    ours = f"{_MARK}{_machine()}-"
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        left = [entry for entry in entries if entry.name.startswith(ours)]
        for entry in left:
            writer = entry.name[len(ours) :].partition("-")[0]
            if writer.isdecimal() and not psutil.pid_exists(int(writer)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


@functools.cache
def _machine() -> str:
    """Name this machine, or container, among those that see the same folders."""
    with contextlib.suppress(OSError):  # ids of processes are counted anew in a container
        return _hash(f"{platform.node()} {os.readlink('/proc/self/ns/pid')}")
    return _hash(platform.node())


def _hash(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _sync_folder(folder: Path) -> None:
    """Bring a new name in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some file systems sync none
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_checkpoint(path: Path, content: bytes, *, read: Callable[[Path], object]) -> None:
    """Write a checkpoint that takes its place once ``read`` has read it; the one before stays.

    The one before lies beside it, see `list_checkpoints`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        read(temporary)
        if path.exists():
            os.replace(path, _older(path))


def list_checkpoints(path: Path) -> list[Path]:
    """List what there is of a checkpoint and the one before it, the newer first."""
    return [one for one in (path, _older(path)) if one.exists()]


def read_checkpoint(path: Path, *, read: Callable[[Path], Read]) -> Read | None:
    """Read a checkpoint, or the one before where it can't be read; None if there is neither.

    Raises
    ------
    InputError
        If none of those that are there can be read.
    """
    found = list_checkpoints(path)
    for one in found:
        try:
            return read(one)
        except Exception as error:  # whatever a broken file makes the library raise
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            _log.warning("the checkpoint %s can't be read: %s", one, reason)
    if not found:
        return None
    raise InputError(
        f"{path} must be a checkpoint of an interrupted training. Got "
        f"{' and '.join(one.name for one in found)}, which can't be read; delete them, and the "
        "same command starts this training again."
    )


def _older(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with ``\\n`` line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, such as those of a PNG."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


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


def write_overlay(path: str | Path, image: NDArray[Any], labels: NDArray[np.integer]) -> None:
    """Write a PNG of `draw_overlay`: the image with the objects outlined in colour."""
    canvas = draw_overlay(image, labels)
    with replacing(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(canvas, level=3))


def draw_overlay(
    image: NDArray[Any], labels: NDArray[np.integer], *, thickness: int = 1
) -> NDArray[np.uint8]:
    """Draw the image with the objects outlined in colour.

    Parameters
    ----------
    image : array of shape (Y, X, C)
        Shown as by `draw_image`.
    labels : integer array of shape (Y, X)
        Outlines lie inside the objects; touching objects have different colours.
    thickness : int, >= 1
        Of the outlines, pixels.

    Returns
    -------
    uint8 array of shape (Y, X, 3)
    """
    assert image.shape[:2] == labels.shape, (image.shape, labels.shape)
    canvas = draw_image(image)
    objects = np.maximum(labels, BACKGROUND)
    outline = find_outlines(objects, thickness=thickness)
    ids, drawn = np.unique(objects[outline], return_inverse=True)
    hues = _pick_hues(objects, ids)[drawn]
    hsv = np.stack([hues, np.full_like(hues, 0.8), np.ones_like(hues)], axis=-1)
    canvas[outline] = (hsv2rgb(hsv) * 255).round()
    return canvas


def draw_image(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Draw an image (Y, X, C) as uint8 RGB of shape (Y, X, 3).

    It is shown from its 1st to its 99.8th percentile, each channel for itself: in grey
    where there are one or two channels (the first), else the first three as red, green
    and blue.
    """
    shown = normalise_percentiles(image[..., : 3 if image.shape[2] >= 3 else 1])
    grey_or_rgb = np.rint(np.clip(shown, 0.0, 1.0) * 255).astype(np.uint8)
    return np.broadcast_to(grey_or_rgb, (*image.shape[:2], 3)).copy()


def find_outlines(labels: NDArray[np.integer], *, thickness: int = 1) -> NDArray[np.bool_]:
    """Find the outermost pixels, `thickness` layers of them, of every object of (Y, X)."""
    inside = np.maximum(labels, BACKGROUND)
    outline = np.zeros(labels.shape, bool)
    for _ in range(thickness):
        rim = find_boundaries(inside, mode="inner")
        outline |= rim
        inside = np.where(rim, BACKGROUND, inside)
    return outline


def narrowest(pixels: NDArray[np.float32]) -> NDArray[Any]:
    """Take the smallest type that holds the values: those of cameras are whole numbers."""
    if pixels.min() >= 0 and pixels.max() <= 65535 and np.all(pixels == np.rint(pixels)):
        return pixels.astype(np.uint8 if pixels.max() <= 255 else np.uint16)
    return pixels


def normalise_percentiles(
    image: NDArray[Any], low: float = 1.0, high: float = 99.8
) -> NDArray[np.float32]:
    """Scale every channel so that its percentiles ``low`` and ``high`` become 0 and 1.

    Parameters
    ----------
    image : array of shape (Y, X, C)
    low, high : float, 0 to 100

    Returns
    -------
    float32 array of shape (Y, X, C)
        Not clipped. A channel whose two percentiles are equal becomes 0 everywhere.
    """
    scaled: NDArray[np.float32] = image.astype(np.float32)
    bottom, top = np.percentile(scaled, (low, high), axis=(0, 1)).astype(np.float32)  # (C,)
    flat = top <= bottom
    scaled -= bottom
    scaled /= np.where(flat, np.float32(1), top - bottom)
    scaled[..., flat] = 0
    return scaled


def _pick_hues(objects: NDArray[np.integer], ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Give every object a hue, 0 to 1, that no object touching it has."""
    touching = defaultdict(set)
    for here, there in ((objects[1:], objects[:-1]), (objects[:, 1:], objects[:, :-1])):
        meet = (here != there) & (here > BACKGROUND) & (there > BACKGROUND)
        for one, other in set(zip(here[meet].tolist(), there[meet].tolist(), strict=True)):
            touching[one].add(other)
            touching[other].add(one)
    tints: dict[int, int] = {}
    for object_id in ids.tolist():
        taken = {tints.get(other) for other in touching[object_id]}
        tints[object_id] = next(tint for tint in count(object_id % 6) if tint not in taken)
    # Small multiples of the golden ratio lie far apart on the circle of hues.
    return np.array([tints[object_id] * 0.618034 % 1.0 for object_id in ids.tolist()])


def _list_files(source: Path) -> list[Path]:
    """List a folder's files but the hidden, sorted by name, or the one file itself."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(f"{source} must exist. Got no such file or folder; check the path.")
    visible = sorted(path for path in source.iterdir() if path.name[0] != ".")
    for path in filter(_has_image_name, visible):
        if path.is_symlink() and not path.exists():
            raise InputError(
                f"{path} must lead to a file. Got a link that leads nowhere; repair or remove it."
            )
    return [path for path in visible if path.is_file()]


def _check_name(path: Path) -> None:
    """Refuse a name after which no result can be named."""
    stem = image_stem(path)
    try:
        size = len(stem.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InputError(
            f"names of images must be valid UTF-8. Got {os.fsencode(path.name)!r} in "
            f"{path.parent}; rename it."
        ) from error
    if size > MAX_STEM_BYTES:
        raise InputError(
            f"names of images must have at most {MAX_STEM_BYTES} bytes without suffix. Got "
            f"{size} in {path.name}; rename it."
        )


def _has_image_name(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."


def _is_named_like_labels(path: Path) -> bool:
    return image_stem(path).endswith(LABEL_ENDINGS)


def _some(paths: list[Path], *, at_most: int = 5) -> str:
    """Name the first paths and count the rest."""
    names = ", ".join(path.name for path in paths[:at_most])
    more = len(paths) - at_most
    return f"{names} and {more} more" if more > 0 else names or "none"


def _read_pixels(path: Path, axes: str | None) -> NDArray[Any]:
    """Read the stored values as (Y, X, C)."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"{path} must be an image ({', '.join(IMAGE_SUFFIXES)}). "
            f"Got {path.suffix or 'no suffix'}; convert it."
        )
    try:
        if path.suffix.lower() == ".png":
            return _read_png(path, axes)
        return _read_tiff(path, axes)
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them
        if is_out_of_memory(error):
            raise InputError(
                f"{path} can't be read: there is no memory left for it. Close other programs, or "
                "cut it into smaller images."
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"{path} can't be read as an image: {reason}. Save it again as TIFF or PNG."
        ) from error


def _read_tiff(path: Path, axes: str | None) -> NDArray[Any]:
    with tifffile.TiffFile(path) as tiff:
        tiff.filehandle.seek(tiff.pages.next_page_offset or 0)
        if any(tiff.filehandle.read(tiff.tiff.offsetsize)):  # the last page points nowhere
            raise ValueError("it ends before its last page")
        images = [series for series in tiff.series if not series.keyframe.is_reduced]
        if len(images) != 1:
            raise InputError(
                f"{path} must hold one image. Got {len(images)}; split it into one file each."
            )
        image = images[0]
        _check_size(path, image.shape)
        check_announced(image, path.stat().st_size)
        named = image.axes if axes is None else _parse(axes, image.shape)
        names = _name_axes(path, image.shape, named)
        _check_complete(tiff, image)
        stored = image.asarray()
        if stored.shape != image.shape:  # tifffile only remarks it
            raise ValueError(f"it holds values of shape {stored.shape}, not {image.shape}")
        return _channels_last(stored, names)


def check_announced(image: tifffile.TiffPageSeries, n_bytes: int) -> None:
    """Refuse a small TIFF that announces much, before memory for it is taken.

    Raises
    ------
    ValueError
        If its compression can't bring so much into so little.
    """
    announced = math.prod(image.shape) * image.dtype.itemsize
    if image.keyframe.compression in _PLAIN and announced > 2**24 + _LARGEST_RATIO * n_bytes:
        raise ValueError(f"it announces {announced} bytes of pixels and has {n_bytes}")


def _check_complete(tiff: tifffile.TiffFile, image: tifffile.TiffPageSeries) -> None:
    """Refuse files that tifffile reads in part, with zeros for the rest or without it."""
    if any(page is None or page.parent is not tiff for page in image):
        raise ValueError("some of its planes lie in other files")
    declared = tiff.imagej_metadata or {}
    planes = math.prod(declared.get(key, 1) for key in ("channels", "slices", "frames"))
    if planes * image.keyframe.imagelength * image.keyframe.imagewidth > math.prod(image.shape):
        raise ValueError(f"it holds fewer planes than the {planes} it declares")


def _read_png(path: Path, axes: str | None) -> NDArray[Any]:
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        raise ValueError("not a PNG file")
    # IHDR: width and height in four bytes each, then bit depth and colour type (0 is grey).
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    depth, colour = data[24], data[25]
    _check_size(path, (height, width, 4 if colour else 1))
    _check_chunks(data)
    pixels = imagecodecs.png_decode(data)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        _log.warning("dropped the alpha channel of %s", path)
        pixels = pixels[..., :-1]
    if colour == 0 and depth < 8:  # the decoder stretches to 0..255: undo, labels are numbers
        pixels = pixels // (255 // (2**depth - 1))
    names = "YXC"[: pixels.ndim] if axes is None else _parse(axes, pixels.shape)
    return _channels_last(pixels, _name_axes(path, pixels.shape, names))


def _check_chunks(data: bytes) -> None:
    """Refuse a PNG with wrong checksums, or cut off: the decoder goes on with what it has."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError("it ends before its last chunk")
        # Chunks named with a small letter hold no pixels: the decoder may leave them out.
        if kind[:1].isupper() and zlib.crc32(data[at + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            raise ValueError(f"the checksum of its {kind.decode('ascii', 'replace')} is wrong")
        at = end + 4


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


def _name_axes(path: Path, shape: tuple[int, ...], axes: str) -> str:
    """Call every dimension Y, X, C, S or, where it is to be squeezed, ``-``."""
    names = "".join(
        "-" if size == 1 and name not in "YX" else name
        for name, size in zip(axes, shape, strict=True)
    )
    if "Q" in names or "I" in names:  # tifffile's letters for what the file doesn't name
        sizes = [size for size in shape if size > 1]
        if len(sizes) == 2 or (len(sizes) == 3 and sizes[-1] in (3, 4)):
            letters = iter("YXC")
            names = "".join("-" if size == 1 else next(letters) for size in shape)
    if sorted(names.replace("-", "").replace("C", "", 1).replace("S", "", 1)) != ["X", "Y"]:
        raise InputError(
            f"{path} must be 2-D with channels. Got shape {shape} with axes {axes}; split a "
            f"stack into one file per plane, or if these are channels pass --axes CYX or YXC."
        )
    return names


def _channels_last(stored: NDArray[Any], names: str) -> NDArray[Any]:
    """Squeeze and reorder to (Y, X, C); channels C and samples S share the last axis."""
    letters = names.replace("-", "")
    squeezed = stored.squeeze(axis=tuple(i for i, name in enumerate(names) if name == "-"))
    order = sorted(range(len(letters)), key=lambda i: "YXCS".index(letters[i]))
    ordered = squeezed.transpose(order)
    return ordered.reshape(*ordered.shape[:2], -1)
