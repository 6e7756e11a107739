"""Write the training labels of a run folder, and read them again."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_text
from oce2stardist.files.tables import read_table
from oce2stardist.images.label_files import MAX_LABEL, read_labels, write_labels
from oce2stardist.labels import Labels

if TYPE_CHECKING:
    from oce2stardist.training_labels.make import TrainingLabels


def write_training_labels(folder: Path, labels: "TrainingLabels") -> None:
    """Write sparse/, pseudo/ and held_back/*.tif, objects.csv and, last, cells.csv.

    Label images of an earlier merge into the same folder are removed.
    """
    (folder / "cells.csv").unlink(missing_ok=True)
    kinds = {"sparse": labels.sparse, "pseudo": labels.pseudo, "held_back": labels.held_back}
    for kind, images in kinds.items():
        for path in (folder / kind).glob("*.tif"):
            if path.stem not in images:
                path.unlink()
        for stem, image in images.items():
            write_labels(folder / kind / f"{stem}.tif", image)
    write_text(folder / "objects.csv", labels.objects.to_csv(index=False))
    write_text(folder / "cells.csv", labels.cells.to_csv(index=False))


def read_cells(path: str | Path) -> dict[str, list[int]]:
    """Read which annotated cells a run used, to use the same again; ids ascend.

    From a CSV file with the columns image and label, such as training/cells.csv of a run; other
    columns don't matter. Whether the cells are annotated is for `check_cells` to say.
    """
    table = read_table(Path(path), {"image", "label"})
    labels = pd.to_numeric(table["label"], errors="coerce")
    bad = ~(labels.between(1, MAX_LABEL) & (labels == labels.round()))
    if bad.any():
        raise InputError(
            f"{path}: label must be a whole number from 1 to {MAX_LABEL}. "
            f"Got {table['label'][bad].iloc[0]!r}; name cells by their label in the annotations."
        )
    if table.empty:
        raise InputError(f"{path} must name at least one cell. Got a table without rows.")
    pairs = table.assign(label=labels.astype(np.int64)).groupby("image")["label"]
    return {str(stem): sorted({int(label) for label in ids}) for stem, ids in pairs}


def read_held_back(model: Path) -> dict[str, Labels]:
    """Read the held-back cells of a model folder, by image stem."""
    files = sorted((model / "training" / "held_back").glob("*.tif"))
    return {path.stem: read_labels(path) for path in files}
