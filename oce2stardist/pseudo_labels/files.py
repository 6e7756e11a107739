"""Read the pseudo labels of a run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oce2stardist.errors import InputError
from oce2stardist.files.records import read_yaml, read_yaml_if_there
from oce2stardist.files.tables import read_table
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import Labels

Confidences = dict[str, dict[int, float]]
"""Confidence of pseudo objects by image stem and id; an object that is not there has 1."""


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo labels of some images by stem, and what there is to know of them."""

    labels: Mapping[str, Labels]
    confidence: Mapping[str, Mapping[int, float]]  # by id
    trusted: bool | None = None  # by the run that made them; None if it said nothing
    files: Sequence[Path] = ()  # what they were read from

    def replaced(self, labels: Mapping[str, Labels]) -> "PseudoLabels":
        """Return them with other labels of some images, in which objects are missing."""
        return replace(self, labels={**self.labels, **labels})


def read_pseudo_labels(run: str | Path, images: ImageSet) -> PseudoLabels:
    """Read the finished pseudo labels of a run folder that belong to a set of images."""
    folder = pseudo_folder(run, finished=True)
    labels: dict[str, Labels] = {}
    for stem, image in images.images.items():
        path = folder / f"{stem}.tif"
        if path.exists():
            labels[stem] = read_labels(path, shape=image.shape[:-1], image=images.paths.get(stem))
    if not labels:
        raise InputError(
            f"{folder} must hold pseudo labels of the images. Got none of the same name, such as "
            f"{next(iter(images.images))}.tif; pass the images that `pseudo` was run on."
        )
    table = folder.parent / "objects.csv"
    parameters = read_yaml_if_there(folder.parent / "parameters.yaml")
    files = [folder / f"{stem}.tif" for stem in labels]
    return PseudoLabels(
        labels,
        read_confidences(run, labels),
        trusted=parameters.get("trust", {}).get("value"),
        files=[*files, table] if table.exists() else files,
    )


def pseudo_folder(run: str | Path, *, finished: bool) -> Path:
    """Find the label images of a run that was not interrupted while it wrote them."""
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
    outside = numbers.loc[~numbers["confidence"].between(0, 1), "confidence"]
    if not outside.empty:
        raise InputError(f"{path}: confidence must lie from 0 to 1. Got {outside.iloc[0]} instead.")
    return {
        str(stem): dict(zip(rows["label"].tolist(), rows["confidence"].tolist(), strict=True))
        for stem, rows in numbers.groupby("image")
    }
