"""Search parameters as the paper does, with the truth: an upper bound, never a result.

The paper picks bandwidth and shrinking per data set by F1 on the images it then reports
(arXiv:2310.08501, section 4). Nothing here may choose parameters for a run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.config import PseudoConfig
from oce2stardist.evaluation.scores import Scores, pool_scores, score_image
from oce2stardist.experiments.scoring import without_border
from oce2stardist.labels import Labels, resize_labels
from oce2stardist.pseudo_labels.choose import segmentation_settings
from oce2stardist.pseudo_labels.halo import HaloMethod
from oce2stardist.pseudo_labels.inputs import Scene
from oce2stardist.pseudo_labels.segment import cluster_cells, finish_cells

Halo = tuple[HaloMethod, float]
"""Method, and pixels at working scale where it shrinks; see `remove_halo`."""

HALOS: tuple[Halo, ...] = (
    *(("shrink", float(width)) for width in range(7)),
    ("otsu", 0.0),
    ("contrast", 0.0),
)
"""The paper's 0 to 6 px, its code's nuclei by intensity, and this package's own."""


@dataclass(frozen=True)
class OracleResult:
    """The parameters that score best on the truth they were picked with.

    Attributes
    ----------
    oracle_bandwidth : float
        Pixels at working scale.
    oracle_halo : tuple of str and float
        Method and width.
    oracle_scores : Scores
        Pooled over the images.
    oracle_labels : list of int32 arrays of shape (Y, X)
        At the scale of the truth, one per image.
    oracle_table : DataFrame
        A row per combination tried; its column ``chosen_by`` says ``oracle``.
    """

    oracle_bandwidth: float
    oracle_halo: Halo
    oracle_scores: Scores
    oracle_labels: list[Labels]
    oracle_table: pd.DataFrame


def oracle_line_search(
    scenes: Mapping[str, Scene],
    truth: Mapping[str, NDArray[np.integer]],
    *,
    bandwidths: Sequence[float],
    settings: PseudoConfig,
    halos: Sequence[Halo] = HALOS,
    border: int = 0,
    border_by_centroid: float = 0.0,
) -> OracleResult:
    """Try every bandwidth with every halo and keep what scores best on the truth.

    Parameters
    ----------
    scenes : mapping of image stem to Scene
        What clustering starts from, read whenever it is asked for.
    truth : mapping of image stem to integer array of shape (Y, X)
        Complete labels at original scale, of the images that are searched.
    bandwidths : sequence of float, > 0
        Pixels at working scale.
    settings : PseudoConfig
        Everything that is not searched.
    halos : sequence of (method, width)
        Default: shrinking by 0 to 6 px, and both ways by intensity.
    border, border_by_centroid
        As in `score_labels`.

    Returns
    -------
    OracleResult
        Highest pooled F1 at an IoU of 0.5; among equals the higher SEG, then the first.

    Raises
    ------
    ValueError
        If there is nothing to search, or an image is missing.
    """
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
    segmentation = segmentation_settings(settings)

    def cluster(bandwidth: float) -> dict[str, Labels]:
        tried = replace(segmentation, bandwidth=bandwidth)
        seen = ((stem, scenes[stem]) for stem in truth)
        return {
            stem: cluster_cells(one.offsets, one.foreground, tried, seed=0) for stem, one in seen
        }

    def finish(clusters: Mapping[str, Labels], halo: Halo) -> Iterator[Labels]:
        """Turn each image's clusters into labels at the scale of the truth."""
        tried = replace(segmentation, halo=halo[0], shrink=halo[1])
        for stem, true in truth.items():
            one = scenes[stem]
            labels = finish_cells(clusters[stem], one.offsets, one.image, tried)
            yield resize_labels(labels, true.shape)

    def score(clusters: Mapping[str, Labels], halo: Halo) -> Scores:
        return pool_scores(
            [
                score_image(*(without_border(both, border, border_by_centroid) for both in pair))
                for pair in zip(finish(clusters, halo), truth.values(), strict=True)
            ]
        )

    tried: dict[tuple[float, Halo], Scores] = {}
    for bandwidth in bandwidths:
        clusters = cluster(bandwidth)
        tried |= {(bandwidth, halo): score(clusters, halo) for halo in halos}
    best = max(product(bandwidths, halos), key=lambda pair: _rank(tried[pair]))
    return OracleResult(
        oracle_bandwidth=float(best[0]),
        oracle_halo=best[1],
        oracle_scores=tried[best],
        oracle_labels=list(finish(cluster(best[0]), best[1])),
        oracle_table=_tabulate(tried),
    )


def _rank(scores: Scores) -> tuple[float, float]:
    return scores.f1, float(np.nan_to_num(scores.seg))


def _tabulate(tried: dict[tuple[float, Halo], Scores]) -> pd.DataFrame:
    rows = [
        {"chosen_by": "oracle", "bandwidth": bandwidth, "halo": halo[0], "width": halo[1]}
        | asdict(scores)
        for (bandwidth, halo), scores in tried.items()
    ]
    return pd.DataFrame(rows)
