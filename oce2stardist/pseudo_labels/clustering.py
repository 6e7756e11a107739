"""Find which pixels are the same cell: modes of the embeddings (arXiv:2310.08501, section 3)."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from oce2stardist.pseudo_labels.density import Points, density_modes, distinct_places, lengths

_FARTHEST = 2.0
"""Bandwidths between a mode and the embeddings that may belong to it, about a cell's diameter.

Farther out an embedding belongs to no cell. Without a limit, which cell it joins would depend on
modes at any distance, and so on the window that an image is read in (taste: on three
sets labels stay the same, see benchmarks/TRIALS.md, "Precision")."""


@dataclass(frozen=True)
class ClusteringSettings:
    """How embeddings are clustered.

    Attributes
    ----------
    bandwidth : float, > 0
        Radius of the kernel, pixels; somewhat less than half a cell diameter is a good value.
    method : {"density", "mean_shift"}
        ``mean_shift`` is scikit-learn's, the reference. ``density`` is mean shift with the same
        flat kernel on the density of all embeddings, some hundred times faster; embeddings more
        than two bandwidths from every mode belong to none.
    bin_seeding : bool
        Let ``mean_shift`` start from one place per square of the bandwidth instead of from
        every fitted pixel. The paper's code does not.
    fitted_share : float in (0, 1]
        Share of the pixels that ``mean_shift`` is fitted to, a tenth in the paper's code; drawn
        by `seed`, never fewer than 100.
    """

    bandwidth: float
    method: Literal["density", "mean_shift"]
    bin_seeding: bool
    fitted_share: float
    seed: int

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0. Got {self.bandwidth} instead.")
        if not 0 < self.fitted_share <= 1:
            raise ValueError(
                f"fitted_share must be above 0 and at most 1. Got {self.fitted_share} instead."
            )


def cluster_embeddings(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    settings: ClusteringSettings,
    *,
    centre: tuple[float, ...] | None = None,
) -> NDArray[np.int32]:
    """Group foreground pixels that embed to the same place, by mean shift [1]_.

    Only differences of offsets enter the training loss, so a constant may be added to
    all of them: the centre is taken off first.

    Parameters
    ----------
    offsets : array of shape (2, Y, X) or (3, Z, Y, X)
        Predicted offsets (y, x) or (z, y, x), pixels.
    foreground : bool array of shape (Y, X) or (Z, Y, X)
    centre : (y, x) or (z, y, x), optional
        Pixels; default: the median offset of the foreground. Parts of one image must share it.

    Returns
    -------
    int32 array of the shape of the foreground
        Labels 1..n on the foreground, 0 elsewhere, where an offset is not finite, and (``density``)
        on pixels that embed too far from every mode.

    References
    ----------
    .. [1] Comaniciu and Meer, IEEE TPAMI 24(5), 2002, doi:10.1109/34.1000236.
    """
    bandwidth = settings.bandwidth
    labels = np.zeros(foreground.shape, np.int32)
    embedded = foreground & np.isfinite(offsets).all(axis=0)
    if not embedded.any():
        return labels
    centre = centre or median_offset(offsets, embedded)
    embeddings = _centred_embeddings(offsets, embedded, bandwidth, centre)
    if settings.method == "density":
        centres = density_modes(embeddings, bandwidth)
    else:
        centres = _mean_shift_centres(embeddings, settings)
    nearest = _nearest(centres, embeddings)
    labels[embedded] = nearest + 1
    if settings.method == "density":
        apart = lengths(embeddings - centres[nearest]) > _FARTHEST * bandwidth
        labels[embedded] = np.where(apart, 0, labels[embedded])
    return labels


def median_offset(
    offsets: NDArray[np.floating], foreground: NDArray[np.bool_]
) -> tuple[float, ...]:
    """Take the median offset, (y, x) or (z, y, x), of the foreground, pixels."""
    return tuple(float(np.median(of[foreground].astype(np.float64))) for of in offsets)


def _centred_embeddings(
    offsets: NDArray[np.floating],
    embedded: NDArray[np.bool_],
    bandwidth: float,
    centre: tuple[float, ...],
) -> Points:
    """Embed pixels into a frame that starts one bandwidth outside the image.

    An embedding farther out is moved to the frame's rim: one wild pixel can't ask for a
    huge density image.
    """
    margin = min(int(np.ceil(bandwidth)), max(embedded.shape) // 2) + 1
    embeddings = np.argwhere(embedded).astype(np.float64)  # (N, 2 or 3)
    for axis, column in enumerate(embeddings.T):
        column += offsets[axis][embedded].astype(np.float64) - centre[axis] + margin
        np.clip(column, 0, embedded.shape[axis] - 1 + 2 * margin, out=column)
    return embeddings


def _nearest(centres: Points, embeddings: Points) -> NDArray[np.int32]:
    """Find the index of the centre nearest to each embedding, (N,).

    Most pixels of a cell embed to few places, so the search is made once per square pixel
    of embedding space; only where the second centre is about as near, once per embedding.
    """
    if len(centres) == 1:
        return np.zeros(len(embeddings), np.int32)
    tree = cKDTree(centres)
    squares, numbers, of_embedding = distinct_places(np.rint(embeddings).astype(np.int64))
    distances, nearest = tree.query(squares, k=2)
    # Each distance changes by at most half a diagonal within a square.
    certain = distances[:, 1] - distances[:, 0] > np.sqrt(embeddings.shape[1])
    of_square = np.empty(numbers[-1] + 1, np.int32)
    of_square[numbers] = np.where(certain, nearest[:, 0], -1)
    result = of_square[of_embedding]
    unsure = result < 0
    result[unsure] = tree.query(embeddings[unsure])[1]
    return result


def _mean_shift_centres(embeddings: Points, settings: ClusteringSettings) -> Points:
    from sklearn.cluster import MeanShift  # slow to import, and only the reference needs it

    rng = np.random.default_rng(settings.seed)
    drawn = rng.random(len(embeddings)) < settings.fitted_share
    fitted = embeddings[drawn] if drawn.sum() >= 100 else embeddings
    model = MeanShift(
        bandwidth=settings.bandwidth, bin_seeding=settings.bin_seeding, cluster_all=True
    )
    with warnings.catch_warnings():
        # It then starts from the pixels themselves, which is as good.
        warnings.filterwarnings("ignore", "Binning data failed", UserWarning)
        model.fit(fitted)
    return np.asarray(model.cluster_centers_, dtype=np.float64)
