"""Of an OME-TIFF in several files: what its description says of one of them."""

from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

import numpy as np
import tifffile

_LARGEST_DESCRIPTION = 2**28
"""Bytes of OME-XML beside the images; what fits into one."""

_MOST_PLANES = 10**7
_NONE = "<OME></OME>"
"""Without any image in it, tifffile goes by the pages of the file."""


def own_description(tiff: tifffile.TiffFile, folder: Path) -> str | None:
    """Reduce the OME-XML of a file in `folder` to the planes that this file holds.

    Every file of a set describes, or refers to what describes, the planes of all of them. Images,
    time points and sections (Z) that lie in other files are left out. None where the description
    is of this file alone. tifffile by itself reads the others, too, and has zeros for missing ones.

    Raises
    ------
    ValueError
        If planes are left that are no image: channels that lie in other files, or sections of some
        time points alone.
    """
    text = tiff.ome_metadata
    if text is None or not ("FileName" in text or "BinaryOnly" in text):
        return None
    root = ElementTree.fromstring(text)
    own_uuid = root.get("UUID")
    referred = root.find("{*}BinaryOnly")
    if referred is not None:
        root = _read_master(folder / _base(referred.get("MetadataFile", "")))
    listed = root.findall("{*}Image/{*}Pixels/{*}TiffData")
    uuids = [uuid for data in listed if (uuid := data.find("{*}UUID")) is not None]
    if referred is None and not uuids:
        return None
    name = (tiff.filename or "").lower()
    names = {_base(uuid.get("FileName", "")).lower() for uuid in uuids}

    def is_own(data: ElementTree.Element) -> bool:
        uuid = data.find("{*}UUID")
        if uuid is None:
            return referred is None
        if name in names:
            return _base(uuid.get("FileName", "")).lower() == name
        return uuid.text == own_uuid or len(names) == 1  # it was given another name

    found = False
    for image in root.findall("{*}Image"):
        for pixels in image.findall("{*}Pixels"):
            data = pixels.findall("{*}TiffData")
            own = [one for one in data if is_own(one)]
            for one in own:  # without the file's name, they are of the file that is read
                for uuid in one.findall("{*}UUID"):
                    one.remove(uuid)
            if own and len(own) < len(data):
                _keep(pixels, own, len(tiff.pages))
            found |= bool(own)
            if not own:
                root.remove(image)
    return ElementTree.tostring(root, "unicode") if found else _NONE


def _read_master(path: Path) -> ElementTree.Element:
    """Read the OME-XML of the set, which lies in a file of its own or in one of its TIFF."""
    text: str | None = None
    if path.is_file() and path.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as tiff:
            text = tiff.ome_metadata
    elif path.is_file() and path.stat().st_size <= _LARGEST_DESCRIPTION:
        text = path.read_text(encoding="utf-8-sig")
    return ElementTree.fromstring(text or _NONE)


def _base(name: str) -> str:
    """Take the name of a file out of a path of any system: only its own folder is looked into."""
    return PureWindowsPath(name).name


def _keep(pixels: ElementTree.Element, own: list[ElementTree.Element], n_pages: int) -> None:
    """Let an image have those of its planes alone that lie in this file."""
    channel = pixels.find("{*}Channel")
    samples = int(channel.get("SamplesPerPixel", 1)) if channel is not None else 1
    axes = pixels.attrib["DimensionOrder"][:1:-1]  # without X and Y; of TZC, C changes fastest
    sizes = [int(pixels.attrib[f"Size{axis}"]) // (samples if axis == "C" else 1) for axis in axes]
    n_planes = int(np.prod(sizes, dtype=float))
    if not 0 < n_planes <= _MOST_PLANES:
        raise ValueError(f"its description has {n_planes} planes")
    page_of = np.full(n_planes, -1)
    for data in own:
        first = [int(data.get(f"First{axis}", 0)) for axis in axes]
        page = int(data.get("IFD", 0))
        n = int(
            data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else n_pages))
        )
        start = int(np.ravel_multi_index(first, sizes))
        page_of[start : start + n] = np.arange(page, page + n)
    grid = page_of.reshape(sizes)
    here = [np.unique(places) for places in np.nonzero(grid >= 0)]
    kept = grid[np.ix_(*here)]
    if (kept < 0).any() or kept.shape[axes.index("C")] < sizes[axes.index("C")]:
        raise ValueError("some of its planes lie in other files; save each image as one file")
    for data in pixels.findall("{*}TiffData"):
        pixels.remove(data)
    for axis, size in zip(axes, kept.shape, strict=True):
        pixels.set(f"Size{axis}", str(size * (samples if axis == "C" else 1)))
    for place, page in np.ndenumerate(kept):
        data = ElementTree.SubElement(pixels, "TiffData", {"IFD": str(page), "PlaneCount": "1"})
        for axis, at in zip(axes, place, strict=True):
            data.set(f"First{axis}", str(at))
