"""OME-Zarr: images listed, label images created beside them or alone (NGFF 0.4 and 0.5)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from oce2stardist.errors import InputError, one_line
from oce2stardist.images.lazy import LazyImage
from oce2stardist.images.pixel_size import PixelSize, to_pixel_size

_KNOWN = ("0.4", "0.5")

_MARK = "oce2stardist"
"""Attribute of what we wrote."""

_MOST_LEVELS = 32
"""Of an image: its sides can't be halved more often."""

_CHUNK = 1024
"""Pixels a side of a chunk of what is written at once."""


def need_zarr() -> None:
    """Refuse an environment without zarr 3.

    Raises
    ------
    InputError
        Where it is missing or older.
    """
    try:
        import zarr
    except ImportError as error:
        raise InputError(
            "the package zarr must be installed for images read in blocks. Got none; "
            "pip install 'oce2stardist[big]' (Python 3.11 or later)."
        ) from error
    if int(zarr.__version__.split(".")[0]) < 3:
        raise InputError(
            f"the package zarr must be version 3 or later. Got {zarr.__version__}; "
            "pip install 'oce2stardist[big]' (Python 3.11 or later)."
        )


def is_ome_zarr(path: Path) -> bool:
    """Tell whether a folder is a zarr group."""
    return path.is_dir() and any((path / name).exists() for name in (".zgroup", "zarr.json"))


def list_ome_zarr(path: Path) -> list[LazyImage]:
    """List the images of an OME-Zarr: one, or every field of a plate, or of a collection.

    Raises
    ------
    InputError
        If the metadata are not those of NGFF 0.4 or 0.5.
    """
    from oce2stardist.images.open import time_points

    images: list[LazyImage] = []
    stem = zarr_stem(path)
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
            shape = tuple(_open(path / inside)[array].shape)
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
    """Refuse what labels could not take over: see `_describe`."""
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


def zarr_stem(path: Path) -> str:
    """Return the name without ``.ome.zarr`` or ``.zarr``."""
    return path.name.removesuffix(".zarr").removesuffix(".ome") or path.name


def read_attributes(path: Path) -> tuple[dict[str, Any], str]:
    """Read the NGFF attributes of a group, and their version.

    NGFF 0.5 keeps them under ``ome``, 0.4 at the top.
    """
    attributes = dict(_open(path).attrs)
    if "ome" in attributes:
        content: dict[str, Any] = dict(attributes["ome"])
        return content, str(content.get("version", "0.5"))
    for key in ("multiscales", "plate", "well"):
        if key in attributes:
            first = attributes[key][0] if key == "multiscales" else attributes[key]
            return attributes, str(first.get("version", "0.4"))
    return attributes, "0.4"


def _open(path: Path) -> Any:
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
    numbered = sorted(
        (one.name for one in path.iterdir() if one.name.isdigit() and is_ome_zarr(one)), key=int
    )
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
    found = [
        step["scale"]
        for step in scales["datasets"][0].get("coordinateTransformations", [])
        if step.get("type") == "scale"
    ]
    if not found:
        return None
    outer = [
        step["scale"]
        for step in scales.get("coordinateTransformations", [])
        if step.get("type") == "scale"
    ]
    y, x = axes.index("y"), axes.index("x")
    factor_y, factor_x = (outer[0][y], outer[0][x]) if outer else (1.0, 1.0)
    units = [axis.get("unit") for axis in scales["axes"]]
    return to_pixel_size((found[0][y] * factor_y, units[y]), (found[0][x] * factor_x, units[x]))


def write_with_labels(
    store: Path,
    pixels: NDArray[Any],
    labels: NDArray[np.int32],
    *,
    name: str,
    size: PixelSize | None,
) -> None:
    """Write an image that fits into memory, and its labels in its ``labels`` group (NGFF 0.5).

    Parameters
    ----------
    store : Path
        A new folder.
    pixels : array of shape (Y, X, C)
    labels : int32 array of shape (Y, X)
    name : str
        Of the label image.
    size : PixelSize, optional
        Of a pixel of the image, where it is known.
    """
    import zarr

    root: Any = zarr.open_group(str(store), mode="w-", zarr_format=3)
    level: NDArray[Any] = np.moveaxis(pixels, -1, 0)  # (C, Y, X)
    datasets: list[dict[str, Any]] = []
    height, width = size or (1.0, 1.0)
    while True:
        step = 2 ** len(datasets)
        root.create_array(
            str(len(datasets)), data=level, chunks=(1, _CHUNK, _CHUNK), dimension_names=list("cyx")
        )
        scale = [1.0, height * step, width * step]
        datasets.append(
            {
                "path": str(len(datasets)),
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        )
        if max(level.shape[1:]) <= _CHUNK:
            break
        level = downscale_local_mean(level, (1, 2, 2)).astype(pixels.dtype)
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", **_unit(size)} for axis in "yx"]
    _put(root, {"multiscales": [{"axes": axes, "datasets": datasets}]}, "0.5")
    root.attrs[_MARK] = {"labels": name}
    (image,) = list_ome_zarr(store)
    values = labels
    for array in create_labels(store, name, image, n_times=1, chunk=_CHUNK, version="0.5"):
        root[array][:] = values
        values = values[::2, ::2]


def _unit(size: PixelSize | None) -> dict[str, str]:
    return {} if size is None else {"unit": "micrometer"}


def is_ours(store: Path) -> bool:
    """Tell whether `write_with_labels` wrote a store."""
    return is_ome_zarr(store) and _MARK in dict(_open(store).attrs)


def create_labels(
    store: Path,
    name: str,
    image: LazyImage,
    *,
    n_times: int,
    chunk: int,
    version: str,
) -> list[str]:
    """Create an empty multiscale label image in the ``labels`` group of a store.

    Parameters
    ----------
    store : Path
        The image's own group, or a new one.
    name : str
        Of the label image. One that exists is replaced.
    image : LazyImage
        Gives shape, axes (the labels have all of them but channels), and place.
    n_times : int
        Time points.
    chunk : int
        Pixels a side of a chunk.
    version : {"0.4", "0.5"}
        That of the store, where it exists.

    Returns
    -------
    list of str
        Paths of the arrays inside the store, the finest first; each of int32, a factor of two
        coarser than the one before. As many as the image has, which the specification demands;
        of an image that has one alone, enough to be shown from afar.
    """
    import zarr

    zarr_format: Any = 2 if version == "0.4" else 3
    root = zarr.open_group(str(store), mode="a", zarr_format=zarr_format)
    labels = root.require_group("labels")
    _register(labels, name, version)
    group = labels.create_group(name, overwrite=True)
    described = _describe(image)
    factors = [axis in "yx" for axis in image.label_axes]
    sizes = {"t": n_times, "y": image.shape[0], "x": image.shape[1]}
    finest = [sizes.get(axis, 1) for axis in image.label_axes]
    arrays: list[str] = []
    datasets: list[dict[str, Any]] = []
    while True:
        level = len(arrays)
        step = [2**level if coarser else 1 for coarser in factors]
        shape = tuple(-(-n // by) for n, by in zip(finest, step, strict=True))
        group.create_array(
            str(level),
            shape=shape,
            chunks=tuple(chunk if coarser else 1 for coarser in factors),
            dtype="int32",
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"} if zarr_format == 2 else None,
            dimension_names=None if zarr_format == 2 else list(image.label_axes),
        )
        # A coarser level has every second pixel, the first one included: it starts at the same
        # place, so that the translation is the same.
        places = [
            {**one, "scale": [n * by for n, by in zip(one["scale"], step, strict=True)]}
            if one["type"] == "scale"
            else one
            for one in described["transformations"]
        ]
        datasets.append({"path": str(level), "coordinateTransformations": places})
        arrays.append(f"labels/{name}/{level}")
        if len(arrays) >= described["levels"] and (
            described["levels"] > 1 or max(shape[-2:]) <= chunk
        ):
            break
    multiscales = {"name": name, "axes": described["axes"], "datasets": datasets}
    if described["outer"]:
        multiscales["coordinateTransformations"] = described["outer"]
    content = {
        "multiscales": [multiscales],
        "image-label": {"source": {"image": _path_to_image(image, store, name)}},
    }
    _put(group, content, version)
    return arrays


def _describe(image: LazyImage) -> dict[str, Any]:
    """Say in NGFF's words where an image lies, without its channels.

    The transformations are kept one by one as the image has them: readers that go by some of them
    alone then put image and labels at the same place still.
    """
    axes = image.label_axes
    if image.path.is_file():
        height, width = image.pixel_size or (1.0, 1.0)
        kinds = {axis: {"type": "space", **_unit(image.pixel_size)} for axis in "yx"}
        kinds["t"] = {"type": "time"}
        scale = [{"y": height, "x": width}.get(axis, 1.0) for axis in axes]
        return {
            "axes": [{"name": axis, **kinds.get(axis, {"type": "space"})} for axis in axes],
            "transformations": [{"type": "scale", "scale": scale}],
            "outer": [],
            "levels": 1,
        }
    scales = read_attributes(image.path)[0]["multiscales"][0]
    places = [image.axes.index(axis) for axis in axes]

    def without_channels(holder: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            {"type": kind, kind: [step[kind][place] for place in places]}
            for step in holder.get("coordinateTransformations", [])
            for kind in ("scale", "translation")
            if step.get("type") == kind and kind in step
        ]

    inner = without_channels(scales["datasets"][0])
    return {
        "axes": [dict(scales["axes"][place]) for place in places],
        "transformations": inner or [{"type": "scale", "scale": [1.0] * len(axes)}],
        "outer": without_channels(scales),
        "levels": len(scales["datasets"]),
    }


def _path_to_image(image: LazyImage, store: Path, name: str) -> str:
    """Lead from the label image to the image that it belongs to, for readers that open both."""
    if store == image.path or image.path.is_file():
        return "../../"
    try:
        return Path(os.path.relpath(image.path, store / "labels" / name)).as_posix()
    except ValueError:  # another drive
        return "../../"


def _register(labels: Any, name: str, version: str) -> None:
    """Add a name to the list that readers go by."""
    before = dict(labels.attrs)
    listed = list((before.get("ome", {}) if version == "0.5" else before).get("labels", []))
    _put(labels, {"labels": listed if name in listed else [*listed, name]}, version)


def _put(group: Any, content: dict[str, Any], version: str) -> None:
    if version == "0.5":
        group.attrs["ome"] = {**dict(group.attrs).get("ome", {}), "version": version, **content}
        return
    for key in ("multiscales", "image-label"):
        if key in content:
            versioned = content[key][0] if key == "multiscales" else content[key]
            versioned["version"] = version
    group.attrs.update(content)
