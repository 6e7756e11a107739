"""The paper's line search, which looks at the truth: an upper bound, never a result.

The paper picks bandwidth and shrinking per data set by F1 on the images it then reports
(arXiv:2310.08501, section 4). Nothing here may choose parameters for a run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.config import PseudoConfig
from oce2stardist.evaluation.scores import Scores, pool_scores, score_image
from oce2stardist.experiments.scoring import without_border
from oce2stardist.labels import Labels, resize_labels
from oce2stardist.pseudo_labels import Recipe
from oce2stardist.pseudo_labels.choose import recipe_of
from oce2stardist.pseudo_labels.halo import HaloMethod
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
    field_border: int = 0,
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
    field_border : int, >= 0
        Leave out objects, predicted or true, that lie wholly in a rim so wide, pixels.

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
    recipe = recipe_of(settings or PseudoConfig())
    tried = {}
    for bandwidth in bandwidths:
        clusters = _cluster_all(predicted, replace(recipe, bandwidth=bandwidth))
        for halo in halos:
            labels = _finish(clusters, predicted, truth, halo, recipe)
            tried[bandwidth, halo] = pool_scores(_score_all(labels, truth, border, field_border))
    best = max(product(bandwidths, halos), key=lambda pair: _rank(tried[pair]))
    clusters = _cluster_all(predicted, replace(recipe, bandwidth=best[0]))
    return OracleResult(
        oracle_bandwidth=float(best[0]),
        oracle_halo=best[1],
        oracle_scores=tried[best],
        oracle_labels=list(_finish(clusters, predicted, truth, best[1], recipe)),
        oracle_table=_tabulate(tried),
    )


def _finish(
    clusters: Sequence[Labels],
    predicted: Sequence[PredictedImage],
    truth: Sequence[NDArray[np.integer]],
    halo: Halo,
    recipe: Recipe,
) -> Iterable[Labels]:
    """Turn each image's clusters into labels at the scale of the truth."""
    tried = replace(recipe, halo=halo[0], shrink=halo[1])
    for labels, one, true in zip(clusters, predicted, truth, strict=True):
        yield resize_labels(finish_cells(labels, one.offsets, one.image, tried), true.shape)


def _cluster_all(predicted: Sequence[PredictedImage], recipe: Recipe) -> list[Labels]:
    return [cluster_cells(one.offsets, one.foreground, recipe, seed=0) for one in predicted]


def _score_all(
    labels: Iterable[Labels],
    truth: Sequence[NDArray[np.integer]],
    border: float,
    field_border: int,
) -> list[Scores]:
    return [
        score_image(*(without_border(both, field_border, border) for both in pair))
        for pair in zip(labels, truth, strict=True)
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
