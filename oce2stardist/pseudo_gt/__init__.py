"""From predicted offsets to pseudo ground truth: foreground, clusters, halo, size.

The steps of Wolf et al., arXiv:2310.08501, section 3, on NumPy arrays. Deliberate
differences from the paper are said where they are made.
"""

from oce2stardist.pseudo_gt.clustering import cluster_embeddings
from oce2stardist.pseudo_gt.foreground import foreground_threshold, smooth_log_spread
from oce2stardist.pseudo_gt.gathering import gathering, remove_ungathered
from oce2stardist.pseudo_gt.halo import remove_halo, remove_small, split_parts

__all__ = [
    "cluster_embeddings",
    "foreground_threshold",
    "gathering",
    "remove_halo",
    "remove_small",
    "remove_ungathered",
    "smooth_log_spread",
    "split_parts",
]
