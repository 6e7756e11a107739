"""Turn predicted offsets into pseudo labels: foreground, clusters, halo, size.

The steps of Wolf et al., arXiv:2310.08501, section 3, on NumPy arrays. Deliberate
differences from the paper are said where they are made.
"""

from oce2stardist.pseudo_labels.clustering import ClusteringSettings, cluster_embeddings
from oce2stardist.pseudo_labels.confidence import agreement, best_overlaps
from oce2stardist.pseudo_labels.foreground import (
    Foreground,
    choose_foreground,
    foreground_threshold,
    smooth_log_spread,
    spread_map,
)
from oce2stardist.pseudo_labels.gathering import gathering, remove_ungathered
from oce2stardist.pseudo_labels.halo import (
    HaloSettings,
    remove_halo,
    remove_small,
    split_parts,
)
from oce2stardist.pseudo_labels.pieces import merge_pieces
from oce2stardist.pseudo_labels.segment import (
    ImageStatistics,
    SegmentationSettings,
    measure_whole,
    segment,
    segment_surely,
)

__all__ = [
    "ClusteringSettings",
    "Foreground",
    "HaloSettings",
    "ImageStatistics",
    "SegmentationSettings",
    "agreement",
    "best_overlaps",
    "choose_foreground",
    "cluster_embeddings",
    "foreground_threshold",
    "gathering",
    "measure_whole",
    "merge_pieces",
    "remove_halo",
    "remove_small",
    "remove_ungathered",
    "segment",
    "segment_surely",
    "smooth_log_spread",
    "split_parts",
    "spread_map",
]
