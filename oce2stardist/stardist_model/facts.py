"""Read what a model folder says of itself, without TensorFlow."""

import json
from pathlib import Path
from typing import Any

from oce2stardist.files.records import read_yaml
from oce2stardist.images.pixel_size import PixelSize, VoxelSize


def trained_pixel_size(model: Path) -> PixelSize | None:
    """Read from run.yaml which pixel size a model was trained on; None where nobody knows."""
    try:
        recorded: Any = read_yaml(model / "run.yaml")
        y, x = recorded["inputs"]["pixel_size_um"]
        return PixelSize(float(y), float(x))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # stock models have no such file, other tools another


def trained_voxel_size(model: Path) -> VoxelSize | None:
    """Read from run.yaml which voxel size a model of stacks was trained on; None if unknown."""
    try:
        recorded: Any = read_yaml(model / "run.yaml")
        z, y, x = recorded["inputs"]["voxel_size_um"]
        return VoxelSize(float(z), float(y), float(x))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def has_thresholds(model: Path) -> bool:
    """Tell whether a model folder has both thresholds; StarDist else takes its defaults."""
    try:
        thresholds = json.loads((model / "thresholds.json").read_text(encoding="utf-8"))
        return all(0 < thresholds[name] < 1 for name in ("prob", "nms"))
    except (OSError, ValueError, LookupError, TypeError):
        return False
