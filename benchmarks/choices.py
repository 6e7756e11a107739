"""Does the unsupervised choice of the bandwidth agree with the truth, and does confidence?

    python benchmarks/choices.py RUN IMAGES MASKS [--every 4] [--border 25]

RUN is a finished run of `oce2stardist pseudo` on IMAGES. For every bandwidth that the run would
try: the stability it is chosen by (no truth needed), and F1 and SEG against MASKS. Then how well
an object's confidence tells true objects from false ones (area under the ROC curve).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from finished_run import read_run
from sklearn.metrics import roc_auc_score

from oce2stardist.evaluation.scores import leave_out_border, pool_scores, score_image
from oce2stardist.images.find import find_images, image_stem
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import resize_labels
from oce2stardist.pseudo_labels.choose import BANDWIDTHS, segmentation_settings
from oce2stardist.pseudo_labels.confidence import agreement, best_overlaps
from oce2stardist.pseudo_labels.segment import segment


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--every", type=int, default=4, help="look at every n-th image")
    parser.add_argument("--border", type=float, default=0.0)
    arguments = parser.parse_args()

    run = read_run(arguments.run, arguments.images)
    segmentation, scenes = segmentation_settings(run.config.pseudo, ndim=2), run.scenes
    stems = list(scenes)[:: arguments.every]
    paths = {image_stem(path): path for path in find_images(arguments.masks)}
    truth = {stem: leave_out_border(read_labels(paths[stem]), arguments.border) for stem in stems}

    bandwidths = [share * segmentation.diameter for share in BANDWIDTHS[2]]
    by_bandwidth = []
    for bandwidth in bandwidths:
        tried = replace(segmentation, bandwidth=bandwidth)
        by_bandwidth.append(
            {
                stem: segment(one.offsets, one.foreground, one.image, tried)
                for stem in stems
                for one in [scenes[stem]]
            }
        )
    print("| bandwidth | stability | F1 | SEG |\n|---:|---:|---:|---:|")
    confidences, true = [], []
    for at, (bandwidth, labels) in enumerate(zip(bandwidths, by_bandwidth, strict=True)):
        neighbours = [by_bandwidth[i] for i in (at - 1, at + 1) if 0 <= i < len(bandwidths)]
        agreed = {stem: agreement(labels[stem], [of[stem] for of in neighbours]) for stem in stems}
        resized = {stem: resize_labels(labels[stem], truth[stem].shape) for stem in stems}
        kept = {stem: leave_out_border(resized[stem], arguments.border) for stem in stems}
        scores = pool_scores([score_image(kept[stem], truth[stem]) for stem in stems])
        stable = float(np.concatenate(list(agreed.values())).mean())
        print(f"| {bandwidth:.1f} | {stable:.3f} | {scores.f1:.4f} | {scores.seg:.4f} |")
        if at == 1:  # the default
            for stem in stems:
                ids = np.unique(kept[stem][kept[stem] > 0])
                confidences.append(agreed[stem][ids - 1])
                true.append(best_overlaps(kept[stem], truth[stem])[ids - 1] >= 0.5)
    sure, right = np.concatenate(confidences), np.concatenate(true)
    print(
        f"\n{len(sure)} objects, {1 - right.mean():.1%} false; confidence tells them apart with "
        f"an area under the ROC curve of {roc_auc_score(right, sure):.3f}\n"
    )
    print("| confidence | objects | true |\n|---|---:|---:|")
    for low, high in ((0.0, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        chosen = (sure >= low) & (sure < high)
        share = f"{right[chosen].mean():.3f}" if chosen.any() else ""
        print(f"| {low:g} to {min(high, 1):g} | {chosen.sum()} | {share} |")


if __name__ == "__main__":
    main()
