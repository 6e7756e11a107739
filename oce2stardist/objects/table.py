"""Measurements of the objects of a label image."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from oce2stardist.labels import renumber

_SHAPE = {  # scikit-image's names -> ours
    "area": "area",
    "centroid-0": "centroid_y",
    "centroid-1": "centroid_x",
    "axis_major_length": "axis_major",
    "axis_minor_length": "axis_minor",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
}
_PHYSICAL = {
    "area": "area_um2",
    "centroid-0": "centroid_y_um",
    "centroid-1": "centroid_x_um",
    "axis_major_length": "axis_major_um",
    "axis_minor_length": "axis_minor_um",
}
_QUPATH = {
    "probability": "Detection probability",
    "area": "Area px^2",
    "area_um2": "Area µm^2",
    "axis_major": "Major axis px",
    "axis_minor": "Minor axis px",
    "axis_major_um": "Major axis µm",
    "axis_minor_um": "Minor axis µm",
    "eccentricity": "Eccentricity",
    "solidity": "Solidity",
}


def measure_objects(
    labels: NDArray[np.integer],
    image: NDArray[np.floating],
    *,
    probabilities: NDArray[np.floating] | None = None,
    pixel_size: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Measure every object.

    Parameters
    ----------
    labels : integer array of shape (Y, X)
    image : float array of shape (Y, X, C)
    probabilities : float array of shape (n,), optional
        Of the objects 1 to n.
    pixel_size : (y, x), optional
        Micrometres.

    Returns
    -------
    DataFrame
        One row per object, by ascending label: label; probability; in pixels area, centroid_y,
        centroid_x (the centre of the first pixel is 0, as in scikit-image), axis_major and
        axis_minor of the ellipse with the same second moments, its eccentricity; solidity, the
        share of its convex hull; intensity_1, intensity_2, ..., the mean of each channel as
        stored; where the pixel size is known also pixel_size_y_um and pixel_size_x_um, and
        area, centroid and axes in micrometres.
    """
    numbered, ids = renumber(np.maximum(labels, 0))
    columns: dict[str, NDArray[Any]] = {"label": ids}
    if probabilities is not None:
        columns["probability"] = np.asarray(probabilities)[ids - 1]
    shape = _measure(numbered, list(_SHAPE), None)
    columns |= {ours: shape[name] for name, ours in _SHAPE.items()}
    columns |= _intensities(numbered, image, len(ids))
    if pixel_size is not None:
        columns |= {
            "pixel_size_y_um": np.full(len(ids), pixel_size[0]),
            "pixel_size_x_um": np.full(len(ids), pixel_size[1]),
        }
        physical = _measure(numbered, list(_PHYSICAL), pixel_size)
        columns |= {ours: physical[name] for name, ours in _PHYSICAL.items()}
    return pd.DataFrame(columns)


def name_for_qupath(row: dict[str, float]) -> dict[str, float]:
    """Give the measurements of one object the names that QuPath's users know.

    The centroid is left out: QuPath knows it from the outline.
    """
    named = {_QUPATH[name]: float(value) for name, value in row.items() if name in _QUPATH}
    for name, value in row.items():
        if name.startswith("intensity_"):
            named[f"Channel {name.removeprefix('intensity_')}: Mean"] = float(value)
    return named


def _measure(
    numbered: NDArray[np.int32], names: list[str], spacing: tuple[float, float] | None
) -> dict[str, NDArray[np.floating]]:
    asked = list(dict.fromkeys(name.split("-")[0] for name in names))
    return dict(regionprops_table(numbered, properties=asked, spacing=spacing))


def _intensities(
    numbered: NDArray[np.int32], image: NDArray[np.floating], n: int
) -> dict[str, NDArray[np.float64]]:
    """Take the mean of every channel over every object."""
    at = numbered.ravel()
    pixels = np.bincount(at, minlength=n + 1)[1:]
    return {
        f"intensity_{channel + 1}": np.bincount(
            at, weights=image[..., channel].ravel(), minlength=n + 1
        )[1:]
        / pixels
        for channel in range(image.shape[-1])
    }
