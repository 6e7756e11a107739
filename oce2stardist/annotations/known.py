"""What is known of the images of a run: annotations from files or arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations import AnnotationSet, read_annotations
from oce2stardist.annotations.planes import read_stack_annotations
from oce2stardist.errors import InputError
from oce2stardist.files.digests import digest, digest_arrays
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.instances import as_instances
from oce2stardist.labels import Instances


def _check_annotations(
    arrays: Mapping[str, NDArray[Any]], image_set: ImageSet, instances: Instances
) -> AnnotationSet:
    for stem, given in arrays.items():
        if stem not in image_set.images:
            raise InputError(
                f"annotations must belong to images. Got {stem!r}, and images such as "
                f"{next(iter(image_set.images))!r}; use the same names for both."
            )
        array = np.asarray(given)
        shape = image_set.images[stem].shape[:-1]
        if array.dtype.kind not in "biu" or array.shape != shape:
            raise InputError(
                f"annotations of {stem} must be integers of shape {shape}. Got "
                f"{array.dtype} of shape {array.shape}; number the cells from 1."
            )
    labels = {
        stem: as_instances(
            np.asarray(arrays[stem], np.int32),
            instances="labels" if image_set.are_stacks else instances,
            what=f"annotations of {stem}",
        )
        for stem in sorted(arrays)
    }
    return AnnotationSet(labels, files=[], notes=[], names={}, instances=instances)


def read_known(
    image_set: ImageSet,
    annotations: str | Path | Mapping[str, NDArray[Any]],
    *,
    zero_is_background: bool = False,
    instances: Instances = "auto",
) -> AnnotationSet:
    """Take annotations of images from files, as `read_annotations` does, or from arrays by stem.

    Arrays are integers (Y, X) with cells > 0, known background 0 and unknown -1;
    `zero_is_background` tells what 0 means in files, `instances` how labels are taken.
    """
    if isinstance(annotations, Mapping):
        return _check_annotations(annotations, image_set, instances)
    if not image_set.paths:
        raise InputError(
            "annotations of images given as arrays must be arrays. Got the path "
            f"{annotations}; read the files first, or pass the images as files."
        )
    if image_set.are_stacks:
        if instances == "components":
            raise InputError(
                "--instances components is for images without planes. Got stacks; number the cells."
            )
        z_y_x = {stem: image.shape[:3] for stem, image in image_set.images.items()}
        return read_stack_annotations(
            image_set.paths, z_y_x, annotations, zero_is_background=zero_is_background
        )
    return read_annotations(
        image_set.paths,
        image_set.shapes,
        annotations,
        zero_is_background=zero_is_background,
        instances=instances,
        pixel_sizes=image_set.pixel_sizes,
    )


def digest_annotations(annotations: AnnotationSet) -> str:
    """Hash the files, or the arrays where there are none, and how they were taken."""
    files, how = annotations.files, annotations.instances
    content = digest(files) if files else digest_arrays(annotations.labels)
    return content if how == "auto" else f"{content} as {how}"
