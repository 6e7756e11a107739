"""Open sample data: the nuclei that stardist ships."""

from pathlib import Path
from typing import Any

import tifffile

from oce2stardist.errors import InputError


def open_nuclei() -> list[tuple[Any, ...]]:
    """Read the 512×512 image of fluorescent nuclei on which `oce2stardist demo` runs."""
    return [(tifffile.imread(_find_image()), {"name": "nuclei"}, "image")]


def _find_image() -> Path:
    """Find the file without importing stardist, which would load TensorFlow into napari."""
    from importlib.util import find_spec

    spec = find_spec("stardist")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / "images" / "img2d.tif"
        if path.is_file():
            return path
    raise InputError("the package stardist must hold its example image. Got none; reinstall it.")
