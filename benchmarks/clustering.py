"""Speed and agreement of density clustering beside scikit-learn's mean shift, as Markdown.

    python benchmarks/clustering.py RUN [RUN ...]

RUN is a folder that `oce2stardist pseudo` wrote. The reference, mean shift as the paper's code
calls it, takes about a minute for an image of 520x696 pixels; with --cache FOLDER it is computed
once. --no-reference leaves it out. Seconds are processor time.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from oce2stardist.config import PseudoConfig
from oce2stardist.evaluation.scores import score_image
from oce2stardist.pseudo_labels.clustering import ClusteringSettings, cluster_embeddings
from oce2stardist.pseudo_labels.foreground import foreground_threshold, smooth_log_spread
from oce2stardist.pseudo_labels.inputs import read_predicted

Labels = NDArray[np.int32]

SIDES = (512, 1024, 2048, 4096)
"""Pixels; mosaics of 0.25 to 16 megapixels."""


@dataclass(frozen=True)
class Item:
    """One predicted image: offsets (2, Y, X) and foreground (Y, X)."""

    name: str
    offsets: NDArray[np.float32]
    foreground: NDArray[np.bool_]


def read_items(run: Path, settings: PseudoConfig) -> list[Item]:
    """Read every predicted image of a run, with the foreground of the pooled threshold."""
    stems = sorted(path.stem for path in (run / "oce" / "predicted").glob("*.safetensors"))
    predicted = {stem: read_predicted(run, stem) for stem in stems}
    maps = {
        stem: smooth_log_spread(spread, smoothing=settings.smoothing)
        for stem, (_, spread) in predicted.items()
    }
    threshold = foreground_threshold(list(maps.values()))
    return [
        Item(f"{run.name}/{stem}", predicted[stem][0], maps[stem] < threshold) for stem in stems
    ]


def spread_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Take at most `count` items, evenly from the list."""
    step = max(1, len(items) // count)
    return list(items[::step][:count])


def timed(call: Callable[[], Labels]) -> tuple[Labels, float]:
    """Return what a call returns, and its seconds of processor time."""
    start = time.process_time()
    labels = call()
    return labels, time.process_time() - start


def clusterer(item: Item, **options: Any) -> Callable[[], Labels]:
    """Cluster an item with these options, when called."""
    defaults: dict[str, Any] = {"bin_seeding": True, "fitted_share": 0.1, "seed": 0}
    settings = ClusteringSettings(**defaults | options)
    return partial(cluster_embeddings, item.offsets, item.foreground, settings)


def reference(
    item: Item, *, bandwidth: float, seed: int, cache: Path | None
) -> tuple[Labels, float]:
    """Cluster as the paper's code does, or read what an earlier run found."""
    call = clusterer(item, bandwidth=bandwidth, method="mean_shift", bin_seeding=False, seed=seed)
    if cache is None:
        return timed(call)
    path = cache / f"{item.name.replace('/', '_')}_{bandwidth:g}_{seed}.npz"
    if not path.exists():
        labels, seconds = timed(call)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, labels=labels, seconds=seconds)
    stored = np.load(path)
    return stored["labels"], float(stored["seconds"])


def compare(
    item: Item, *, bandwidth: float, cache: Path | None, seeds: Sequence[int]
) -> dict[str, Any]:
    """Measure one image: a row of the table."""
    fastest = [timed(clusterer(item, bandwidth=bandwidth, method="density")) for _ in range(3)]
    ours, seconds = min(fastest, key=lambda pair: pair[1])
    _, bin_seconds = timed(clusterer(item, bandwidth=bandwidth, method="mean_shift"))
    whole, _ = timed(clusterer(item, bandwidth=bandwidth, method="mean_shift", fitted_share=1.0))
    row: dict[str, Any] = {
        "image": item.name,
        "foreground px": int(item.foreground.sum()),
        "objects": int(ours.max()),
        "s": seconds,
        "s, bins": bin_seconds,
        "ARI to all pixels": agreement(item, ours, whole),
    }
    drawn = [reference(item, bandwidth=bandwidth, seed=seed, cache=cache) for seed in seeds]
    if drawn:
        labels, reference_seconds = drawn[0]
        row |= {
            "s, paper's code": reference_seconds,
            "ratio": reference_seconds / seconds,
            "ARI": np.mean([agreement(item, ours, other) for other, _ in drawn]),
            "lowest ARI": min(agreement(item, ours, other) for other, _ in drawn),
            "objects found": score_image(ours, labels).recall,
        }
    if len(drawn) > 1:
        row["ARI of two draws"] = agreement(item, drawn[0][0], drawn[1][0])
        row["found in two draws"] = score_image(drawn[1][0], drawn[0][0]).recall
    return row


def agreement(item: Item, one: Labels, other: Labels) -> float:
    """Adjusted Rand index over the foreground."""
    return float(adjusted_rand_score(one[item.foreground], other[item.foreground]))


def mosaic(item: Item, side: int) -> Item:
    """Repeat a predicted image until it fills a square."""
    times = [-(-side // length) for length in item.foreground.shape]
    offsets = np.tile(item.offsets, (1, *times))[:, :side, :side]
    return Item(f"{side}x{side}", offsets, np.tile(item.foreground, times)[:side, :side])


def typical(items: Sequence[Item]) -> Item:
    """Find the image of median foreground."""
    return sorted(items, key=lambda item: float(item.foreground.mean()))[len(items) // 2]


def measure_growth(items: Sequence[Item], *, bandwidth: float) -> Iterable[dict[str, Any]]:
    """Time density clustering of ever larger mosaics."""
    for side in SIDES:
        item = mosaic(typical(items), side)
        call = clusterer(item, bandwidth=bandwidth, method="density")
        repeats = [timed(call) for _ in range(3)]
        labels, seconds = min(repeats, key=lambda pair: pair[1])
        megapixels = side**2 / 2**20
        yield {
            "megapixels": megapixels,
            "foreground px": int(item.foreground.sum()),
            "objects": int(labels.max()),
            "s": seconds,
            "s a megapixel": seconds / megapixels,
            "peak MB": peak_memory(call) / 1e6,
        }


def peak_memory(call: Callable[[], Labels]) -> int:
    """Largest number of bytes that a call holds beside its inputs."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def markdown(rows: Iterable[dict[str, Any]], *, mean: bool = False) -> str:
    """Lay rows out as a Markdown table, if asked with their mean below."""
    table = pd.DataFrame(rows)
    if mean:
        table = pd.concat([table, table.mean(numeric_only=True).to_frame().T.assign(image="mean")])
    lines = [list(table.columns), ["---"] * table.shape[1]]
    lines += [[_write(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 or value.is_integer() else f"{value:.3f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=10, help="images of each run")
    parser.add_argument("--bandwidth", type=float, default=PseudoConfig().kernel_radius)
    parser.add_argument("--draws", type=int, default=2, help="references of each image")
    parser.add_argument("--cache", type=Path, help="folder of computed references")
    parser.add_argument("--no-reference", action="store_true")
    given = parser.parse_args()
    seeds = [] if given.no_reference else list(range(given.draws))
    for run in given.runs:
        items = read_items(run, PseudoConfig())
        chosen = spread_evenly(items, given.images)
        rows = [
            compare(item, bandwidth=given.bandwidth, cache=given.cache, seeds=seeds)
            for item in chosen
        ]
        growth = list(measure_growth(items, bandwidth=given.bandwidth))
        print(markdown(rows, mean=True), "", markdown(growth), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
