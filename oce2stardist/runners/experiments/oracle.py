"""The paper's line search, which looks at the truth: an upper bound, never a result.

The paper picks bandwidth and shrinking per data set by F1 on the images it then reports
(arXiv:2310.08501, section 4). Nothing here may choose parameters for a run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.config import PseudoConfig
from oce2stardist.evaluation import Scores, leave_out_border, pool_scores, score_image
from oce2stardist.labels import resize_labels
from oce2stardist.pseudo_gt import (
    cluster_embeddings,
    remove_halo,
    remove_small,
    remove_ungathered,
    split_parts,
)
from oce2stardist.pseudo_gt.halo import HaloMethod
from oce2stardist.runners.inputs import Labels

Halo = tuple[HaloMethod, float]
"""Method, and pixels at working scale where it shrinks; see `remove_halo`."""

HALOS: tuple[Halo, ...] = (
    *(("shrink", float(width)) for width in range(7)),
    ("otsu", 0.0),
    ("contrast", 0.0),
)
"""The paper's 0 to 6 px, its code's nuclei by intensity, and this package's own."""


@dataclass(frozen=True)
class PredictedImage:
    """What clustering starts from, all at working scale.

    Attributes
    ----------
    image : float array of shape (Y, X, C)
        Normalised.
    offsets : float array of shape (2, Y, X)
    foreground : bool array of shape (Y, X)
    """

    image: NDArray[np.floating]
    offsets: NDArray[np.floating]
    foreground: NDArray[np.bool_]


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
    predicted: Sequence[PredictedImage],
    truth: Sequence[NDArray[np.integer]],
    *,
    bandwidths: Sequence[float],
    halos: Sequence[Halo] = HALOS,
    settings: PseudoConfig | None = None,
    border: float = 0.0,
) -> OracleResult:
    """Try every bandwidth with every halo and keep what scores best on the truth.

    Parameters
    ----------
    predicted : sequence of PredictedImage
    truth : sequence of integer arrays of shape (Y, X)
        Complete labels of the same images, at original scale.
    bandwidths : sequence of float, > 0
        Pixels at working scale.
    halos : sequence of (method, width)
        Default: shrinking by 0 to 6 px, and both ways by intensity.
    settings : PseudoConfig, optional
        Everything that is not searched. Default: the `fast` preset's.
    border : float, >= 0
        Leave out objects, predicted or true, with a centroid so close to the edge, pixels.

    Returns
    -------
    OracleResult
        Highest pooled F1 at an IoU of 0.5; among equals the higher SEG, then the first.

    Raises
    ------
    ValueError
        If there is nothing to search, or images and truth differ in number.
    """
    if len(predicted) != len(truth) or not predicted:
        raise ValueError(
            "predicted and truth must hold the same images, at least one. "
            f"Got {len(predicted)} and {len(truth)}."
        )
    if not bandwidths or not halos:
        raise ValueError(
            "bandwidths and halos must each hold at least one value. "
            f"Got {len(bandwidths)} and {len(halos)}."
        )
    settings = settings or PseudoConfig()
    tried = {}
    for bandwidth in bandwidths:
        clusters = [_cluster(one, bandwidth, settings) for one in predicted]
        for halo in halos:
            labels = _finish(clusters, predicted, truth, halo, settings)
            tried[bandwidth, halo] = pool_scores(_score_all(labels, truth, border))
    best = max(product(bandwidths, halos), key=lambda pair: _rank(tried[pair]))
    clusters = [_cluster(one, best[0], settings) for one in predicted]
    return OracleResult(
        oracle_bandwidth=float(best[0]),
        oracle_halo=best[1],
        oracle_scores=tried[best],
        oracle_labels=list(_finish(clusters, predicted, truth, best[1], settings)),
        oracle_table=_tabulate(tried),
    )


def _cluster(predicted: PredictedImage, bandwidth: float, settings: PseudoConfig) -> Labels:
    """Cluster one image and drop what can't be a cell, as the pseudo stage does."""
    clusters = cluster_embeddings(
        predicted.offsets,
        predicted.foreground,
        bandwidth=bandwidth,
        method=settings.clustering,
    )
    large = remove_small(split_parts(clusters), min_size=settings.min_cluster * _area(settings))
    gathered = remove_ungathered(large, predicted.offsets, max_ratio=settings.max_ratio)
    return gathered.astype(np.int32)


def _finish(
    clusters: Sequence[Labels],
    predicted: Sequence[PredictedImage],
    truth: Sequence[NDArray[np.integer]],
    halo: Halo,
    settings: PseudoConfig,
) -> Iterable[Labels]:
    """Take the halo off each image's clusters and bring them to the scale of the truth."""
    diameter, min_size = settings.working_diameter, settings.min_size * _area(settings)
    for labels, one, true in zip(clusters, predicted, truth, strict=True):
        trimmed = remove_halo(labels, one.image, method=halo[0], shrink=halo[1], diameter=diameter)
        yield resize_labels(remove_small(trimmed, min_size=min_size), true.shape)


def _area(settings: PseudoConfig) -> float:
    """Area in pixels of a cell of the working diameter."""
    return float(np.pi / 4 * settings.working_diameter**2)


def _score_all(
    labels: Iterable[Labels], truth: Sequence[NDArray[np.integer]], border: float
) -> list[Scores]:
    return [
        score_image(leave_out_border(one, border), leave_out_border(true, border))
        for one, true in zip(labels, truth, strict=True)
    ]


def _rank(scores: Scores) -> tuple[float, float]:
    return scores.f1, float(np.nan_to_num(scores.seg))


def _tabulate(tried: dict[tuple[float, Halo], Scores]) -> pd.DataFrame:
    rows = [
        {"chosen_by": "oracle", "bandwidth": bandwidth, "halo": halo[0], "width": halo[1]}
        | asdict(scores)
        for (bandwidth, halo), scores in tried.items()
    ]
    return pd.DataFrame(rows)
