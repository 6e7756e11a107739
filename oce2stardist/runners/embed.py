"""Train the offset network and predict with it, in a run folder: the first half of `pseudo`."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save

from oce2stardist.config import Config
from oce2stardist.embeddings.noise import choose_copies
from oce2stardist.errors import plural
from oce2stardist.files.atomic import write_bytes, write_text
from oce2stardist.files.checkpoints import list_checkpoints
from oce2stardist.images.prepare import PreparedImages
from oce2stardist.pseudo_labels.inputs import predicted_file
from oce2stardist.runners.finished_run import FinishedRun
from oce2stardist.runs.determinism import describe_determinism
from oce2stardist.runs.folder import Stage, refuse_foreign
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.progress import Reporter, SilentReporter

if TYPE_CHECKING:  # torch is loaded when a run needs it
    from oce2stardist.embeddings.predict import AnyOffsetNetwork, ImageSource


_OCE_RESULTS = (
    *("predicted", "state.pt", "state-before.pt", "weights.safetensors", "history.csv"),
    "computation.yaml",
)
_PSEUDO_RESULTS = (
    *("labels", "overlays", "whole", "objects.csv", "parameters.yaml", "diameter.png"),
    "choices.png",
)
_HISTORY = ("step", "loss", "learning_rate", "seconds")


@contextmanager
def joined_processes(device: str) -> Iterator[bool]:
    """Join the processes of torchrun, if it started this one; yields whether this is the main."""
    if "RANK" not in os.environ:
        yield True
        return
    from oce2stardist.embeddings.distributed import init_from_env, is_main_process

    with init_from_env(device):
        yield is_main_process()


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process of torchrun go through the block before the others do."""
    if "RANK" not in os.environ:
        yield
        return
    from oce2stardist.embeddings.distributed import main_process_first

    with main_process_first():
        yield


def used_precision(config: Config) -> dict[str, str]:
    """Tell in which precision the offset network is trained and predicts on this machine."""
    from oce2stardist.embeddings.device import resolve_precision, torch_device, training_precision

    asked = config.embedding.precision
    return {
        "training": training_precision(asked),
        "prediction": resolve_precision(torch_device(config.device), asked),
    }


def number_of_copies(given: int | None, prepared: PreparedImages) -> int:
    """Take the number of noisy copies given, else what the size of the set allows."""
    if given is not None:
        return given
    sizes = [image.shape for image in prepared.training_images]
    return choose_copies(sum(math.prod(shape[:-1]) for shape in sizes) / 1e6)


def open_stages(
    folder: Path,
    config: Config,
    prepared: PreparedImages,
    inputs: dict[str, Any],
    axes: str | None,
    overwrite: bool,
    annotations: str | None,
) -> tuple[Stage, Stage]:
    """Open both stages of a run; of a finished one, or one with other settings, see `Stage`."""
    settings, scales = config.pseudo, prepared.scales
    basis = {
        "inputs": inputs,
        "axes": axes,
        "seed": config.seed,
        "scale": scales.factors if len(set(scales.factors.values())) > 1 else scales.median,
        "channels": prepared.channels.reason,
        "intensity": [settings.intensity, settings.knee],
        "embedding": config.embedding.model_dump(mode="json"),
    } | describe_determinism(config)
    refuse_foreign(folder / "pseudo", _PSEUDO_RESULTS)  # before anything is written
    oce = Stage(folder / "oce", basis, overwrite=overwrite, results=_OCE_RESULTS)
    # New pseudo settings on the same embeddings cost seconds, so they are simply computed.
    basis = {
        "embedding": oce.fingerprint,
        "pseudo": settings.model_dump(mode="json"),
        "annotations": annotations,
    }
    return oce, Stage(folder / "pseudo", basis, overwrite=True, results=_PSEUDO_RESULTS)


def trained_network(
    prepared: PreparedImages,
    config: Config,
    folder: Path,
    oce: Stage,
    reporter: Reporter,
    source: FinishedRun | None,
) -> "AnyOffsetNetwork | None":
    """Train, or take the network of another run; None where that is done already."""
    if oce.finished:
        reporter.say(f"Embeddings in {folder / 'oce'} are finished and are used again.")
        return None
    if source:
        reporter.say(f"The network of {source.folder} is used; nothing is trained.")
        return source.copy_network(oce.folder)
    return _train(prepared.training_images, config, folder, oce, reporter)


def _train(
    images: "Sequence[ImageSource]",
    config: Config,
    folder: Path,
    stage: Stage,
    reporter: Reporter,
) -> "AnyOffsetNetwork":
    """Train the offset network, or go on where an interrupted run stopped.

    Processes that torchrun started train together; the main one writes.
    """
    from oce2stardist.embeddings.checkpoint import read_state, write_state, write_weights
    from oce2stardist.embeddings.device import fixed_sums
    from oce2stardist.embeddings.distributed import agree_on_any, is_main_process, rank_and_size
    from oce2stardist.embeddings.train import train_offsets, training_steps

    settings = config.embedding
    steps = training_steps(images, settings)
    begins = "drawn cells" if settings.begins_drawn else "nothing"
    main = is_main_process()
    reporter = reporter if main else SilentReporter()
    state_file = stage.folder / "state.pt"
    goes_on = agree_on_any(main and stage.resumes and bool(list_checkpoints(state_file)))
    state = read_state(state_file) if goes_on else None
    if state is not None:
        reporter.say(f"Going on after step {state['step']} of {steps}.")
    else:
        reporter.say(f"Embeddings begin with {begins}: {plural(steps, 'step')}.")
    with (
        fixed_sums(config.deterministic),
        stop_on_signal() as should_stop,
        reporter.task("Training embeddings", steps) as advance,
    ):
        run = train_offsets(
            images,
            settings,
            device=config.device,
            seed=config.seed,
            resume=state,
            save=lambda current: write_state(state_file, current),
            on_step=lambda done, loss: advance(done, f"loss {loss:.3f}"),
            should_stop=should_stop,
        )
    if main:
        history = pd.DataFrame(run.history, columns=_HISTORY)  # a run may stop before any step
        write_text(stage.folder / "history.csv", history.to_csv(index=False))
        computation = asdict(run.computation) | {
            "processes": rank_and_size()[1],
            "begins_with": begins,
            "steps": steps,
        }
        write_text(stage.folder / "computation.yaml", yaml.safe_dump(computation, sort_keys=False))
    if not run.finished:
        raise Interrupted(
            f"Stopped after step {len(run.history)} of {steps}; "
            "the same command goes on from there."
        )
    if main:
        write_weights(stage.folder / "weights.safetensors", run.network)
    return run.network


def predict_all(
    network: "AnyOffsetNetwork",
    prepared: PreparedImages,
    config: Config,
    folder: Path,
    reporter: Reporter,
) -> None:
    """Predict offsets and spread of every image into oce/predicted, skipping what is there."""
    from oce2stardist.embeddings.predict import PredictionSettings, predict_offsets

    copies = number_of_copies(config.embedding.copies, prepared)
    settings = PredictionSettings.of(config.embedding, copies=copies, seed=config.seed)
    working = prepared.seen
    with (
        stop_on_signal() as should_stop,
        reporter.task("Predicting embeddings", len(working)) as advance,
    ):
        for done, (stem, image) in enumerate(working.items(), start=1):
            if should_stop():
                raise Interrupted("Stopped; the same command goes on with the next image.")
            path = predicted_file(folder, stem)
            if not path.exists():
                predicted = predict_offsets(network, image, settings, device=config.device)
                # Half precision resolves 0.01 px at 20 px and halves the disk space.
                arrays = {
                    "offsets": predicted.offsets.astype(np.float16),
                    "spread": predicted.spread.astype(np.float16),
                }
                write_bytes(path, save(arrays))
            advance(done, stem)
