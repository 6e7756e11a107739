"""Images, annotations and pseudo labels of a run, read and matched by file stem."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.io import find_images, image_stem, label_paths, read_image, read_labels
from oce2stardist.labels import median_diameter

Image = NDArray[np.float32]  # (Y, X, C)
Labels = NDArray[np.int32]  # (Y, X)


@dataclass(frozen=True)
class ImageSet:
    """Images by stem, in the order of their file names, and where they came from."""

    paths: dict[str, Path]
    images: dict[str, Image]

    @property
    def channels(self) -> int:
        """Number of channels, the same for every image."""
        return next(iter(self.images.values())).shape[-1]


def read_images(source: str | Path, *, axes: str | None) -> ImageSet:
    """Read every image of a folder, glob or file.

    Raises
    ------
    InputError
        If there is none, one can't be read, or they differ in their number of channels.
    """
    paths = {image_stem(path): path for path in find_images(source)}
    images = {stem: read_image(path, axes=axes) for stem, path in paths.items()}
    first = next(iter(images))
    for stem, image in images.items():
        if image.shape[-1] != images[first].shape[-1]:
            raise InputError(
                "images must all have the same number of channels. Got "
                f"{images[first].shape[-1]} in {paths[first].name} and {image.shape[-1]} in "
                f"{paths[stem].name}; convert them or pass them in separate runs."
            )
    return ImageSet(paths, images)


def read_matching_labels(
    found: ImageSet, source: str | Path
) -> tuple[dict[str, Labels], list[Path]]:
    """Read the label images that belong to a set of images; also their paths.

    Raises
    ------
    InputError
        If none matches by stem, or one is not a label image of its image's shape.
    """
    matched = label_paths(found.paths.values(), Path(source))
    labels = {}
    for stem, path in found.paths.items():
        if path in matched:
            shape = found.images[stem].shape[:2]
            labels[stem] = read_labels(matched[path], shape=shape, image=path)
    return labels, sorted(matched.values())


def annotated_diameter(labels: Mapping[str, Labels]) -> float:
    """Take the median diameter of the annotated cells, pixels."""
    diameter = median_diameter(labels.values())
    if diameter is None:
        raise InputError(
            "annotations must hold at least one cell. Got only background or unlabelled "
            "pixels; annotate a few cells or pass --diameter."
        )
    return diameter
