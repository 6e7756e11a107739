"""Writes label images in OME-Zarr (NGFF 0.4 and 0.5), beside their image or alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from oce2stardist.images.lazy import LazyImage
from oce2stardist.images.ome_zarr import is_ome_zarr, list_ome_zarr, open_group, read_attributes
from oce2stardist.images.pixel_size import PixelSize

_MARK = "oce2stardist"
"""Attribute of what we wrote."""

_CHUNK = 1024
"""Pixels a side of a chunk of what is written at once."""


def write_with_labels(
    store: Path,
    pixels: NDArray[Any],
    labels: NDArray[np.int32],
    *,
    name: str,
    size: PixelSize | None,
) -> None:
    """Write an image that fits into memory, and its labels in its ``labels`` group (NGFF 0.5).

    Pixels are (Y, X, C), labels (Y, X); `store` is a new folder, `name` that of the label image.
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
        datasets.append(_dataset(len(datasets), [{"type": "scale", "scale": scale}]))
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


def _dataset(level: int, places: list[dict[str, Any]]) -> dict[str, Any]:
    return {"path": str(level), "coordinateTransformations": places}


def _unit(size: PixelSize | None) -> dict[str, str]:
    return {} if size is None else {"unit": "micrometer"}


def is_ours(store: Path) -> bool:
    """Tell whether `write_with_labels` wrote a store."""
    return is_ome_zarr(store) and _MARK in dict(open_group(store).attrs)


def create_labels(
    store: Path, name: str, image: LazyImage, *, n_times: int, chunk: int, version: str
) -> list[str]:
    """Create an empty multiscale label image in the ``labels`` group of a store.

    The store is the image's own group, with its NGFF `version`, or a new one. A label image of
    this name is replaced. The image gives shape, axes (labels have all of them but channels), and
    place. Chunks measure `chunk` pixels a side.

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
            {**place, "scale": [n * by for n, by in zip(place["scale"], step, strict=True)]}
            if place["type"] == "scale"
            else place
            for place in described["transformations"]
        ]
        datasets.append(_dataset(level, places))
        arrays.append(f"labels/{name}/{level}")
        levels = described["levels"]
        if len(arrays) >= levels and (levels > 1 or max(shape[-2:]) <= chunk):
            break
    multiscales = {"name": name, "axes": described["axes"], "datasets": datasets}
    if described["outer"]:
        multiscales["coordinateTransformations"] = described["outer"]
    source = {"source": {"image": _path_to_image(image, store, name)}}
    _put(group, {"multiscales": [multiscales], "image-label": source}, version)
    return arrays


def _describe(image: LazyImage) -> dict[str, Any]:
    """Say in NGFF's words where an image lies, without its channels.

    The transformations are kept one by one as the image has them: readers that go by some of them
    alone then put image and labels at the same place still.
    """
    axes = image.label_axes
    if image.path.is_file():
        sides = dict(zip("yx", image.pixel_size or (1.0, 1.0), strict=True))
        kinds = {axis: {"type": "space", **_unit(image.pixel_size)} for axis in "yx"}
        kinds["t"] = {"type": "time"}
        scale = [sides.get(axis, 1.0) for axis in axes]
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
