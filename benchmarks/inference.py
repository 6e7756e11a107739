"""Speed of embedding inference, and what more noisy copies are worth, as Markdown tables.

    python benchmarks/inference.py RUN IMAGES MASKS            some minutes for three images
    python benchmarks/inference.py RUN IMAGES MASKS --quick    only shows that everything runs

RUN is a folder that `oce2stardist pseudo` wrote; IMAGES and MASKS are folders of images and of
their true labels. Seconds are of the processor, all threads together, so that other work on the
machine hardly counts.
"""

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from skimage.transform import rescale

from oce2stardist.config import Config
from oce2stardist.embeddings.checkpoint import read_weights
from oce2stardist.embeddings.network import OffsetNetwork
from oce2stardist.embeddings.predict import (
    PredictedOffsets,
    PredictionSettings,
    predict_offsets,
    predict_tiles,
)
from oce2stardist.evaluation.scores import leave_out_border, pool_scores, score_image
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_image
from oce2stardist.labels import resize_labels
from oce2stardist.pseudo_labels.clustering import ClusteringSettings, cluster_embeddings
from oce2stardist.pseudo_labels.foreground import foreground_threshold, smooth_log_spread
from oce2stardist.pseudo_labels.gathering import remove_ungathered
from oce2stardist.pseudo_labels.halo import HaloSettings, remove_halo, remove_small, split_parts

Image = NDArray[np.float32]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Effort:
    """What to measure: tiles in pixels, sizes in megapixels, numbers of noisy copies."""

    tile_sizes: tuple[int, ...]
    sizes: tuple[float, ...]
    rounds: int
    copies: tuple[int, ...]
    reference: int


FULL = Effort(
    tile_sizes=(64, 128, 192, 256, 384, 512, 1024),
    sizes=(0.25, 1, 4, 16),
    rounds=3,
    copies=(2, 4, 6, 8, 12, 16, 24, 32),
    reference=64,
)
QUICK = Effort(tile_sizes=(128, 256), sizes=(0.1, 0.2), rounds=1, copies=(2, 4), reference=6)


@dataclass(frozen=True)
class Scene:
    """An image (Y, X, C) at working scale and its true labels at the scale of the file."""

    image: Image
    truth: Labels


def time_tiles(network: OffsetNetwork, image: Image, effort: Effort) -> None:
    """Print the time of every tile size, measured in turn so that drift hits all alike."""
    image = _repeated(image, 1.0)
    seconds: dict[int, list[float]] = {size: [] for size in effort.tile_sizes}
    for _ in range(effort.rounds):
        for size, taken in seconds.items():
            taken.append(_time(network, image, copies=2, tile_size=size))
    print("| tile, px | seconds a megapixel and copy: least | median |\n|---:|---:|---:|")
    for size, taken in seconds.items():
        print(f"| {size} | {min(taken):.2f} | {np.median(taken):.2f} |")


def time_growth(network: OffsetNetwork, image: Image, tile_size: int, effort: Effort) -> None:
    """Print the time of growing images, which is to grow no faster than they do."""
    print("| megapixels | seconds a copy | seconds a megapixel and copy |\n|---:|---:|---:|")
    for size in effort.sizes:
        large = _repeated(image, size)
        megapixels = large.shape[0] * large.shape[1] / 1e6
        rate = _time(network, large, copies=2, tile_size=tile_size)
        print(f"| {megapixels:.2f} | {rate * megapixels:.2f} | {rate:.2f} |", flush=True)


def _repeated(image: Image, megapixels: float) -> Image:
    """Mirror an image on and on until it is a square of that size."""
    side = round(np.sqrt(megapixels * 1e6))
    beyond = [(0, max(side - length, 0)) for length in image.shape[:2]]
    return np.pad(image, [*beyond, (0, 0)], mode="symmetric")[:side, :side]


def _time(network: OffsetNetwork, image: Image, *, copies: int, tile_size: int) -> float:
    """Predict an image; returns seconds of the processor a megapixel and copy."""
    started = time.process_time()
    settings = PredictionSettings(copies, 0.01, tile_size, "fp32", seed=0)
    for _ in predict_tiles(network, image, settings, device="cpu"):
        pass
    taken = time.process_time() - started
    return taken / copies / (image.shape[0] * image.shape[1] / 1e6)


def compare_copies(
    network: OffsetNetwork, scenes: Sequence[Scene], effort: Effort, *, tile_size: int, border: int
) -> None:
    """Print what each number of copies gives, beside many copies with noise of their own."""

    def predict(copies: int, seed: int) -> list[PredictedOffsets]:
        noise = Config().embedding.noise
        settings = PredictionSettings(copies, noise, tile_size, "fp32", seed)
        return [predict_offsets(network, one.image, settings, device="cpu") for one in scenes]

    reference = predict(effort.reference, 1)
    wanted = _maps(reference)
    print("| copies | correlation of the spread maps | rms difference | F1 | SEG |")
    print("|---:|---:|---:|---:|---:|")
    for copies in effort.copies:
        predicted = predict(copies, 0)
        maps = _maps(predicted)
        pairs = [(a.ravel(), b.ravel()) for a, b in zip(maps, wanted, strict=True)]
        correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
        difference = np.mean([np.std(a - b) for a, b in pairs])
        scores = _score(scenes, predicted, maps, border)
        print(f"| {copies} | {correlation:.4f} | {difference:.3f} | {scores} |", flush=True)
    scores = _score(scenes, reference, wanted, border)
    print(f"| {effort.reference}, the reference | | | {scores} |")


def _maps(predicted: Sequence[PredictedOffsets]) -> list[NDArray[np.float32]]:
    smoothing = Config().pseudo.smoothing
    return [smooth_log_spread(one.spread, smoothing=smoothing) for one in predicted]


def _score(
    scenes: Sequence[Scene],
    predicted: Sequence[PredictedOffsets],
    maps: Sequence[NDArray[np.float32]],
    border: int,
) -> str:
    """F1 and SEG of the pseudo labels, made as `oce2stardist pseudo` makes them."""
    threshold = foreground_threshold(maps)
    scores = []
    for scene, one, spread in zip(scenes, predicted, maps, strict=True):
        labels = _labels(scene.image, one.offsets, spread < threshold)
        both = (resize_labels(labels, scene.truth.shape), scene.truth)
        found, truth = (leave_out_border(part, border) for part in both)
        scores.append(score_image(found, truth))
    pooled = pool_scores(scores)
    return f"{pooled.f1:.3f} | {pooled.seg:.3f}"


def _labels(
    image: Image, offsets: NDArray[np.float32], foreground: NDArray[np.bool_]
) -> NDArray[np.int32]:
    settings = Config().pseudo
    cell_area = np.pi / 4 * settings.working_diameter**2
    clusters = ClusteringSettings(
        settings.kernel_radius,
        settings.clustering,
        settings.bin_seeding,
        settings.fitted_share,
        seed=0,
    )
    labels = cluster_embeddings(offsets, foreground, clusters)
    labels = remove_small(split_parts(labels), min_size=settings.min_cluster * cell_area)
    gathered = remove_ungathered(labels, offsets, max_ratio=settings.max_ratio)
    diameter = settings.working_diameter
    reach = settings.reach * diameter
    halo = HaloSettings(settings.halo, settings.shrink, settings.level, reach, diameter)
    trimmed = remove_halo(gathered, image, None, halo)
    return remove_small(trimmed, min_size=settings.min_size * cell_area)


def _read_scenes(images: Path, masks: Path, *, scale: float, count: int) -> list[Scene]:
    """Read some images, drawn with a fixed seed, and their labels."""
    files = sorted(path for path in images.iterdir() if path.suffix in (".tif", ".png"))
    truths: Mapping[str, Path] = {path.stem: path for path in masks.iterdir()}
    scenes = []
    for path in random.Random(1).sample(files, min(count, len(files))):
        image = read_image(path)
        if scale != 1.0:
            image = rescale(image, scale, order=1, channel_axis=-1, anti_aliasing=scale < 1)
        scenes.append(Scene(normalise_percentiles(image), read_labels(truths[path.stem])))
    return scenes


def _working_scale(run: Path) -> float:
    parameters = yaml.safe_load((run / "pseudo" / "parameters.yaml").read_text(encoding="utf-8"))
    return float(parameters["scale"]["value"])


def main() -> None:
    """Measure and print, table by table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that `oce2stardist pseudo` wrote")
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--count", type=int, default=3, help="images to take, drawn by chance")
    parser.add_argument("--border", type=int, default=0, help="pixels left out of the scores")
    parser.add_argument("--scale", type=float, help="default: that of the run")
    parser.add_argument("--tile-size", type=int, default=256)
    parser.add_argument("--part", choices=("tiles", "growth", "copies"), help="default: all")
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    given = parser.parse_args()
    effort = QUICK if given.quick else FULL
    network = read_weights(given.run / "oce" / "weights.safetensors")
    scale = given.scale or _working_scale(given.run)
    scenes = _read_scenes(given.images, given.masks, scale=scale, count=given.count)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    if given.part in (None, "tiles"):
        time_tiles(network, scenes[0].image, effort)
        print()
    if given.part in (None, "growth"):
        time_growth(network, scenes[0].image, given.tile_size, effort)
        print()
    if given.part in (None, "copies"):
        compare_copies(network, scenes, effort, tile_size=given.tile_size, border=given.border)


if __name__ == "__main__":
    main()
