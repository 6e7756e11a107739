"""Stage one: unlabelled images in, pseudo ground truth out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.ndimage import gaussian_filter
from skimage.measure import regionprops_table

from oce2stardist.channels import prepare_channels
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.intensity import compress
from oce2stardist.io import (
    normalise_percentiles,
    replacing,
    write_bytes,
    write_labels,
    write_overlay,
    write_text,
)
from oce2stardist.labels import resize_labels
from oce2stardist.pseudo_gt import (
    Foreground,
    Recipe,
    agreement,
    choose_foreground,
    foreground_threshold,
    segment,
    smooth_log_spread,
)
from oce2stardist.pseudo_gt.trust import Trust, judge_trust
from oce2stardist.report.diameter_picture import diameter_picture
from oce2stardist.runners.inputs import (
    Image,
    ImageSet,
    Labels,
    read_images,
    read_matching_labels,
)
from oce2stardist.runners.interruption import Interrupted, stop_on_signal
from oce2stardist.runners.progress import Reporter, SilentReporter
from oce2stardist.runners.recipe import (
    Choice,
    Scene,
    choose_by_annotations,
    choose_by_stability,
    recipe_of,
    score_annotated,
)
from oce2stardist.runners.run_folder import Stage, Times, digest, write_run_file
from oce2stardist.runners.scale import Scales, choose_scales, to_working_scale

if TYPE_CHECKING:  # torch is loaded when a run needs it
    from oce2stardist.embeddings.network import OffsetNetwork

_SMALLEST_SIDE = 18
"""Pixels at working scale: one more than the field of view, rounded up to even."""

_LARGEST_SET_LOOKED_AT = 8
"""Images that settings are chosen on without annotations."""


@dataclass(frozen=True)
class PseudoResult:
    """Pseudo labels by image stem, the parameters with their reasons, and whether to trust them."""

    labels: dict[str, Labels]
    parameters: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    trust: Trust | None = None


@dataclass(frozen=True)
class _Prepared:
    """Images at working scale: as the network sees them, and with linear intensities."""

    found: ImageSet
    scales: Scales
    channels: str
    seen: dict[str, Image]
    linear: dict[str, Image]


def make_pseudo_labels(
    images: str | Path,
    output: str | Path,
    *,
    config: Config | None = None,
    diameter: float | str | Path | None = None,
    annotations: str | Path | None = None,
    axes: str | None = None,
    overlay: bool = False,
    overwrite: bool = False,
    command: str = "make_pseudo_labels",
    reporter: Reporter | None = None,
) -> PseudoResult:
    """Train embeddings on a folder of images and write pseudo ground truth for each of them.

    Parameters
    ----------
    images : path or glob
        A folder, a glob or one file; TIFF, OME-TIFF or PNG.
    output : path
        The run folder. If it holds an unfinished run with the same settings, that run goes
        on; of a finished one only the clustering, which takes seconds, is done again.
    config : Config, optional
        Default: the `fast` preset.
    diameter : float or path, optional
        Median cell diameter in pixels, or a CSV file with the columns image and diameter.
        Images are rescaled so that it becomes ``config.pseudo.working_diameter``. Default:
        that of the annotated cells; without annotations it is estimated from the images.
    annotations : path, optional
        Label images matched to the images by stem; here they tell the diameter, and choose
        the settings that turn embeddings into labels. 0 counts as not annotated.
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
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
        If an input is missing, unreadable or of the wrong form.
    Interrupted
        If the user stopped the run; the same call goes on where it stopped.

    Notes
    -----
    Under ``torchrun``, all processes train together; the main one does the rest and returns
    the result, the others return an empty one.
    """
    config = config or Config()
    reporter = reporter or SilentReporter()
    folder = Path(output)
    with _joined_processes(config.device) as main:
        if not main:
            reporter = SilentReporter()
        found = read_images(images, axes=axes)
        prepared = _prepare(found, config, diameter=diameter, annotations=annotations)
        inputs = {"images": len(found.paths), "sha256": digest(found.paths.values())}
        with _main_first():
            oce, stage = _open_stages(
                folder, config, prepared, inputs, axes, overwrite, _annotation_hash(annotations)
            )
            if main and not (oce.resumes and stage.finished):
                write_run_file(folder, command=command, config=config, inputs=inputs)
        times = Times(folder / "times.yaml", keep=oce.resumes)
        with times.measure("embedding_training") if main else nullcontext():
            network = _trained(prepared, config, folder, oce, reporter)
        if not main:
            return PseudoResult({}, {}, {})
        if network is not None:
            with times.measure("inference"):
                _predict(network, prepared.seen, config, folder, reporter)
            oce.finish()
        with times.measure("clustering"):
            known = read_matching_labels(found, annotations)[0] if annotations else {}
            result = _cluster(prepared, config, folder, known, overlay, reporter)
        _write_parameters(folder, result, prepared)
        stage.finish()
    if not result.trust.trusted:
        reporter.warn(f"{result.trust.verdict[0].upper()}{result.trust.verdict[1:]}.")
    return PseudoResult(result.labels, result.parameters, times.seconds, result.trust)


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


def _annotation_hash(annotations: str | Path | None) -> str | None:
    if annotations is None:
        return None
    source = Path(annotations)
    files = [source] if source.is_file() else [one for one in source.iterdir() if one.is_file()]
    return digest(files)


def _prepare(
    found: ImageSet,
    config: Config,
    *,
    diameter: float | str | Path | None,
    annotations: str | Path | None,
) -> _Prepared:
    """Choose channels and scale, and bring every image to it."""
    settings = config.pseudo
    arrays, channels = prepare_channels(list(found.images.values()), mode=settings.channels)
    found = replace(found, images=dict(zip(found.images, arrays, strict=True)))
    scales = choose_scales(
        found,
        working=settings.working_diameter,
        mode=settings.scale,
        diameter=diameter,
        annotations=annotations,
        seed=config.seed,
    )
    seen, linear = {}, {}
    for stem, image in found.images.items():
        scaled = to_working_scale(image, scales.factors[stem])
        if min(scaled.shape[:2]) < _SMALLEST_SIDE:
            raise InputError(
                f"images must measure at least {_SMALLEST_SIDE} pixels a side at working scale. "
                f"Got {scaled.shape[0]}x{scaled.shape[1]} for {stem} at scale "
                f"{scales.factors[stem]:.3g}; leave it out or check --diameter."
            )
        linear[stem] = normalise_percentiles(scaled)
        seen[stem] = (
            normalise_percentiles(compress(scaled, knee=settings.knee))
            if settings.intensity == "compressed"
            else linear[stem]
        )
    return _Prepared(found, scales, channels, seen, linear)


def _open_stages(
    folder: Path,
    config: Config,
    prepared: _Prepared,
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
        "channels": prepared.channels,
        "intensity": [settings.intensity, settings.knee],
        "embedding": config.embedding.model_dump(mode="json"),
    }
    oce = Stage(
        folder / "oce",
        basis,
        overwrite=overwrite,
        results=(
            "predicted",
            "state.pt",
            "weights.safetensors",
            "history.csv",
            "computation.yaml",
        ),
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
        results=(
            "labels",
            "overlays",
            "objects.csv",
            "parameters.yaml",
            "diameter.png",
            "choices.png",
        ),
    )
    return oce, stage


def _trained(
    prepared: _Prepared, config: Config, folder: Path, oce: Stage, reporter: Reporter
) -> "OffsetNetwork | None":
    """Train, unless that is done already: then None."""
    if oce.finished:
        reporter.say(f"Embeddings in {folder / 'oce'} are finished and are used again.")
        return None
    channels = next(iter(prepared.seen.values())).shape[-1]
    return _train(prepared.seen, channels, config, folder, oce, reporter)


def _train(
    working: dict[str, Image],
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
    from oce2stardist.embeddings.distributed import agree_on_any, is_main_process, rank_and_size
    from oce2stardist.embeddings.train import train_offsets, training_steps

    settings = config.embedding
    images = list(working.values())
    steps = training_steps(
        images,
        steps=settings.steps,
        epochs=settings.epochs,
        crop_size=settings.crop_size,
        batch_size=settings.batch_size,
    )
    main = is_main_process()
    reporter = reporter if main else SilentReporter()
    state_file = stage.folder / "state.pt"
    goes_on = agree_on_any(main and stage.resumes and state_file.exists())
    state = read_state(state_file) if goes_on else None
    if state is not None:
        reporter.say(f"Going on after step {state['step']} of {steps}.")
    with (
        stop_on_signal() as should_stop,
        reporter.task("Training embeddings", steps) as advance,
    ):
        run = train_offsets(
            images,
            **settings.model_dump(exclude={"copies", "noise", "tile_size"}),
            device=config.device,
            seed=config.seed,
            resume=state,
            save=lambda current: write_state(state_file, current),
            on_step=lambda done, loss: advance(done, f"loss {loss:.3f}"),
            should_stop=should_stop,
        )
    if main:
        history = pd.DataFrame(run.history)
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
    working: dict[str, Image],
    config: Config,
    folder: Path,
    reporter: Reporter,
) -> None:
    """Predict offsets and spread of every image into oce/predicted, skipping what is there."""
    from oce2stardist.embeddings.predict import predict_offsets

    settings = config.embedding
    copies = number_of_copies(settings.copies, working)
    with (
        stop_on_signal() as should_stop,
        reporter.task("Predicting embeddings", len(working)) as advance,
    ):
        for done, (stem, image) in enumerate(working.items(), start=1):
            if should_stop():
                raise Interrupted("Stopped; the same command goes on with the next image.")
            path = _predicted_file(folder, stem)
            if not path.exists():
                predicted = predict_offsets(
                    network,
                    image,
                    copies=copies,
                    noise=settings.noise,
                    tile_size=settings.tile_size,
                    precision=settings.precision,
                    device=config.device,
                    seed=config.seed,
                )
                # Half precision resolves 0.01 px at 20 px and halves the disk space.
                arrays = {
                    "offsets": predicted.offsets.astype(np.float16),
                    "spread": predicted.spread.astype(np.float16),
                }
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as temporary:
                    save_file(arrays, temporary)
            advance(done, stem)


def number_of_copies(given: int | None, working: dict[str, Image]) -> int:
    """Take the number of noisy copies given, else what the size of the set allows."""
    if given is not None:
        return given
    from oce2stardist.embeddings.noise import choose_copies

    return choose_copies(sum(image.shape[0] * image.shape[1] for image in working.values()) / 1e6)


def _predicted_file(folder: Path, stem: str) -> Path:
    return folder / "oce" / "predicted" / f"{stem}.safetensors"


def read_predicted(folder: Path, stem: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the offsets (2, Y, X) and the spread (Y, X) of one image, at working scale."""
    arrays = load_file(_predicted_file(folder, stem))
    return arrays["offsets"].astype(np.float32), arrays["spread"].astype(np.float32)


@dataclass(frozen=True)
class _Clustered:
    labels: dict[str, Labels]
    parameters: dict[str, dict[str, Any]]
    trust: Trust


def _cluster(
    prepared: _Prepared,
    config: Config,
    folder: Path,
    annotations: dict[str, Labels],
    overlay: bool,
    reporter: Reporter,
) -> _Clustered:
    """Turn predicted offsets into label files and objects.csv."""
    settings = config.pseudo
    maps = {stem: _spread_map(read_predicted(folder, stem)[1], config) for stem in prepared.seen}
    foreground = _choose_foreground(maps, folder, config)
    thresholds = dict(zip(maps, foreground.thresholds, strict=True))

    def scene(stem: str) -> Scene:
        offsets, _ = read_predicted(folder, stem)
        return Scene(offsets, maps[stem] < thresholds[stem], prepared.linear[stem])

    recipe, choices = _choose_recipe(config, prepared, annotations, scene)
    labels: dict[str, Labels] = {}
    objects = []
    with reporter.task("Finding objects", len(maps)) as advance:
        for done, stem in enumerate(maps, start=1):
            shape = prepared.found.images[stem].shape[:2]
            labels[stem], confidence = _segment_surely(
                scene(stem), recipe, settings.variants, shape, seed=config.seed
            )
            write_labels(folder / "pseudo" / "labels" / f"{stem}.tif", labels[stem])
            if overlay:
                write_overlay(
                    folder / "pseudo" / "overlays" / f"{stem}.png",
                    prepared.found.images[stem],
                    labels[stem],
                )
            objects.append(describe_objects(stem, labels[stem], confidence))
            advance(done, f"{labels[stem].max()} objects in {stem}")
    table = pd.concat(objects, ignore_index=True)
    write_text(folder / "pseudo" / "objects.csv", table.to_csv(index=False))
    if table.empty:
        reporter.say("No object was found in any image: check --diameter and the report.")
    trust = judge_trust(
        separation=foreground.separation,
        confidences=table["confidence"].to_numpy(),
        diameters=table["diameter"].to_numpy(),
        annotated_f1=score_annotated(labels, annotations),
    )
    parameters = _parameters(prepared, config, foreground, recipe, choices)
    parameters["trust"] = {
        "value": trust.trusted,
        "reason": trust.verdict,
        "measures": {name: round(value, 4) for name, value in trust.measures.items()},
    }
    return _Clustered(labels, parameters, trust)


def _spread_map(spread: NDArray[np.float32], config: Config) -> NDArray[np.float32]:
    settings = config.pseudo
    if settings.spread == "log":
        return smooth_log_spread(spread, smoothing=settings.smoothing)
    return gaussian_filter(spread, settings.smoothing) if settings.smoothing else spread


def _choose_foreground(
    maps: dict[str, NDArray[np.float32]], folder: Path, config: Config
) -> Foreground:
    settings = config.pseudo
    chosen = choose_foreground(
        list(maps.values()),
        (read_predicted(folder, stem)[0] for stem in maps),
        diameter=settings.working_diameter,
    )
    if settings.threshold == "auto":
        return chosen
    if settings.threshold == "pooled":
        thresholds = (foreground_threshold(list(maps.values())),) * len(maps)
        reason = "Otsu on the spread of all images together, set in the config"
    else:
        thresholds = tuple(foreground_threshold([one]) for one in maps.values())
        reason = "Otsu on the spread of each image, set in the config"
    return replace(chosen, thresholds=thresholds, cue="spread", reason=reason)


def _choose_recipe(
    config: Config, prepared: _Prepared, annotations: dict[str, Labels], scene: Any
) -> tuple[Recipe, list[Choice]]:
    """Take the config's recipe, and choose what it leaves at its default."""
    settings = config.pseudo
    recipe = recipe_of(settings)
    if not settings.choose:
        return recipe, []
    free = [
        name
        for name, default in type(settings)().model_dump().items()
        if getattr(settings, name) == default
    ]
    with_cells = {stem: one for stem, one in annotations.items() if (one > 0).any()}
    if with_cells:
        scenes = {stem: scene(stem) for stem in with_cells}
        return choose_by_annotations(recipe, scenes, with_cells, free=free, seed=config.seed)
    stems = list(prepared.seen)
    some = stems[:: max(1, len(stems) // _LARGEST_SET_LOOKED_AT)][:_LARGEST_SET_LOOKED_AT]
    scenes = {stem: scene(stem) for stem in some}
    return choose_by_stability(recipe, scenes, free=free, seed=config.seed)


def _segment_surely(
    scene: Scene, recipe: Recipe, variants: int, shape: tuple[int, ...], *, seed: int
) -> tuple[Labels, NDArray[np.float64]]:
    """Segment one image at the original scale; also the confidence of every object."""
    labels, *others = (
        segment(
            scene.offsets,
            scene.foreground,
            scene.image,
            replace(recipe, bandwidth=recipe.bandwidth * factor),
            seed=seed,
        )
        for factor in [1.0, *_bandwidth_factors(variants)]
    )
    confidence = agreement(labels, others)
    resized = resize_labels(labels, shape)
    kept = np.unique(resized[resized > 0])  # tiny objects may vanish where images shrink
    table = np.zeros(len(confidence) + 1, np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[resized], confidence[kept - 1]


def _bandwidth_factors(variants: int) -> list[float]:
    """Spread factors evenly between 0.75 and 1.33, but for 1; in equal ratios."""
    below, above = (variants + 1) // 2, variants // 2
    return [0.75 ** (i / below) for i in range(below, 0, -1)] + [
        (4 / 3) ** (i / above) for i in range(1, above + 1)
    ]


def _parameters(
    prepared: _Prepared,
    config: Config,
    foreground: Foreground,
    recipe: Recipe,
    choices: list[Choice],
) -> dict[str, dict[str, Any]]:
    """List what was used, and why, for parameters.yaml."""
    given, scales = config.pseudo, prepared.scales
    area = recipe.cell_area
    copies = number_of_copies(config.embedding.copies, prepared.seen)
    rows: dict[str, tuple[Any, str]] = {
        "trained_on": (len(prepared.found.paths), "images given"),
        "channels": (next(iter(prepared.seen.values())).shape[-1], prepared.channels),
        "intensity": (given.intensity, _said(given, "intensity", "dim cells count, too")),
        "diameter": (round(scales.diameter, 2), scales.reason),
        "scale": (round(scales.median, 4), "brings the diameter to the working diameter"),
        "copies": (
            copies,
            "set in the config" if config.embedding.copies else "by size of the set",
        ),
        "threshold": (_thresholds(foreground), foreground.reason),
        "bandwidth": (recipe.bandwidth, "set in the config" if given.bandwidth else "the default"),
        "halo": (recipe.halo, _said(given, "halo", "the default")),
        "level": (recipe.level, _said(given, "level", "the default")),
        "min_unity": (recipe.min_unity, _said(given, "min_unity", "the default")),
        "min_cluster": (
            round(recipe.min_cluster * area, 1),
            f"{recipe.min_cluster:g} of the area of a median cell; even a speck has a halo",
        ),
        "max_ratio": (
            recipe.max_ratio,
            "objects whose pixels do not come together are background",
        ),
        "min_size": (
            round(recipe.min_size * area, 1),
            f"{recipe.min_size:g} of the area of a median cell",
        ),
    }
    for choice in choices:
        value = choice.value * area if choice.setting == "min_size" else choice.value
        rows[choice.setting] = (round(float(value), 4), choice.reason)
    if scales.low is not None and scales.high is not None:
        interval = {"interval": [round(scales.low, 2), round(scales.high, 2)]}
    else:
        interval = {}
    parameters = {name: {"value": value, "reason": why} for name, (value, why) in rows.items()}
    parameters["diameter"] |= interval
    if len(set(scales.factors.values())) > 1:
        parameters["scale"]["images"] = {
            stem: round(factor, 4) for stem, factor in scales.factors.items()
        }
    return parameters


def _said(settings: Any, name: str, otherwise: str) -> str:
    default = type(settings)().model_dump()[name]
    return otherwise if getattr(settings, name) == default else "set in the config"


def _thresholds(foreground: Foreground) -> float | str:
    distinct = set(foreground.thresholds)
    return round(float(distinct.pop()), 4) if len(distinct) == 1 else "one for each image"


def _write_parameters(folder: Path, result: _Clustered, prepared: _Prepared) -> None:
    text = yaml.safe_dump(result.parameters, sort_keys=False, allow_unicode=True)
    write_text(folder / "pseudo" / "parameters.yaml", text)
    estimate = prepared.scales.estimate
    if estimate is not None and estimate.diameter is not None:
        names, images = zip(*prepared.found.images.items(), strict=True)
        picture = diameter_picture(images, estimate, names=names)
        write_bytes(folder / "pseudo" / "diameter.png", picture)


def describe_objects(
    stem: str, labels: Labels, confidence: NDArray[np.float64] | None = None
) -> pd.DataFrame:
    """List image, label, area, equivalent diameter, centroid (pixels), confidence of objects."""
    table = pd.DataFrame(
        regionprops_table(labels, properties=("label", "area", "centroid"))
    ).rename(columns={"centroid-0": "y", "centroid-1": "x"})
    table.insert(0, "image", stem)
    table.insert(3, "diameter", np.sqrt(4 * table["area"] / np.pi))
    table["confidence"] = 1.0 if confidence is None else confidence[table["label"] - 1]
    return table.round(2)
