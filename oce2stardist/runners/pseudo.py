"""Stage one: unlabelled images in, pseudo ground truth out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save

from oce2stardist.annotations.known import digest_annotations, read_known
from oce2stardist.config import Config
from oce2stardist.embeddings.noise import choose_copies
from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_bytes, write_text
from oce2stardist.files.checkpoints import list_checkpoints
from oce2stardist.images.crops import WholeImages
from oce2stardist.images.image_set import ImageSet, name_source, read_images
from oce2stardist.images.prepare import Prepared, prepare_images
from oce2stardist.labels import Labels
from oce2stardist.objects.overlay import write_overlay
from oce2stardist.pseudo_labels.inputs import predicted_file
from oce2stardist.pseudo_labels.label_images import (
    PseudoLabels,
    label_images,
    write_parameters,
)
from oce2stardist.pseudo_labels.trust import Trust
from oce2stardist.reports import write_choices
from oce2stardist.reports.drawing.diameter_picture import diameter_picture
from oce2stardist.runners.finished_run import FinishedRun, read_finished_run
from oce2stardist.runs.determinism import describe_determinism, one_thread_for_sums
from oce2stardist.runs.folder import (
    Stage,
    Times,
    check_apart,
    owned,
    refuse_foreign,
    write_run_file,
)
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter, SilentReporter

if TYPE_CHECKING:  # torch is loaded when a run needs it
    from oce2stardist.embeddings.network import OffsetNetwork
    from oce2stardist.embeddings.predict import ImageSource


_OCE_RESULTS = (
    *("predicted", "state.pt", "state-before.pt", "weights.safetensors", "history.csv"),
    "computation.yaml",
)
_HISTORY = ("step", "loss", "learning_rate", "seconds")
_PSEUDO_RESULTS = (
    *(
        "labels",
        "overlays",
        "whole",
        "objects.csv",
        "parameters.yaml",
        "diameter.png",
        "choices.png",
    ),
)


@dataclass(frozen=True)
class PseudoResult:
    """Pseudo labels by image stem, the parameters with their reasons, and whether to trust them."""

    labels: dict[str, Labels]
    parameters: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    trust: Trust | None = None
    made: "Made | None" = None


@dataclass(frozen=True)
class Made:
    """What pseudo labels were made from and with, for more of the same."""

    config: Config
    prepared: Prepared
    pseudo: PseudoLabels


def make_pseudo_labels(
    images: str | Path | ImageSet | WholeImages,
    output: str | Path,
    *,
    config: Config | None = None,
    diameter: float | str | Path | None = None,
    annotations: str | Path | Mapping[str, Labels] | None = None,
    axes: str | None = None,
    trained: str | Path | None = None,
    overlay: bool = False,
    overwrite: bool = False,
    command: str = "make_pseudo_labels",
    reporter: Reporter | None = None,
) -> PseudoResult:
    """Train embeddings on a folder of images and write pseudo ground truth for each of them.

    Parameters
    ----------
    images : path, glob, ImageSet or WholeImages
        A folder, a glob or one file; TIFF, OME-TIFF or PNG. Of `WholeImages`, the network trains
        on the whole, and the crops get labels; `label_whole_images` labels the rest.
    output : path
        The run folder. If it holds an unfinished run with the same settings, that run goes
        on; of a finished one only the clustering, which takes seconds, is done again.
    config : Config, optional
        Default: the `fast` preset.
    diameter : float or path, optional
        Median cell diameter in pixels, or a CSV file with the columns image and diameter.
        Images are rescaled so that it becomes ``config.pseudo.working_diameter``. Default:
        that of the annotated cells; without annotations it is estimated from the images.
    annotations : path or mapping of image stem to array, optional
        As in `finetune_stardist`; here they tell the diameter, and choose the settings that
        turn embeddings into labels. 0 in label images counts as not annotated.
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
    trained : path, optional
        A finished run on other images. Nothing is trained: its offset network is used, with
        its settings, those that it chose included, and unless `diameter` or `annotations` say
        otherwise at its scale. Where it had a scale for each image, so have these. `config`
        then gives seed, device and `deterministic`, nothing else. Only what is
        foreground is found out on these images.
    overlay : bool
        Also write ``pseudo/overlays/*.png``.
    overwrite : bool
        Start again where the folder holds a run with other settings.

    Returns
    -------
    PseudoResult

    Raises
    ------
    InputError
        If an input is missing, unreadable or of the wrong form; or `trained` is not a
        finished run, or was trained on images with other channels.
    Interrupted
        If the user stopped the run; the same call goes on where it stopped.

    Notes
    -----
    Under ``torchrun``, all processes train together; the main one does the rest and returns
    the result, the others return an empty one.
    """
    folder = Path(output)
    source = _read_trained(trained, folder) if trained is not None else None
    config = config or Config()
    ignored = source.name_ignored(config) if source else []
    config = source.settle(config) if source else config
    with (
        _joined_processes(config.device) as main,
        one_thread_for_sums(config.deterministic),
        ExitStack() as held,
        logged(reporter if main else None, command) as log,
    ):
        if source and ignored:
            log.warn(f"Settings are those of {source.folder}, also {', '.join(ignored)}.")
        found = images.crops if isinstance(images, WholeImages) else read_images(images, axes=axes)
        known = read_known(found, annotations) if annotations is not None else None
        for note in known.notes if known is not None else ():
            log.warn(note)
        annotated = known.labels if known else None
        prepared = _prepare(
            images if isinstance(images, WholeImages) else found,
            config,
            source,
            diameter=diameter,
            annotations=annotated,
        )
        inputs: dict[str, Any] = {"images": len(found.images), "sha256": found.digest()}
        if source:
            inputs["trained_sha256"] = source.digest
        check_apart(folder, ("oce", "pseudo"), found.files + (known.files if known else []))
        with _main_first():
            if main:
                held.enter_context(owned(folder))
            oce, stage = _open_stages(
                folder,
                config,
                prepared,
                inputs,
                axes,
                overwrite,
                digest_annotations(known) if known else None,
            )
            if main:
                log.open(folder)
            if main and not (oce.resumes and stage.finished):
                write_run_file(
                    folder,
                    command=command,
                    config=config,
                    inputs=inputs
                    | {"images_from": _name(images)}
                    | ({"trained": str(source.folder)} if source else {}),
                    precision=_precision(config),
                )
        if source and not main:
            return PseudoResult({}, {}, {})
        times = Times(folder / "times.yaml", keep=oce.resumes)
        with times.measure("embedding_training") if main and not source else nullcontext():
            network = _trained(prepared, config, folder, oce, log, source)
        if not main:
            return PseudoResult({}, {}, {})
        if network is not None:
            with times.measure("inference"):
                _predict(network, prepared, config, folder, log)
            oce.finish()
        with times.measure("clustering"):
            result = label_images(
                prepared,
                config,
                folder,
                annotated or {},
                log,
                copies=number_of_copies(config.embedding.copies, prepared),
                taken=source.explain(config) if source else (),
            )
        if source:
            result.parameters["trained_on"] = source.parameters["trained_on"] | {
                "reason": f"images of {source.folder}; nothing was trained on these"
            }
        write_parameters(folder, result)
        _draw(folder / "pseudo", prepared, result.labels, overlay=overlay)
        write_choices(
            folder / "pseudo" / "choices.png",
            scenes=result.scenes,
            labels=result.labels,
            recipe=result.recipe,
            choices=result.choices,
            seed=config.seed,
        )
        stage.finish()
        if not result.trust.trusted:
            log.warn(f"{result.trust.verdict[0].upper()}{result.trust.verdict[1:]}.")
        log.say(f"Diameter: {result.parameters['diameter']['reason']}.")
    return PseudoResult(
        result.labels,
        result.parameters,
        times.seconds,
        result.trust,
        Made(config, prepared, result),
    )


def number_of_copies(given: int | None, prepared: Prepared) -> int:
    """Take the number of noisy copies given, else what the size of the set allows."""
    if given is not None:
        return given
    sizes = [image.shape for image in prepared.training_images]
    return choose_copies(sum(height * width for height, width, _ in sizes) / 1e6)


def _draw(folder: Path, prepared: Prepared, labels: Mapping[str, Labels], *, overlay: bool) -> None:
    """Write the picture of the diameter where it was estimated and, if asked, outlines of cells."""
    images = prepared.found.images
    estimate = prepared.scales.estimate
    if estimate is not None and estimate.diameter is not None:
        picture = diameter_picture(list(images.values()), estimate, names=list(images))
        write_bytes(folder / "diameter.png", picture)
    for stem in labels if overlay else ():
        write_overlay(folder / "overlays" / f"{stem}.png", images[stem], labels[stem])


def _precision(config: Config) -> dict[str, str]:
    """Tell in which precision the offset network is trained and predicts on this machine."""
    from oce2stardist.embeddings.device import (
        resolve_precision,
        torch_device,
        training_precision,
    )

    asked = config.embedding.precision
    return {
        "training": training_precision(asked),
        "prediction": resolve_precision(torch_device(config.device), asked),
    }


def _name(images: str | Path | ImageSet | WholeImages) -> str | None:
    """Say where images came from, for the record; None for arrays."""
    if isinstance(images, WholeImages):
        return ", ".join(sorted({str(image.path) for image in images.images.values()}))
    return name_source(images)


def _prepare(
    images: ImageSet | WholeImages,
    config: Config,
    source: FinishedRun | None,
    *,
    diameter: float | str | Path | None,
    annotations: Mapping[str, Labels] | None,
) -> Prepared:
    if source:
        return source.prepare_others(images, diameter=diameter, annotations=annotations)
    if isinstance(images, WholeImages):
        return images.prepare(config, diameter=diameter, annotations=annotations)
    return prepare_images(images, config, diameter=diameter, annotations=annotations)


def _read_trained(trained: str | Path, output: Path) -> FinishedRun:
    source = read_finished_run(trained)
    if source.folder.resolve() == output.resolve():
        raise InputError(
            f"the output must not be the run whose network is used. Got {output} for both; "
            "choose another output."
        )
    return source


@contextmanager
def _joined_processes(device: str) -> Iterator[bool]:
    """Join the processes of torchrun, if it started this one; yields whether this is the main."""
    if "RANK" not in os.environ:
        yield True
        return
    from oce2stardist.embeddings.distributed import init_from_env, is_main_process

    with init_from_env(device):
        yield is_main_process()


@contextmanager
def _main_first() -> Iterator[None]:
    if "RANK" not in os.environ:
        yield
        return
    from oce2stardist.embeddings.distributed import main_process_first

    with main_process_first():
        yield


def _open_stages(
    folder: Path,
    config: Config,
    prepared: Prepared,
    inputs: dict[str, Any],
    axes: str | None,
    overwrite: bool,
    annotations: str | None,
) -> tuple[Stage, Stage]:
    settings = config.pseudo
    scales = prepared.scales
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
    oce = Stage(
        folder / "oce",
        basis,
        overwrite=overwrite,
        results=_OCE_RESULTS,
    )
    # New pseudo settings on the same embeddings cost seconds, so they are simply computed.
    stage = Stage(
        folder / "pseudo",
        {
            "embedding": oce.fingerprint,
            "pseudo": settings.model_dump(mode="json"),
            "annotations": annotations,
        },
        overwrite=True,
        results=_PSEUDO_RESULTS,
    )
    return oce, stage


def _trained(
    prepared: Prepared,
    config: Config,
    folder: Path,
    oce: Stage,
    reporter: Reporter,
    source: FinishedRun | None,
) -> "OffsetNetwork | None":
    """Train, or take the network of another run; None where that is done already."""
    if oce.finished:
        reporter.say(f"Embeddings in {folder / 'oce'} are finished and are used again.")
        return None
    if source:
        reporter.say(f"The network of {source.folder} is used; nothing is trained.")
        return source.copy_network(oce.folder)
    channels = next(iter(prepared.seen.values())).shape[-1]
    return _train(prepared.training_images, channels, config, folder, oce, reporter)


def _train(
    images: "Sequence[ImageSource]",
    channels: int,
    config: Config,
    folder: Path,
    stage: Stage,
    reporter: Reporter,
) -> "OffsetNetwork":
    """Train the offset network, or go on where an interrupted run stopped.

    Processes that torchrun started train together; the main one writes.
    """
    from oce2stardist.embeddings.checkpoint import read_state, write_state, write_weights
    from oce2stardist.embeddings.device import fixed_sums
    from oce2stardist.embeddings.distributed import agree_on_any, is_main_process, rank_and_size
    from oce2stardist.embeddings.train import train_offsets, training_steps

    settings = config.embedding
    steps = training_steps(images, settings)
    main = is_main_process()
    reporter = reporter if main else SilentReporter()
    state_file = stage.folder / "state.pt"
    goes_on = agree_on_any(main and stage.resumes and bool(list_checkpoints(state_file)))
    state = read_state(state_file) if goes_on else None
    if state is not None:
        reporter.say(f"Going on after step {state['step']} of {steps}.")
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
        computation = asdict(run.computation) | {"processes": rank_and_size()[1]}
        write_text(stage.folder / "computation.yaml", yaml.safe_dump(computation, sort_keys=False))
    if not run.finished:
        raise Interrupted(
            f"Stopped after step {len(run.history)} of {steps}; "
            "the same command goes on from there."
        )
    if main:
        write_weights(
            stage.folder / "weights.safetensors",
            run.network,
            channels=channels,
            feature_maps=settings.feature_maps,
            growth=settings.growth,
        )
    return run.network


def _predict(
    network: "OffsetNetwork",
    prepared: Prepared,
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
