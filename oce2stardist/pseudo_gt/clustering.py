"""Which pixels are the same cell: modes of the embeddings (arXiv:2310.08501, section 3)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max


def cluster_embeddings(
    offsets: NDArray[np.floating],
    foreground: NDArray[np.bool_],
    *,
    bandwidth: float,
    method: Literal["density", "mean_shift"],
    seed: int = 0,
) -> NDArray[np.int32]:
    """Group foreground pixels that embed to the same place.

    Parameters
    ----------
    offsets : array of shape (2, Y, X)
        Predicted offsets (y, x), pixels.
    foreground : bool array of shape (Y, X)
    bandwidth : float, > 0
        Radius of the kernel, pixels; somewhat less than half a cell diameter is a good value.
    method : {"density", "mean_shift"}
        ``mean_shift`` is scikit-learn's, with bin seeding. ``density`` finds the same
        modes as peaks of a smoothed density image of the embeddings and is some tens of
        times faster.
    seed : int
        Seeds the choice of pixels that mean shift is fitted to.

    Returns
    -------
    int32 array of shape (Y, X)
        Labels 1..n on the foreground, 0 elsewhere.

    Notes
    -----
    Only differences of offsets enter the training loss, so a constant may be added to
    all of them: the median over the foreground is taken off first.
    """
    labels = np.zeros(foreground.shape, np.int32)
    if not foreground.any():
        return labels
    pixels = np.argwhere(foreground)  # (N, 2)
    drawn = offsets[:, foreground].T.astype(np.float64)  # (N, 2)
    embeddings = pixels + drawn - np.median(drawn, axis=0)
    if method == "density":
        centres = _density_peaks(embeddings, foreground.shape, bandwidth)
    else:
        centres = _mean_shift_centres(embeddings, bandwidth, seed)
    labels[foreground] = cKDTree(centres).query(embeddings)[1] + 1
    return labels


def _density_peaks(
    embeddings: NDArray[np.float64], shape: tuple[int, ...], bandwidth: float
) -> NDArray[np.float64]:
    """Find the modes of the embeddings; float array of shape (modes, 2)."""
    margin = int(np.ceil(bandwidth))
    low, high = -margin, np.array(shape) + margin
    # An embedding far outside the image is an outlier; it is moved to the rim so that one
    # wild pixel can't ask for a huge density image.
    inside = np.clip(np.rint(embeddings).astype(np.int64), low, high - 1) - low
    counts = np.zeros(np.array(shape) + 2 * margin, np.float32)
    np.add.at(counts, (inside[:, 0], inside[:, 1]), 1.0)
    # A flat kernel of radius h climbs the density under an Epanechnikov kernel of radius h,
    # whose standard deviation along each axis is h / sqrt(6).
    density = ndi.gaussian_filter(counts, bandwidth / np.sqrt(6.0), mode="constant")
    peaks = peak_local_max(
        density,
        min_distance=max(1, round(bandwidth)),
        threshold_abs=0.0,
        exclude_border=False,
        p_norm=2,
    )
    if len(peaks) == 0:
        peaks = np.array([np.unravel_index(int(density.argmax()), density.shape)])
    return peaks.astype(np.float64) + low


def _mean_shift_centres(
    embeddings: NDArray[np.float64], bandwidth: float, seed: int
) -> NDArray[np.float64]:
    from sklearn.cluster import MeanShift  # slow to import, and only the reference needs it

    # The paper's code fits mean shift to a tenth of the pixels.
    rng = np.random.default_rng(seed)
    keep = rng.random(len(embeddings)) < 0.1
    fitted = embeddings[keep] if keep.sum() >= 100 else embeddings
    model = MeanShift(bandwidth=bandwidth, bin_seeding=True, cluster_all=True).fit(fitted)
    return np.asarray(model.cluster_centers_, dtype=np.float64)
