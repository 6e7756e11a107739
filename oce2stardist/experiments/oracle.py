"""Search parameters as the paper does, with the truth: an upper bound, never a result.

The paper picks bandwidth and shrinking per data set by F1 on the images it then reports
(arXiv:2310.08501, section 4). Nothing here may choose parameters for a run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.config import PseudoConfig
from oce2stardist.datasets import LabelledImages
from oce2stardist.evaluation.scores import Scores, pool_scores, score_image
from oce2stardist.experiments.scoring import Border
from oce2stardist.images.image_set import ImageSet
from oce2stardist.labels import Labels, resize_labels
from oce2stardist.pseudo_labels.choose import segmentation_settings
from oce2stardist.pseudo_labels.halo import HaloMethod
from oce2stardist.pseudo_labels.inputs import Scene
from oce2stardist.pseudo_labels.segment import cluster_cells, finish_cells
from oce2stardist.runners.finished_run import read_finished_run

Halo = tuple[HaloMethod, float]
"""Method, and pixels at working scale where it shrinks; see `remove_halo`."""

_SHRUNK: list[Halo] = [("shrink", float(width)) for width in range(7)]
HALOS: tuple[Halo, ...] = (*_SHRUNK, ("otsu", 0.0), ("contrast", 0.0))
"""The paper's 0 to 6 px, its code's nuclei by intensity, and this package's own."""

BANDWIDTHS = tuple(step / 14 for step in (4, 5, 6, 7, 8, 10))
"""Shares of the diameter: 8 to 20 px where cells measure 28."""


@dataclass(frozen=True)
class OracleResult:
    """The parameters that score best on the truth they were picked with."""

    oracle_bandwidth: float
    """Pixels at working scale."""
    oracle_halo: Halo
    oracle_scores: Scores
    """Pooled over the images."""
    oracle_labels: list[Labels]
    """Of each image, shape (Y, X), at the scale of the truth."""
    oracle_table: pd.DataFrame
    """A row per combination tried; its column ``chosen_by`` says ``oracle``."""


def search_with_oracle(
    run: Path, test: LabelledImages, border: Border
) -> tuple[dict[str, Labels], pd.DataFrame]:
    """Search with the embeddings of a finished run of `make_pseudo_labels`.

    All images of `test` must be among its own. Gives labels by image stem, and the table.
    """
    finished = read_finished_run(run)
    images, truth = {}, {}
    for labelled in test:
        images[labelled.stem], truth[labelled.stem] = labelled.image, labelled.labels
    prepared = finished.prepare_own(ImageSet.from_arrays(images))
    result = oracle_line_search(
        finished.read_scenes(prepared), truth, settings=finished.config.pseudo, border=border
    )
    return dict(zip(truth, result.oracle_labels, strict=True)), result.oracle_table


def oracle_line_search(
    scenes: Mapping[str, Scene],
    truth: Mapping[str, NDArray[np.integer]],
    *,
    settings: PseudoConfig,
    bandwidths: Sequence[float] | None = None,
    halos: Sequence[Halo] = HALOS,
    border: Border,
) -> OracleResult:
    """Try every bandwidth with every halo and keep what scores best on the truth.

    That is the highest pooled F1 at an IoU of 0.5; among equals the higher SEG, then the first.

    Parameters
    ----------
    scenes : mapping of image stem to Scene
        What clustering starts from, read whenever it is asked for.
    truth : mapping of image stem to integer array of shape (Y, X)
        Complete labels at original scale, of the images that are searched.
    settings : PseudoConfig
        Everything that is not searched.
    bandwidths : sequence of float, > 0, optional
        Pixels at working scale; default: those of `BANDWIDTHS`.
    """
    if bandwidths is None:
        bandwidths = [share * settings.working_diameter for share in BANDWIDTHS]
    if not truth or truth.keys() - scenes.keys():
        raise ValueError(
            "scenes must hold every image of truth, at least one. "
            f"Got {', '.join(scenes)} and {', '.join(truth)}."
        )
    if not bandwidths or not halos:
        raise ValueError(
            "bandwidths and halos must each hold at least one value. "
            f"Got {len(bandwidths)} and {len(halos)}."
        )
    segmentation = segmentation_settings(settings, ndim=2)

    def cluster(bandwidth: float) -> dict[str, Labels]:
        tried = replace(segmentation, bandwidth=bandwidth)
        read = ((stem, scenes[stem]) for stem in truth)
        return {
            stem: cluster_cells(scene.offsets, scene.foreground, tried, seed=0)
            for stem, scene in read
        }

    def finish(clusters: Mapping[str, Labels], halo: Halo) -> Iterator[Labels]:
        """Turn each image's clusters into labels at the scale of the truth."""
        tried = replace(segmentation, halo=halo[0], shrink=halo[1])
        for stem, true in truth.items():
            scene = scenes[stem]
            labels = finish_cells(clusters[stem], scene.offsets, scene.image, tried)
            yield resize_labels(labels, true.shape)

    def score(clusters: Mapping[str, Labels], halo: Halo) -> Scores:
        pairs = zip(finish(clusters, halo), truth.values(), strict=True)
        return pool_scores([score_image(*map(border.leave_out, pair)) for pair in pairs])

    tried: dict[tuple[float, Halo], Scores] = {}
    for bandwidth in bandwidths:
        clusters = cluster(bandwidth)
        tried |= {(bandwidth, halo): score(clusters, halo) for halo in halos}
    best = max(tried, key=lambda pair: (tried[pair].f1, float(np.nan_to_num(tried[pair].seg))))
    rows = [
        {"chosen_by": "oracle", "bandwidth": bandwidth, "halo": halo[0], "width": halo[1]}
        | asdict(scores)
        for (bandwidth, halo), scores in tried.items()
    ]
    return OracleResult(
        oracle_bandwidth=float(best[0]),
        oracle_halo=best[1],
        oracle_scores=tried[best],
        oracle_labels=list(finish(cluster(best[0]), best[1])),
        oracle_table=pd.DataFrame(rows),
    )
