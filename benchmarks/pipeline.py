"""Speed of every stage on this machine, as a Markdown table.

    python benchmarks/pipeline.py            a few minutes
    python benchmarks/pipeline.py --quick    only shows that everything runs

The image is the 512x512 one of fluorescent nuclei that stardist ships. As in the product,
torch and TensorFlow run in processes of their own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from skimage.transform import rescale
from sklearn.metrics import adjusted_rand_score
from stardist.data import test_image_nuclei_2d

from oce2stardist.config import Config
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import median_diameter
from oce2stardist.pseudo_labels.clustering import ClusteringSettings, cluster_embeddings
from oce2stardist.pseudo_labels.foreground import foreground_threshold, smooth_log_spread
from oce2stardist.runs.folder import package_versions
from oce2stardist.runs.processor import describe_processor
from oce2stardist.training_labels.draw_cells import draw_cells
from oce2stardist.training_labels.merge import keep_cells

Result = TypeVar("Result")

METHODS: tuple[Literal["density", "mean_shift"], ...] = ("density", "mean_shift")

_ANNOTATED = 0.1
"""Share of the cells that the sparse half of the StarDist patches knows."""


@dataclass(frozen=True)
class Effort:
    """How long to measure, and on how much of the image (`side`, pixels).

    `seconds` ends a training, and a third of it the repeats of a call, on a slow machine.
    """

    embedding_steps: int
    stardist_steps: int
    seconds: float
    repeats: int
    copies: int
    side: int


FULL = Effort(embedding_steps=200, stardist_steps=100, seconds=60.0, repeats=7, copies=6, side=512)
QUICK = Effort(embedding_steps=15, stardist_steps=15, seconds=7.0, repeats=2, copies=2, side=256)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    value: float
    unit: str
    details: str


def benchmark_embeddings(effort: Effort) -> list[Row]:
    """Time training, inference and clustering of embeddings."""
    from oce2stardist.embeddings.device import resolve_precision, torch_device
    from oce2stardist.embeddings.predict import PredictionSettings, predict_offsets
    from oce2stardist.embeddings.train import train_offsets

    config = Config()
    settings, pseudo = config.embedding, config.pseudo
    image, truth = _nuclei(effort.side)
    diameter = median_diameter([truth])
    assert diameter is not None
    scale = pseudo.working_diameter / diameter
    image = normalise_percentiles(rescale(image, scale, order=1, channel_axis=-1))

    deadline = time.monotonic() + effort.seconds
    run = train_offsets(
        [image],
        settings.model_copy(update={"steps": effort.embedding_steps}),
        device=config.device,
        seed=config.seed,
        should_stop=lambda: time.monotonic() > deadline,
    )
    device = torch_device(config.device)
    where = f"{device.type}, {resolve_precision(device, settings.precision)}"
    step, how = _median_step(run.history)
    rows = [
        Row(
            "Embedding training, a step",
            step,
            "s",
            f"{settings.batch_size} crops of {settings.crop_size} px, {where}; {how}",
        )
    ]

    prediction = PredictionSettings.of(settings, copies=effort.copies, seed=config.seed)
    predicted, seconds, how = _median_time(
        lambda: predict_offsets(run.network, image, prediction, device=config.device), effort
    )
    megapixels = image.shape[0] * image.shape[1] / 1e6
    rows.append(
        Row(
            "Embedding inference, a megapixel and noisy copy",
            seconds / megapixels / effort.copies,
            "s",
            f"{image.shape[0]}x{image.shape[1]} px, {effort.copies} copies, {where}; {how}",
        )
    )

    spread = smooth_log_spread(predicted.spread, smoothing=pseudo.smoothing)
    foreground = spread < foreground_threshold([spread])
    bandwidth = pseudo.kernel_radius
    clusters: dict[str, NDArray[np.int32]] = {}
    taken: dict[str, float] = {}
    for method in METHODS:
        labels, taken[method], how = _median_time(
            partial(
                cluster_embeddings,
                predicted.offsets,
                foreground,
                ClusteringSettings(
                    bandwidth, method, pseudo.bin_seeding, pseudo.fitted_share, config.seed
                ),
            ),
            effort,
        )
        clusters[method] = labels[foreground]
        rows.append(
            Row(
                f"Clustering an image, {method}",
                taken[method],
                "s",
                f"{len(np.unique(clusters[method]))} clusters in {foreground.sum()} px, "
                f"bandwidth {bandwidth:.3g} px; {how}",
            )
        )
    trained = f"offsets after {len(run.history)} training steps"
    ratio = taken["mean_shift"] / taken["density"]
    agreement = adjusted_rand_score(clusters["mean_shift"], clusters["density"])
    return [
        *rows,
        Row("Clustering, time of mean_shift over density", ratio, "", trained),
        Row("Clustering, adjusted Rand index of the two", agreement, "", f"foreground, {trained}"),
    ]


def benchmark_stardist(effort: Effort) -> list[Row]:
    """Time training and prediction of StarDist, and the making of patches."""
    from oce2stardist.stardist_model.network import create_model, prepare_tensorflow
    from oce2stardist.stardist_model.patches import BatchStream, PatchSource
    from oce2stardist.stardist_model.predict import predict_labels
    from oce2stardist.stardist_model.train import Checks, train_stardist

    config = Config()
    settings = config.stardist
    prepare_tensorflow(config.device)

    import tensorflow as tf  # only now, when it has been loaded without its noise

    where = "cuda" if tf.config.get_visible_devices("GPU") else "cpu"
    image, truth = _nuclei(effort.side)
    image = normalise_percentiles(image)
    drawn = draw_cells({"nuclei": truth}, fraction=_ANNOTATED, seed=config.seed)["nuclei"]
    # The truth takes the place of the pseudo labels, which are as dense.
    sparse, pseudo = (
        PatchSource(
            [image],
            [labels],
            patch_size=settings.patch_size,
            around_objects=settings.around_objects,
        )
        for labels in (keep_cells(truth, drawn), truth)
    )
    half = settings.batch_size // 2
    batches = BatchStream(
        sparse,
        pseudo,
        n_sparse=half,
        n_pseudo=half,
        n_rays=settings.n_rays,
        grid=settings.grid,
        intensity=settings.intensity,
        seed=config.seed,
    )
    patches = f"{settings.batch_size} patches of {settings.patch_size} px"
    with TemporaryDirectory() as folder:
        model = create_model(
            Path(folder) / "model",
            settings,
            channels=image.shape[-1],
            seed=config.seed,
        )
        deadline = time.monotonic() + effort.seconds
        run = train_stardist(
            model,
            batches,
            n_sparse=half,
            alpha=settings.alpha,
            steps=effort.stardist_steps,
            rate_at=lambda step: settings.learning_rate,
            checks=Checks(every=effort.stardist_steps, keep=lambda _: None),
            should_stop=lambda: time.monotonic() > deadline,
        )
        step, how = _median_step(run.history)
        _, making, making_how = _median_time(lambda: batches.batch(0), effort)
        cells, predicting, predicting_how = _median_time(
            lambda: predict_labels(model, image), effort
        )
    megapixels = image.shape[0] * image.shape[1] / 1e6
    return [
        Row(
            "StarDist training, a step",
            step,
            "s",
            f"{patches} made in the background, {where}; {how}",
        ),
        Row("StarDist patches, a batch alone", making, "s", f"{patches}, one thread; {making_how}"),
        Row(
            "StarDist prediction, a megapixel",
            predicting / megapixels,
            "s",
            f"{image.shape[0]}x{image.shape[1]} px, {cells.max()} cells, {where}; {predicting_how}",
        ),
    ]


PARTS = {"embeddings": benchmark_embeddings, "stardist": benchmark_stardist}


def _nuclei(side: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return a corner of the image (Y, X, 1) and its true labels (Y, X)."""
    image, truth = (part[:side, :side] for part in test_image_nuclei_2d(return_mask=True))
    return image[..., None].astype(np.float32), truth.astype(np.int32)


def _median_time(call: Callable[[], Result], effort: Effort) -> tuple[Result, float, str]:
    """Call once to warm up, then time more calls; also says how it was measured."""
    result = call()
    seconds: list[float] = []
    while len(seconds) < effort.repeats and sum(seconds) < effort.seconds / 3:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return result, float(np.median(seconds)), f"median of {len(seconds)}"


def _median_step(history: Sequence[dict[str, float]]) -> tuple[float, str]:
    """Median over the second half of a training; the first half is the warm-up."""
    seconds = np.diff([row["seconds"] for row in history], prepend=0.0)
    later = seconds[len(seconds) // 2 :]
    return float(np.median(later)), f"median of {len(later)}"


def _machine() -> str:
    """Name the processor, its cores and how busy they are."""
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    return f"{describe_processor()['name']}, {os.cpu_count()} cores{load}"


def main() -> None:
    """Run both parts, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        rows = PARTS[arguments.part](QUICK if arguments.quick else FULL)
        print(json.dumps([asdict(row) for row in rows]))
        return

    print(f"{_machine()}, {platform.system()}, {date.today().isoformat()}\n")
    print(", ".join(f"{name} {number}" for name, number in package_versions().items()) + "\n")
    if arguments.quick:
        print("Quick: a corner of the image, networks hardly trained, rough numbers.\n")
    print("| Measured | Value | Details |\n|---|---:|---|", flush=True)
    for part in PARTS:
        command = [sys.executable, __file__, "--part", part, *["--quick"] * arguments.quick]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for row in json.loads(done.stdout.splitlines()[-1]):
            value = f"{row['value']:.3g} {row['unit']}".strip()
            print(f"| {row['name']} | {value} | {row['details']} |", flush=True)


if __name__ == "__main__":
    main()
