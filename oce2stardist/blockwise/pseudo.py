"""Label whole images larger than memory with what was chosen on crops of them."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from distributed import Client

from oce2stardist.blockwise.job import label_in_blocks, plane_folder, store_of
from oce2stardist.blockwise.masks import Masks
from oce2stardist.blockwise.offsets import EmbeddingImage
from oce2stardist.pseudo_labels.label_images import LabelledImages
from oce2stardist.pseudo_labels.segment import ImageStatistics, measure_whole
from oce2stardist.runs.progress import Reporter, SilentReporter

LABELS = "pseudo"
"""Name of the label image inside the ``labels`` group."""


def label_whole_images(
    made: LabelledImages,
    run: Path,
    *,
    client: Client,
    side: int,
    in_place: bool = False,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, int]:
    """Label the whole images of a run on `LargeImages`; returns numbers of objects by name.

    Parameters
    ----------
    made : LabelledImages
        The result of that run.
    run : Path
        Its folder; labels and tables come into ``pseudo/whole``.
    client, reporter, should_stop
        As in `label_in_blocks`.
    side, in_place
        See `Blocks`.
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
    made: LabelledImages, run: Path, output: Path, *, side: int, in_place: bool
) -> Iterator[EmbeddingImage]:
    from oce2stardist.embeddings.predict import PredictionSettings

    config, prepared = made.config, made.prepared
    prediction = PredictionSettings.of(config.embedding, copies=made.copies, seed=config.seed)
    reach = max([config.pseudo.working_diameter / 2 / prepared.scales.median, *_reaches(made)])
    for name, working in prepared.whole.items():
        threshold, measured = _measured(made, name)
        yield EmbeddingImage(
            image=working.image,
            device=config.device,
            side=side,
            work=plane_folder(working.image, output),
            store=store_of(working.image, output, in_place=in_place),
            arrays=(),
            known_reach=reach,
            weights=run / "oce" / "weights.safetensors",
            working=working,
            prediction=prediction,
            spread=config.pseudo.spread,
            smoothing=config.pseudo.smoothing,
            threshold=threshold,
            settings=made.settings,
            whole=measured,
            variants=config.pseudo.variants,
        )


def _measured(made: LabelledImages, name: str) -> tuple[float, ImageStatistics]:
    """Take threshold, centre and signal from an image's crops; without any, from all crops."""
    scenes, image_of = made.scenes, made.prepared.image_of
    own = [crop for crop in scenes if image_of[crop] == name] or list(scenes)
    parts = [
        (scene.offsets, scene.foreground, scene.image) for scene in map(scenes.__getitem__, own)
    ]
    threshold = float(np.median([scenes.thresholds[crop] for crop in own]))
    return threshold, measure_whole(parts, made.settings, seed=made.config.seed)


def _reaches(made: LabelledImages) -> Iterator[float]:
    """Tell for every crop how far its cells reach from their centroids, stored pixels."""
    for labels in made.labels.values():
        whole = (slice(0, labels.shape[0]), slice(0, labels.shape[1]))
        sure = np.ones(int(labels.max(initial=0)))
        yield Masks.from_labels(labels, sure, corner=(0, 0), core=whole).reach
