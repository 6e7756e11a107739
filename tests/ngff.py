"""OME-Zarr images written by hand, as the specification says."""

import zarr


def write_ome_zarr(
    path, stored, axes, *, version, scale=None, time=None, start=None, levels=1, depth=None
):
    """Write an NGFF image by hand, as the specification says.

    `scale` is that of y and x, `depth` of z, `time` of t, `start` the translation of y and x;
    coarser levels have every second pixel.
    """
    kind = {"t": "time", "c": "channel"}
    root = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    units = {} if scale is None else {"unit": "micrometer"}
    described = [
        {"name": axis, "type": kind[axis]} if axis in kind
        else {"name": axis, "type": "space", **units}
        for axis in axes
    ]  # fmt: skip
    datasets = []
    for level in range(levels):
        every = tuple(slice(None, None, 2**level) if axis in "yx" else slice(None) for axis in axes)
        values = stored[every]
        root.create_array(str(level), data=values, chunks=tuple(min(100, n) for n in values.shape))
        lengths = {"y": (scale or 1.0) * 2**level, "x": (scale or 1.0) * 2**level, "t": time or 1.0}
        lengths["z"] = depth or 1.0
        steps = [{"type": "scale", "scale": [lengths.get(axis, 1.0) for axis in axes]}]
        if start is not None:
            moved = [start if axis in "yx" else 0.0 for axis in axes]
            steps.append({"type": "translation", "translation": moved})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    multiscales = [{"axes": described, "datasets": datasets}]
    if version == "0.4":
        multiscales[0]["version"] = "0.4"
        root.attrs["multiscales"] = multiscales
    else:
        root.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return path
