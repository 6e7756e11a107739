"""Lists the images of an OME-Zarr (NGFF 0.4 and 0.5)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oce2stardist.errors import InputError, one_line, say_install
from oce2stardist.images.lazy import LazyImage, time_points
from oce2stardist.images.pixel_size import PixelSize, to_pixel_size

_KNOWN = ("0.4", "0.5")

_MOST_LEVELS = 32
"""Of an image: its sides can't be halved more often."""


def need_zarr() -> None:
    """Refuse an environment without zarr 3."""
    advice = f"{say_install('big')} (Python 3.11 or later)."
    try:
        import zarr
    except ImportError as error:
        raise InputError(
            f"the package zarr must be installed for images read in blocks. Got none; {advice}"
        ) from error
    if int(zarr.__version__.split(".")[0]) < 3:
        raise InputError(
            f"the package zarr must be version 3 or later. Got {zarr.__version__}; {advice}"
        )


def is_ome_zarr(path: Path) -> bool:
    """Tell whether a folder is a zarr group."""
    return path.is_dir() and any((path / name).exists() for name in (".zgroup", "zarr.json"))


def list_ome_zarr(path: Path) -> list[LazyImage]:
    """List the images of an OME-Zarr: one, or every field of a plate, or of a collection."""
    images: list[LazyImage] = []
    stem = path.name.removesuffix(".zarr").removesuffix(".ome") or path.name
    for inside in _image_groups(path):
        attributes, version = read_attributes(path / inside)
        if version not in _KNOWN:
            raise InputError(
                f"{path / inside} must be NGFF {' or '.join(_KNOWN)}. Got {version}; convert it."
            )
        scales = attributes["multiscales"][0]
        try:
            array = str(scales["datasets"][0]["path"])
            axes = "".join(str(axis["name"]) for axis in scales["axes"]).lower()
            shape = tuple(open_group(path / inside)[array].shape)
            _check_places(path / inside, scales, len(axes))
            size = _pixel_size(scales, axes)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                f"{path / inside} must have NGFF multiscales with axes and datasets. Got none "
                f"of {error}; write it with ome-zarr-py."
            ) from error
        if len(axes) != len(shape):
            raise InputError(
                f"{path / inside} must have one axis per dimension. Got axes {axes.upper()} and "
                f"shape {shape}; correct its metadata."
            )
        name = stem if inside == "" else f"{stem}_{inside.replace('/', '_')}"
        images += time_points(name, path / inside, array, axes, shape, size)
    return images


def _check_places(path: Path, scales: Mapping[str, Any], n_axes: int) -> None:
    """Refuse what labels could not take over: see `zarr_labels`."""
    if len(scales["datasets"]) > _MOST_LEVELS:
        raise InputError(
            f"{path} must have at most {_MOST_LEVELS} levels. Got {len(scales['datasets'])}; "
            "correct its metadata."
        )
    for holder in (scales["datasets"][0], scales):
        for step in holder.get("coordinateTransformations", []):
            numbers = step.get(step.get("type"), []) if isinstance(step, dict) else None
            if not isinstance(numbers, list) or len(numbers) not in (0, n_axes):
                raise InputError(
                    f"{path} must have one number per axis in its coordinateTransformations. Got "
                    f"{str(step)[:60]}; correct its metadata."
                )


def read_attributes(path: Path) -> tuple[dict[str, Any], str]:
    """Read the NGFF attributes of a group, and their version.

    NGFF 0.5 keeps them under ``ome``, 0.4 at the top.
    """
    attributes = dict(open_group(path).attrs)
    if "ome" in attributes:
        content: dict[str, Any] = dict(attributes["ome"])
        return content, str(content.get("version", "0.5"))
    for key in ("multiscales", "plate", "well"):
        if key in attributes:
            first = attributes[key][0] if key == "multiscales" else attributes[key]
            return attributes, str(first.get("version", "0.4"))
    return attributes, "0.4"


def open_group(path: Path) -> Any:
    """Open a zarr group to be read."""
    import zarr

    try:
        return zarr.open_group(str(path), mode="r")
    except Exception as error:  # a broken store raises what it likes
        raise InputError(f"{path} must be a zarr group. Got: {one_line(error)}") from error


def _image_groups(path: Path) -> list[str]:
    """Name the groups, inside the store, that hold multiscale images."""
    attributes, _ = read_attributes(path)
    if attributes.get("multiscales"):
        return [""]
    if "plate" in attributes:
        return _fields(path, attributes["plate"])
    # A collection as bioformats2raw writes it: images numbered 0, 1, ...
    inner = [group.name for group in path.iterdir() if is_ome_zarr(group)]
    numbered = sorted(filter(str.isdigit, inner), key=int)
    groups = [name for name in numbered if read_attributes(path / name)[0].get("multiscales")]
    if not groups:
        raise InputError(
            f"{path} must hold an OME-Zarr image. Got a zarr group without multiscales; pass "
            "the group that has them."
        )
    return groups


def _fields(path: Path, plate: Any) -> list[str]:
    """Name the groups of a plate's fields, all of which lie inside the store."""
    groups = []
    try:
        for well in plate["wells"]:
            place = _inside(path, str(well["path"]))
            inner, _ = read_attributes(path / place)
            fields = [str(field["path"]) for field in inner["well"]["images"]]
            groups += [_inside(path, f"{place}/{field}") for field in fields]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} must list the wells of its plate and their images. Got none of {error}; "
            "correct its metadata."
        ) from error
    return groups


def _inside(path: Path, place: str) -> str:
    if os.path.isabs(place) or ".." in Path(place).parts:
        raise InputError(
            f"wells and fields of {path} must lie inside it. Got {place!r}; correct its metadata."
        )
    return place


def _pixel_size(scales: Mapping[str, Any], axes: str) -> PixelSize | None:
    sides = axis_sizes(scales, axes)
    return None if sides is None else to_pixel_size(sides["y"], sides["x"])


def axis_sizes(scales: Mapping[str, Any], axes: str) -> dict[str, tuple[float, str | None]] | None:
    """Read by axis how long a step of the full image is, and its unit; None where nothing says."""
    inner, outer = _scale(scales["datasets"][0]), _scale(scales)
    if inner is None:
        return None
    return {
        axis: (
            inner[place] * (1.0 if outer is None else outer[place]),
            scales["axes"][place].get("unit"),
        )
        for place, axis in enumerate(axes)
    }


def _scale(holder: Mapping[str, Any]) -> list[float] | None:
    steps = holder.get("coordinateTransformations", [])
    return next((step["scale"] for step in steps if step.get("type") == "scale"), None)
