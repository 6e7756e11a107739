"""Read folders of images and label images, matched by name.

::

    <path>/train/images/a.tif    <path>/train/masks/a.tif
    <path>/test/images/b.tif     <path>/test/masks/b.tif

This is the layout of the nuclei that StarDist's examples train on (``dsb2018``). What
counts as an image and which label file belongs to it, `oce2stardist.images.find` says.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from oce2stardist.datasets.labelled import LabelledImage, LabelledImages, LabelledSet
from oce2stardist.errors import InputError
from oce2stardist.images.find import find_images, image_stem, label_paths
from oce2stardist.images.instances import as_instances
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.read import read_image

_log = logging.getLogger(__name__)


def open_folders(path: str | Path, *, images: str = "images", labels: str = "masks") -> LabelledSet:
    """Open ``path/train`` and ``path/test``, each with a folder of images and one of labels.

    These two may be the same, where labels such as ``x_masks.tif`` lie beside their images. The
    set is named after ``path`` and has no groups.
    """
    for name in (images, labels):
        if Path(name).name != name:
            raise InputError(
                "images and labels must be names of folders within train and test. "
                f"Got {name!r}; name the folder itself."
            )
    path = Path(path)
    train, test = (
        pair_folders(path / part / images, path / part / labels) for part in ("train", "test")
    )
    shared = sorted(set(train.stems) & set(test.stems))
    if shared:
        raise InputError(
            f"train and test in {path} must share no image name. Got {shared[0]} in both, "
            f"{len(shared)} in all; rename them or leave them out of one part."
        )
    return LabelledSet(path.resolve().name, train, test)


def pair_folders(images: str | Path, labels: str | Path) -> LabelledImages:
    """Match the images of one folder with the label images of another, by name.

    Images without labels are left out, with a warning; so are labels without image.

    Raises
    ------
    InputError
        If either is absent, or no label file belongs to an image; on reading, if a file
        can't be read or the labels of an image have another shape.
    """
    paths = find_images(images)
    labels_of = label_paths(paths, labels)
    n_without = len(paths) - len(labels_of)
    if n_without:
        what = "%d of %d images in %s have no labels in %s and are left out"
        _log.warning(what, n_without, len(paths), images, labels)
    return read_pairs(list(labels_of.items()), [image_stem(image) for image in labels_of])


def read_pairs(
    files: Sequence[tuple[Path, Path]], stems: Sequence[str], group: str = ""
) -> LabelledImages:
    """Read pairs of an image file and its label file on demand."""

    def read(positions: Sequence[int]) -> Iterator[LabelledImage]:
        for at in positions:
            image_file, label_file = files[at]
            image = read_image(image_file)
            height, width = image.shape[:2]
            labels = read_labels(label_file, shape=(height, width), image=image_file)
            labels = as_instances(labels, instances="auto", what=label_file)
            yield LabelledImage(stems[at], image, labels, group)

    return LabelledImages(stems, [group] * len(stems), read)
