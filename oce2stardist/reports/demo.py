"""Write the page of the demo: every stage on one image, from nuclei to scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oce2stardist.errors import plural
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import BACKGROUND, Image, Labels
from oce2stardist.pseudo_labels.inputs import read_predicted
from oce2stardist.reports.drawing.page import Section, write_page
from oce2stardist.reports.drawing.pictures import (
    picture_of_errors,
    picture_of_image,
    picture_of_labels,
    spread_limits,
)
from oce2stardist.reports.embedding_panels import (
    ABOUT_EMBEDDINGS,
    embedding_legends,
    embedding_panels,
)
from oce2stardist.reports.record_sections import (
    embedding_training_section,
    settings_section,
    times_section,
)
from oce2stardist.reports.run_files import pseudo_labels_file, read_cells, read_record
from oce2stardist.reports.strip import write_strip
from oce2stardist.reports.training_panels import (
    ABOUT_TRAINING_LABELS,
    count_roles,
    error_legends,
    training_legends,
    training_panels,
    training_plot,
    used_kinds,
)
from oce2stardist.reports.verdicts import demo_verdict
from oce2stardist.reports.wording import capital, count_objects


def write_demo_report(
    folder: Path,
    *,
    images: Mapping[str, Image],
    annotations: Labels,
    pseudo: Path,
    models: Mapping[str, Path],
    predictions: Mapping[str, Labels],
    truth: Labels,
    scores: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
) -> Path:
    """Write the page of the demo, and the strip of pictures that sums it up.

    Parameters
    ----------
    folder : Path
        The page becomes ``report/index.html``, beside ``strip.png``.
    images : mapping with the keys "train" and "test"
        Images of shape (Y, X, C); cells are annotated in "train" only.
    annotations : int32 array of shape (Y, X)
        The annotated cells of "train", with the ids of the models' training/cells.csv.
    pseudo : Path
        The run folder of stage one.
    models : mapping of name to model folder
        The last one is shown in the strip, and its training labels on the page.
    predictions : mapping of name to int32 array of shape (Y, X)
        Of "test"; those of every model, under its name, and any other.
    truth : int32 array of shape (Y, X)
        Of "test".
    scores : sequence of dict with name, f1, seg, n_true and n_predicted
    seconds : mapping of step to seconds

    Raises
    ------
    InputError
        If a run folder is not finished.
    """
    offsets, spread = read_predicted(pseudo, "train")
    shown_name, shown_model = list(models.items())[-1]
    cells = read_cells(shown_model)
    found = {stem: read_labels(pseudo_labels_file(pseudo, stem)) for stem in images}
    limits = spread_limits([spread])
    embeddings = embedding_panels(offsets, spread, found["train"], limits)
    parameters = {
        "pseudo labels": read_record(pseudo / "pseudo" / "parameters.yaml"),
        **{name: read_record(path / "parameters.yaml") for name, path in models.items()},
    }
    folders = {"pseudo labels": pseudo, **models}
    n_images = parameters["pseudo labels"]["trained_on"]["value"]
    path = write_page(
        folder / "report" / "index.html",
        title="From nuclei to a StarDist model",
        lead=f"Embeddings learned from {plural(n_images, 'image')} without any outline, "
        f"{plural(sum(count_roles(cells)), 'annotated cell')}, and what StarDist makes of both.",
        verdict=demo_verdict(scores),
        sections=[
            _nuclei_section(images),
            Section(
                "2. What the embeddings learned",
                ABOUT_EMBEDDINGS,
                panels=[("Image", picture_of_image(images["train"])), *embeddings],
                legends=embedding_legends(limits),
            ),
            _pseudo_labels_section(images, found),
            _annotations_section(shown_model, images["train"], annotations, cells),
            _predictions_section(images["test"], predictions, truth, models),
            _scores_section(scores),
            embedding_training_section(pseudo, "7. Training: embeddings"),
            *(
                Section(f"Training: {name}", panels=[training_plot(model)], level=3)
                for name, model in models.items()
            ),
            settings_section("8. Settings and why they were chosen", parameters),
            times_section(seconds, "9. Time taken"),
        ],
        runs={name: read_record(run / "run.yaml") for name, run in folders.items()},
    )
    write_strip(
        folder / "report" / "strip.png",
        images=images,
        arrows=embeddings[0][1],
        pseudo=found["train"],
        annotations=annotations,
        predicted=predictions[shown_name],
        truth=truth,
    )
    return path


def _nuclei_section(images: Mapping[str, Image]) -> Section:
    return Section(
        "1. The nuclei",
        "One image, cut in two. A few cells are annotated in the upper part. The lower part "
        "has no annotation; every score on this page is measured there.",
        panels=[
            ("Upper part, “train”", picture_of_image(images["train"])),
            ("Lower part, “test”", picture_of_image(images["test"])),
        ],
    )


def _pseudo_labels_section(images: Mapping[str, Image], found: Mapping[str, Labels]) -> Section:
    return Section(
        "3. Pseudo labels, without any outline drawn",
        "Pixels whose arrows end at the same point become one object.",
        panels=[
            (
                f"{part} part: {count_objects(found[stem])}",
                picture_of_labels(images[stem], found[stem]),
            )
            for stem, part in (("train", "Upper"), ("test", "Lower"))
        ],
    )


def _annotations_section(
    model: Path, image: Image, annotations: Labels, cells: pd.DataFrame
) -> Section:
    n_train, n_judge = count_roles(cells)
    judges = cells.loc[cells["role"] == "held_back", "label"]
    held_back = np.where(np.isin(annotations, judges), annotations, BACKGROUND).astype(np.int32)
    return Section(
        "4. The cells somebody did draw",
        f"{plural(n_train + n_judge, 'annotated cell')}: {n_train} to train on, {n_judge} "
        f"held back.\n\n{ABOUT_TRAINING_LABELS}",
        panels=training_panels(model, "train", image, cells, held_back),
        legends=training_legends(marked=True),
    )


def _predictions_section(
    image: Image, predictions: Mapping[str, Labels], truth: Labels, models: Mapping[str, Path]
) -> Section:
    errors = [
        (f"{capital(name)}: {count_objects(labels)}", picture_of_errors(image, labels, truth))
        for name, labels in predictions.items()
    ]
    return Section(
        "5. What is found where nothing was annotated",
        "An object counts as found if it shares at least half of the pixels that it and the "
        f"true one cover together (IoU 0.5). {_say_what_was_seen(models)}",
        panels=[(f"Truth: {count_objects(truth)}", picture_of_labels(image, truth)), *errors],
        legends=error_legends(),
    )


def _say_what_was_seen(models: Mapping[str, Path]) -> str:
    """Say truthfully whether the test image took part in the training of StarDist."""
    seen = [
        name
        for name, path in models.items()
        if any((path / "training" / kind / "test.tif").exists() for kind in used_kinds(path))
    ]
    if not seen:
        return "StarDist never saw this part in training."
    return (
        "Of this part, StarDist saw the image and its pseudo labels, but no annotation, in the "
        f"training of: {', '.join(seen)}."
    )


def _scores_section(scores: Sequence[Mapping[str, Any]]) -> Section:
    rows = [
        (capital(score["name"]), *(score[key] for key in ("f1", "seg", "n_true", "n_predicted")))
        for score in scores
    ]
    return Section(
        "6. Scores",
        "F1 weighs missed and extra objects alike, at IoU 0.5; SEG is the mean overlap (IoU) "
        "of true cells with what was found for them, 0 for missed ones. Both run from 0 to 1, "
        "the best. With one small image, differences of a few hundredths say little.",
        table=[("", "F1", "SEG", "cells in truth", "objects predicted"), *rows],
    )
