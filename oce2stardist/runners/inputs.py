"""Images, annotations and pseudo labels of a run, read and matched by file stem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations import AnnotationSet, read_annotations
from oce2stardist.errors import InputError
from oce2stardist.io import find_images, image_stem, read_image
from oce2stardist.labels import median_diameter
from oce2stardist.runners.run_folder import digest, digest_arrays

Image = NDArray[np.float32]  # (Y, X, C)
Labels = NDArray[np.int32]  # (Y, X)


@dataclass(frozen=True)
class ImageSet:
    """Images by stem, in the order of their file names, and where they came from.

    ``paths`` is empty and ``source``, the folder or glob, None where the images were given as
    arrays.
    """

    paths: dict[str, Path]
    images: dict[str, Image]
    source: str | None = None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "ImageSet":
        """Take images by name, of shape (Y, X) or (Y, X, C).

        Raises
        ------
        InputError
            If there is none, one is of another shape, or they differ in their channels.
        """
        images = {name: _as_image(name, arrays[name]) for name in sorted(arrays)}
        if not images:
            raise InputError("there must be at least one image. Got none; pass some.")
        found = cls({}, images)
        found.check_channels()
        return found

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(Y, X) of every image."""
        return {stem: (image.shape[0], image.shape[1]) for stem, image in self.images.items()}

    @property
    def files(self) -> list[Path]:
        """The image files; none where the images were given as arrays."""
        return list(self.paths.values())

    def digest(self) -> str:
        """Hash the files, or the arrays where there are none."""
        return digest(self.paths.values()) if self.paths else digest_arrays(self.images)

    def name_of(self, stem: str) -> str:
        """Name an image for a message."""
        return self.paths[stem].name if stem in self.paths else stem

    def check_channels(self) -> None:
        """Refuse images that differ in their number of channels."""
        first = next(iter(self.images))
        for stem, image in self.images.items():
            if image.shape[-1] != self.images[first].shape[-1]:
                raise InputError(
                    "images must all have the same number of channels. Got "
                    f"{self.images[first].shape[-1]} in {self.name_of(first)} and "
                    f"{image.shape[-1]} in {self.name_of(stem)}; convert them or pass them in "
                    "separate runs."
                )

    @property
    def channels(self) -> int:
        """Number of channels, the same for every image."""
        return next(iter(self.images.values())).shape[-1]


def read_images(
    source: str | Path | ImageSet,
    *,
    axes: str | None = None,
    files: Sequence[Path] | None = None,
) -> ImageSet:
    """Read every image of a folder, glob or file; an `ImageSet` is passed through.

    Parameters
    ----------
    source : path, glob or ImageSet
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
    files : sequence of Path, optional
        What `source` held when it was listed. Default: it is listed now.

    Raises
    ------
    InputError
        If there is none, one can't be read, or they differ in their number of channels.
    """
    if isinstance(source, ImageSet):
        return source
    listed = find_images(source) if files is None else files
    paths = {image_stem(path): path for path in listed}
    images = {stem: read_image(path, axes=axes) for stem, path in paths.items()}
    found = ImageSet(paths, images, str(source))
    found.check_channels()
    return found


def _check_annotations(arrays: Mapping[str, NDArray[Any]], found: ImageSet) -> AnnotationSet:
    for stem, given in arrays.items():
        if stem not in found.images:
            raise InputError(
                f"annotations must belong to images. Got {stem!r}, and images such as "
                f"{next(iter(found.images))!r}; use the same names for both."
            )
        array = np.asarray(given)
        if array.dtype.kind not in "biu" or array.shape != found.shapes[stem]:
            raise InputError(
                f"annotations of {stem} must be integers of shape {found.shapes[stem]}. Got "
                f"{array.dtype} of shape {array.shape}; number the cells from 1."
            )
    labels = {stem: np.asarray(arrays[stem], np.int32) for stem in sorted(arrays)}
    return AnnotationSet(labels, files=[], notes=[], names={})


def _as_image(name: str, array: NDArray[Any]) -> Image:
    image = np.asarray(array)
    if image.ndim not in (2, 3) or image.dtype.kind not in "biuf" or 0 in image.shape:
        raise InputError(
            f"images must be numbers of shape (Y, X) or (Y, X, C). Got {image.dtype} of shape "
            f"{image.shape} for {name}; move other axes away."
        )
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise InputError(
            f"images must hold finite numbers. Got NaN or infinity in {name}; replace them."
        )
    return image if image.ndim == 3 else image[..., None]


def read_known(
    found: ImageSet,
    annotations: str | Path | Mapping[str, NDArray[Any]],
    *,
    zero_is_background: bool = False,
) -> AnnotationSet:
    """Take annotations from files or arrays.

    Parameters
    ----------
    found : ImageSet
        The images that they belong to.
    annotations : path or mapping of image stem to integer array of shape (Y, X)
        Files as `oce2stardist.annotations.read_annotations` reads them; or arrays with
        cells > 0, known background 0 and unknown -1.
    zero_is_background : bool
        What 0 means in files; see there.

    Raises
    ------
    InputError
        If none matches an image, or one is not usable.
    """
    if isinstance(annotations, Mapping):
        return _check_annotations(annotations, found)
    if not found.paths:
        raise InputError(
            "annotations of images given as arrays must be arrays. Got the path "
            f"{annotations}; read the files first, or pass the images as files."
        )
    return read_annotations(
        found.paths, found.shapes, annotations, zero_is_background=zero_is_background
    )


def digest_annotations(known: AnnotationSet) -> str:
    """Hash the files, or the arrays where there are none."""
    return digest(known.files) if known.files else digest_arrays(known.labels)


def name_source(images: str | Path | ImageSet) -> str | None:
    """Say where images came from, for the record; None for arrays."""
    return images.source if isinstance(images, ImageSet) else str(images)


def annotated_diameter(labels: Mapping[str, Labels]) -> float:
    """Take the median diameter of the annotated cells, pixels."""
    diameter = median_diameter(labels.values())
    if diameter is None:
        raise InputError(
            "annotations must hold at least one cell. Got only background or unlabelled "
            "pixels; annotate a few cells or pass --diameter."
        )
    return diameter
