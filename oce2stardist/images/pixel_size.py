"""The size of a pixel as a file states it, and whether two of them agree."""

import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tifffile

_log = logging.getLogger(__name__)
_MICROMETRES: dict[str, float] = {
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometers"), 1.0),
    **{"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6},
    # As OME-Zarr writes them
    **{"picometer": 1e-6, "angstrom": 1e-4, "nanometer": 1e-3},
    **{"millimeter": 1e3, "centimeter": 1e4, "meter": 1e6},
}


class PixelSize(NamedTuple):
    """Height and width of a pixel in micrometres."""

    y: float
    x: float


class VoxelSize(NamedTuple):
    """Depth, height and width of a voxel, in micrometres or any other unit of length."""

    z: float
    y: float
    x: float

    @property
    def in_pixels(self) -> tuple[float, float, float]:
        """The sides in units of the width, (z, y, x): those of diameters in stacks."""
        return self.z / self.x, self.y / self.x, 1.0


def tiff_pixel_size(tiff: tifffile.TiffFile) -> PixelSize | None:
    """Read the size of a pixel from an open TIFF, where it says it in a unit of length.

    OME-TIFF and ImageJ's TIFF do. The dots per inch of others are not believed: most are 72 by
    default.
    """
    try:
        return _ome_pixel_size(tiff) or _imagej_pixel_size(tiff)
    except Exception as error:  # a broken description is no reason not to read the image
        _log.debug("no pixel size in %s: %s", tiff.filename, error)
        return None


def tiff_voxel_size(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """Read the size of a voxel of a stack, where `tiff_pixel_size` tells and planes have one."""
    size = tiff_pixel_size(tiff)
    try:
        depth = _ome_depth(tiff) or _imagej_depth(tiff)
    except Exception as error:  # as above
        _log.debug("no distance of planes in %s: %s", tiff.filename, error)
        return None
    if size is None or depth is None or not 0 < depth < math.inf:
        return None
    return VoxelSize(depth, *size)


def _ome_depth(tiff: tifffile.TiffFile) -> float | None:
    if tiff.ome_metadata is None:
        return None
    pixels = _ome_pixels(tiff.ome_metadata)
    return to_micrometres(pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeZUnit") or "µm")


def _imagej_depth(tiff: tifffile.TiffFile) -> float | None:
    described = tiff.imagej_metadata or {}
    return to_micrometres(described.get("spacing"), described.get("unit"))


def to_pixel_size(
    y: tuple[float | None, str | None], x: tuple[float | None, str | None]
) -> PixelSize | None:
    """Convert a height and a width, each with its unit; None where one is no length above 0."""
    height, width = to_micrometres(*y), to_micrometres(*x)
    if height is None or width is None:
        return None
    size = PixelSize(height, width)
    return size if all(0 < side < math.inf for side in size) else None


def _ome_pixel_size(tiff: tifffile.TiffFile) -> PixelSize | None:
    if tiff.ome_metadata is None:
        return None
    pixels = _ome_pixels(tiff.ome_metadata)
    y, x = (
        # OME means micrometres where it names no unit.
        (pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit") or "µm")
        for axis in "YX"
    )
    return to_pixel_size(y, x)


def _ome_pixels(described: str) -> dict[str, Any]:
    image = tifffile.xml2dict(described)["OME"]["Image"]
    pixels: dict[str, Any] = (image[0] if isinstance(image, list) else image)["Pixels"]
    return pixels


def _imagej_pixel_size(tiff: tifffile.TiffFile) -> PixelSize | None:
    """Read ImageJ's: pixels per unit in the tags, the unit in the description."""
    unit = (tiff.imagej_metadata or {}).get("unit")
    tags = tiff.pages.first.tags
    if not unit or "XResolution" not in tags or "YResolution" not in tags:
        return None
    y, x = (
        (units / pixels if pixels else None, unit)
        for pixels, units in (tags[name].value for name in ("YResolution", "XResolution"))
    )
    return to_pixel_size(y, x)


def to_micrometres(value: float | None, unit: str | None) -> float | None:
    """Convert a length; None for what is none."""
    # ImageJ writes \\u00B5 where its file format has no µ; U+03BC is the Greek letter.
    name = str(unit or "").replace("\\u00B5", "µ").replace("\u03bc", "µ").strip()
    factor = _MICROMETRES.get(name, _MICROMETRES.get(name.lower()))
    return None if value is None or factor is None else float(value) * factor


_PIXELS_APART = 1.1
"""Factors from which two diameters, or two sizes of pixels, are too different to be meant."""


def common_pixel_size(sizes: Mapping[str, PixelSize | None]) -> PixelSize | None:
    """Take the pixel size of all images that tell one; None if they differ or none does."""
    told = [size for size in sizes.values() if size is not None]
    if not told or any(_differ(told[0], size) for size in told):
        return None
    return told[0]


def warn_of_pixel_sizes(
    trained: PixelSize | None, sizes: Mapping[str, PixelSize | None]
) -> list[str]:
    """Say which images have pixels of another size than those that a model was trained on."""
    if trained is None:
        return []
    others = [(stem, size) for stem, size in sizes.items() if size and _differ(trained, size)]
    if not others:
        return []
    stem, size = others[0]
    return [
        f"{len(others)} of {len(sizes)} images have pixels of another size than those that the "
        f"model was trained on, such as {stem}: {_say(size)} where it was {_say(trained)}; "
        "they are brought to that; pass --diameter if their cells are of another size"
    ]


def relative_size(here: PixelSize | None, there: PixelSize | None) -> float:
    """Tell how large a pixel is compared with another; 1 where nobody knows or they are alike."""
    if here is None or there is None or not _differ(here, there):
        return 1.0
    return math.sqrt(here.y * here.x / (there.y * there.x))


def _differ(here: PixelSize, there: PixelSize) -> bool:
    return any(max(a, b) > _PIXELS_APART * min(a, b) for a, b in zip(here, there, strict=True))


def _say(size: PixelSize) -> str:
    y, x = size
    return f"{y:.4g} µm" if y == x else f"{y:.4g} x {x:.4g} µm (Y, X)"
