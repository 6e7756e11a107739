"""Stages two and three: annotations and pseudo labels in, a StarDist model out."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.evaluation import pool_scores, score_sparse
from oce2stardist.io import normalise_percentiles, write_text
from oce2stardist.runners.inputs import Image, ImageSet, Labels, read_images, read_matching_labels
from oce2stardist.runners.interruption import Interrupted, stop_on_signal
from oce2stardist.runners.progress import Reporter, SilentReporter
from oce2stardist.runners.report import choose_evenly
from oce2stardist.runners.run_folder import Stage, Times, digest, write_run_file
from oce2stardist.runners.training_labels import (
    TrainingLabels,
    Zero,
    make_training_labels,
    read_pseudo_labels,
    write_training_labels,
)

if TYPE_CHECKING:  # tensorflow is loaded when a run needs it
    from oce2stardist.stardist_model.network import SparseStarDist2D
    from oce2stardist.stardist_model.predict import RawPrediction

_JUDGED_IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)
_CHECKED_PROBS = (0.3, 0.4, 0.5, 0.6, 0.7)
_FINAL_PROBS = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
_FINAL_NMS = (0.3, 0.4, 0.5)
_DEFAULT_THRESHOLDS = (0.5, 0.4)
_MOST_WINDOWS = 64
"""Windows that a check predicts: with thousands of annotated cells more would tell no more."""


@dataclass(frozen=True)
class FinetuneResult:
    """Where the model is, what was chosen and why, and the course of the training."""

    model: Path
    parameters: dict[str, dict[str, Any]]
    history: pd.DataFrame


def finetune_stardist(
    images: str | Path,
    output: str | Path,
    *,
    annotations: str | Path,
    pseudo: str | Path | None = None,
    fraction: float | None = None,
    zero: Zero = "auto",
    config: Config | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    command: str = "finetune_stardist",
    reporter: Reporter | None = None,
) -> FinetuneResult:
    """Merge annotations with pseudo labels and train a StarDist model on both.

    Parameters
    ----------
    images : path or glob
        The images that the annotations and the pseudo labels belong to.
    output : path
        The model folder, which also keeps the training labels, history and report. If it
        holds an unfinished run with the same settings, that run goes on.
    annotations : path
        Label images matched to the images by stem; not every image needs one.
    pseudo : path, optional
        A run folder that `make_pseudo_labels` wrote. Needed unless alpha is 0.
    fraction : float in (0, 1], optional
        Share of the annotated cells to use, drawn over the whole set with the seed: to
        simulate few annotations on a set that is completely annotated.
    zero : {"auto", "unlabelled", "background"}
        What 0 means in the annotation files; auto: background if a fraction is drawn.
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
    reporter = reporter or SilentReporter()
    settings = config.stardist
    folder = Path(output)
    found = read_images(images, axes=axes)
    annotated, annotation_files = read_matching_labels(found, annotations)
    if pseudo is None and settings.alpha > 0:
        raise InputError(
            f"alpha {settings.alpha:g} needs pseudo labels. Got no --pseudo; "
            "pass the run folder of `oce2stardist pseudo`, or --alpha 0."
        )
    pseudo_gt = read_pseudo_labels(pseudo, found) if pseudo is not None else {}
    inputs = {
        "images": len(found.paths),
        "sha256": digest(found.paths.values()),
        "annotations_sha256": digest(annotation_files),
        "pseudo_sha256": digest(_pseudo_files(pseudo, pseudo_gt)),
    }
    basis = {
        "inputs": inputs,
        "axes": axes,
        "seed": config.seed,
        "fraction": fraction,
        "zero": zero,
        "merge": config.merge.model_dump(mode="json"),
        "stardist": settings.model_dump(mode="json"),
    }
    labels = make_training_labels(
        annotated,
        pseudo_gt,
        fraction=fraction,
        zero=zero,
        held_back=settings.held_back,
        background_distance=config.merge.background_distance,
        seed=config.seed,
    )
    stage = Stage(
        folder,
        basis,
        overwrite=overwrite,
        results=(
            *("training", "weights_best.h5", "weights_last.h5", "thresholds.json"),
            *("history.csv", "parameters.yaml"),
        ),
    )
    if stage.finished:
        reporter.say(f"The model in {folder} is finished.")
        return _read_result(folder)
    write_run_file(folder, command=command, config=config, inputs=inputs)
    if not (folder / "training" / "cells.csv").exists():
        write_training_labels(folder / "training", labels)
    roles = labels.cells["role"].value_counts()
    reporter.say(
        f"{len(labels.cells)} annotated cells in {len(labels.sparse)} of {len(found.paths)} images"
        f": {roles.get('training', 0)} train, {roles.get('held_back', 0)} are held back to judge."
    )
    times = Times(folder / "times.yaml", keep=stage.resumes)
    normalised = {stem: normalise_percentiles(image) for stem, image in found.images.items()}
    with times.measure("training"):
        model, history = _train(normalised, labels, config, folder, stage, reporter)
    with times.measure("thresholds"):
        parameters = _finish(model, normalised, labels, history, config, folder)
    stage.finish()
    return FinetuneResult(folder, parameters, history)


def preview_predictions(
    model: str | Path, found: ImageSet, *, at_most: int = 6
) -> dict[str, Labels]:
    """Predict a few of the training images, those with annotated cells first.

    Parameters
    ----------
    model : path
        A finished model folder.
    found : ImageSet
    at_most : int
        Number of images, chosen evenly over their sorted names.

    Returns
    -------
    dict of image stem to int32 array of shape (Y, X)
    """
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import predict_labels

    cells = pd.read_csv(Path(model) / "training" / "cells.csv", dtype={"image": str})
    annotated = [stem for stem in found.images if stem in set(cells["image"])]
    others = [stem for stem in found.images if stem not in annotated]
    stems = choose_evenly(annotated, at_most)
    stems += choose_evenly(others, at_most - len(stems))
    network = open_model(Path(model))
    return {
        stem: predict_labels(network, normalise_percentiles(found.images[stem])) for stem in stems
    }


def _pseudo_files(pseudo: str | Path | None, labels: dict[str, Labels]) -> list[Path]:
    return [Path(pseudo) / "pseudo" / "labels" / f"{stem}.tif" for stem in labels] if pseudo else []


def _read_result(folder: Path) -> FinetuneResult:
    parameters = yaml.safe_load((folder / "parameters.yaml").read_text(encoding="utf-8"))
    return FinetuneResult(folder, parameters, pd.read_csv(folder / "history.csv"))


def _train(
    images: dict[str, Image],
    labels: TrainingLabels,
    config: Config,
    folder: Path,
    stage: Stage,
    reporter: Reporter,
) -> tuple["SparseStarDist2D", pd.DataFrame]:
    """Train the network, or go on where an interrupted run stopped."""
    from oce2stardist.stardist_model.checkpoint import read_state, write_state, write_weights
    from oce2stardist.stardist_model.network import create_model, prepare_tensorflow
    from oce2stardist.stardist_model.patches import BatchStream, PatchSource
    from oce2stardist.stardist_model.train import train_stardist

    settings = config.stardist
    prepare_tensorflow(config.device)
    # At alpha 0 and 1 one half would be made in vain; the batch is all of the other.
    n_pseudo = {0.0: 0, 1.0: settings.batch_size}.get(settings.alpha, settings.batch_size // 2)
    n_sparse = settings.batch_size - n_pseudo
    sources: dict[str, PatchSource | None] = {"sparse": None, "pseudo": None}
    for kind, count, known in (
        ("sparse", n_sparse, labels.sparse),
        ("pseudo", n_pseudo, labels.pseudo),
    ):
        if count:
            if not known:
                raise InputError(
                    f"there must be {kind} labels to train on at alpha {settings.alpha:g}. "
                    "Got none; annotate more cells or change --alpha."
                )
            sources[kind] = PatchSource(
                [images[stem] for stem in known],
                list(known.values()),
                patch_size=settings.patch_size,
                around_objects=settings.around_objects,
            )
    batches = BatchStream(
        sources["sparse"],
        sources["pseudo"],
        n_sparse=n_sparse,
        n_pseudo=n_pseudo,
        n_rays=settings.n_rays,
        grid=settings.grid,
        intensity=settings.intensity,
        seed=config.seed,
    )
    model = create_model(
        folder,
        channels=next(iter(images.values())).shape[-1],
        n_rays=settings.n_rays,
        grid=settings.grid,
        width=settings.width,
        features=settings.features,
        batch_norm=settings.batch_norm,
        patch_size=settings.patch_size,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=config.seed,
    )
    state_file = folder / "training" / "state.safetensors"
    state = read_state(state_file) if stage.resumes and state_file.exists() else None
    if state is not None:
        reporter.say(f"Going on after step {state[1]['step']} of {settings.steps}.")
    judge = _Judge(images, labels.held_back, size=2 * settings.patch_size, seed=config.seed)
    with (
        stop_on_signal() as should_stop,
        reporter.task("Training StarDist", settings.steps) as advance,
    ):
        run = train_stardist(
            model,
            batches,
            n_sparse=n_sparse,
            alpha=settings.alpha,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            warm_up=settings.warm_up,
            check_every=max(1, settings.steps // settings.checks),
            judge=judge.best_score if judge.windows else None,
            keep_best=lambda best: write_weights(folder / "weights_best.h5", best),
            resume=state,
            save=lambda current: write_state(state_file, current),
            on_step=lambda done, loss: advance(done, f"loss {loss:.3f}"),
            should_stop=should_stop,
        )
    history = pd.DataFrame(run.history)
    write_text(folder / "history.csv", history.to_csv(index=False))
    if not run.finished:
        raise Interrupted(
            f"Stopped after step {len(run.history)} of {settings.steps}; "
            "the same command goes on from there."
        )
    write_weights(folder / "weights_last.h5", model)
    return model, history


def _finish(
    model: "SparseStarDist2D",
    images: dict[str, Image],
    labels: TrainingLabels,
    history: pd.DataFrame,
    config: Config,
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Choose the thresholds of the best weights, and write what was chosen and why."""
    from oce2stardist.stardist_model.checkpoint import write_thresholds
    from oce2stardist.stardist_model.predict import choose_thresholds

    settings = config.stardist
    model.load_weights("weights_best.h5")
    judge = _Judge(images, labels.held_back, size=2 * settings.patch_size, seed=config.seed)
    scores = judge.score_grid(model, _FINAL_PROBS, _FINAL_NMS)
    prob, nms = choose_thresholds(_FINAL_PROBS, _FINAL_NMS, scores, default=_DEFAULT_THRESHOLDS)
    write_thresholds(folder, prob=prob, nms=nms)
    n_judged = int((labels.cells["role"] == "held_back").sum())
    if judge.windows:
        checked = history.dropna(subset=["score"])
        best = checked[checked["score"] == checked["score"].max()].iloc[-1]
        why = f"best of {len(checked)} checks on {n_judged} held-back annotated cells"
        score = {"value": round(float(np.nanmax(scores)), 4), "reason": "mean F1 at IoU 0.5 to 0.9"}
        step = {"value": int(best["step"]), "reason": why}
        reason = f"highest score on {n_judged} held-back annotated cells"
    else:
        score = {"value": None, "reason": "no annotated cell could be held back to judge"}
        step = {"value": settings.steps, "reason": "the last weights: nothing to judge others by"}
        reason = "default: no annotated cell could be held back to judge"
    parameters = {
        "alpha": {"value": settings.alpha, "reason": "set in the config or on the command line"},
        "best_step": step,
        "held_back_score": score,
        "prob_thresh": {"value": prob, "reason": reason},
        "nms_thresh": {"value": nms, "reason": reason},
    }
    write_text(folder / "parameters.yaml", yaml.safe_dump(parameters, sort_keys=False))
    return parameters


@dataclass(frozen=True)
class _Window:
    image: Image
    known: Labels


class _Judge:
    """Scores a model on windows around held-back annotated cells, where truth is known."""

    def __init__(
        self, images: dict[str, Image], held_back: dict[str, Labels], *, size: int, seed: int
    ) -> None:
        self.windows: list[_Window] = []
        places = [
            (stem, [(side.start + side.stop) // 2 for side in window])
            for stem, known in held_back.items()
            for window in ndi.find_objects(np.maximum(known, 0))
            if window is not None
        ]
        order = np.random.default_rng([seed, 2]).permutation(len(places))[:_MOST_WINDOWS]
        for index in sorted(order):
            stem, centre = places[index]
            window = tuple(
                slice(start := max(0, min(middle - size // 2, side - size)), start + size)
                for middle, side in zip(centre, held_back[stem].shape, strict=True)
            )
            self.windows.append(_Window(images[stem][window], held_back[stem][window]))

    def best_score(self, model: "SparseStarDist2D") -> float:
        """Return the mean F1 over IoU 0.5 to 0.9 at the best of a few probability thresholds."""
        return float(np.nanmax(self.score_grid(model, _CHECKED_PROBS, _DEFAULT_THRESHOLDS[1:])))

    def score_grid(
        self,
        model: "SparseStarDist2D",
        probs: tuple[float, ...],
        nms: tuple[float, ...],
    ) -> NDArray[np.float64]:
        """Return the mean F1 for every pair of thresholds; NaN without windows."""
        from oce2stardist.stardist_model.predict import labels_from_raw, predict_raw

        scores = np.full((len(probs), len(nms)), math.nan)
        if not self.windows:
            return scores
        raws: list[RawPrediction] = [predict_raw(model, one.image) for one in self.windows]
        for row, prob_thresh in enumerate(probs):
            for column, nms_thresh in enumerate(nms):
                per_window = [
                    score_sparse(
                        labels_from_raw(
                            raw,
                            grid=model.config.grid,
                            prob_thresh=prob_thresh,
                            nms_thresh=nms_thresh,
                        ),
                        one.known,
                        iou_thresholds=_JUDGED_IOUS,
                    )
                    for raw, one in zip(raws, self.windows, strict=True)
                ]
                pooled = [pool_scores(list(level)) for level in zip(*per_window, strict=True)]
                scores[row, column] = np.mean([level.f1 for level in pooled])
        return scores
