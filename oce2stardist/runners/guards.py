"""What a run looks at before it trusts its inputs: each finding is one sentence for the user."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from oce2stardist.labels import median_diameter, object_sizes
from oce2stardist.runners.inputs import Labels

PixelSize = tuple[float, float]  # (y, x), micrometres

_SCALES_APART = 2.0
_PIXELS_APART = 1.1
"""Factors from which two diameters, or two sizes of pixels, are too different to be meant."""

_GIANT_SHARE = 0.5
_GIANT_DIAMETERS = 4.0
"""An object is no cell if it covers more of its image and is longer, in median cells."""


def warn_of_scales(annotations: Mapping[str, Labels], pseudo: Mapping[str, Labels]) -> list[str]:
    """Say that annotated cells and pseudo objects differ in size by more than a factor of 2."""
    drawn, found = median_diameter(annotations.values()), median_diameter(pseudo.values())
    if drawn is None or found is None or max(drawn, found) <= _SCALES_APART * min(drawn, found):
        return []
    return [
        f"annotated cells have a median diameter of {drawn:.1f} px, pseudo objects of "
        f"{found:.1f} px: one of them is not at the scale of the cells. If the annotations are "
        f"right, run `oce2stardist pseudo` again with --diameter {drawn:.4g} or --annotations"
    ]


def warn_of_giants(labels: Mapping[str, Labels], *, diameter: float) -> list[str]:
    """Say which objects cover most of their image and are far larger than a cell.

    Parameters
    ----------
    labels : mapping of image stem to int32 array of shape (Y, X)
    diameter : float
        Of a median cell, pixels.
    """
    giants = {}
    for stem, one in labels.items():
        largest = int(object_sizes(one)[1].max(initial=0))
        if (
            largest > _GIANT_SHARE * one.size
            and np.sqrt(4 * largest / np.pi) > _GIANT_DIAMETERS * diameter
        ):
            giants[stem] = largest / one.size
    if not giants:
        return []
    worst = max(giants, key=giants.__getitem__)
    return [
        f"one object covers {giants[worst]:.0%} of {worst}"
        + (f", and {len(giants) - 1} more images are alike" if len(giants) > 1 else "")
        + f" (cells of {diameter:.4g} px were expected): pass the true --diameter, or some "
        "annotated cells in --annotations"
    ]


def common_pixel_size(sizes: Mapping[str, PixelSize | None]) -> PixelSize | None:
    """Take the pixel size of all images that tell one; None if they differ or none does."""
    known = [size for size in sizes.values() if size is not None]
    if not known or any(_differ(known[0], size) for size in known):
        return None
    return known[0]


def warn_of_pixel_sizes(
    trained: PixelSize | None, sizes: Mapping[str, PixelSize | None]
) -> list[str]:
    """Say which images have pixels of another size than those that a model was trained on."""
    others = {
        stem: size
        for stem, size in sizes.items()
        if trained is not None and size is not None and _differ(trained, size)
    }
    if not others or trained is None:
        return []
    stem, size = next(iter(others.items()))
    return [
        f"{len(others)} of {len(sizes)} images have pixels of another size than those that the "
        f"model was trained on, such as {stem}: {_say(size)} where it was {_say(trained)}; "
        "resample them, or look at the result closely"
    ]


def trained_pixel_size(model: Path) -> PixelSize | None:
    """Read from run.yaml which pixel size a model was trained on; None where nobody knows."""
    try:
        recorded: Any = yaml.safe_load((model / "run.yaml").read_text(encoding="utf-8"))
        y, x = recorded["inputs"]["pixel_size_um"]
        return float(y), float(x)
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return None  # stock models have no such file, other tools another


def has_thresholds(model: Path) -> bool:
    """Tell whether a model folder has both thresholds; StarDist else takes its defaults."""
    try:
        found = json.loads((model / "thresholds.json").read_text(encoding="utf-8"))
        return all(0 < found[name] < 1 for name in ("prob", "nms"))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _differ(one: PixelSize, other: PixelSize) -> bool:
    return any(max(a, b) > _PIXELS_APART * min(a, b) for a, b in zip(one, other, strict=True))


def _say(size: PixelSize) -> str:
    y, x = size
    return f"{y:.4g} µm" if y == x else f"{y:.4g} x {x:.4g} µm (Y, X)"
