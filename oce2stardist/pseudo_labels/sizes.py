"""Tell whether the sizes of pseudo objects are those of cells: each finding is one sentence."""

import math
from collections.abc import Mapping

import numpy as np

from oce2stardist.labels import Labels, equivalent_diameter, median_diameter, object_sizes

_SCALES_APART = 2.0
_GIANT_SHARE = 0.5
_GIANT_DIAMETERS = 4.0
"""An object is no cell if it covers more of its image and is longer, in median cells."""


def warn_of_scales(annotations: Mapping[str, Labels], pseudo: Mapping[str, Labels]) -> list[str]:
    """Say that annotated cells and pseudo objects differ in size by more than a factor of 2."""
    drawn, made = median_diameter(annotations.values()), median_diameter(pseudo.values())
    if drawn is None or made is None or max(drawn, made) <= _SCALES_APART * min(drawn, made):
        return []
    return [
        f"annotated cells have a median diameter of {drawn:.1f} px, pseudo objects of "
        f"{made:.1f} px: one of them is not at the scale of the cells. If the annotations are "
        f"right, run `oce2stardist pseudo` again with --diameter {drawn:.4g} or --annotations"
    ]


def warn_of_giants(
    labels: Mapping[str, Labels], sides: Mapping[str, tuple[float, ...]], *, diameter: float
) -> list[str]:
    """Say that objects cover most of their image and are far larger than a cell, in pixels.

    `sides` are those of a voxel of a stack in units of its width, (1, 1) of a pixel.
    """
    giants = {}
    for stem, cells in labels.items():
        largest = int(object_sizes(cells)[1].max(initial=0))
        size = np.array(largest * math.prod(sides[stem]))
        is_long = equivalent_diameter(size, ndim=cells.ndim) > _GIANT_DIAMETERS * diameter
        if is_long and largest > _GIANT_SHARE * cells.size:
            giants[stem] = largest / cells.size
    if not giants:
        return []
    worst = max(giants, key=giants.__getitem__)
    return [
        f"one object covers {giants[worst]:.0%} of {worst}"
        + (f", and {len(giants) - 1} more images are alike" if len(giants) > 1 else "")
        + f" (cells of {diameter:.4g} px were expected): pass the true --diameter, or some "
        "annotated cells in --annotations"
    ]
