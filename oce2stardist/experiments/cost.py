"""How long grid cells may take: by those of their kind that are done, else by rule of thumb."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from oce2stardist.experiments.cells import GridCell, read_outcome
from oce2stardist.experiments.config import DataConfig
from oce2stardist.experiments.data import open_data

_START = 10.0
"""Seconds to start a process and to read and score images."""

_EMBEDDING_STEP = 0.3 / (8 * 140**2)
"""Seconds on two processors, for each pixel of a batch."""

_STARDIST_STEP = 0.14 / (8 * 96**2)
_COPY = 0.65
"""Seconds on two processors, for each megapixel of an image and noisy copy."""

_IMAGE = 0.7
"""Seconds for each megapixel of a test image."""


@dataclass(frozen=True)
class Extent:
    """Megapixels of the training and of the test images."""

    train: float
    test: float


def measure_extent(data: DataConfig) -> Extent:
    """Take the size of a data set from one image of each part."""
    opened = open_data(data)
    sizes = []
    for part in (opened.train, opened.test):
        image = part[0].image
        sizes.append(len(part) * image.shape[0] * image.shape[1] / 1e6)
    return Extent(*sizes)


def expected_seconds(
    cells: Iterable[GridCell], folder: Path, extents: Mapping[str, Extent], *, threads: int
) -> dict[str, float]:
    """Expect how long cells take, by key.

    Rules of thumb, measured on two cores (benchmarks/RESULTS.md) and corrected by the cells that
    ended in `folder`, kind by kind.
    """
    cells = list(cells)
    ruled = {cell.key: _rule(cell, extents[cell.row["data_set"]], threads) for cell in cells}
    ratios: dict[str, list[float]] = {}
    for cell in cells:
        outcome = read_outcome(folder / cell.folder_name)
        if outcome is not None and outcome.status == "finished" and outcome.seconds > 0:
            ratios.setdefault(cell.kind, []).append(outcome.seconds / ruled[cell.key])
    return {
        cell.key: ruled[cell.key] * (median(ratios[cell.kind]) if cell.kind in ratios else 1.0)
        for cell in cells
    }


def seconds_left(
    expected: Mapping[str, float], done: Mapping[str, float], *, workers: int
) -> float:
    """Expect when the last cell ends, in seconds, by how those that are done compare."""
    left = sum(seconds for key, seconds in expected.items() if key not in done)
    ruled = sum(expected[key] for key in done)
    ratio = sum(done.values()) / ruled if ruled else 1.0
    return ratio * left / workers


def _rule(cell: GridCell, extent: Extent, threads: int) -> float:
    slower = 2.0 / min(threads, 2)
    rule: Callable[[Mapping[str, Any], Extent], float] = _RULES.get(cell.kind, _apply)
    return _START + slower * rule(cell.settings, extent)


def _embeddings(settings: Mapping[str, Any], extent: Extent) -> float:
    config = settings["config"]["embedding"]
    steps = config["steps"] or 100 * (config["epochs"] or 1)
    pixels = config["batch_size"] * config["crop_size"] ** 2
    return steps * pixels * _EMBEDDING_STEP + _copies(config) * extent.train * _COPY


def _labels(settings: Mapping[str, Any], extent: Extent) -> float:
    return 4 * extent.test * _COPY


def _finetune(settings: Mapping[str, Any], extent: Extent) -> float:
    config = settings["config"]["stardist"]
    steps = config["steps"]
    pixels = config["batch_size"] * config["patch_size"] ** 2
    wide = (config["width"] / 16) ** 1.5
    return steps * pixels * _STARDIST_STEP * wide + extent.test * _IMAGE


def _apply(settings: Mapping[str, Any], extent: Extent) -> float:
    return extent.test * _IMAGE


def _copies(config: Mapping[str, Any]) -> int:
    return config["copies"] or 12


_RULES: dict[str, Callable[[Mapping[str, Any], Extent], float]] = {
    "train_embeddings": _embeddings,
    "label_test_images": _labels,
    "finetune": _finetune,
}


def say_seconds(seconds: float) -> str:
    """Say a length of time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
