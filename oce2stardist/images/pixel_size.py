"""The size of a pixel as a file states it, and whether two of them agree."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import tifffile

from oce2stardist.images.find import TIFF_SUFFIXES

_log = logging.getLogger(__name__)
_MICROMETRES = {
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometers"), 1.0),
    **{"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6},
}


def read_pixel_size(path: str | Path) -> tuple[float, float] | None:
    """Read the size of a pixel, where the file says it in a unit of length.

    Parameters
    ----------
    path : str or Path
        An image. OME-TIFF and ImageJ's TIFF say it. The dots per inch of other TIFF and PNG
        files are not believed: most are 72 by default.

    Returns
    -------
    (y, x) in micrometres, or None
    """
    path = Path(path)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            sizes = _ome_pixel_size(tiff) or _imagej_pixel_size(tiff)
    except Exception as error:  # a broken description is no reason not to read the image
        _log.debug("no pixel size in %s: %s", path, error)
        return None
    if sizes is None or not all(0 < size < math.inf for size in sizes):
        return None
    return sizes


def _ome_pixel_size(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    if tiff.ome_metadata is None:
        return None
    image = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    y, x = (
        _to_micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit"))
        for axis in "YX"
    )
    return None if y is None or x is None else (y, x)


def _imagej_pixel_size(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Read ImageJ's: pixels per unit in the tags, the unit in the description."""
    unit = (tiff.imagej_metadata or {}).get("unit")
    tags = tiff.pages.first.tags
    if not unit or "XResolution" not in tags or "YResolution" not in tags:
        return None
    sizes = []
    for name in ("YResolution", "XResolution"):
        pixels, units = tags[name].value
        size = _to_micrometres(units / pixels if pixels else None, unit)
        if size is None:
            return None
        sizes.append(size)
    return sizes[0], sizes[1]


def _to_micrometres(value: float | None, unit: str | None) -> float | None:
    """Convert a length; no unit means micrometres, as in OME; None for what is no length."""
    # ImageJ writes \\u00B5 where its file format has no µ; U+03BC is the Greek letter.
    name = (unit or "µm").replace("\\u00B5", "µ").replace("\u03bc", "µ").strip()
    factor = _MICROMETRES.get(name, _MICROMETRES.get(name.lower()))
    return None if value is None or factor is None else float(value) * factor


PixelSize = tuple[float, float]  # (y, x), micrometres
_PIXELS_APART = 1.1
"""Factors from which two diameters, or two sizes of pixels, are too different to be meant."""


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


def _differ(one: PixelSize, other: PixelSize) -> bool:
    return any(max(a, b) > _PIXELS_APART * min(a, b) for a, b in zip(one, other, strict=True))


def _say(size: PixelSize) -> str:
    y, x = size
    return f"{y:.4g} µm" if y == x else f"{y:.4g} x {x:.4g} µm (Y, X)"
