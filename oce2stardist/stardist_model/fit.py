"""One training of the StarDist network in a folder of its own: resumable, judged, recorded."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from oce2stardist.config import Config, StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.evaluation.held_back import (
    Counts,
    Window,
    choose_within_doubt,
    count_matches,
    find_windows,
    mean_f1,
    standard_error,
)
from oce2stardist.files.atomic import write_text
from oce2stardist.files.checkpoints import list_checkpoints
from oce2stardist.labels import Image, Labels
from oce2stardist.runs.determinism import fixed_threads
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.progress import Reporter
from oce2stardist.runs.schedule import cosine_rate, dropping_rate
from oce2stardist.training_labels.make import TrainingLabels, object_weights

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D
    from oce2stardist.stardist_model.patches import BatchStream, PatchSource
    from oce2stardist.stardist_model.predict import Polygons, RawPrediction

DEFAULT_THRESHOLDS = (0.5, 0.4)
"""StarDist's, of probability and of suppression; kept where the cells can't tell better ones."""

_CHECKED_PROBS = (0.3, 0.4, 0.5, 0.6, 0.7)
_FINAL_PROBS = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
_FINAL_NMS = (0.3, 0.4, 0.5)
_MOST_WINDOWS = 64
"""Cells that a check looks at: with thousands of annotated cells more would tell no more."""


class Judge:
    """Scores a model on annotated cells that it does not train on.

    Parameters
    ----------
    images : dict of float32 arrays of shape (Y, X, C)
        Normalised, by stem.
    known : dict of int32 arrays of shape (Y, X)
        Held-back cells and their background, -1 elsewhere.
    multiple_of : int
        That the network wants its input's sides to be.
    seed : int
        Draws the cells that are looked at, where there are more than 64.
    """

    def __init__(
        self,
        images: dict[str, Image],
        known: dict[str, Labels],
        *,
        multiple_of: int,
        seed: int,
    ) -> None:
        self.windows = find_windows(
            known, multiple_of=multiple_of, at_most=_MOST_WINDOWS, seed=seed
        )
        self._seed = seed
        self._patches = [one.cut(images[one.stem]) for one in self.windows]

    def predict(self, model: "SparseStarDist2D") -> list["RawPrediction"]:
        """Run the network on every window."""
        from oce2stardist.stardist_model.predict import predict_patches

        return predict_patches(model, self._patches)

    def score(self, model: "SparseStarDist2D") -> tuple[float, float]:
        """Return the mean F1 over IoU 0.5 to 0.9 at the best of a few probability thresholds.

        And its standard error.
        """
        counts = count_grid(
            self.windows,
            self.predict(model),
            _CHECKED_PROBS,
            DEFAULT_THRESHOLDS[1:],
            grid=model.config.grid,
        )
        best = max((one for row in counts for one in row), key=mean_f1)
        return mean_f1(best), standard_error(best, seed=self._seed)


def count_grid(
    windows: Sequence[Window],
    raws: Sequence["RawPrediction"],
    probs: Sequence[float],
    nms: Sequence[float],
    *,
    grid: Sequence[int],
) -> list[list[Counts]]:
    """Match the predictions with the annotated cells at every pair of thresholds."""
    from oce2stardist.stardist_model.predict import suppress

    columns = []
    for nms_thresh in nms:
        by_window = [
            _count_at(
                window,
                suppress(raw, grid=grid, prob_thresh=min(probs), nms_thresh=nms_thresh),
                probs,
            )
            for window, raw in zip(windows, raws, strict=True)
        ]
        columns.append([np.concatenate(one) for one in zip(*by_window, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def _count_at(window: Window, polygons: "Polygons", probs: Sequence[float]) -> list[Counts]:
    """Match one window's polygons at each threshold; equal ones are drawn once."""
    from oce2stardist.stardist_model.predict import draw_polygons

    by_number: dict[int, Counts] = {}
    counts = []
    for prob in probs:
        number = int((polygons.prob >= prob).sum())
        if number not in by_number:
            labels = draw_polygons(polygons, prob_thresh=prob)
            by_number[number] = count_matches([window], [labels])
        counts.append(by_number[number])
    return counts


@dataclass(frozen=True)
class Verdict:
    """The thresholds that were chosen on annotated cells, and how the cells were matched there.

    ``counts`` is None where there was no cell to judge by.
    """

    prob_thresh: float
    nms_thresh: float
    counts: Counts | None


def judge_thresholds(
    windows: Sequence[Window], raws: Sequence["RawPrediction"], *, grid: Sequence[int], seed: int
) -> Verdict:
    """Choose both thresholds by the mean F1 of the windows' cells.

    Of those that the cells can't tell from the best, the ones nearest to StarDist's defaults.
    """
    if not windows:
        return Verdict(*DEFAULT_THRESHOLDS, None)
    rows = count_grid(windows, raws, _FINAL_PROBS, _FINAL_NMS, grid=grid)
    pairs = [(prob, nms) for prob in _FINAL_PROBS for nms in _FINAL_NMS]
    counts = [one for row in rows for one in row]
    prob_default, nms_default = DEFAULT_THRESHOLDS

    def distance(index: int) -> float:
        prob, nms = pairs[index]
        return abs(prob - prob_default) + abs(nms - nms_default)

    order = sorted(range(len(pairs)), key=distance)
    chosen = choose_within_doubt(np.array(counts), order, seed=seed)
    return Verdict(*pairs[chosen], counts[chosen])


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights that were kept, and the course of its training."""

    model: "SparseStarDist2D"
    history: pd.DataFrame
    judge: Judge


def train_network(
    images: dict[str, Image],
    labels: TrainingLabels,
    folder: Path,
    *,
    config: Config,
    alpha: float,
    steps: int,
    start_from: Path | None,
    select: bool = True,
    title: str,
    reporter: Reporter,
    tensorboard: bool = False,
) -> TrainedNetwork:
    """Train a network in `folder`, or go on where an interrupted training stopped.

    Parameters
    ----------
    images : dict of float32 arrays of shape (Y, X, C)
        Normalised, by stem.
    labels : TrainingLabels
    folder : Path
        Gets config.json, weights_best.h5, weights_last.h5, history.csv and, until the
        training has ended, state.safetensors.
    config : Config
    alpha : float
        Weight of the pseudo half.
    steps : int
    start_from : Path, optional
        A StarDist folder whose weights are the first.
    select : bool
        Keep the latest weights that held-back cells can't tell from the best; off: the last.
    title : str
        What the progress bar says.
    tensorboard : bool
        Write event files to ``folder/logs``.

    Raises
    ------
    Interrupted
        If the user stopped the training; its state is in `folder`.
    """
    from oce2stardist.stardist_model.checkpoint import read_state, write_state, write_weights
    from oce2stardist.stardist_model.tensorboard import scalar_writer
    from oce2stardist.stardist_model.train import train_stardist

    model = _build_model(folder, images, config, start_from)
    judge = Judge(images, labels.held_back, multiple_of=multiple_of(model), seed=config.seed)
    finished = folder / "weights_last.h5", folder / "history.csv"
    if all(path.exists() for path in finished):
        model.load_weights("weights_best.h5")
        return TrainedNetwork(model, pd.read_csv(finished[1]), judge)
    settings = config.stardist
    batches, n_sparse = _make_batches(images, labels, model, config, alpha)
    state_file = folder / "state.safetensors"
    resume = read_state(state_file)
    if resume is not None:
        reporter.say(f"{title}: going on after step {resume[1]['step']} of {steps}.")
    with (
        stop_on_signal() as should_stop,
        reporter.task(title, steps) as advance,
        scalar_writer(folder / "logs" if tensorboard else None) as write_row,
    ):

        def show(row: dict[str, float]) -> None:
            write_row(row)
            advance(int(row["step"]), f"loss {row['loss']:.3f}")

        run = train_stardist(
            model,
            batches,
            n_sparse=n_sparse,
            alpha=alpha,
            steps=steps,
            rate_at=_learning_rate(settings, steps),
            check_every=max(1, steps // settings.checks),
            judge=judge.score if select and judge.windows else None,
            keep=lambda kept: write_weights(folder / "weights_best.h5", kept),
            patience=settings.patience,
            resume=resume,
            save=lambda state: write_state(state_file, state),
            on_step=show,
            should_stop=should_stop,
        )
    history = pd.DataFrame(run.history)
    if not run.finished:
        raise Interrupted(
            f"Stopped after step {len(history)} of {steps}; the same command goes on from there."
        )
    write_text(folder / "history.csv", history.to_csv(index=False))
    write_weights(folder / "weights_last.h5", model)
    for checkpoint in list_checkpoints(state_file):
        checkpoint.unlink()
    model.load_weights("weights_best.h5")
    return TrainedNetwork(model, history, judge)


def choose_precision(config: Config) -> Literal["fp32", "mixed"]:
    """Make TensorFlow ready for a run, and tell in which precision it computes there."""
    from oce2stardist.stardist_model.network import prepare_tensorflow, resolve_precision

    prepare_tensorflow(config.device, threads=fixed_threads(config.deterministic))
    return resolve_precision(config.stardist.precision)


def multiple_of(model: "SparseStarDist2D") -> int:
    """Tell of what number the sides of the network's input must be multiples."""
    return int(max(model._axes_div_by("YX")))


def _build_model(
    folder: Path, images: dict[str, Image], config: Config, start_from: Path | None
) -> "SparseStarDist2D":
    from oce2stardist.stardist_model.network import continue_from, create_model

    settings = config.stardist
    channels = next(iter(images.values())).shape[-1]
    half = choose_precision(config) == "mixed"
    if start_from is None:
        return create_model(
            folder,
            channels=channels,
            half_precision=half,
            seed=config.seed,
            **settings.model_dump(
                include={
                    "n_rays", "grid", "width", "features", "batch_norm", "blocks",
                    "patch_size", "batch_size", "learning_rate", "distance_weight",
                }
            ),
        )  # fmt: skip
    model = continue_from(
        folder, start_from, channels=channels, half_precision=half, seed=config.seed
    )
    if settings.patch_size % multiple_of(model):
        raise InputError(
            f"patch_size must be a multiple of {multiple_of(model)} for the network of "
            f"{start_from}. Got {settings.patch_size}; set stardist.patch_size in a config."
        )
    return model


def _make_batches(
    images: dict[str, Image],
    labels: TrainingLabels,
    model: "SparseStarDist2D",
    config: Config,
    alpha: float,
) -> tuple["BatchStream", int]:
    """Connect the labels with the network; also the number of sparse patches in a batch."""
    from oce2stardist.stardist_model.patches import BatchStream

    settings = config.stardist
    # At alpha 0 and 1 one half would be made in vain; the batch is all of the other.
    n_pseudo = {0.0: 0, 1.0: settings.batch_size}.get(alpha, settings.batch_size // 2)
    n_sparse = settings.batch_size - n_pseudo
    batches = BatchStream(
        _patch_source("sparse", images, labels.sparse, None, settings) if n_sparse else None,
        _patch_source(
            "pseudo",
            images,
            labels.pseudo,
            functools.partial(object_weights, labels) if settings.object_weights else None,
            settings,
        )
        if n_pseudo
        else None,
        n_sparse=n_sparse,
        n_pseudo=n_pseudo,
        n_rays=model.config.n_rays,
        grid=model.config.grid[0],
        intensity=settings.intensity,
        seed=config.seed,
    )
    return batches, n_sparse


def _patch_source(
    kind: str,
    images: dict[str, Image],
    labels: dict[str, Labels],
    weights: Callable[[str], dict[int, float]] | None,
    settings: StarDistConfig,
) -> "PatchSource":
    from oce2stardist.stardist_model.patches import PatchSource

    if not labels:
        raise InputError(
            f"there must be {kind} labels to train on. Got none; "
            "annotate more cells or change --alpha."
        )
    return PatchSource(
        [images[stem] for stem in labels],
        list(labels.values()),
        [weights(stem) for stem in labels] if weights is not None else None,
        patch_size=settings.patch_size,
        around_objects=settings.around_objects,
    )


def _learning_rate(settings: StarDistConfig, steps: int) -> Callable[[int], float]:
    if settings.schedule == "steps":
        return functools.partial(
            dropping_rate, steps=steps, peak=settings.learning_rate, drop_at=settings.drop_at
        )
    return functools.partial(
        cosine_rate, steps=steps, peak=settings.learning_rate, warm_up=settings.warm_up
    )


def kept_step(history: pd.DataFrame) -> int:
    """Find the step whose weights were kept, as `train_stardist` keeps them."""
    if not is_judged(history):
        return int(history["step"].iloc[-1])
    checked = history.dropna(subset=["score"])
    best = checked.loc[checked["score"].idxmax()]
    near = checked["score"] >= best["score"] - best["score_error"]
    return int(checked.loc[near, "step"].iloc[-1])


def is_judged(history: pd.DataFrame) -> bool:
    """Tell whether any check had annotated cells to judge by."""
    return "score" in history and bool(history["score"].notna().any())
