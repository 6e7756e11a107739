"""Which files a path names, and which labels belong to which image."""

import glob
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from oce2stardist.errors import InputError, name_some
from oce2stardist.images.formats import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    LABEL_SUFFIXES,
    MICROSCOPE_SUFFIXES,
    TIFF_SUFFIXES,
    UNREAD_SUFFIXES,
)
from oce2stardist.images.microscope import find_inside, paths_inside, split_path

_log = logging.getLogger(__name__)
LABEL_ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")
MAX_STEM_BYTES = 240
"""A file name holds 255 bytes; results are named after the image, with an ending."""


def image_stem(path: str | Path) -> str:
    """Return the name without its suffix; ``.ome.tif`` is one suffix.

    Of an image in the file of a microscope it is that of the file with that of the image:
    ``exp_scene0002`` of ``exp.lif/scene0002``.
    """
    path = Path(path)
    if path.parent.suffix.lower() in MICROSCOPE_SUFFIXES and not path.suffix:
        return f"{path.parent.stem}_{path.name}"
    if path.suffix.lower() in TIFF_SUFFIXES and path.stem.lower().endswith(".ome"):
        return path.stem[: -len(".ome")]
    return path.stem


def possible_stems(name: str, endings: Iterable[str] = LABEL_ENDINGS) -> list[str]:
    """List the stems of the images that a file of this stem may belong to, the likeliest first.

    It may have one of the endings, and may keep the suffixes of the image: ``x.ome_Masks``.
    """
    stems = [name]
    for stem in stems:  # grows: what is left may have another ending
        for ending in (*endings, ".ome", *IMAGE_SUFFIXES):
            if stem.lower().endswith(ending.lower()) and len(stem) > len(ending):
                stems.append(stem[: -len(ending)])
    return list(dict.fromkeys(stems))


def find_images(source: str | Path, *, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """List the images of a folder (not of those inside it), a glob or one file, sorted by name.

    There is at least one, and no two share an `image_stem`. Hidden files are left out. So are
    files named like labels (``x_masks.tif``; see `LABEL_ENDINGS`) where there are others, and JPEG
    of the name of another image. Files of microscopes stand for the images in them, see
    `oce2stardist.images.microscope`; one of these may be given as well.
    """
    source = Path(source)
    if is_inside(source):
        find_inside(source)
        return [source]
    if source.exists() or not glob.has_magic(str(source)):
        files = _list_files(source)
    else:
        matches = map(Path, glob.glob(str(source), recursive=True))
        files = [path for path in matches if path.is_file()]
    images = sorted(
        (path for path in files if _has_name_of(suffixes, path)), key=lambda path: path.name
    )
    if not images:
        raise InputError(
            f"'{source}' holds no images ({', '.join(suffixes)}). "
            f"Got {_some(files)}; name other files or convert these."
        )
    if not source.is_file():
        images = _leave_out(files, _without_labels(images))
    images = [
        image
        for path in images
        for image in (paths_inside(path) if _has_name_of(MICROSCOPE_SUFFIXES, path) else [path])
    ]
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

    The labels of ``x.tif`` are ``x``, or ``x`` and one of `LABEL_ENDINGS`, with any suffix that
    images may have. Where ``source`` holds the images too, ``x`` itself does not count. Images
    without labels are left out; they may be label images, of the same endings, themselves.
    """
    images, source = list(images), Path(source)
    files = [path for path in _list_files(source) if _has_name_of(LABEL_SUFFIXES, path)]
    beside_images = source.is_dir() and any(
        image.parent.resolve() == source.resolve() for image in images
    )
    if beside_images:
        files = list(filter(_is_named_like_labels, files))
    image_of = {stem: image for image in images for stem in possible_stems(image_stem(image))}
    image_of |= {image_stem(image): image for image in images}
    labels_of: dict[Path, Path] = {}
    strays = []
    for file in files:
        names = possible_stems(image_stem(file))[1 if beside_images else 0 :]
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
            f"x.tif in another folder, or x and {', '.join(LABEL_ENDINGS)}."
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
    for path in visible:
        if _has_name_of(IMAGE_SUFFIXES, path) and path.is_symlink() and not path.exists():
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


def is_inside(path: Path) -> bool:
    """Tell whether a path names an image in the file of a microscope, and not the file."""
    found = split_path(path)
    return found is not None and found[1] != ""


def _leave_out(files: Iterable[Path], images: list[Path]) -> list[Path]:
    """Leave out JPEG beside the same image in a format that keeps it; name what can't be read."""
    unread = [path for path in files if _has_name_of(UNREAD_SUFFIXES, path)]
    if unread:
        _log.warning("left out, in formats that aren't read: %s; export OME-TIFF", _some(unread))
    kept = {image_stem(path) for path in images if path.suffix.lower() not in JPEG_SUFFIXES}
    copies = [path for path in images if path.suffix.lower() in JPEG_SUFFIXES]
    copies = [path for path in copies if image_stem(path) in kept]
    if copies:
        _log.warning("left out, as JPEG beside the same image: %s", _some(copies))
    return [path for path in images if path not in copies]


def _has_name_of(suffixes: tuple[str, ...], path: Path) -> bool:
    return path.suffix.lower() in suffixes and path.name[0] != "."


def _without_labels(images: list[Path]) -> list[Path]:
    """Leave out what is named like labels where there are others; say so where no image is by."""
    kept = [path for path in images if not _is_named_like_labels(path)]
    stems = {image_stem(path) for path in kept}
    left_out = [path for path in images if _is_named_like_labels(path)]
    lost = [path for path in left_out if stems.isdisjoint(possible_stems(image_stem(path)))]
    if kept and lost:
        _log.warning("left out, named like labels: %s", _some(lost))
    return kept or images


def _is_named_like_labels(path: Path) -> bool:
    return image_stem(path).lower().endswith(LABEL_ENDINGS)


def _some(paths: list[Path]) -> str:
    return name_some([path.name for path in paths]) or "none"
