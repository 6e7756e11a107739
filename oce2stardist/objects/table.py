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
_LENGTHS = ("centroid-0", "centroid-1", "axis_major_length", "axis_minor_length")
_PHYSICAL = {"area": "area_um2"} | {name: f"{_SHAPE[name]}_um" for name in _LENGTHS}
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
    """Measure every object of an image (Y, X, C) with labels (Y, X).

    `probabilities` (n,) are those of the objects 1 to n, `pixel_size` is (y, x) in micrometres.

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
    columns |= _measure(numbered, _SHAPE, None)
    columns |= _intensities(numbered, image, len(ids))
    if pixel_size is not None:
        for axis, size in zip("yx", pixel_size, strict=True):
            columns[f"pixel_size_{axis}_um"] = np.full(len(ids), size)
        columns |= _measure(numbered, _PHYSICAL, pixel_size)
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
    numbered: NDArray[np.int32], names: dict[str, str], spacing: tuple[float, float] | None
) -> dict[str, NDArray[np.floating]]:
    asked = list(dict.fromkeys(name.split("-")[0] for name in names))
    measured = regionprops_table(numbered, properties=asked, spacing=spacing)
    return {ours: measured[name] for name, ours in names.items()}


def _intensities(
    numbered: NDArray[np.int32], image: NDArray[np.floating], n: int
) -> dict[str, NDArray[np.float64]]:
    """Take the mean of every channel over every object."""
    at = numbered.ravel()
    pixels = np.bincount(at, minlength=n + 1)[1:]
    means = {}
    for channel in range(image.shape[-1]):
        sums = np.bincount(at, weights=image[..., channel].ravel(), minlength=n + 1)[1:]
        means[f"intensity_{channel + 1}"] = sums / pixels
    return means
