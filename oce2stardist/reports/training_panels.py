"""Draw what a StarDist model was trained on and judged by."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from oce2stardist.errors import plural
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import UNLABELLED, Image, Labels, object_sizes
from oce2stardist.reports.drawing.page import Panel
from oce2stardist.reports.drawing.pictures import (
    RGB,
    picture_of_errors,
    picture_of_training_labels,
)
from oce2stardist.reports.drawing.plots import loss_plot
from oce2stardist.reports.run_files import read_record

ABOUT_TRAINING_LABELS = (
    "The network learns only where something is known: from annotated cells and the background "
    "around them (sparse labels), and from pseudo labels corrected by the annotations (pseudo "
    "labels). Cells held back are never trained on; they judge the weights and thresholds."
)


def used_kinds(model: Path) -> list[str]:
    """Name the kinds of training labels that have weight; files of the other may lie there."""
    alpha = read_record(model / "parameters.yaml")["alpha"]["value"]
    return ["sparse"] * (alpha < 1) + ["pseudo"] * (alpha > 0)


def count_roles(cells: pd.DataFrame) -> tuple[int, int]:
    """Count the annotated cells to train on, and those held back to judge."""
    return int((cells["role"] == "training").sum()), int((cells["role"] == "held_back").sum())


def training_panels(
    model: Path, stem: str, image: Image, cells: pd.DataFrame, held_back: Labels | None
) -> list[tuple[str, RGB]]:
    """Draw the training labels of an image that were used."""
    n_train, n_judge = count_roles(cells[cells["image"] == stem])
    panels = []
    for kind in used_kinds(model):
        path = model / "training" / kind / f"{stem}.tif"
        if not path.exists():
            continue
        labels = read_labels(path)
        caption = f"{kind.capitalize()} training labels: {plural(n_train, 'annotated cell')}"
        if kind == "sparse":
            caption += f", {n_judge} held back" * (n_judge > 0)
            picture = picture_of_training_labels(image, labels, held_back)
        else:
            caption += f", {plural(len(object_sizes(labels)[0]) - n_train, 'pseudo label')}"
            picture = picture_of_training_labels(image, labels)
        panels.append((caption, picture))
    return panels


def training_legends(*, marked: bool) -> list[tuple[str, RGB]]:
    """Explain the colours of `training_panels`, with those of held-back cells if any is marked."""
    image, disc = _swatch()
    unknown = np.full_like(disc, UNLABELLED)
    legends = [
        ("A cell, and known background", picture_of_training_labels(image, disc)),
        ("Unknown: nothing is learned here", picture_of_training_labels(image, unknown)),
    ]
    if marked:
        held_back = picture_of_training_labels(image, unknown, disc)
        legends.append(("A cell held back to judge", held_back))
    return legends


def error_legends() -> list[tuple[str, RGB]]:
    """Explain the colours of `picture_of_errors`."""
    image, disc = _swatch()
    none = np.zeros_like(disc)
    return [
        ("Found", picture_of_errors(image, disc, disc)),
        ("Missed", picture_of_errors(image, none, disc)),
        ("Not in the truth, or too far off to count", picture_of_errors(image, disc, none)),
    ]


def training_plot(model: Path) -> Panel:
    """Plot the loss of StarDist and the scores on the way."""
    history = pd.read_csv(model / "history.csv")
    names = {"loss": "total", "loss_sparse": "sparse labels", "loss_pseudo": "pseudo labels"}
    # At alpha 0 and 1 one half is 0 throughout and the other equals the total.
    if not all(history[column].any() for column in names):
        names = {"loss": "total"}
    caption = "Loss of StarDist: every step (thin) and their running mean (bold)."
    if history["score"].notna().any():
        caption += " Below, the score on the held-back cells at each check, ± its standard error."
    return caption, loss_plot(history, names)


def _swatch() -> tuple[Image, Labels]:
    """Draw a grey cell for a legend; the legends show it with the pages' own functions."""
    rows, columns = np.indices((40, 40))
    disc = ((rows - 19.5) ** 2 + (columns - 19.5) ** 2 < 14**2).astype(np.int32)
    return ndi.gaussian_filter(disc.astype(np.float32), 2)[..., None], disc
