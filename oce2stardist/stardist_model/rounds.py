"""Train the model that is kept, and again on its own labels while that helps."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oce2stardist.evaluation.held_back import mean_f1
from oce2stardist.files.atomic import replacing
from oce2stardist.labels import Labels
from oce2stardist.stardist_model.fit import TrainedNetwork, TrainingJob, train_network
from oce2stardist.stardist_model.judge import Verdict, judge_thresholds

if TYPE_CHECKING:
    from oce2stardist.pseudo_labels.files import Confidences
    from oce2stardist.training_labels.make import TrainingLabels

_MODEL_FILES = ("config.json", "weights_best.h5", "weights_last.h5", "history.csv")


@dataclass(frozen=True)
class Outcome:
    """A trained network, its folder, and how it did on the annotated cells."""

    folder: Path
    trained: TrainedNetwork
    verdict: Verdict

    @property
    def score(self) -> float:
        """The mean F1 on the annotated cells, of which there is at least one."""
        assert self.verdict.counts is not None
        return mean_f1(self.verdict.counts)


def train_rounds(
    job: TrainingJob,
    labels: "TrainingLabels",
    *,
    alpha: float,
    verdict: Verdict | None,
    relabel: Callable[[dict[str, Labels], "Confidences"], tuple["TrainingLabels", float]],
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Train, and let the model's own labels be the next pseudo labels while the score rises.

    The folder of `job` gets the files of the best model, which is returned with round, score and
    kept of every round after the first.

    `labels` and `alpha` are those of the first round. The held-back cells judge, unless there is
    the `verdict` of a cross-validation. `relabel` makes training labels and alpha of a further
    round from the labels that the model predicts and the probabilities of their objects.
    """
    best, tried = _train(job, labels, 1, alpha=alpha, start_from=job.init, verdict=verdict), []
    for number in range(2, job.config.stardist.rounds + 1):
        if best.verdict.counts is None:
            job.reporter.say("No cell is held back to judge a further round: one it is.")
            break
        labels, alpha = relabel(*_predict_all(job, best))
        outcome = _train(job, labels, number, alpha=alpha, start_from=best.folder, verdict=None)
        kept = outcome.score >= best.score
        tried.append({"round": number, "score": round(outcome.score, 4), "kept": kept})
        job.reporter.say(
            f"Round {number}: score {outcome.score:.3f} on the held-back cells after "
            f"{best.score:.3f}: {'kept' if kept else 'dropped, and no further one'}."
        )
        if not kept:
            break
        best = outcome
    _install(best, job.folder)
    return best, tried


def _train(
    job: TrainingJob,
    labels: "TrainingLabels",
    number: int,
    *,
    alpha: float,
    start_from: Path | None,
    verdict: Verdict | None,
) -> Outcome:
    n_rounds = job.config.stardist.rounds
    folder = job.folder / "rounds" / str(number) if n_rounds > 1 else job.folder
    trained = train_network(
        job,
        labels,
        folder,
        alpha=alpha,
        start_from=start_from,
        select=True,
        title="Training StarDist" + (f", round {number} of {n_rounds}" if n_rounds > 1 else ""),
    )
    verdict = verdict or judge_thresholds(
        trained.judge.windows,
        trained.judge.predict(trained.model),
        grid=trained.model.config.grid,
        usual=job.usual_thresholds,
        seed=job.config.seed,
    )
    trained.model.thresholds = {"prob": verdict.prob_thresh, "nms": verdict.nms_thresh}
    return Outcome(folder, trained, verdict)


def _predict_all(job: TrainingJob, outcome: Outcome) -> tuple[dict[str, Labels], "Confidences"]:
    from oce2stardist.stardist_model.predict import predict_objects

    labels: dict[str, Labels] = {}
    confidence: Confidences = {}
    with job.reporter.task("Labels for the next round", len(job.images)) as advance:
        for done, (stem, image) in enumerate(job.images.items(), start=1):
            labels[stem], probabilities = predict_objects(
                outcome.trained.model, image, scale=job.scale.of(stem)
            )
            confidence[stem] = {i: float(p) for i, p in enumerate(probabilities, start=1)}
            advance(done, stem)
    return labels, confidence


def _install(outcome: Outcome, folder: Path) -> None:
    """Make the folder hold the model of the outcome."""
    from oce2stardist.stardist_model.checkpoint import write_thresholds

    for name in _MODEL_FILES if outcome.folder != folder else ():
        with replacing(folder / name) as temporary:
            shutil.copyfile(outcome.folder / name, temporary)
    write_thresholds(folder, prob=outcome.verdict.prob_thresh, nms=outcome.verdict.nms_thresh)
