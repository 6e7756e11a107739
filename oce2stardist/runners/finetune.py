"""Stages two and three: annotations and pseudo labels in, a StarDist model out."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from oce2stardist.annotations.known import Zero, digest_annotations, read_known, zero_is_background
from oce2stardist.config import Config, StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.evaluation.held_back import mean_f1
from oce2stardist.files.atomic import replacing, write_text
from oce2stardist.files.digests import digest
from oce2stardist.files.records import read_yaml, read_yaml_if_there
from oce2stardist.images.image_set import ImageSet, name_source, read_images
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import common_pixel_size, read_pixel_size
from oce2stardist.labels import UNLABELLED, Image, Labels
from oce2stardist.pseudo_labels.files import read_pseudo_labels
from oce2stardist.pseudo_labels.sizes import warn_of_scales
from oce2stardist.reports import choose_evenly, write_finetune_report
from oce2stardist.reports.selection import AT_MOST
from oce2stardist.runs.determinism import describe_determinism, one_thread_for_sums
from oce2stardist.runs.folder import Stage, Times, check_apart, owned, write_run_file
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter
from oce2stardist.stardist_model.fit import (
    TrainedNetwork,
    Verdict,
    choose_precision,
    judge_thresholds,
    train_network,
)
from oce2stardist.stardist_model.parameters import describe_model
from oce2stardist.training_labels.alpha import choose_alpha
from oce2stardist.training_labels.draw_cells import CellDraw, draw_held_back, split_folds
from oce2stardist.training_labels.files import (
    read_cells,
    read_held_back,
    write_training_labels,
)
from oce2stardist.training_labels.make import PseudoLabels, TrainingLabels, make_training_labels

_FEW_HELD_BACK = 10
"""Below this many held-back cells a score says too little: cross-validation looks at all."""

_FOLDS = 3
_RESULTS = (
    *("training", "folds", "rounds", "logs", "thresholds.json"),
    *("state.safetensors", "state-before.safetensors"),
    *("weights_best.h5", "weights_last.h5", "history.csv", "parameters.yaml"),
)
"""What a new start with other settings removes."""

_MODEL_FILES = ("config.json", "weights_best.h5", "weights_last.h5", "history.csv")


@dataclass(frozen=True)
class FinetuneResult:
    """Where the model is, what was chosen and why, the course of the training, and the page."""

    model: Path
    parameters: dict[str, dict[str, Any]]
    history: pd.DataFrame
    report: Path


def finetune_stardist(
    images: str | Path | ImageSet,
    output: str | Path,
    *,
    annotations: str | Path | Mapping[str, Labels],
    pseudo: str | Path | None = None,
    cells: CellDraw | None = None,
    zero: Zero = "auto",
    init: str | Path | None = None,
    tensorboard: bool = False,
    config: Config | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    command: str = "finetune_stardist",
    reporter: Reporter | None = None,
) -> FinetuneResult:
    """Merge annotations with pseudo labels and train a StarDist model on both.

    Parameters
    ----------
    images : path, glob or ImageSet
        The images that the annotations and the pseudo labels belong to.
    output : path
        The model folder, which also keeps the training labels, history and report. If it
        holds an unfinished run with the same settings, that run goes on.
    annotations : path or mapping of image stem to int32 array of shape (Y, X)
        Files as `oce2stardist.annotations.read_annotations` reads them, matched to the images
        by stem; or arrays with cells > 0 and unknown -1. Not every image needs one.
    pseudo : path, optional
        A run folder that `make_pseudo_labels` wrote. Needed if alpha is a number above 0.
    cells : CellDraw, optional
        Use only some of the annotated cells: to simulate few annotations on a set that is
        completely annotated.
    zero : {"auto", "unlabelled", "background"}
        What 0 means in the annotation files; auto: background if cells are drawn.
    init : path, optional
        A StarDist folder, ours or stock, to start from.
    tensorboard : bool
        Also write the course of the training for TensorBoard.
    config : Config, optional
        Default: the `fast` preset. ``config.stardist.alpha`` weighs the pseudo half.
    axes, overwrite
        As in `make_pseudo_labels`.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    InputError
        If an input is missing, unreadable or of the wrong form.
    Interrupted
        If the user stopped the run; the same call goes on where it stopped.
    """
    config = config or Config()
    settings = config.stardist
    folder = Path(output)
    draw = cells or CellDraw()
    if tensorboard and find_spec("tensorboard") is None:
        raise InputError(
            "the package tensorboard must be installed to write its files. Got none; "
            "pip install 'oce2stardist[tensorboard]', or leave out --tensorboard."
        )
    with one_thread_for_sums(config.deterministic), logged(reporter, command) as log:
        found = read_images(images, axes=axes)
        known = read_known(
            found, annotations, zero_is_background=zero_is_background(zero, sampled=draw.is_sample)
        )
        for note in known.notes:
            log.warn(note)
        if pseudo is None and settings.alpha not in ("auto", 0.0):
            raise InputError(
                f"alpha {settings.alpha:g} needs pseudo labels. Got no --pseudo; "
                "pass the run folder of `oce2stardist pseudo`, or --alpha 0."
            )
        pseudo_gt = _read_pseudo_gt(pseudo, found) if pseudo is not None else PseudoLabels({}, {})
        inputs = {
            "images": len(found.images),
            "sha256": found.digest(),
            "annotations_sha256": digest_annotations(known),
            "pseudo_sha256": digest(_pseudo_files(pseudo, pseudo_gt)),
            "init_sha256": digest(_init_files(init)),
        }
        for warning in warn_of_scales(known.labels, pseudo_gt.labels):
            log.warn(f"{warning[0].upper()}{warning[1:]}.")
        drawn = draw.draw(known.labels, seed=config.seed)
        normalised = {stem: normalise_percentiles(image) for stem, image in found.images.items()}
        check_apart(folder, _RESULTS, found.files + known.files + _init_files(init))
        with owned(folder):
            stage = Stage(
                folder,
                {
                    "inputs": inputs,
                    "axes": axes,
                    "seed": config.seed,
                    "cells": {stem: ids for stem, ids in drawn.items() if ids},
                    "zero": zero,
                    "merge": config.merge.model_dump(mode="json"),
                    "stardist": settings.model_dump(mode="json"),
                    **describe_determinism(config),
                },
                overwrite=overwrite,
                results=_RESULTS,
            )
            log.open(folder)
            if stage.finished:
                log.say(f"The model in {folder} is finished.")
                return FinetuneResult(
                    folder,
                    read_yaml(folder / "parameters.yaml"),
                    pd.read_csv(folder / "history.csv"),
                    _write_report(folder, found, normalised),
                )
            recorded = {"images_from": name_source(images), "pixel_size_um": _pixel_size(found)}
            write_run_file(
                folder,
                command=command,
                config=config,
                inputs=inputs | recorded,
                precision={"training": choose_precision(config)},
            )
            job = _Job(
                normalised,
                known.labels,
                drawn,
                complete=draw.is_sample and zero_is_background(zero, sampled=True),
                config=config,
                folder=folder,
                init=Path(init) if init is not None else None,
                tensorboard=tensorboard,
                reporter=log,
                times=Times(folder / "times.yaml", keep=stage.resumes),
            )
            parameters, history = _run(job, pseudo_gt)
            write_text(folder / "parameters.yaml", yaml.safe_dump(parameters, sort_keys=False))
            stage.finish()
            report = _write_report(folder, found, normalised)
            return FinetuneResult(folder, parameters, history, report)


def _pixel_size(found: ImageSet) -> list[float] | None:
    """Find the size (y, x) of the images' pixels, micrometres, if those that tell agree."""
    size = common_pixel_size({stem: read_pixel_size(path) for stem, path in found.paths.items()})
    return None if size is None else list(size)


@dataclass(frozen=True)
class _Job:
    """What every training of a run shares."""

    images: dict[str, Image]
    annotations: dict[str, Labels]
    drawn: dict[str, list[int]]
    complete: bool
    config: Config
    folder: Path
    init: Path | None
    tensorboard: bool
    reporter: Reporter
    times: Times

    @property
    def settings(self) -> StarDistConfig:
        return self.config.stardist

    @property
    def n_cells(self) -> int:
        return sum(map(len, self.drawn.values()))

    def merge(
        self, pseudo_gt: PseudoLabels, *, held_back: Mapping[str, Sequence[int]]
    ) -> TrainingLabels:
        """Merge annotations with pseudo labels; holds some of the cells back."""
        return make_training_labels(
            self.annotations,
            pseudo_gt,
            self.drawn,
            held_back=held_back,
            complete=self.complete,
            background_distance=self.config.merge.background_distance,
            overlap=self.config.merge.overlap,
        )

    def train(
        self,
        labels: TrainingLabels,
        folder: Path,
        *,
        alpha: float,
        steps: int,
        start_from: Path | None,
        select: bool,
        title: str,
    ) -> TrainedNetwork:
        return train_network(
            self.images,
            labels,
            folder,
            config=self.config,
            alpha=alpha,
            steps=steps,
            start_from=start_from,
            select=select,
            title=title,
            reporter=self.reporter,
            tensorboard=self.tensorboard,
        )


@dataclass(frozen=True)
class _Outcome:
    """A trained network, its folder, and how it did on the annotated cells."""

    folder: Path
    trained: TrainedNetwork
    verdict: Verdict

    @property
    def score(self) -> float:
        assert self.verdict.counts is not None
        return mean_f1(self.verdict.counts)


def _run(job: _Job, pseudo_gt: PseudoLabels) -> tuple[dict[str, dict[str, Any]], pd.DataFrame]:
    """Choose alpha, train, judge, train again as often as asked; returns what was chosen."""
    n_folds = _number_of_folds(job.settings, job.n_cells)
    share = 0.0 if n_folds else job.settings.held_back
    held_back = draw_held_back(job.drawn, share=share, seed=job.config.seed)
    labels = job.merge(pseudo_gt, held_back=held_back)
    if not (job.folder / "training" / "cells.csv").exists():
        write_training_labels(job.folder / "training", labels)
    _say_what_there_is(job, labels, n_folds)
    alpha = choose_alpha(
        job.settings.alpha,
        pseudo_gt.labels,
        _everything_known(labels),
        trusted=pseudo_gt.trusted,
        seed=job.config.seed,
    )
    job.reporter.say(f"alpha {alpha.value:g}: {alpha.reason}.")
    verdict = None
    if n_folds:
        with job.times.measure("cross_validation"):
            verdict = _cross_validate(job, pseudo_gt, n_folds, alpha.value)
    with job.times.measure("training"):
        best = _train_once(job, labels, 1, alpha.value, start_from=job.init, verdict=verdict)
        best, rounds = _train_rounds(job, labels, best)
    _install(best, job.folder)
    parameters = describe_model(
        alpha,
        best.trained.history,
        best.verdict,
        n_cells=job.n_cells,
        n_held_back=int((labels.cells["role"] == "held_back").sum()),
        n_folds=n_folds,
        seed=job.config.seed,
    )
    if rounds:
        parameters["rounds"] = {"value": 1 + sum(one["kept"] for one in rounds), "tried": rounds}
        parameters["rounds"]["reason"] = "a round is kept if its held-back score does not drop"
    return parameters, best.trained.history


def _number_of_folds(settings: StarDistConfig, n_cells: int) -> int:
    """Choose between holding cells back (0) and cross-validation."""
    if n_cells < 2:
        return 0
    if settings.folds != "auto":
        return min(settings.folds, n_cells)
    few = settings.held_back > 0 and settings.held_back * n_cells < _FEW_HELD_BACK
    return min(_FOLDS, n_cells) if few and settings.rounds == 1 else 0


def _say_what_there_is(job: _Job, labels: TrainingLabels, n_folds: int) -> None:
    n_held_back = int((labels.cells["role"] == "held_back").sum())
    if n_folds:
        use = f"all train; {n_folds} more trainings on parts of them judge how well that works"
    elif n_held_back:
        use = f"{job.n_cells - n_held_back} train, {n_held_back} are held back to judge"
    else:
        use = "all train; no cell is left to judge by"
    where = sum(bool(ids) for ids in job.drawn.values())
    job.reporter.say(
        f"{job.n_cells} annotated cells in {where} of {len(job.images)} images: {use}."
    )


def _everything_known(labels: TrainingLabels) -> dict[str, Labels]:
    known = dict(labels.sparse)
    for stem, held in labels.held_back.items():
        known[stem] = np.where(held != UNLABELLED, held, known[stem]) if stem in known else held
    return known


def _cross_validate(job: _Job, pseudo_gt: PseudoLabels, n_folds: int, alpha: float) -> Verdict:
    """Train without each fold of the cells in turn, and judge on it.

    As long as the real training: probabilities rise with training, and thresholds with them.
    """
    windows, raws, grid = [], [], (1, 1)
    for number, cells in enumerate(split_folds(job.drawn, n_folds, job.config.seed), start=1):
        trained = job.train(
            job.merge(pseudo_gt, held_back=cells),
            job.folder / "folds" / str(number),
            alpha=alpha,
            steps=job.settings.total_steps,
            start_from=job.init,
            select=False,
            title=f"Cross-validation {number} of {n_folds}",
        )
        windows += trained.judge.windows
        raws += trained.judge.predict(trained.model)
        grid = trained.model.config.grid
    return judge_thresholds(windows, raws, grid=grid, seed=job.config.seed)


def _train_once(
    job: _Job,
    labels: TrainingLabels,
    number: int,
    alpha: float,
    *,
    start_from: Path | None,
    verdict: Verdict | None = None,
) -> _Outcome:
    n_rounds = job.settings.rounds
    folder = job.folder / "rounds" / str(number) if n_rounds > 1 else job.folder
    trained = job.train(
        labels,
        folder,
        alpha=alpha,
        steps=job.settings.total_steps,
        start_from=start_from,
        select=True,
        title="Training StarDist" + (f", round {number} of {n_rounds}" if n_rounds > 1 else ""),
    )
    if verdict is None:
        raws = trained.judge.predict(trained.model)
        verdict = judge_thresholds(
            trained.judge.windows,
            raws,
            grid=trained.model.config.grid,
            seed=job.config.seed,
        )
    trained.model.thresholds = {"prob": verdict.prob_thresh, "nms": verdict.nms_thresh}
    return _Outcome(folder, trained, verdict)


def _train_rounds(
    job: _Job, labels: TrainingLabels, first: _Outcome
) -> tuple[_Outcome, list[dict[str, Any]]]:
    """Let the model's own labels be the pseudo labels of the next training, while that helps."""
    best, tried = first, []
    cells = labels.cells[labels.cells["role"] == "held_back"]
    held_back = {stem: list(some) for stem, some in cells.groupby("image")["label"]}
    for number in range(2, job.settings.rounds + 1):
        if best.verdict.counts is None:
            job.reporter.say("No cell is held back to judge a further round: one it is.")
            break
        pseudo_gt = _predict_all(job, best)
        alpha = choose_alpha(
            job.settings.alpha,
            pseudo_gt.labels,
            labels.held_back,  # the model has seen the others
            trusted=None,
            seed=job.config.seed,
        )
        merged = job.merge(pseudo_gt, held_back=held_back)
        outcome = _train_once(job, merged, number, alpha.value, start_from=best.folder)
        kept = outcome.score >= best.score
        tried.append({"round": number, "score": round(outcome.score, 4), "kept": kept})
        job.reporter.say(
            f"Round {number}: score {outcome.score:.3f} on the held-back cells after "
            f"{best.score:.3f}: {'kept' if kept else 'dropped, and no further one'}."
        )
        if not kept:
            break
        best = outcome
    return best, tried


def _predict_all(job: _Job, outcome: _Outcome) -> PseudoLabels:
    from oce2stardist.stardist_model.predict import predict_objects

    labels, confidence = {}, {}
    with job.reporter.task("Labels for the next round", len(job.images)) as advance:
        for done, (stem, image) in enumerate(job.images.items(), start=1):
            labels[stem], probabilities = predict_objects(outcome.trained.model, image)
            confidence[stem] = {i: float(p) for i, p in enumerate(probabilities, start=1)}
            advance(done, stem)
    return PseudoLabels(labels, confidence)


def _install(outcome: _Outcome, folder: Path) -> None:
    """Make the folder hold the model of the outcome."""
    from oce2stardist.stardist_model.checkpoint import write_thresholds

    for name in _MODEL_FILES if outcome.folder != folder else ():
        with replacing(folder / name) as temporary:
            shutil.copyfile(outcome.folder / name, temporary)
    write_thresholds(folder, prob=outcome.verdict.prob_thresh, nms=outcome.verdict.nms_thresh)


def _read_pseudo_gt(run: str | Path, found: ImageSet) -> PseudoLabels:
    labels, confidence = read_pseudo_labels(run, found)
    said = read_yaml_if_there(Path(run) / "pseudo" / "parameters.yaml")
    return PseudoLabels(labels, confidence, said.get("trust", {}).get("value"))


def _pseudo_files(pseudo: str | Path | None, pseudo_gt: PseudoLabels) -> list[Path]:
    if pseudo is None:
        return []
    folder = Path(pseudo) / "pseudo"
    files = [folder / "labels" / f"{stem}.tif" for stem in pseudo_gt.labels]
    return [*files, *(path for path in [folder / "objects.csv"] if path.exists())]


def _write_report(folder: Path, found: ImageSet, normalised: Mapping[str, Image]) -> Path:
    """Write the report of a finished model."""
    predictions = _preview_predictions(folder, normalised)
    return write_finetune_report(folder, found, predictions, held_back=read_held_back(folder))


def _preview_predictions(model: Path, images: Mapping[str, Image]) -> dict[str, Labels]:
    """Predict a few of the normalised images for the report, those with annotated cells first."""
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import predict_labels

    cells = set(read_cells(model / "training" / "cells.csv"))
    stems = choose_evenly([stem for stem in images if stem in cells])
    stems += choose_evenly([stem for stem in images if stem not in cells], AT_MOST - len(stems))
    network = open_model(model)
    return {stem: predict_labels(network, images[stem]) for stem in stems}


def _init_files(init: str | Path | None) -> list[Path]:
    return sorted(Path(init).glob("*.[hj]*")) if init is not None else []
