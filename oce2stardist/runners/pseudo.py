"""Stage one: unlabelled images in, pseudo ground truth out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from skimage.measure import regionprops_table
from skimage.transform import rescale

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.io import (
    normalise_percentiles,
    replacing,
    write_labels,
    write_overlay,
    write_text,
)
from oce2stardist.pseudo_gt import (
    cluster_embeddings,
    foreground_threshold,
    remove_halo,
    remove_small,
    remove_ungathered,
    smooth_log_spread,
    split_parts,
)
from oce2stardist.runners.inputs import (
    Image,
    ImageSet,
    Labels,
    annotated_diameter,
    read_images,
    read_matching_labels,
)
from oce2stardist.runners.interruption import Interrupted, stop_on_signal
from oce2stardist.runners.progress import Reporter, SilentReporter
from oce2stardist.runners.run_folder import Stage, Times, digest, write_run_file

if TYPE_CHECKING:  # torch is loaded when a run needs it
    from oce2stardist.embeddings.network import OffsetNetwork

_SMALLEST_SIDE = 18
"""Pixels at working scale: one more than the field of view, rounded up to even."""


@dataclass(frozen=True)
class PseudoResult:
    """Pseudo labels by image stem, and the parameters that were used with their reasons."""

    labels: dict[str, Labels]
    parameters: dict[str, dict[str, Any]]
    seconds: dict[str, float]


def make_pseudo_labels(
    images: str | Path,
    output: str | Path,
    *,
    config: Config | None = None,
    diameter: float | None = None,
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
    diameter : float, optional
        Median cell diameter in pixels. Images are rescaled so that it becomes
        ``config.pseudo.working_diameter``. Default: that of the annotated cells; without
        annotations, images are taken as they are.
    annotations : path, optional
        Label images matched to the images by stem; here they only tell the diameter.
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
    """
    config = config or Config()
    reporter = reporter or SilentReporter()
    folder = Path(output)
    found = read_images(images, axes=axes)
    scale = _choose_scale(found, config, diameter=diameter, annotations=annotations)
    working = {
        stem: _to_working_scale(image, scale["value"]) for stem, image in found.images.items()
    }
    for stem, image in working.items():
        if min(image.shape[:2]) < _SMALLEST_SIDE:
            raise InputError(
                f"images must measure at least {_SMALLEST_SIDE} pixels a side at working scale. "
                f"Got {image.shape[0]}x{image.shape[1]} for {stem} at scale "
                f"{scale['value']:.3g}; leave it out or check --diameter."
            )
    inputs = {"images": len(found.paths), "sha256": digest(found.paths.values())}
    basis = {"inputs": inputs, "axes": axes, "seed": config.seed, "scale": scale["value"]}
    oce = Stage(
        folder / "oce",
        basis | {"embedding": config.embedding.model_dump(mode="json")},
        overwrite=overwrite,
        results=("predicted", "state.pt", "weights.safetensors", "history.csv"),
    )
    # New pseudo settings on the same embeddings cost seconds, so they are simply computed.
    stage = Stage(
        folder / "pseudo",
        {"embedding": oce.fingerprint, "pseudo": config.pseudo.model_dump(mode="json")},
        overwrite=True,
        results=("labels", "overlays", "objects.csv", "parameters.yaml"),
    )
    if not (oce.resumes and stage.finished):
        write_run_file(folder, command=command, config=config, inputs=inputs)

    times = Times(folder / "times.yaml", keep=oce.resumes)
    if oce.finished:
        reporter.say(f"Embeddings in {folder / 'oce'} are finished and are used again.")
    else:
        with times.measure("embedding_training"):
            network = _train(working, found.channels, config, folder, oce, reporter)
        with times.measure("inference"):
            _predict(network, working, config, folder, reporter)
        oce.finish()

    with times.measure("clustering"):
        labels, parameters = _cluster(found, working, config, folder, scale, overlay, reporter)
    parameters["trained_on"] = {"value": len(found.paths), "reason": "images given"}
    write_text(folder / "pseudo" / "parameters.yaml", yaml.safe_dump(parameters, sort_keys=False))
    stage.finish()
    return PseudoResult(labels, parameters, times.seconds)


def _choose_scale(
    found: ImageSet, config: Config, *, diameter: float | None, annotations: str | Path | None
) -> dict[str, Any]:
    """Find the factor that brings the median cell to the working diameter, and say why."""
    working = config.pseudo.working_diameter
    if diameter is not None:
        reason = f"a diameter of {diameter:g} px was given"
    elif annotations is not None:
        labels, _ = read_matching_labels(found, annotations)
        diameter = annotated_diameter(labels)
        reason = f"the annotated cells have a median diameter of {diameter:.1f} px"
    else:
        diameter = working
        reason = f"no diameter was given, so {working:g} px is assumed; pass --diameter if not"
    if not 2 <= diameter <= 2000:
        raise InputError(
            f"the diameter must be between 2 and 2000 pixels. Got {diameter:g} instead."
        )
    scale = working / diameter
    # A tenth of the size does not matter to the network; resampling costs sharpness.
    close = abs(np.log(scale)) < np.log(1.1)
    return {
        "value": 1.0 if close else float(scale),
        "diameter": float(diameter),
        "reason": reason + (" (close enough to work at the original scale)" if close else ""),
    }


def _to_working_scale(image: Image, scale: float) -> Image:
    if scale != 1.0:
        image = rescale(
            image, scale, order=1, channel_axis=-1, anti_aliasing=scale < 1, preserve_range=True
        )
    return normalise_percentiles(image)


def _train(
    working: dict[str, Image],
    channels: int,
    config: Config,
    folder: Path,
    stage: Stage,
    reporter: Reporter,
) -> "OffsetNetwork":
    """Train the offset network, or go on where an interrupted run stopped."""
    from oce2stardist.embeddings.checkpoint import read_state, write_state, write_weights
    from oce2stardist.embeddings.train import train_offsets

    settings = config.embedding
    state_file = stage.folder / "state.pt"
    state = read_state(state_file) if stage.resumes and state_file.exists() else None
    if state is not None:
        reporter.say(f"Going on after step {state['step']} of {settings.steps}.")
    with (
        stop_on_signal() as should_stop,
        reporter.task("Training embeddings", settings.steps) as advance,
    ):
        run = train_offsets(
            list(working.values()),
            **settings.model_dump(exclude={"copies", "noise", "tile_size"}),
            device=config.device,
            seed=config.seed,
            resume=state,
            save=lambda current: write_state(state_file, current),
            on_step=lambda done, loss: advance(done, f"loss {loss:.3f}"),
            should_stop=should_stop,
        )
    history = pd.DataFrame(run.history)
    write_text(stage.folder / "history.csv", history.to_csv(index=False))
    if not run.finished:
        raise Interrupted(
            f"Stopped after step {len(run.history)} of {settings.steps}; "
            "the same command goes on from there."
        )
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
    copies = choose_copies(settings.copies, working)
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


def choose_copies(given: int | None, working: dict[str, Image]) -> int:
    """Take the number of noisy copies given, else 24 for small sets of images, 6 for large.

    More copies measure the spread better, at a cost in proportion: 60 copies of a megapixel
    take about a minute on two cores.
    """
    if given is not None:
        return given
    megapixels = sum(image.shape[0] * image.shape[1] for image in working.values()) / 1e6
    return 2 * int(np.clip(round(60 / megapixels / 2), 3, 12))


def _predicted_file(folder: Path, stem: str) -> Path:
    return folder / "oce" / "predicted" / f"{stem}.safetensors"


def read_predicted(folder: Path, stem: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the offsets (2, Y, X) and the spread (Y, X) of one image, at working scale."""
    arrays = load_file(_predicted_file(folder, stem))
    return arrays["offsets"].astype(np.float32), arrays["spread"].astype(np.float32)


def _cluster(
    found: ImageSet,
    working: dict[str, Image],
    config: Config,
    folder: Path,
    scale: dict[str, Any],
    overlay: bool,
    reporter: Reporter,
) -> tuple[dict[str, Labels], dict[str, dict[str, Any]]]:
    """Turn predicted offsets into label files and objects.csv; also returns the parameters."""
    settings = config.pseudo
    maps = {
        stem: smooth_log_spread(read_predicted(folder, stem)[1], smoothing=settings.smoothing)
        for stem in working
    }
    pooled = foreground_threshold(list(maps.values()))
    bandwidth = settings.kernel_radius
    cell_area = np.pi / 4 * settings.working_diameter**2
    min_size, min_cluster = settings.min_size * cell_area, settings.min_cluster * cell_area
    labels: dict[str, Labels] = {}
    objects = []
    with reporter.task("Finding objects", len(working)) as advance:
        for done, (stem, image) in enumerate(working.items(), start=1):
            threshold = (
                pooled if settings.threshold == "pooled" else foreground_threshold([maps[stem]])
            )
            offsets, _ = read_predicted(folder, stem)
            clusters = cluster_embeddings(
                offsets,
                maps[stem] < threshold,
                bandwidth=bandwidth,
                method=settings.clustering,
                seed=config.seed,
            )
            clusters = remove_small(split_parts(clusters), min_size=min_cluster)
            gathered = remove_ungathered(clusters, offsets, max_ratio=settings.max_ratio)
            trimmed = remove_halo(gathered, image, method=settings.halo, shrink=settings.shrink)
            shape = found.images[stem].shape[:2]
            labels[stem] = resize_labels(remove_small(trimmed, min_size=min_size), shape)
            write_labels(folder / "pseudo" / "labels" / f"{stem}.tif", labels[stem])
            if overlay:
                write_overlay(
                    folder / "pseudo" / "overlays" / f"{stem}.png",
                    found.images[stem],
                    labels[stem],
                )
            objects.append(describe_objects(stem, labels[stem]))
            advance(done, f"{labels[stem].max()} objects in {stem}")
    table = pd.concat(objects, ignore_index=True)
    write_text(folder / "pseudo" / "objects.csv", table.to_csv(index=False))
    if table.empty:
        reporter.say("No object was found in any image: check --diameter and the report.")
    chosen = {
        "copies": {
            "value": choose_copies(config.embedding.copies, working),
            "reason": "set in the config" if config.embedding.copies else "by the size of the set",
        },
        "scale": {"value": scale["value"], "reason": scale["reason"]},
        "threshold": {
            "value": round(pooled, 4) if settings.threshold == "pooled" else "per image",
            "reason": "Otsu on the smoothed log spread of "
            + ("all images together" if settings.threshold == "pooled" else "each image"),
        },
        "bandwidth": {
            "value": bandwidth,
            "reason": "set in the config" if settings.bandwidth else "0.43 of the working diameter",
        },
        "halo": {
            "value": settings.halo,
            "reason": "set in the config"
            + (f", {settings.shrink:g} px" if settings.halo == "shrink" else ""),
        },
        "min_cluster": {
            "value": round(float(min_cluster), 1),
            "reason": f"{settings.min_cluster:g} of the area of a cell of working diameter; "
            "even a speck carries its halo",
        },
        "max_ratio": {
            "value": settings.max_ratio,
            "reason": "set in the config; objects whose pixels do not come together are background",
        },
        "min_size": {
            "value": round(float(min_size), 1),
            "reason": f"{settings.min_size:g} of the area of a cell of working diameter",
        },
    }
    return labels, chosen


def resize_labels(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Bring labels to another size without mixing them: each pixel takes the nearest one."""
    if labels.shape == tuple(shape):
        return labels
    rows, columns = (
        np.minimum(((np.arange(wanted) + 0.5) * have / wanted).astype(np.int64), have - 1)
        for wanted, have in zip(shape, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def describe_objects(stem: str, labels: Labels) -> pd.DataFrame:
    """List image, label, area, equivalent diameter and centroid (pixels) of every object."""
    table = pd.DataFrame(
        regionprops_table(labels, properties=("label", "area", "centroid"))
    ).rename(columns={"centroid-0": "y", "centroid-1": "x"})
    table.insert(0, "image", stem)
    table.insert(3, "diameter", np.sqrt(4 * table["area"] / np.pi))
    return table.round(2)
