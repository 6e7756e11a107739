"""Bring cells to the size that a network was trained on; TensorFlow is not needed.

The scale of a model is what plain stardist takes as ``predict_instances(image, scale=...)``: the
image is zoomed before the network sees it, and the polygons are brought back to its own size, so
outlines are smooth at any size. Images are zoomed here exactly as stardist zooms them.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from oce2stardist.config import StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_text
from oce2stardist.images.blocks import Window
from oce2stardist.images.pixel_size import PixelSize, relative_size
from oce2stardist.labels import Image, Labels, median_diameter, object_sizes, rescale_labels
from oce2stardist.stardist_model.facts import trained_pixel_size

_FILE = "scale.json"
_LARGEST = 100_000  # bytes
_ALIKE = 1.05
"""Cells this near to the working diameter stay as they are: every zoom blurs a little."""

_EXTREMES = (0.02, 10.0)

_MIXED = 2.0
"""Ratio of large to small images' diameters (90th to 10th percentile) from which a set is mixed."""

_FEW = 5
"""Cells, or images, that are too few to tell."""


@dataclass(frozen=True)
class ModelScale:
    """By what images are zoomed for a network, and why.

    Attributes
    ----------
    factor : float
        Above 1 enlarges. What stardist calls `scale`.
    working_diameter : float, optional
        Median diameter of the cells that the network was trained on, in pixels that it sees. None
        where nobody knows: a model of plain stardist.
    reason : str
        Where the factor comes from.
    per_image : bool
        Every image has its own factor: `predict` looks at what it finds with this one, and again.
    """

    factor: float = 1.0
    working_diameter: float | None = None
    reason: str = "the model says nothing of a scale"
    per_image: bool = False

    def for_diameter(self, diameter: float) -> "ModelScale":
        """Return the scale for images whose median cell has this diameter, pixels."""
        if self.working_diameter is None:
            raise InputError(
                "a diameter can only be given where the model folder says to what size of cells "
                f"it was trained (scale.json). Got a diameter of {diameter:g} px and none there; "
                "leave out the diameter."
            )
        largest, smallest = (self.working_diameter / factor for factor in _EXTREMES)
        if not smallest <= diameter <= largest:
            raise InputError(
                f"cells must be {smallest:.2g} to {largest:.4g} px wide for this model. Got a "
                f"diameter of {diameter:g} px; measure some cells."
            )
        factor = _rounded(self.working_diameter / diameter)
        return replace(self, factor=factor, reason=f"cells of {diameter:.4g} px", per_image=False)

    def for_pixels(self, pixels: PixelSize | None, trained: PixelSize | None) -> "ModelScale":
        """Return the scale for images with such pixels, if the model was trained on others."""
        factor = self.factor * relative_size(pixels, trained)
        if factor == self.factor:
            return self
        factor = min(max(factor, _EXTREMES[0]), _EXTREMES[1])
        return replace(self, factor=_rounded(factor), reason="another size of pixels")


def _rounded(factor: float) -> float:
    """Take four digits, which a person can type into stardist, and 1 for what is near to it."""
    return 1.0 if 1 / _ALIKE <= factor <= _ALIKE else float(f"{factor:.4g}")


@dataclass(frozen=True)
class TrainingScale:
    """By what the images of a training are zoomed: most by that of the model, some by their own."""

    model: ModelScale = ModelScale()
    own: Mapping[str, float] = field(default_factory=dict)

    def of(self, stem: str) -> float:
        """Return the factor of an image."""
        return self.own.get(stem, self.model.factor)


def choose_scale(
    settings: StarDistConfig,
    annotated: Mapping[str, Labels],
    cells: Mapping[str, Sequence[int]],
    pseudo: Mapping[str, Labels],
    *,
    init: Path | None,
) -> TrainingScale:
    """Choose the scale of a training: that of its annotated cells, else of its pseudo objects.

    `cells` are the ids of the annotated ones that are used, by image. Where the images' cells
    differ a lot in size, every image has its own scale. A model to start from keeps its own
    working diameter, and images stay as they are if it has none; without a working diameter in the
    settings they stay, too.
    """
    wanted = ModelScale(working_diameter=settings.working_diameter)
    if init is not None:
        wanted = replace(read_scale(init), per_image=False)
        if wanted.working_diameter is None:
            reason = "the model to start from says nothing of a scale"
            return TrainingScale(replace(wanted, reason=reason))
    if wanted.working_diameter is None:
        return TrainingScale(replace(wanted, reason="set in the config"))
    used = {
        stem: np.where(np.isin(annotated[stem], ids), annotated[stem], 0)
        for stem, ids in cells.items()
    }
    for labels, what in ((used, "annotated cells"), (pseudo, "pseudo objects")):
        diameter = median_diameter(labels.values())
        if diameter is not None:
            found = wanted.for_diameter(diameter)
            reason = f"{what} have a median diameter of {diameter:.4g} px"
            own = _own_scales(wanted, used, pseudo)
            if own:
                reason += "; images differ, so each has its own scale"
            return TrainingScale(replace(found, reason=reason, per_image=bool(own)), own)
    return TrainingScale(replace(wanted, factor=1.0, reason="no cell tells a size"))


def warn_of_large_cells(
    scale: TrainingScale,
    annotated: Mapping[str, Labels],
    pseudo: Mapping[str, Labels],
    *,
    patch_size: int,
) -> list[str]:
    """Say that cells are larger than the patches, pixels a side, that the network trains on.

    Its field of view is about such a patch: of stock networks 94 px, of the default one 96.
    """
    diameter = median_diameter(annotated.values()) or median_diameter(pseudo.values()) or 0.0
    seen = diameter * scale.model.factor
    if seen <= patch_size:
        return []
    return [
        f"the median cell is {seen:.0f} px wide where the network sees {patch_size} px at a time: "
        "it never sees a whole cell. Set stardist.working_diameter, and start from none or drawn; "
        f"or make the images {math.ceil(seen / 28)} times smaller"
    ]


def _own_scales(
    wanted: ModelScale, annotated: Mapping[str, Labels], pseudo: Mapping[str, Labels]
) -> dict[str, float]:
    """Choose the scales of images that show enough cells; empty where images are alike."""
    diameters = {}
    for stem in sorted({*annotated, *pseudo}):
        for labels in (annotated.get(stem), pseudo.get(stem)):
            if labels is None or len(object_sizes(labels)[0]) < _FEW:
                continue
            diameters[stem] = median_diameter([labels]) or 0.0
            break
    if len(diameters) < _FEW:
        return {}
    small, large = np.percentile(list(diameters.values()), (10, 90))
    if large <= _MIXED * small:
        return {}
    return {stem: wanted.for_diameter(size).factor for stem, size in diameters.items()}


def read_scale(folder: Path) -> ModelScale:
    """Read the scale of a model folder; that of a foreign one is 1."""
    path = folder / _FILE
    if not path.exists():
        return ModelScale()
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
        factor, diameter = float(stored["scale"]), stored["working_diameter"]
        diameter = None if diameter is None else float(diameter)
        if not _EXTREMES[0] <= factor <= _EXTREMES[1] or (diameter is not None and diameter <= 0):
            raise ValueError(f"a scale of {factor} for cells of {diameter} px")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} must hold scale and working_diameter, two numbers. Got: {error}; copy the "
            "model folder again."
        ) from error
    reason = f"the model's ({stored.get('reason', path.name)})"
    return ModelScale(factor, diameter, reason, bool(stored.get("per_image", False)))


def choose_scale_for(model: Path, pixels: PixelSize | None, diameter: float | None) -> ModelScale:
    """Choose at what scale a model looks at an image with pixels, and cells, of such a size."""
    own = read_scale(model)
    if diameter is not None:
        return own.for_diameter(diameter)
    return own.for_pixels(pixels, trained_pixel_size(model))


def write_scale(folder: Path, scale: ModelScale) -> None:
    """Write the scale beside config.json, in which stock stardist takes no other keys."""
    content = {
        "scale": scale.factor,
        "working_diameter": scale.working_diameter,
        "reason": scale.reason,
        "per_image": scale.per_image,
    }
    write_text(folder / _FILE, json.dumps(content, indent=1))


def zoom_image(image: Image, factor: float) -> Image:
    """Zoom an image (Y, X, C) as stardist does: linear, the corner pixels stay in the corners."""
    if factor == 1.0:
        return image
    return np.asarray(ndi.zoom(image, (factor, factor, 1), order=1))


def zoomed_shape(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Tell how large an image (Y, X, ...) will be, as `scipy.ndimage.zoom` does."""
    return round(shape[0] * factor), round(shape[1] * factor)


def zoomed_core(core: Window, shape: tuple[int, int], factor: float) -> Window:
    """Tell for which pixels of the zoomed image a window of the image is responsible.

    Windows that share out the image share out the zoomed one, too.
    """
    zoomed = zoomed_shape(shape, factor)

    def bound(edge: int, side: int, most: int) -> int:
        return most if edge == side else min(most, math.ceil(edge * factor))

    rows, columns = (
        slice(bound(part.start, side, most), bound(part.stop, side, most))
        for part, side, most in zip(core, shape, zoomed, strict=True)
    )
    return rows, columns


def zoom_window(
    read: Callable[[Window], Image], window: Window, shape: tuple[int, int], factor: float
) -> Image:
    """Read a window of an image as it is after `zoom_image`, from the pixels that it needs.

    Parameters
    ----------
    read : callable
        Reads a window of the image at its own size, whose height and width are `shape`.
    window : pair of slices
        In the zoomed image.
    """
    if factor == 1.0:
        return read(window)
    zoomed = zoomed_shape(shape, factor)
    steps = [(have - 1) / max(want - 1, 1) for have, want in zip(shape, zoomed, strict=True)]
    needed = tuple(
        slice(int(side.start * step), min(have, int((side.stop - 1) * step) + 2))
        for side, step, have in zip(window, steps, shape, strict=True)
    )
    pixels = read((needed[0], needed[1]))
    offset = [
        side.start * step - one.start for side, step, one in zip(window, steps, needed, strict=True)
    ]
    size = [side.stop - side.start for side in window]
    channels = [
        ndi.affine_transform(
            pixels[..., channel], steps, offset, output_shape=size, order=1, mode="nearest"
        )
        for channel in range(pixels.shape[-1])
    ]
    made = np.stack(channels, axis=-1)
    for axis, (side, step, have, want) in enumerate(zip(window, steps, shape, zoomed, strict=True)):
        # Where rounding takes the last pixel out of the image, scipy and so stardist see 0 there.
        if side.stop == want and (want - 1) * step > have - 1:
            made[(slice(None),) * axis + (-1,)] = 0
    return made


def zoom_labels(labels: Labels, factor: float) -> Labels:
    """Zoom labels (Y, X) to where `zoom_image` brings their cells; outlines stay smooth."""
    return labels if factor == 1.0 else rescale_labels(labels, zoomed_shape(labels.shape, factor))
