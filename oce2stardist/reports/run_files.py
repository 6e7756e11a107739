"""Read what a page shows of a run folder; refuse an unfinished run or foreign images."""

from pathlib import Path
from typing import Any

import pandas as pd

from oce2stardist.errors import InputError
from oce2stardist.files.records import read_yaml
from oce2stardist.files.tables import read_objects
from oce2stardist.images.image_set import ImageSet


def read_record(path: Path) -> dict[str, Any]:
    """Read a YAML file that every finished run holds."""
    refuse_unfinished(path)
    return read_yaml(path)


def refuse_unfinished(path: Path) -> None:
    """Refuse a run or an experiment that lacks a file which is there once it is finished."""
    if not path.exists():
        raise InputError(
            f"a report needs a finished run. Got no {path}; run the same command again to its end."
        )


def read_cells(model: Path) -> pd.DataFrame:
    """Read the annotated cells of a finished model, with their roles."""
    read_record(model / "parameters.yaml")  # refuses an unfinished run
    return read_objects(model / "training" / "cells.csv")


def pseudo_labels_file(run: Path, stem: str) -> Path:
    """Where a run keeps the pseudo labels of one image."""
    return run / "pseudo" / "labels" / f"{stem}.tif"


def stems_or_refuse(stems: list[str], folder: Path, images: ImageSet) -> list[str]:
    """Return the stems that a run and a set of images share; refuse where there is none."""
    if not stems:
        raise InputError(
            f"the images must be those of the run. Got none of {folder}, such as "
            f"{next(iter(images.images))}; pass the images that it was run on."
        )
    return stems
