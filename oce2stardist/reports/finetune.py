"""Write the page of a StarDist model: what it learned from, and what it finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from oce2stardist.images.image_set import ImageSet
from oce2stardist.labels import Labels
from oce2stardist.reports.drawing.page import Section, write_page
from oce2stardist.reports.drawing.pictures import picture_of_image, picture_of_labels
from oce2stardist.reports.record_sections import settings_section, times_section
from oce2stardist.reports.run_files import read_cells, read_record, stems_or_refuse
from oce2stardist.reports.selection import AT_MOST, choose_evenly, say_how_many
from oce2stardist.reports.training_panels import (
    ABOUT_TRAINING_LABELS,
    count_roles,
    training_legends,
    training_panels,
    training_plot,
    used_kinds,
)
from oce2stardist.reports.wording import count_images, count_objects, plural


@dataclass(frozen=True)
class _Finetuned:
    """What is on the page."""

    model: Path
    images: ImageSet
    predictions: Mapping[str, Labels]
    held_back: Mapping[str, Labels]
    cells: pd.DataFrame


def write_finetune_report(
    model: Path,
    images: ImageSet,
    predictions: Mapping[str, Labels],
    *,
    held_back: Mapping[str, Labels] | None = None,
) -> Path:
    """Write the page of a finished run of `finetune_stardist`.

    Parameters
    ----------
    model : Path
        The model folder.
    images : ImageSet
        The images that it was trained on.
    predictions : mapping of image stem to label image
        What the model finds; only images with a prediction are shown.
    held_back : mapping of image stem to label image, optional
        `TrainingLabels.held_back`: cells that judged the model, marked where given.

    Returns
    -------
    Path
        ``model/report/index.html``.

    Raises
    ------
    InputError
        If the folder holds no finished model, or there is no prediction for any image.
    """
    content = _Finetuned(model, images, predictions, held_back or {}, read_cells(model))
    n_train, n_judge = count_roles(content.cells)
    return write_page(
        model / "report" / "index.html",
        title="StarDist model",
        lead=f"Trained on {plural(n_train, 'annotated cell')}, {_how_judged(content, n_judge)}, in "
        f"a set of {count_images(len(images.images))}.",
        sections=_sections(content),
        runs={"finetune": read_record(model / "run.yaml")},
    )


def _how_judged(content: _Finetuned, n_judge: int) -> str:
    if n_judge:
        return f"judged by {plural(n_judge, 'other')}"
    if (content.model / "folds").exists():
        return "judged by trainings on parts of them"
    return "judged by none"


def _sections(content: _Finetuned) -> list[Section]:
    images, predictions = content.images, content.predictions
    predicted = [stem for stem in images.images if stem in predictions]
    stems = stems_or_refuse(predicted, content.model, images)
    with_cells = set(content.cells["image"])
    annotated = [stem for stem in stems if stem in with_cells]
    others = [stem for stem in stems if stem not in with_cells]
    shown = choose_evenly(annotated)
    shown += choose_evenly(others, AT_MOST - len(shown))
    return [
        _numbers_section(content),
        _learned_section(content, shown, any_annotated=bool(annotated)),
        *(_image_section(content, stem) for stem in shown),
        Section("Training", panels=[training_plot(content.model)]),
        settings_section(
            "Settings and why they were chosen",
            {"": read_record(content.model / "parameters.yaml")},
        ),
        times_section(read_record(content.model / "times.yaml")),
    ]


def _numbers_section(content: _Finetuned) -> Section:
    n_train, n_judge = count_roles(content.cells)
    return Section(
        "In numbers",
        table=[
            ("", "cells"),
            ("annotated, trained on", n_train),
            ("annotated, held back to judge", n_judge),
            ("from pseudo labels, trained on", _count_pseudo(content.model)),
        ],
    )


def _count_pseudo(model: Path) -> int:
    if "pseudo" not in used_kinds(model):
        return 0
    objects = pd.read_csv(model / "training" / "objects.csv")
    return int((objects["source"] == "pseudo").sum())


def _learned_section(content: _Finetuned, shown: list[str], *, any_annotated: bool) -> Section:
    """Introduce the images that follow."""
    every = list(content.images.images)
    about = ABOUT_TRAINING_LABELS
    if any_annotated:
        about += "\n\nImages with annotated cells come first."
    if len(shown) < len(every):
        about += "\n\nImages are chosen evenly over the sorted names."
    return Section(
        f"What it learned from and finds: {say_how_many(shown, every)}",
        about,
        legends=training_legends(marked=bool(content.held_back)),
    )


def _image_section(content: _Finetuned, stem: str) -> Section:
    image, predicted = content.images.images[stem], content.predictions[stem]
    held_back = content.held_back.get(stem)
    panels = [
        ("Image", picture_of_image(image)),
        *training_panels(content.model, stem, image, content.cells, held_back),
        (f"Prediction: {count_objects(predicted)}", picture_of_labels(image, predicted)),
    ]
    return Section(stem, panels=panels, level=3)
