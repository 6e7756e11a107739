"""Bring the cells of a stack to the size that a network was trained on; TensorFlow is not needed.

Stacks are zoomed as plain stardist does with ``predict_instances(stack, scale=(z, y, x, 1))``.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_text
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.labels import Labels, cut_cells, renumber, resize_labels

_FILE = "scale.json"
_LARGEST = 100_000  # bytes
_ALIKE = 1.05
"""Cells this near to the working diameter stay as they are: every zoom blurs a little."""

_EXTREMES = (0.02, 10.0)
_FEW = 3
"""Whole cells that are too few to tell a shape."""

_CUT_SHARE = np.sqrt(3) / 2
"""Median diameter of the cuts of a ball on planes at random, as a share of its own."""


@dataclass(frozen=True)
class CellShape:
    """How large a median cell is, voxels: in its planes, and how many planes it has."""

    diameter: float
    planes: float


@dataclass(frozen=True)
class VolumeScale:
    """By what stacks are zoomed for a network, along z, y and x, and why.

    `working_diameter` is that of the cells that the network was trained on in y and x, in voxels
    that it sees; None where nobody knows.
    """

    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    working_diameter: float | None = None
    reason: str = "the model says nothing of a scale"

    def for_voxels(self, size: VoxelSize, trained: VoxelSize | None) -> "VolumeScale":
        """Return the scale for stacks with such voxels, if the model was trained on others."""
        if trained is None or size == trained:
            return self
        factors = (
            _rounded(by * own / other)
            for by, own, other in zip(self.factors, size, trained, strict=True)
        )
        z, y, x = factors
        return replace(self, factors=(z, y, x), reason="another size of voxels")

    @property
    def is_one(self) -> bool:
        """Whether stacks stay as they are."""
        return self.factors == (1.0, 1.0, 1.0)


def measure_cells(stacks: Iterable[NDArray[np.integer]]) -> CellShape | None:
    """Measure the median cell of labelled stacks (Z, Y, X); None where there is no object.

    Cells on planes that follow each other count, if they don't touch the stack's surface; where
    there are fewer than three, all of them; where there is none, cuts through cells, whose median
    diameter is 0.87 of that of a ball (the planes of such a cell are as many as its diameter).
    """
    whole: list[tuple[float, float]] = []
    touching: list[tuple[float, float]] = []
    cuts: list[tuple[float, float]] = []
    for stack in stacks:
        numbered, ids = renumber(stack)
        lone = set(cut_cells(stack).tolist())
        sizes = np.bincount(np.maximum(numbered, 0).ravel(), minlength=len(ids) + 1)
        for number, box in enumerate(ndi.find_objects(np.maximum(numbered, 0)), start=1):
            planes = box[0].stop - box[0].start
            if int(ids[number - 1]) in lone:
                cuts.append((np.sqrt(4 * sizes[number] / planes / np.pi), 0.0))
                continue
            # the ellipsoid of this volume and so many planes: its section in the middle
            diameter = np.sqrt(6 * sizes[number] / np.pi / planes)
            at_edge = any(
                one.start == 0 or one.stop == side
                for one, side in zip(box, stack.shape, strict=True)
            )
            (touching if at_edge else whole).append((diameter, float(planes)))
    chosen = whole if len(whole) >= _FEW else whole + touching
    if chosen:
        diameter, planes = np.median(chosen, axis=0)
        return CellShape(float(diameter), float(planes))
    if cuts:
        diameter = float(np.median(cuts, axis=0)[0]) / _CUT_SHARE
        return CellShape(diameter, diameter)
    return None


def choose_volume_scale(shape: CellShape | None, working_diameter: float | None) -> VolumeScale:
    """Choose by what to zoom stacks with such cells; planes are never made more than there are."""
    if working_diameter is None:
        return VolumeScale(reason="set in the config")
    if shape is None:
        return VolumeScale(working_diameter=working_diameter, reason="no cell tells a size")
    across = _rounded(working_diameter / shape.diameter)
    along = min(1.0, _rounded(working_diameter / shape.planes))
    reason = f"the median cell is {shape.diameter:.4g} px wide and has {shape.planes:.4g} planes"
    return VolumeScale((along, across, across), working_diameter, reason)


def _rounded(factor: float) -> float:
    """Take four digits, which a person can type into stardist, and 1 for what is near to it."""
    factor = min(max(factor, _EXTREMES[0]), _EXTREMES[1])
    return 1.0 if 1 / _ALIKE <= factor <= _ALIKE else float(f"{factor:.4g}")


def zoom_stack(stack: NDArray[np.float32], scale: VolumeScale) -> NDArray[np.float32]:
    """Zoom a stack (Z, Y, X, C) as stardist does: linear, corner voxels stay in the corners."""
    if scale.is_one:
        return stack
    return np.asarray(ndi.zoom(stack, (*scale.factors, 1.0), order=1))


def zoom_stack_labels(labels: Labels, scale: VolumeScale) -> Labels:
    """Zoom labels (Z, Y, X): each voxel takes the nearest one, and every known plane stays.

    Where there are fewer planes than before, a plane that is known wins over unknown ones.
    """
    if scale.is_one:
        return labels
    wanted = [round(side * by) for side, by in zip(labels.shape, scale.factors, strict=True)]
    across = np.stack([resize_labels(plane, (wanted[1], wanted[2])) for plane in labels])
    if wanted[0] == len(across):
        return across
    # stardist zooms corner to corner: plane k goes to k * (wanted - 1) / (have - 1)
    places = np.arange(len(across)) * (wanted[0] - 1) / max(1, len(across) - 1)
    nearest = np.floor(places + 0.5).astype(int)  # each plane goes to one
    known = (across >= 0).mean(axis=(1, 2))
    zoomed = np.empty((wanted[0], *across.shape[1:]), np.int32)
    for plane in range(wanted[0]):
        candidates = np.flatnonzero(nearest == plane)
        apart = np.abs(places - plane)
        zoomed[plane] = across[min(candidates, key=lambda one: (-known[one], apart[one]))]
    return zoomed


def read_volume_scale(folder: Path) -> VolumeScale:
    """Read the scale of a model folder; that of a foreign one is 1."""
    path = folder / _FILE
    if not path.exists():
        return VolumeScale()
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
        z, y, x = (float(factor) for factor in stored["scale"])
        diameter = stored["working_diameter"]
        diameter = None if diameter is None else float(diameter)
        if not all(_EXTREMES[0] <= factor <= _EXTREMES[1] for factor in (z, y, x)):
            raise ValueError(f"a scale of {stored['scale']}")
        reason = f"the model's ({stored.get('reason', path.name)})"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} must hold scale, three numbers, and working_diameter. Got: {error}; copy the "
            "model folder again."
        ) from error
    return VolumeScale((z, y, x), diameter, reason)


def write_volume_scale(folder: Path, scale: VolumeScale) -> None:
    """Write the scale beside config.json, in which stock stardist takes no other keys."""
    content = {
        "scale": list(scale.factors),
        "working_diameter": scale.working_diameter,
        "reason": scale.reason,
    }
    write_text(folder / _FILE, json.dumps(content, indent=1))
