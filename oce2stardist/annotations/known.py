"""What is known of the images of a run: annotations from files or arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations import AnnotationSet, read_annotations
from oce2stardist.errors import InputError
from oce2stardist.files.digests import digest, digest_arrays
from oce2stardist.images.image_set import ImageSet


def _check_annotations(arrays: Mapping[str, NDArray[Any]], image_set: ImageSet) -> AnnotationSet:
    for stem, given in arrays.items():
        if stem not in image_set.images:
            raise InputError(
                f"annotations must belong to images. Got {stem!r}, and images such as "
                f"{next(iter(image_set.images))!r}; use the same names for both."
            )
        array = np.asarray(given)
        if array.dtype.kind not in "biu" or array.shape != image_set.shapes[stem]:
            raise InputError(
                f"annotations of {stem} must be integers of shape {image_set.shapes[stem]}. Got "
                f"{array.dtype} of shape {array.shape}; number the cells from 1."
            )
    labels = {stem: np.asarray(arrays[stem], np.int32) for stem in sorted(arrays)}
    return AnnotationSet(labels, files=[], notes=[], names={})


def read_known(
    image_set: ImageSet,
    annotations: str | Path | Mapping[str, NDArray[Any]],
    *,
    zero_is_background: bool = False,
) -> AnnotationSet:
    """Take annotations of images from files, as `read_annotations` does, or from arrays by stem.

    Arrays are integers (Y, X) with cells > 0, known background 0 and unknown -1;
    `zero_is_background` tells what 0 means in files.
    """
    if isinstance(annotations, Mapping):
        return _check_annotations(annotations, image_set)
    if not image_set.paths:
        raise InputError(
            "annotations of images given as arrays must be arrays. Got the path "
            f"{annotations}; read the files first, or pass the images as files."
        )
    return read_annotations(
        image_set.paths, image_set.shapes, annotations, zero_is_background=zero_is_background
    )


def digest_annotations(annotations: AnnotationSet) -> str:
    """Hash the files, or the arrays where there are none."""
    return digest(annotations.files) if annotations.files else digest_arrays(annotations.labels)
