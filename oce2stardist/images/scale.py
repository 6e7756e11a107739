"""At which scale each image is looked at: that which brings a median cell to one size."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from skimage.transform import rescale

from oce2stardist.errors import InputError
from oce2stardist.images.diameter import DiameterEstimate, estimate_diameter
from oce2stardist.images.find import image_stem
from oce2stardist.images.image_set import ImageSet
from oce2stardist.labels import Image, Labels, median_diameter

ScaleMode = Literal["auto", "set", "image"]

_CLOSE = 1.1
"""A tenth of the size does not matter to the network; resampling costs sharpness."""

_MIXED = 2.0
"""Ratio of large to small images' diameters (90th to 10th percentile) from which a set is mixed."""

_FEW = 5
"""Cells below which an image's own estimate is not taken."""


@dataclass(frozen=True)
class Scales:
    """Factor by image stem, the set's median diameter in pixels, and where it comes from.

    `low` and `high` are the interval of `diameter`, None where it is not an estimate: it was
    given, or the estimate was not trusted and it is assumed. `estimate` is what the picture of
    the estimate is drawn from, also of one that was not taken.
    """

    factors: dict[str, float]
    diameter: float
    reason: str
    low: float | None = None
    high: float | None = None
    trusted: bool = True
    estimate: DiameterEstimate | None = None

    @property
    def median(self) -> float:
        """Median factor of the set."""
        return float(np.median(list(self.factors.values())))


def choose_scales(
    image_set: ImageSet,
    *,
    working: float,
    mode: ScaleMode,
    diameter: float | str | Path | None,
    annotations: Mapping[str, Labels] | None,
    seed: int,
) -> Scales:
    """Find the factors that bring median cells to the working diameter, in pixels.

    Parameters
    ----------
    mode : {"auto", "set", "image"}
        One factor for the set, or one for each image from its own estimate; ``auto`` takes
        the latter where the images' estimates differ by more than a factor of two.
    diameter : float or path, optional
        Median cell diameter in pixels; or a CSV file with the columns image and diameter,
        for sets whose images differ. Default: that of the annotated cells, else an estimate.
    annotations : mapping of image stem to label image, optional
    seed : int
        Of the estimate.
    """
    if isinstance(diameter, (str, Path)):
        given = _read_diameters(Path(diameter), image_set)
        factors = {stem: _factor(working, given[stem]) for stem in image_set.images}
        median = float(np.median(list(given.values())))
        return Scales(factors, median, f"diameters were given for each image in {diameter}")
    if diameter is not None:
        reason = f"a diameter of {diameter:g} px was given"
    elif annotations is None:
        return _estimated(image_set, working, mode, seed)
    elif mode == "image":
        return _annotated_images(image_set, annotations, working)
    else:
        diameter = _annotated_diameter(annotations)
        reason = f"the annotated cells have a median diameter of {diameter:.1f} px"
    factor = _factor(working, diameter)
    if factor == 1.0:
        reason += " (close enough to work at the original scale)"
    return Scales(dict.fromkeys(image_set.images, factor), float(diameter), reason)


def to_working_scale(image: Image, factor: float, sides: tuple[float, ...] = (1.0, 1.0)) -> Image:
    """Rescale an image of shape (Y, X, C); smoothed before it is made smaller.

    Of a stack (Z, Y, X, C), `sides` are those of a voxel in units of its width: what comes out
    has cubes. Between planes that lie farther apart it is interpolated.
    """
    if factor == 1.0 and set(sides) == {1.0}:
        return image
    if image.ndim == 3:
        by_axis: Any = factor
        smooth = factor < 1
    else:
        by_axis = [factor * side for side in sides]
        smooth = min(by_axis) < 1
    scaled = rescale(
        image, by_axis, order=1, channel_axis=-1, anti_aliasing=smooth, preserve_range=True
    )
    return np.asarray(scaled, dtype=np.float32)


def as_cubes(image: Image, sides: tuple[float, ...]) -> Image:
    """Interpolate a stack (Z, Y, X, C) so that its voxels are cubes as wide as they were."""
    return to_working_scale(image, 1.0, sides)


def _factor(working: float, diameter: float) -> float:
    if not 2 <= diameter <= 2000:
        raise InputError(
            f"the diameter must be between 2 and 2000 pixels. Got {diameter:g} instead."
        )
    factor = working / diameter
    return 1.0 if abs(np.log(factor)) < np.log(_CLOSE) else float(factor)


def _annotated_images(image_set: ImageSet, labels: Mapping[str, Labels], working: float) -> Scales:
    """Scale images by their own annotated cells, and the rest by all of them."""
    median = _annotated_diameter(labels)
    annotated = {stem: image for stem, image in labels.items() if (image > 0).any()}
    own = {stem: _annotated_diameter({stem: image}) for stem, image in annotated.items()}
    factors = {stem: _factor(working, own.get(stem, median)) for stem in image_set.images}
    reason = (
        f"{len(own)} images have annotated cells of their own; the others take the median "
        f"diameter of all annotated cells, {median:.1f} px"
    )
    return Scales(factors, median, reason)


def _estimated(image_set: ImageSet, working: float, mode: ScaleMode, seed: int) -> Scales:
    images = list(image_set.images.values())
    if image_set.are_stacks:
        images = [
            as_cubes(image, image_set.sides(stem)) for stem, image in image_set.images.items()
        ]
    estimate = estimate_diameter(images, at_most=len(images) if mode == "image" else 100, seed=seed)
    own = _own_diameters(image_set, estimate)
    if mode == "auto" and _mixed(list(own.values())):
        if len(images) > 100:
            estimate = estimate_diameter(images, at_most=len(images), seed=seed)
            own = _own_diameters(image_set, estimate)
        mode = "image"
    median, low, high = estimate.diameter, estimate.low, estimate.high
    original = dict.fromkeys(image_set.images, 1.0)
    if median is None or low is None or high is None:
        reason = f"{estimate.reason}, so a diameter of {working:g} px is assumed; pass --diameter"
        return Scales(original, working, reason, trusted=False, estimate=estimate)
    said = f"{median:.1f} px (90 % interval {low:.1f} to {high:.1f}): {estimate.reason}"
    if mode == "image":
        factors = {stem: _factor(working, own.get(stem, median)) for stem in image_set.images}
        reason = (
            f"sizes differ between images, so each has its own scale; median estimated as {said}"
        )
    elif estimate.trusted or (image_set.are_stacks and estimate.steady):
        # A stack often holds fewer cells than what is needed to be sure.
        factors = dict.fromkeys(image_set.images, _factor(working, median))
        unsure = "" if estimate.trusted else "; if it is wrong pass --diameter"
        reason = f"estimated as {said}{unsure}"
    else:
        # A wrong scale costs more than none: a size too small makes images many times larger.
        reason = (
            f"the estimate can't be trusted, {said}, so {working:g} px is assumed; look at "
            "pseudo/diameter.png and pass --diameter"
        )
        return Scales(original, working, reason, trusted=False, estimate=estimate)
    return Scales(factors, median, reason, low, high, estimate.trusted, estimate)


def _own_diameters(image_set: ImageSet, estimate: DiameterEstimate) -> dict[str, float]:
    """Take the estimates of images that have enough cells and are sure of them."""
    return {
        stem: cells.median
        for stem, cells in zip(image_set.images, estimate.cells, strict=True)
        if cells is not None and cells.steady and cells.diameters.size >= _FEW
    }


def _mixed(diameters: list[float]) -> bool:
    if len(diameters) < _FEW:
        return False
    small, large = np.percentile(diameters, (10, 90))
    return bool(large > _MIXED * small)


def _read_diameters(path: Path, image_set: ImageSet) -> dict[str, float]:
    """Read a CSV file of diameters by image."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"--diameter must be a number of pixels or a CSV file. {path} can't be read: {error}"
        ) from error
    if not rows or not {"image", "diameter"} <= set(rows[0]):
        columns = ", ".join(map(str, rows[0])) if rows else "no row"
        raise InputError(f"{path} must have the columns image and diameter. Got {columns}.")
    given = {}
    for row in rows:
        try:
            name = row["image"]
            stem = name if name in image_set.images else image_stem(name)
            given[stem] = float(row["diameter"])
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path}: diameter must be a number of pixels. Got {row['diameter']!r} for "
                f"{row['image']}."
            ) from error
    missing = [stem for stem in image_set.images if stem not in given]
    if missing:
        raise InputError(
            f"{path} must name a diameter for every image. Got none for {missing[0]}"
            + (f" and {len(missing) - 1} more." if len(missing) > 1 else ".")
        )
    return {stem: given[stem] for stem in image_set.images}


def _annotated_diameter(labels: Mapping[str, Labels]) -> float:
    diameter = median_diameter(labels.values())
    if diameter is None:
        raise InputError(
            "annotations must hold at least one cell. Got only background or unlabelled "
            "pixels; annotate a few cells or pass --diameter."
        )
    return diameter
