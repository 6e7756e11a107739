"""Write the page of a StarDist model: what it learned from, and what it finds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from oce2stardist.errors import plural
from oce2stardist.files.tables import read_objects
from oce2stardist.images.image_set import ImageSet
from oce2stardist.labels import Image, Labels
from oce2stardist.reports.drawing.page import Section, write_page
from oce2stardist.reports.drawing.pictures import picture_of_image, picture_of_labels
from oce2stardist.reports.drawing.plots import learning_curve_plot
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
from oce2stardist.reports.verdicts import finetune_verdict
from oce2stardist.reports.wording import capital, count_objects, sentence


def write_finetune_report(
    model: Path,
    images: ImageSet,
    predictions: Mapping[str, Labels],
    *,
    held_back: Mapping[str, Labels],
) -> Path:
    """Write the page of a finished run of `finetune_stardist`.

    Parameters
    ----------
    model : Path
        The model folder; the page becomes ``report/index.html`` in it.
    images : ImageSet
        The images that it was trained on.
    predictions : mapping of image stem to label image
        What the model finds; only images with a prediction are shown.
    held_back : mapping of image stem to label image
        `TrainingLabels.held_back`: cells that judged the model, marked where given.

    Raises
    ------
    InputError
        If the folder holds no finished model, or there is no prediction for any image.
    """
    cells = read_cells(model)
    n_train, n_judge = count_roles(cells)
    predicted = [stem for stem in images.images if stem in predictions]
    stems = stems_or_refuse(predicted, model, images)
    with_cells = set(cells["image"])
    annotated = [stem for stem in stems if stem in with_cells]
    shown = choose_evenly(annotated)
    shown += choose_evenly(set(stems) - with_cells, AT_MOST - len(shown))
    parameters = read_record(model / "parameters.yaml")
    about = ABOUT_TRAINING_LABELS
    if annotated:
        about += "\n\nImages with annotated cells come first."
    if len(shown) < len(images.images):
        about += "\n\nImages are chosen evenly over the sorted names."
    return write_page(
        model / "report" / "index.html",
        title="StarDist model",
        lead=f"Trained on {plural(n_train, 'annotated cell')}, {_how_judged(model, n_judge)}, in "
        f"a set of {plural(len(images.images), 'image')}.",
        verdict=finetune_verdict(model, parameters, n_judge),
        sections=[
            Section(
                f"What it learned from and finds: {say_how_many(shown, images.images)}",
                about,
                legends=training_legends(marked=bool(held_back)),
            ),
            *(
                _image_section(
                    model, stem, images.images[stem], cells, predictions[stem], held_back.get(stem)
                )
                for stem in shown
            ),
            _numbers_section(model, n_train, n_judge),
            *_best_section(parameters.get("best")),
            *_more_section(parameters.get("how_many_more")),
            Section("Training", panels=[training_plot(model)]),
            settings_section("Settings and why they were chosen", {"": parameters}),
            times_section(read_record(model / "times.yaml")),
        ],
        runs={"finetune": read_record(model / "run.yaml")},
    )


def _how_judged(model: Path, n_judge: int) -> str:
    if n_judge:
        return f"judged by {plural(n_judge, 'other')}"
    if (model / "folds").exists():
        return "judged by trainings of the same length on parts of them"
    return "judged by none"


def _best_section(best: Mapping[str, Any] | None) -> list[Section]:
    """List what the annotated cells say of the model and of what it came from."""
    if best is None:
        return []
    rows = [
        (capital(name), f"{one['mean_f1']:.3f} ± {one['error']:.3f}")
        for name, one in best["scores"].items()
    ]
    about = "Mean F1 over IoU 0.5 to 0.9 on the annotated cells that judged, and standard error."
    return [Section("What the annotated cells say", about, table=[("", "mean F1"), *rows])]


def _more_section(told: Mapping[str, Any] | None) -> list[Section]:
    """Show what more annotated cells would bring, where that was asked."""
    if told is None:
        return []
    heading = "How many more cells?"
    if told["value"] is None:
        return [Section(heading, sentence(told["reason"]))]
    caption = (
        "Points: F1 of short trainings, each from where the training began. Dashed: what more "
        "cells would bring, and its 90 % interval."
    )
    plot = learning_curve_plot(told["trained_on"], told["f1"], told["ahead"])
    return [Section(heading, sentence(told["reason"]), panels=[(caption, plot)])]


def _numbers_section(model: Path, n_train: int, n_judge: int) -> Section:
    sources = read_objects(model / "training" / "objects.csv")["source"].value_counts()
    n_drawn, n_pseudo = int(sources.get("manual", 0)), int(sources.get("pseudo", 0))
    n_confirmed = int(sources.sum()) - n_drawn - n_pseudo
    return Section(
        "In numbers",
        table=[
            ("", "cells"),
            ("annotated, trained on", n_train),
            ("annotated, held back to judge", n_judge),
            *([("confirmed by points or verdicts, trained on", n_confirmed)] * (n_confirmed > 0)),
            ("from pseudo labels, trained on", n_pseudo if "pseudo" in used_kinds(model) else 0),
        ],
    )


def _image_section(
    model: Path,
    stem: str,
    image: Image,
    cells: pd.DataFrame,
    predicted: Labels,
    held_back: Labels | None,
) -> Section:
    panels = [
        ("Image", picture_of_image(image)),
        *training_panels(model, stem, image, cells, held_back),
        (f"Prediction: {count_objects(predicted)}", picture_of_labels(image, predicted)),
    ]
    return Section(stem, panels=panels, level=3)
