"""Seconds to score one large pair of labels, as Markdown, with stardist's matching beside it.

    python benchmarks/scoring.py

The pair is drawn: cells in a jittered grid, the predicted ones moved. Nothing else
should run meanwhile: seconds are those of a clock, and the load is printed below the table.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from stardist.matching import matching

from oce2stardist.evaluation.scores import score_sparse

Labels = NDArray[np.int32]

CURVE = [round(0.5 + 0.05 * step, 2) for step in range(10)]


def draw_pair(side: int, n_cells: int, *, seed: int = 0) -> tuple[Labels, Labels]:
    """Draw discs that do not touch, and the same moved by up to 9 px, so that some do not match.

    Parameters
    ----------
    side : int
        Of the square image, pixels.
    n_cells : int
    seed : int

    Returns
    -------
    predicted, truth : int32 arrays of shape (side, side)
    """
    rng = np.random.default_rng(seed)
    per_side = int(np.ceil(np.sqrt(n_cells)))
    pitch = side / per_side
    cells = np.stack(np.divmod(rng.permutation(per_side**2)[:n_cells], per_side), axis=1)
    centres = (cells + 0.5) * pitch + rng.uniform(-0.08, 0.08, cells.shape) * pitch
    radii = rng.uniform(0.28, 0.36, n_cells) * pitch
    moved = centres + rng.uniform(-9, 9, centres.shape)
    return _draw_discs(moved, radii, side), _draw_discs(centres, radii, side)


def _draw_discs(centres: NDArray[np.float64], radii: NDArray[np.float64], side: int) -> Labels:
    labels = np.zeros((side, side), np.int32)
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), start=1):
        top, left = np.maximum(0, np.floor(centre - radius)).astype(int)
        window = labels[top : top + int(2 * radius) + 3, left : left + int(2 * radius) + 3]
        y, x = np.indices(window.shape)
        window[(y + top - centre[0]) ** 2 + (x + left - centre[1]) ** 2 <= radius**2] = number
    return labels


def fastest(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least and the median seconds of a call, after one that does not count."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), float(np.median(seconds))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048, help="pixels")
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    predicted, truth = draw_pair(given.side, given.cells)
    calls = {
        "score_sparse, IoU 0.5": lambda: score_sparse(predicted, truth, iou_thresholds=[0.5]),
        "score_sparse, 10 thresholds": lambda: score_sparse(predicted, truth, iou_thresholds=CURVE),
        "stardist.matching, IoU 0.5": lambda: matching(truth, predicted, 0.5),
        "stardist.matching, 10 thresholds": lambda: matching(truth, predicted, CURVE),
    }
    print(
        f"{given.side**2 / 2**20:.1f} megapixels, {given.cells} cells, of {given.repeats} calls:\n"
    )
    print("| call | least s | median s |\n|---|---:|---:|")
    for name, call in calls.items():
        least, median = fastest(call, given.repeats)
        print(f"| {name} | {least:.3f} | {median:.3f} |", flush=True)
    ours = score_sparse(predicted, truth, iou_thresholds=[0.5])[0]
    reference = matching(truth, predicted, 0.5)
    print(f"\nF1 {ours.f1:.4f}, stardist's {reference.f1:.4f}; ", end="")
    print("load " + ", ".join(f"{load:.2f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
