"""Train one StarDist network into a model folder; resumes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from oce2stardist.config import Config, StarDistConfig
from oce2stardist.errors import InputError, say_install
from oce2stardist.files.atomic import write_text
from oce2stardist.files.checkpoints import list_checkpoints
from oce2stardist.labels import Image, Labels
from oce2stardist.runs.determinism import fixed_threads
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.progress import Reporter
from oce2stardist.runs.schedule import cosine_rate, dropping_rate
from oce2stardist.stardist_model.blend import Blend
from oce2stardist.stardist_model.judge import DEFAULT_THRESHOLDS, Judge
from oce2stardist.stardist_model.scale import TrainingScale, zoom_image, zoom_labels
from oce2stardist.training_labels.make import TrainingLabels, object_weights

if TYPE_CHECKING:
    from oce2stardist.stardist_model.judge import Network
    from oce2stardist.stardist_model.network import SparseStarDist2D
    from oce2stardist.stardist_model.patches import BatchStream, PatchSource


@dataclass(frozen=True)
class TrainingJob:
    """What every training of a run shares."""

    folder: Path
    images: dict[str, Image]  # normalised, by stem
    config: Config
    reporter: Reporter
    init: Path | None  # a StarDist folder to start from
    tensorboard: bool  # write event files to logs/ in the folder of each training
    scale: TrainingScale = field(default_factory=TrainingScale)
    usual_thresholds: tuple[float, float] = DEFAULT_THRESHOLDS
    """Of probability and suppression, where the cells can't tell better ones."""
    blend: Blend | None = None
    """What of the start stays in the networks that are kept."""

    @cached_property
    def zoomed_images(self) -> dict[str, Image]:
        """The images as the network sees them."""
        return {stem: zoom_image(image, self.scale.of(stem)) for stem, image in self.images.items()}


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights that were kept, and the course of its training."""

    model: Any  # SparseStarDist2D, of stacks SparseStarDist3D
    history: pd.DataFrame
    judge: Judge


def train_network(
    job: TrainingJob,
    labels: TrainingLabels,
    folder: Path,
    *,
    alpha: float,
    start_from: Path | None,
    select: bool,
    title: str,
) -> TrainedNetwork:
    """Train a network in `folder`, or go on where an interrupted training stopped.

    `labels` are at the images' own size; the network sees both at the scale of the job.

    The folder gets config.json, weights_best.h5, weights_last.h5, history.csv and, until the
    training has ended, state.safetensors. Where a part of the start stays in the network, it is in
    weights_best.h5, and judged with it; weights_last.h5 is what was trained.

    The weights of `start_from`, a StarDist folder, are the first. `select` keeps the latest
    weights that held-back cells can't tell from the best, otherwise the last are kept. `title` is
    what the progress bar says.
    """
    images, config = job.zoomed_images, job.config
    labels = labels.changed(lambda stem, drawn: zoom_labels(drawn, job.scale.of(stem)))
    settings = config.stardist.filled(from_nothing=start_from is None)
    model = _build_model(folder, images, config, start_from)
    model.scale = job.scale.model
    judge = Judge(images, labels.held_back, multiple=model.multiple, seed=config.seed)
    return run_training(
        folder,
        model,
        judge,
        lambda: _make_batches(images, labels, model, config, alpha),
        settings=settings,
        alpha=alpha,
        select=select,
        title=title,
        reporter=job.reporter,
        tensorboard=job.tensorboard,
        blend=job.blend,
    )


def run_training(
    folder: Path,
    model: "Network",
    judge: Judge,
    make_batches: Callable[[], tuple["BatchStream", int]],
    *,
    settings: StarDistConfig,
    alpha: float,
    select: bool,
    title: str,
    reporter: Reporter,
    tensorboard: bool,
    blend: Blend | None = None,
) -> TrainedNetwork:
    """Train a network that was built in `folder` on batches, or go on; see `train_network`.

    `make_batches` gives the batches and how many patches of each are sparse. `settings` have
    steps and learning rate.
    """
    from oce2stardist.stardist_model.checkpoint import read_state, write_state, write_weights
    from oce2stardist.stardist_model.tensorboard import scalar_writer
    from oce2stardist.stardist_model.train import Checks, train_stardist

    steps = settings.steps or 1
    last, history_file = folder / "weights_last.h5", folder / "history.csv"
    if last.exists() and history_file.exists():
        model.load_weights("weights_best.h5")
        return TrainedNetwork(model, pd.read_csv(history_file), judge)
    batches, n_sparse = make_batches()
    state_file = folder / "state.safetensors"
    resume = read_state(state_file)
    if resume is not None:
        reporter.say(f"{title}: going on after step {resume[1]['step']} of {steps}.")
    with (
        stop_on_signal() as should_stop,
        reporter.task(title, steps) as advance,
        scalar_writer(folder / "logs" if tensorboard else None) as write_row,
    ):
        blended = blend.applied if blend is not None else _as_it_is
        judged = blended(judge.score) if select and judge.windows else None

        def show(row: dict[str, float]) -> None:
            write_row(row)
            advance(int(row["step"]), f"loss {row['loss']:.3f}")

        run = train_stardist(
            model,
            batches,
            n_sparse=n_sparse,
            alpha=alpha,
            steps=steps,
            rate_at=learning_rate(settings, steps),
            checks=Checks(
                every=max(1, steps // settings.checks),
                keep=blended(partial(write_weights, folder / "weights_best.h5")),
                judge=judged,
                patience=settings.patience,
            ),
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
    write_text(history_file, history.to_csv(index=False))
    write_weights(last, model)
    for checkpoint in list_checkpoints(state_file):
        checkpoint.unlink()
    model.load_weights("weights_best.h5")
    return TrainedNetwork(model, history, judge)


def _as_it_is(use: Callable[["SparseStarDist2D"], Any]) -> Callable[["SparseStarDist2D"], Any]:
    return use


def check_tensorboard() -> None:
    """Refuse to write event files where the package for it is missing."""
    if find_spec("tensorboard") is None:
        raise InputError(
            "the package tensorboard must be installed to write its files. Got none; "
            f"{say_install('tensorboard')}, or leave out --tensorboard."
        )


def choose_precision(config: Config) -> Literal["fp32", "mixed"]:
    """Make TensorFlow ready for a run, and tell in which precision it computes there."""
    from oce2stardist.stardist_model.network import prepare_tensorflow, resolve_precision

    prepare_tensorflow(config.device, threads=fixed_threads(config.deterministic))
    return resolve_precision(config.stardist.precision)


def _build_model(
    folder: Path, images: dict[str, Image], config: Config, start_from: Path | None
) -> "SparseStarDist2D":
    from oce2stardist.stardist_model.network import continue_from, create_model

    channels = next(iter(images.values())).shape[-1]
    half = choose_precision(config) == "mixed"
    common: dict[str, Any] = {"channels": channels, "half_precision": half, "seed": config.seed}
    if start_from is None:
        return create_model(folder, config.stardist, **common)
    model = continue_from(folder, start_from, config.stardist, **common)
    if config.stardist.patch_size % model.multiple:
        raise InputError(
            f"patch_size must be a multiple of {model.multiple} for the network of {start_from}. "
            f"Got {config.stardist.patch_size}; set stardist.patch_size in a config."
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
    source = partial(_patch_source, images, settings=settings)
    weights = partial(object_weights, labels) if settings.object_weights else None
    batches = BatchStream(
        source("sparse", labels.sparse, weights=None) if n_sparse else None,
        source("pseudo", labels.pseudo, weights=weights) if n_pseudo else None,
        n_sparse=n_sparse,
        n_pseudo=n_pseudo,
        n_rays=model.config.n_rays,
        grid=model.config.grid[0],
        intensity=settings.intensity,
        seed=config.seed,
    )
    return batches, n_sparse


def _patch_source(
    images: dict[str, Image],
    kind: str,
    labels: dict[str, Labels],
    *,
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
        zoom=settings.zoom,
    )


def learning_rate(settings: StarDistConfig, steps: int) -> Callable[[int], float]:
    peak = settings.learning_rate or 0.0
    if settings.schedule == "steps":
        return partial(dropping_rate, steps=steps, peak=peak, drop_at=settings.drop_at)
    return partial(cosine_rate, steps=steps, peak=peak, warm_up=settings.warm_up)


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
