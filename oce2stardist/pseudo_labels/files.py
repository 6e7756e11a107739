"""The pseudo labels of a run folder, read for what builds on them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oce2stardist.errors import InputError
from oce2stardist.files.records import read_yaml
from oce2stardist.files.tables import read_table
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import Labels

Confidences = dict[str, dict[int, float]]
"""Confidence of pseudo objects by image stem and id; an object that is not there has 1."""


def read_pseudo_labels(run: str | Path, found: ImageSet) -> tuple[dict[str, Labels], Confidences]:
    """Read the pseudo labels of a run folder that belong to a set of images.

    Returns
    -------
    labels : dict of int32 arrays of shape (Y, X), by image stem
    confidences : dict of dicts of float, by image stem and id

    Raises
    ------
    InputError
        If the folder holds no finished pseudo labels, or none for these images.
    """
    folder = pseudo_folder(run, finished=True)
    labels = {}
    for stem, image in found.images.items():
        path = folder / f"{stem}.tif"
        if path.exists():
            labels[stem] = read_labels(path, shape=image.shape[:2], image=found.paths.get(stem))
    if not labels:
        raise InputError(
            f"{folder} must hold pseudo labels of the images. Got none of the same name, such as "
            f"{next(iter(found.images))}.tif; pass the images that `pseudo` was run on."
        )
    return labels, read_confidences(run, labels)


def pseudo_folder(run: str | Path, *, finished: bool) -> Path:
    folder = Path(run) / "pseudo" / "labels"
    stage = Path(run) / "pseudo" / "stage.yaml"
    if not folder.is_dir() or (finished and not stage.exists()):
        raise InputError(
            f"{run} must be a run folder with pseudo labels. Got no pseudo/labels in it; "
            "run `oce2stardist pseudo IMAGES -o RUN` first, to its end."
        )
    if stage.exists() and not read_yaml(stage).get("finished"):
        raise InputError(
            f"{run} must be a finished run. Got one that was interrupted while it wrote pseudo "
            "labels; give its `oce2stardist pseudo` command again."
        )
    return folder


def read_confidences(run: str | Path, labels: Mapping[str, Labels]) -> Confidences:
    """Read the confidences of the objects of these images; none where none were written."""
    path = Path(run) / "pseudo" / "objects.csv"
    if not path.exists():
        return {}
    table = read_table(path, {"image", "label"})
    if "confidence" not in table:  # written by an older version
        return {}
    table = table[table["image"].isin(labels)]
    try:
        numbers = table.astype({"label": np.int64, "confidence": float})
    except ValueError as error:
        raise InputError(f"{path} must hold numbers: {error}") from error
    if not numbers["confidence"].between(0, 1).all():
        worst = numbers.loc[~numbers["confidence"].between(0, 1), "confidence"].iloc[0]
        raise InputError(f"{path}: confidence must lie from 0 to 1. Got {worst} instead.")
    return {
        str(stem): dict(zip(rows["label"].tolist(), rows["confidence"].tolist(), strict=True))
        for stem, rows in numbers.groupby("image")
    }
