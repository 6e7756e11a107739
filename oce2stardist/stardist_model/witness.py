"""Ask the drawn start for labels of its own, and take them where annotated cells prefer them.

The embeddings know nothing of cells, and the start nothing of the set. Where the start finds the
annotated cells better than the pseudo labels do, what it finds in all images is what the pseudo
half of the training learns from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oce2stardist.evaluation.held_back import count_matches, difference, find_windows, mean_f1
from oce2stardist.labels import Labels, renumber
from oce2stardist.pseudo_labels.files import PseudoLabels
from oce2stardist.stardist_model.fit import TrainingJob
from oce2stardist.stardist_model.judge import count_at_defaults
from oce2stardist.stardist_model.scale import zoom_labels

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D

_MOST_CELLS = 100
"""Annotated cells that are asked; more would make the choice hardly surer, and take longer."""

RUN, START = "run", "drawn start"


@dataclass(frozen=True)
class Witness:
    """The labels that the pseudo half learns from, whose they are, and why."""

    labels: PseudoLabels
    name: str
    reason: str


def choose_witness(
    job: TrainingJob, given: PseudoLabels, known: Mapping[str, Labels], *, start: Path
) -> Witness:
    """Choose between the pseudo labels of a run and those of the start, on the annotated cells.

    Parameters
    ----------
    job : TrainingJob
        Its images, at the scale at which the start looks at them.
    given : PseudoLabels
        Of the run, at the images' own size; may be of no image.
    known : mapping of image stem to int32 array of shape (Y, X)
        Annotated cells > 0, known background 0, unknown -1. The start has seen none of them.
    start : Path
        The start's model folder.

    Returns
    -------
    Witness
        The start's labels if their mean F1 over IoU 0.5 to 0.9 is higher by more than the standard
        error of the difference; the run's otherwise, and where no cell can tell.
    """
    from oce2stardist.stardist_model.network import open_model

    model = open_model(start)
    seed = job.config.seed
    zoomed = {stem: zoom_labels(labels, job.scale.of(stem)) for stem, labels in known.items()}
    windows = find_windows(zoomed, multiple_of=model.multiple, at_most=_MOST_CELLS, seed=seed)
    if not windows:
        return Witness(given, RUN, "no annotated cell could choose")
    patches = [window.cut(job.zoomed_images[window.stem]) for window in windows]
    by_start = count_at_defaults(model, windows, patches)
    said = f"mean F1 {mean_f1(by_start):.2f} on {len(windows)} annotated cells"
    if given.labels:
        seen = {
            stem: zoom_labels(given.labels[stem], job.scale.of(stem))
            if stem in given.labels
            else np.zeros_like(zoomed[stem])
            for stem in {window.stem for window in windows}
        }
        by_run = count_matches(windows, [window.cut(seen[window.stem]) for window in windows])
        ahead, error = difference(by_start, by_run, seed=seed)
        said = f"{said}, that of the run {mean_f1(by_run):.2f}"
        if ahead <= error:
            return Witness(given, RUN, f"the drawn start has a {said}")
    return Witness(_label_images(job, model), START, f"it has a {said}")


def _label_images(job: TrainingJob, model: "SparseStarDist2D") -> PseudoLabels:
    """Label all images with the start; its probabilities are the confidences."""
    from oce2stardist.stardist_model.predict import predict_objects

    labels: dict[str, Labels] = {}
    confidence: dict[str, dict[int, float]] = {}
    with job.reporter.task("Labelling with the drawn start", len(job.images)) as advance:
        for done, (stem, image) in enumerate(job.images.items(), start=1):
            found, probabilities = predict_objects(model, image, scale=job.scale.of(stem))
            labels[stem], ids = renumber(found)
            confidence[stem] = {
                label: float(probabilities[old - 1]) for label, old in enumerate(ids, start=1)
            }
            advance(done, f"{len(ids)} objects in {stem}")
    return PseudoLabels(labels, confidence)
