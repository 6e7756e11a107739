"""Tell what more annotated cells would bring: short trainings on a quarter, half and all of them.

Each begins where the run began, not with its model: that has seen every cell, and would know those
which a part leaves out. Nothing of the model depends on these trainings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from oce2stardist.evaluation.learning_curve import LearningCurve, Step, fit_learning_curve
from oce2stardist.labels import Labels
from oce2stardist.stardist_model.fit import TrainedNetwork, TrainingJob, train_network
from oce2stardist.stardist_model.judge import Judge, count_predicted
from oce2stardist.stardist_model.scale import zoom_labels

if TYPE_CHECKING:
    from oce2stardist.evaluation.held_back import Counts
    from oce2stardist.training_labels.make import TrainingLabels

FEWEST = 12
"""Annotated cells of which a quarter is still some (taste)."""

_SHARE = 0.2
"""Of the steps of the run (taste): three such trainings cost 0.6 of it; a twentieth, which would
cost little enough for every run, is 25 steps from the drawn start, of which one warms up."""

_DRAWN_CURVE = (1.0, 1.25, 1.5, 1.75, 2.0)
"""How many times all cells the curve is told at."""


@dataclass(frozen=True)
class Part:
    """Some of the cells to train on, and cells outside of it to judge by.

    Attributes
    ----------
    n_cells : int
        Annotated cells that train.
    labels : TrainingLabels
        What is known with these cells.
    judged : mapping of image stem to int32 array of shape (Y, X)
        Cells > 0 that neither this part nor the one before holds, and their background 0; -1
        elsewhere.
    """

    n_cells: int
    labels: "TrainingLabels"
    judged: Mapping[str, Labels]


def ask_how_many_more(job: TrainingJob, parts: Sequence[Part], *, alpha: float) -> LearningCurve:
    """Train on each of the parts, from the smallest, and fit what they score; resumes."""
    settings = job.config.stardist
    steps = max(1, round(_SHARE * (settings.steps or 1)))
    shorter = settings.model_copy(update={"steps": steps})
    short = replace(job, config=job.config.model_copy(update={"stardist": shorter}))
    stages: list[Step] = []
    before: TrainedNetwork | None = None
    for number, part in enumerate(parts, start=1):
        trained = train_network(
            short,
            part.labels,
            job.folder / "more_cells" / str(number),
            alpha=alpha,
            start_from=job.init,
            select=False,
            title=f"With {part.n_cells} cells, {number} of {len(parts)}",
        )
        if before is not None:
            judge = _judge(job, part.judged, trained)
            counts = [_count(job, judge, one) for one in (before, trained)]
            stages.append(Step(parts[number - 2].n_cells, part.n_cells, *counts))
        before = trained
    return fit_learning_curve(stages, seed=job.config.seed)


def describe_curve(curve: LearningCurve, *, n_cells: int) -> dict[str, Any]:
    """Return an entry of parameters.yaml; `n_cells` annotated cells gave the last size of parts."""
    value, low, high = (round(one, 4) for one in curve.gain(2 * curve.cells[-1]))
    ahead = []
    for times in _DRAWN_CURVE:
        gain, lowest, highest = curve.gain(round(times * curve.cells[-1]))
        f1 = [round(curve.f1[-1] + one, 4) for one in (gain, lowest, highest)]
        ahead.append({"cells": round(times * curve.cells[-1]), "f1": f1[0], "interval": f1[1:]})
    return {
        "value": value,
        "interval": [low, high],
        "more": n_cells,
        "trained_on": list(curve.cells),
        "f1": [round(one, 4) for one in curve.f1],
        "ahead": ahead,
        "reason": say_gain(n_cells, value, low, high),
    }


def say_gain(more: int, value: float, low: float, high: float) -> str:
    """Say in one sentence what more cells would bring."""
    return (
        f"{more} more cells: F1 {value:+.2f} (90 % interval {low:+.2f} to {high:+.2f}), by short "
        "trainings on a quarter, half and all of those there are"
    )


def _judge(job: TrainingJob, judged: Mapping[str, Labels], trained: TrainedNetwork) -> Judge:
    zoomed = {stem: zoom_labels(one, job.scale.of(stem)) for stem, one in judged.items()}
    multiple = trained.model.multiple
    return Judge(job.zoomed_images, zoomed, multiple=multiple, seed=job.config.seed)


def _count(job: TrainingJob, judge: Judge, trained: TrainedNetwork) -> "Counts":
    """Match at the usual thresholds: chosen ones would differ by chance."""
    return count_predicted(
        judge.windows,
        judge.predict(trained.model),
        thresholds=job.usual_thresholds,
        grid=trained.model.config.grid,
    )
