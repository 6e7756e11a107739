"""Which files a path names, and which labels belong to which image."""

import glob
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from oce2stardist.errors import InputError, name_some

_log = logging.getLogger(__name__)
TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png")
LABEL_ENDINGS = ("_masks", "_mask", "_labels")
MAX_STEM_BYTES = 240
"""A file name holds 255 bytes; results are named after the image, with an ending."""


def image_stem(path: str | Path) -> str:
    """Return the name without its suffix; ``.ome.tif`` is one suffix."""
    path = Path(path)
    if path.suffix.lower() in TIFF_SUFFIXES and path.stem.lower().endswith(".ome"):
        return path.stem[: -len(".ome")]
    return path.stem


def find_images(source: str | Path) -> list[Path]:
    """List the images of a folder (not of those inside it), a glob or one file, sorted by name.

    There is at least one, and no two share an `image_stem`. Hidden files are left out. So are
    files named like labels (``x_masks.tif``, ``x_mask.tif``, ``x_labels.tif``) where there are
    others.
    """
    source = Path(source)
    if source.exists() or not glob.has_magic(str(source)):
        files = _list_files(source)
    else:
        matches = map(Path, glob.glob(str(source), recursive=True))
        files = [path for path in matches if path.is_file()]
    images = sorted(filter(_has_image_name, files), key=lambda path: path.name)
    if not images:
        raise InputError(
            f"'{source}' holds no images ({', '.join(IMAGE_SUFFIXES)}). "
            f"Got {_some(files)}; name other files or convert these."
        )
    if not source.is_file():
        images = [path for path in images if not _is_named_like_labels(path)] or images
    first_of: dict[str, Path] = {}
    for path in images:
        _check_name(path)
        first = first_of.setdefault(image_stem(path), path)
        if first is not path:
            raise InputError(
                f"images must have different names without their suffixes. "
                f"Got {first} and {path}; rename one or leave it out."
            )
    return images


def label_paths(images: Iterable[Path], source: str | Path) -> dict[Path, Path]:
    """Find the label file of each image by name, in a folder or as the one file given.

    The labels of ``x.tif`` are ``x``, ``x_masks``, ``x_mask`` or ``x_labels`` with any suffix
    that images may have. Where ``source`` holds the images too, ``x`` itself does not count.
    Images without labels are left out.
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


def _some(paths: list[Path]) -> str:
    return name_some([path.name for path in paths]) or "none"
