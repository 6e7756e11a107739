"""Ask the drawn start for labels of its own, and take them where annotated cells prefer them.

The embeddings know nothing of cells, and the start nothing of the set. Where the start finds the
annotated cells better than the pseudo labels do, what it finds in all images is what the pseudo
half of the training learns from. And where it finds them well already, little is to be learned.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oce2stardist.errors import plural
from oce2stardist.evaluation.held_back import (
    IOUS,
    Counts,
    Window,
    count_matches,
    difference,
    find_windows,
    mean_f1,
)
from oce2stardist.labels import FoundObjects, Image, Labels, renumber
from oce2stardist.stardist_model.fit import TrainingJob
from oce2stardist.stardist_model.judge import count_at_defaults
from oce2stardist.stardist_model.scale import zoom_labels

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D

_MOST_CELLS = 100
"""Annotated cells that are asked; more would make the choice hardly surer, and take longer."""

_KNOWS = 0.8
"""Mean F1 of the start from which it has little to learn. Measured: from 0.81 (`nih3t3`, 20 cells)
a long training spoils what it knows; from 0.76 (`bbbc039`, 93 cells) down to 0.11 it gains."""

RUN, START = "run", "drawn start"


@dataclass(frozen=True)
class Witness:
    """Whose labels the pseudo half learns from, and why."""

    name: str
    reason: str
    labels: FoundObjects | None = None  # those of the run where there are none


@dataclass(frozen=True)
class AskedStart:
    """The start, and how it finds the annotated cells, of which it has seen none."""

    model: "SparseStarDist2D"
    windows: Sequence[Window]
    counts: Counts

    @property
    def knows(self) -> bool:
        """Tell whether it finds them so well that it has little to learn."""
        return bool(self.windows) and mean_f1(self.counts) >= _KNOWS

    def say(self) -> str:
        """Say how well it finds them."""
        cells = plural(len(self.windows), "annotated cell")
        return f"mean F1 {mean_f1(self.counts):.2f} on {cells}"


def ask_start(job: TrainingJob, known: Mapping[str, Labels], *, start: Path) -> AskedStart:
    """Let the start find annotated cells.

    Parameters
    ----------
    job : TrainingJob
        Its images, at the scale at which the start looks at them.
    known : mapping of image stem to int32 array of shape (Y, X)
        Annotated cells > 0, known background 0, unknown -1, at the images' own size.
    start : Path
        The start's model folder.
    """
    from oce2stardist.stardist_model.network import open_to_label

    model = open_to_label(start, job.config.stardist.precision)
    zoomed = {stem: zoom_labels(labels, job.scale.of(stem)) for stem, labels in known.items()}
    windows = find_windows(
        zoomed, multiple_of=model.multiple, at_most=_MOST_CELLS, seed=job.config.seed
    )
    patches = [window.cut(job.zoomed_images[window.stem]) for window in windows]
    counts = (
        count_at_defaults(model, windows, patches)
        if windows
        else np.empty((0, len(IOUS), 3), np.int64)
    )
    return AskedStart(model, windows, counts)


def choose_witness(
    job: TrainingJob,
    given: Mapping[str, Labels],
    asked: AskedStart,
    *,
    stems: Sequence[str],
) -> Witness:
    """Choose between the pseudo labels of a run and those of the start, on the annotated cells.

    Parameters
    ----------
    job : TrainingJob
    given : mapping of image stem to int32 array of shape (Y, X)
        Pseudo labels of the run, at the images' own size; may be of no image.
    asked : AskedStart
    stems : sequence of str
        Of the images that the start labels, if it comes to that.

    Returns
    -------
    Witness
        The start's labels if their mean F1 over IoU 0.5 to 0.9 is higher by more than the standard
        error of the difference; the run's otherwise, and where no cell can tell.
    """
    windows = asked.windows
    if not windows:
        return Witness(RUN, "no annotated cell could choose")
    said = asked.say()
    if given:
        seen = {
            stem: zoom_labels(given[stem], job.scale.of(stem))
            if stem in given
            else np.zeros(job.zoomed_images[stem].shape[:2], np.int32)
            for stem in {window.stem for window in windows}
        }
        by_run = count_matches(windows, [window.cut(seen[window.stem]) for window in windows])
        said = f"{said}, that of the run {mean_f1(by_run):.2f}"
        ahead, error = difference(asked.counts, by_run, seed=job.config.seed)
        if ahead <= error:
            return Witness(RUN, f"the drawn start has a {said}")
    title = "Labelling with the drawn start"
    return Witness(START, f"it has a {said}", label_images_of(job, asked.model, stems, title))


def label_images_of(
    job: TrainingJob, model: "SparseStarDist2D", stems: Sequence[str], title: str
) -> FoundObjects:
    """Label some images of a job, each at its scale."""
    images = ((stem, job.images[stem]) for stem in stems)
    with job.reporter.task(title, len(stems)) as advance:
        return label_images(model, images, {stem: job.scale.of(stem) for stem in stems}, advance)


def label_images(
    model: "SparseStarDist2D",
    images: Iterable[tuple[str, Image]],
    scales: Mapping[str, float],
    advance: Callable[[int, str], None],
) -> FoundObjects:
    """Label normalised images (Y, X, C) by stem, each zoomed by its scale; `advance` hears of each.

    No more than one image is held at a time.
    """
    from oce2stardist.stardist_model.predict import predict_objects

    labels: dict[str, Labels] = {}
    confidence: dict[str, dict[int, float]] = {}
    for done, (stem, image) in enumerate(images, start=1):
        found, probabilities = predict_objects(model, image, scale=scales[stem])
        labels[stem], ids = renumber(found)
        confidence[stem] = {
            label: float(probabilities[old - 1]) for label, old in enumerate(ids, start=1)
        }
        advance(done, f"{plural(len(ids), 'object')} in {stem}")
    return FoundObjects(labels, confidence)
