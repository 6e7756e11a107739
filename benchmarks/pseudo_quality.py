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
from numpy.typing import NDArray
from worst_images import draw_worst, score_each

from oce2stardist.evaluation.scores import pool_scores
from oce2stardist.experiments.baseline import segment_classically
from oce2stardist.experiments.oracle import oracle_line_search
from oce2stardist.experiments.scoring import Border
from oce2stardist.images.find import label_paths
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Candidate:
    """One way to labels, and its labels in the order of the images."""

    name: str
    labels: list[Labels]


def markdown(candidates: Sequence[Candidate], truth: Sequence[Labels], *, border: float) -> str:
    """One row for each way to labels, pooled over the images."""
    lines = ["| labels | F1 | SEG | precision | recall | found | true |", "|---" * 7 + "|"]
    for candidate in candidates:
        scores = pool_scores(score_each(candidate.labels, truth, border=border))
        values = (scores.f1, scores.seg, scores.precision, scores.recall)
        numbers = " | ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {candidate.name} | {numbers} | {scores.n_predicted} | {scores.n_true} |")
    return "\n".join(lines)


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
    settings = run.config.pseudo
    oracle = oracle_line_search(
        run.scenes,
        dict(zip(stems, truth, strict=True)),
        settings=settings,
        border=Border(by_centroid=given.border),
    )
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
