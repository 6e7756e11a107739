"""Pseudo labels of one set beside a classical baseline and the oracle, as Markdown and PNG.

    python benchmarks/pseudo_quality.py RUN IMAGES MASKS [--border 25] [--picture worst.png]

RUN is a folder that `oce2stardist pseudo IMAGES -o RUN` wrote, MASKS the complete truth. The
oracle picks bandwidth and halo with that truth, so its row is an upper bound and no result.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from finished_run import read_run
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.config import PseudoConfig
from oce2stardist.evaluation import (
    Scores,
    leave_out_border,
    overlap_matrix,
    pool_scores,
    score_image,
)
from oce2stardist.io import (
    draw_image,
    find_outlines,
    label_paths,
    read_labels,
)
from oce2stardist.runners.experiments.baseline import segment_classically
from oce2stardist.runners.experiments.oracle import (
    OracleResult,
    PredictedImage,
    oracle_line_search,
)
from oce2stardist.runners.inputs import ImageSet

Labels = NDArray[np.int32]

# Okabe and Ito's colours, told apart with any colour vision.
TRUE, FOUND, EXTRA, MISSED = "#56B4E9", "#F0E442", "#D55E00", "#CC79A7"


@dataclass(frozen=True)
class Candidate:
    """One way to labels, and its labels in the order of the images."""

    name: str
    labels: list[Labels]


def search_oracle(
    predicted: Sequence[PredictedImage],
    truth: Sequence[Labels],
    *,
    settings: PseudoConfig,
    border: float,
) -> OracleResult:
    """Search bandwidths from 0.29 to 0.71 diameters (8 to 20 px of 28), and every halo."""
    bandwidths = [step / 14 * settings.working_diameter for step in (4, 5, 6, 7, 8, 10)]
    return oracle_line_search(
        predicted, truth, bandwidths=bandwidths, settings=settings, border=border
    )


def score_each(labels: Sequence[Labels], truth: Sequence[Labels], *, border: float) -> list[Scores]:
    """Score image by image, without the objects at the border."""
    return [
        score_image(leave_out_border(one, border), leave_out_border(true, border))
        for one, true in zip(labels, truth, strict=True)
    ]


def markdown(candidates: Sequence[Candidate], truth: Sequence[Labels], *, border: float) -> str:
    """One row for each way to labels, pooled over the images."""
    lines = ["| labels | F1 | SEG | precision | recall | found | true |", "|---" * 7 + "|"]
    for candidate in candidates:
        scores = pool_scores(score_each(candidate.labels, truth, border=border))
        values = (scores.f1, scores.seg, scores.precision, scores.recall)
        numbers = " | ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {candidate.name} | {numbers} | {scores.n_predicted} | {scores.n_true} |")
    return "\n".join(lines)


def unmatched(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.integer]:
    """Keep the objects of `one` that no object of `other` overlaps with an IoU of 0.5."""
    overlap = overlap_matrix(one, other)
    pairs = overlap.pixels.tocoo()
    union = overlap.predicted_sizes[pairs.row] + overlap.true_sizes[pairs.col] - pairs.data
    matched = overlap.predicted_ids[pairs.row[2 * pairs.data >= union]]
    return np.where(np.isin(one, matched), 0, one)


def draw_worst(
    path: Path,
    found: ImageSet,
    labels: Sequence[Labels],
    truth: Sequence[Labels],
    *,
    border: float,
    count: int,
) -> None:
    """Draw the images of lowest F1: raw, with found outlines, with true outlines."""
    scores = score_each(labels, truth, border=border)
    worst = sorted(range(len(scores)), key=lambda index: scores[index].f1)[:count]
    stems, images = list(found.images), list(found.images.values())
    figure, axes = plt.subplots(
        len(worst), 3, figsize=(18, 5 * len(worst)), squeeze=False, layout="constrained"
    )
    for row, index in zip(axes, worst, strict=True):
        mine, true = (leave_out_border(one[index], border) for one in (labels, truth))
        shown = np.sqrt(draw_image(images[index]) / 255)  # or dim cells would be black
        for axis in row:
            axis.imshow(shown)
            axis.set_axis_off()
        _outline(row[1], mine, FOUND, wrong=unmatched(mine, true), wrong_colour=EXTRA)
        _outline(row[2], true, TRUE, wrong=unmatched(true, mine), wrong_colour=MISSED)
        row[0].set_title(f"{stems[index]}: F1 {scores[index].f1:.2f}")
        row[1].set_title(f"found; {scores[index].fp} false in orange, crossed")
        row[2].set_title(f"true; {scores[index].fn} missed in pink, circled")
        _mark(row[1], unmatched(mine, true), "x", EXTRA)
        _mark(row[2], unmatched(true, mine), "o", MISSED)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)


def _outline(
    axis: Axes,
    labels: NDArray[np.integer],
    colour: str,
    *,
    wrong: NDArray[np.integer],
    wrong_colour: str,
) -> None:
    layer = np.zeros((*labels.shape, 4))
    for objects, shade in ((labels, colour), (wrong, wrong_colour)):
        layer[find_outlines(objects, thickness=2)] = to_rgba(shade)
    axis.imshow(layer, interpolation="nearest")


def _mark(axis: Axes, labels: NDArray[np.integer], sign: str, colour: str) -> None:
    """Put a sign, whose shape tells it apart without colour, on every object."""
    ids = np.unique(labels[labels > 0])
    if len(ids):
        places = np.array(ndi.center_of_mass(labels > 0, labels, ids))
        axis.plot(places[:, 1], places[:, 0], sign, color=colour, fillstyle="none", markersize=8)


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--border", type=float, default=0.0, help="pixels left out at the edge")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    parser.add_argument("--worst", type=int, default=3, help="images in the picture")
    parser.add_argument("--picture", type=Path, default=Path("worst.png"))
    given = parser.parse_args()
    plt.switch_backend("Agg")
    run = read_run(given.run, given.images)
    everything = run.images
    stems = list(everything.images)[:: given.every]
    found = ImageSet(
        {stem: everything.paths[stem] for stem in stems},
        {stem: everything.images[stem] for stem in stems},
    )
    masks = label_paths(everything.paths.values(), given.masks)
    truth = [read_labels(masks[path]) for path in found.paths.values()]
    predicted = [
        PredictedImage(one.image, one.offsets, one.foreground)
        for one in (run.scenes[stem] for stem in stems)
    ]
    settings = run.config.pseudo
    oracle = search_oracle(predicted, truth, settings=settings, border=given.border)
    method, width = oracle.oracle_halo
    pseudo = [read_labels(given.run / "pseudo" / "labels" / f"{stem}.tif") for stem in stems]
    classical = [
        segment_classically(image, settings.working_diameter / run.prepared.scales.factors[stem])
        for stem, image in found.images.items()
    ]
    best = f"bandwidth {oracle.oracle_bandwidth:g}, {method} {width:g} px"
    candidates = (
        Candidate("pseudo labels", pseudo),
        Candidate("classical", classical),
        Candidate(f"oracle ({best})", oracle.oracle_labels),
    )
    print(markdown(candidates, truth, border=given.border))
    draw_worst(given.picture, found, pseudo, truth, border=given.border, count=given.worst)
    print(f"\nWorst images of the pseudo labels: {given.picture}")


if __name__ == "__main__":
    main()
