"""Pseudo labels of whole images larger than memory, with what was chosen on crops of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from distributed import Client

from oce2stardist.blockwise.job import block_workers, label_in_blocks, plane_folder, store_of
from oce2stardist.blockwise.masks import Masks
from oce2stardist.blockwise.offsets import EmbeddingPlane
from oce2stardist.config import Config
from oce2stardist.images.crops import WholeImages
from oce2stardist.images.lazy import LazyImage
from oce2stardist.labels import Labels
from oce2stardist.pseudo_labels import WholeImage, measure_whole
from oce2stardist.runners.pseudo import (
    Made,
    PseudoResult,
    make_pseudo_labels,
    number_of_copies,
)
from oce2stardist.runs.cluster import Where
from oce2stardist.runs.folder import owned
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter, SilentReporter

LABELS = "pseudo"
"""Name of the label image inside the ``labels`` group."""


def make_whole_pseudo_labels(
    images: Sequence[LazyImage],
    output: str | Path,
    *,
    where: Where,
    config: Config | None = None,
    diameter: float | str | Path | None = None,
    annotations: str | Path | Mapping[str, Labels] | None = None,
    axes: str | None = None,
    trained: str | Path | None = None,
    side: int = 2048,
    in_place: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
    command: str = "make_whole_pseudo_labels",
    reporter: Reporter | None = None,
) -> tuple[PseudoResult, WholeImages, dict[str, int]]:
    """Train embeddings on images that need not fit into memory, and label them block by block.

    Takes the parameters of `oce2stardist.runners.pseudo.make_pseudo_labels` but for images, and
    those of `label_whole_images`. Settings are chosen on crops, written to ``output/crops``;
    `annotations` are those of crops.

    Parameters
    ----------
    images : sequence of LazyImage
    where : Where
        Where blocks are worked on. Training runs in this process.

    Returns
    -------
    result : PseudoResult
        Of the crops.
    whole : WholeImages
        The crops.
    counts : dict of image name to number of objects
    """
    config = config or Config()
    whole = WholeImages.sample(images, seed=config.seed).with_files(Path(output) / "crops")
    result = make_pseudo_labels(
        whole,
        output,
        config=config,
        diameter=diameter,
        annotations=annotations,
        axes=axes,
        trained=trained,
        overlay=overlay,
        overwrite=overwrite,
        command=command,
        reporter=reporter,
    )
    if result.made is None:  # one of several processes under torchrun, and not the main one
        return result, whole, {}
    with (
        owned(Path(output)),
        logged(reporter, f"{command}, the whole images") as log,
        block_workers(where, deterministic=config.deterministic) as (client, should_stop),
    ):
        log.open(Path(output))
        counts = label_whole_images(
            result.made,
            Path(output),
            client=client,
            side=side,
            in_place=in_place,
            reporter=log,
            should_stop=should_stop,
        )
    return result, whole, counts


def label_whole_images(
    made: Made,
    run: Path,
    *,
    client: Client,
    side: int = 2048,
    in_place: bool = False,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, int]:
    """Label the whole images of a run of `make_pseudo_labels` on `WholeImages`.

    Parameters
    ----------
    made : Made
        Of the result of that run.
    run : Path
        Its folder; labels and tables come into ``pseudo/whole``.
    client : distributed.Client
        Its workers must see the same folders.
    side : int
        Of a block, pixels.
    in_place : bool
        Write into the ``labels`` group of each OME-Zarr itself.
    reporter : Reporter, optional
    should_stop : callable
        Looked at every second.

    Returns
    -------
    dict of image name to number of objects

    Raises
    ------
    InputError
        If labels would replace those of others.
    Interrupted
        If `should_stop` said so; the same call goes on from there.
    """
    run = run.resolve()  # a worker's working directory is its own
    output = run / "pseudo" / "whole"
    output.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    planes = _planes(made, run, output, side=side, in_place=in_place)
    for _, group in groupby(planes, key=lambda plane: (plane.image.path, plane.image.stem)):
        counts |= label_in_blocks(
            list(group),
            output,
            name=LABELS,
            client=client,
            reporter=reporter or SilentReporter(),
            should_stop=should_stop,
        )
    return counts


def _planes(
    made: Made, run: Path, output: Path, *, side: int, in_place: bool
) -> Iterator[EmbeddingPlane]:
    from oce2stardist.embeddings.predict import PredictionSettings

    config, prepared = made.config, made.prepared
    copies = number_of_copies(config.embedding.copies, prepared)
    prediction = PredictionSettings.of(config.embedding, copies=copies, seed=config.seed)
    reach = max([config.pseudo.working_diameter / 2 / prepared.scales.median, *_reaches(made)])
    for name, working in prepared.whole.items():
        threshold, measured = _measured(made, name)
        yield EmbeddingPlane(
            image=working.image,
            device=config.device,
            side=side,
            work=plane_folder(working.image, output),
            store=store_of(working.image, output, in_place=in_place),
            arrays=(),
            weights=run / "oce" / "weights.safetensors",
            working=working,
            prediction=prediction,
            spread=config.pseudo.spread,
            smoothing=config.pseudo.smoothing,
            threshold=threshold,
            recipe=made.pseudo.recipe,
            whole=measured,
            variants=config.pseudo.variants,
            reach_in_crops=reach,
        )


def _measured(made: Made, name: str) -> tuple[float, WholeImage]:
    """Take threshold, centre and signal from an image's crops; without any, from all crops."""
    scenes, image_of = made.pseudo.scenes, made.prepared.image_of
    own = [crop for crop in scenes if image_of[crop] == name] or list(scenes)
    parts = [(one.offsets, one.foreground, one.image) for one in map(scenes.__getitem__, own)]
    threshold = float(np.median([scenes.thresholds[crop] for crop in own]))
    return threshold, measure_whole(parts, made.pseudo.recipe, seed=made.config.seed)


def _reaches(made: Made) -> Iterator[float]:
    """Tell for every crop how far its cells reach from their centroids, stored pixels."""
    for labels in made.pseudo.labels.values():
        whole = (slice(0, labels.shape[0]), slice(0, labels.shape[1]))
        sure = np.ones(int(labels.max(initial=0)))
        yield Masks.from_labels(labels, sure, corner=(0, 0), core=whole).reach
