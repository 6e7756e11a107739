"""Write the page of a run of stage one: which objects were found, and how sure they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.errors import plural
from oce2stardist.files.tables import read_objects
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels
from oce2stardist.pseudo_labels.inputs import read_predicted
from oce2stardist.pseudo_labels.witness import START
from oce2stardist.reports.drawing.page import Section, write_page
from oce2stardist.reports.drawing.pictures import (
    UNSURE,
    confidence_bar,
    picture_of_confidence,
    picture_of_image,
    spread_limits,
)
from oce2stardist.reports.drawing.plots import confidence_plot
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
from oce2stardist.reports.run_files import (
    pseudo_labels_file,
    read_record,
    stems_or_refuse,
)
from oce2stardist.reports.selection import choose_by_count, say_how_many
from oce2stardist.reports.stack_panels import stack_panels
from oce2stardist.reports.verdicts import pseudo_verdict, stack_verdict
from oce2stardist.reports.wording import (
    count_objects,
    say_middle_half,
    say_range,
    sentence,
)

_LARGEST_MAP = 400
"""Pixels a side of maps of many images: noise takes much space, and has no outline to keep."""

_ABOUT_CONFIDENCE = (
    "Each image is segmented again with a smaller and a larger bandwidth. The confidence of an "
    "object is how much of it stays the same: 1 where nothing changes, near 0 where it breaks up, "
    "fuses with a neighbour or vanishes. It tells whether an object is stable, not whether it is "
    "a cell."
)
_CONFIDENCE_LEGEND = (
    "Pseudo labels: outlines from orange-red (confidence 0: changes altogether under other "
    f"settings) over yellow to blue (1: stays the same). Hatched: below {UNSURE:g}."
)
_ABOUT_CHOICES = (
    "The same few cells under other values, each time with everything else as chosen. The chosen "
    "value has a frame and the word “chosen”. Where values were compared, their score is shown; "
    "the table of settings below says what it measures. If another picture fits your cells "
    "better, set its value in a config file and run the same command again: only the clustering, "
    "which takes about a second an image, is done anew."
)


@dataclass(frozen=True)
class _Run:
    """What is on the page: objects per image for all images, predictions for those shown."""

    folder: Path
    images: ImageSet
    parameters: dict[str, Any]
    objects: pd.DataFrame
    counts: pd.Series
    predicted: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # offsets and spread


def write_pseudo_report(run: Path, images: ImageSet) -> Path:
    """Write ``report/index.html`` of a finished run of `make_pseudo_labels` on these images.

    Raises
    ------
    InputError
        If the folder holds no finished run, or none of these images.
    """
    parameters = read_record(run / "pseudo" / "parameters.yaml")
    trust = parameters.pop("trust", None)
    objects = read_objects(run / "pseudo" / "objects.csv")
    stems = [stem for stem in images.images if pseudo_labels_file(run, stem).exists()]
    counts = objects["image"].value_counts()
    counts = counts.reindex(stems_or_refuse(stems, run, images), fill_value=0)
    predicted = {stem: read_predicted(run, stem) for stem in choose_by_count(counts)}
    return write_page(
        run / "report" / "index.html",
        title="Pseudo labels",
        lead=f"{plural(len(objects), 'object')} found in {plural(len(counts), 'image')}; no "
        "outline was drawn by hand.",
        verdict=(
            stack_verdict(run, trust)
            if trust and images.are_stacks
            else pseudo_verdict(run, trust, of_start=_is_of_start(objects))
        ),
        sections=_sections(_Run(run, images, parameters, objects, counts, predicted)),
        runs={"pseudo": read_record(run / "run.yaml")},
    )


def _is_of_start(objects: pd.DataFrame) -> bool:
    """Tell whether the drawn start, and nothing else, found the objects of a run."""
    return "found_by" in objects and bool(len(objects)) and set(objects["found_by"]) == {START}


def _sections(run: _Run) -> list[Section]:
    limits = spread_limits([spread for _, spread in run.predicted.values()])
    return [
        _found_section(run, limits),
        *(_image_section(run, stem, limits) for stem in run.predicted),
        _numbers_section(run),
        *_confidence_section(run.objects),
        *_sheet(
            "How large a cell is",
            sentence(run.parameters.get("diameter", {}).get("reason", "")),
            run.folder / "pseudo" / "diameter.png",
            "Orange circles have the estimated diameter; they should fit most cells.",
        ),
        *_sheet(
            "What each choice looks like",
            _ABOUT_CHOICES,
            run.folder / "pseudo" / "choices.png",
            "Outlines at working scale; their colours only tell neighbours apart.",
        ),
        embedding_training_section(run.folder),
        settings_section("Settings and why they were chosen", {"": run.parameters}),
        times_section(read_record(run.folder / "times.yaml")),
    ]


def _numbers_section(run: _Run) -> Section:
    about = "Diameters are those of discs of the same area, in pixels of the original images."
    if run.images.are_stacks:
        about = (
            "Diameters are those of balls of the same volume; a px is as long as a voxel is wide."
        )
    return Section(
        "In numbers",
        about,
        table=[
            ("", "value"),
            ("images", f"{len(run.counts):,}"),
            ("objects found", f"{len(run.objects):,}"),
            ("objects per image, median (range)", say_range(run.counts)),
            ("images without any object", f"{(run.counts == 0).sum():,}"),
            ("diameter in px, median (middle half)", say_middle_half(run.objects["diameter"])),
        ],
    )


def _confidence_section(objects: pd.DataFrame) -> list[Section]:
    if objects.empty:
        return []
    unsure = f"{(objects['confidence'] < UNSURE).mean():.0%}"
    caption = f"Confidence of the {len(objects):,} objects; {unsure} are below {UNSURE:g}."
    plot = confidence_plot(objects["confidence"].to_numpy())
    return [Section("How sure it is", _ABOUT_CONFIDENCE, panels=[(caption, plot)])]


def _sheet(heading: str, about: str, path: Path, caption: str) -> list[Section]:
    """Show a picture that the run has written, if it has."""
    return [Section(heading, about, panels=[(caption, path.read_bytes())])] if path.exists() else []


def _found_section(run: _Run, limits: tuple[float, float]) -> Section:
    """Introduce the images that follow."""
    order = "Images are in the order of their number of objects, from fewest to most"
    if len(run.predicted) < len(run.counts):
        order += "; those shown are at even distances in this order, the first and last included"
    return Section(
        f"What was learned and found: {say_how_many(run.predicted, run.counts.index)}",
        f"{ABOUT_EMBEDDINGS}\n\n{order}.",
        legends=[*embedding_legends(limits), (_CONFIDENCE_LEGEND, confidence_bar())],
    )


def _image_section(run: _Run, stem: str, limits: tuple[float, float]) -> Section:
    image, labels = run.images.images[stem], read_labels(pseudo_labels_file(run.folder, stem))
    objects = run.objects[run.objects["image"] == stem]
    confidence = np.ones(max(int(labels.max()), 0) + 1)
    confidence[objects["label"]] = objects["confidence"]
    if run.images.are_stacks:
        sides = run.images.sides(stem)
        drawn = stack_panels(
            image, labels, confidence, run.predicted[stem], sides=sides, limits=limits
        )
        return Section(stem, panels=drawn, level=3)
    panels = [
        ("Image", picture_of_image(image)),
        *embedding_panels(*run.predicted[stem], labels, limits, at_most=_LARGEST_MAP),
        (
            f"Pseudo labels: {count_objects(labels)}",
            picture_of_confidence(image, labels, confidence),
        ),
    ]
    return Section(stem, panels=panels, level=3)
