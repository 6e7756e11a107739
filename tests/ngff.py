"""OME-Zarr images written by hand, as the specification says."""

import zarr


def write_ome_zarr(path, stored, axes, *, version, scale=None):
    """Write an NGFF image by hand, as the specification says."""
    kind = {"t": "time", "c": "channel"}
    root = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    root.create_array("0", data=stored, chunks=tuple(min(100, n) for n in stored.shape))
    units = {} if scale is None else {"unit": "micrometer"}
    described = [
        {"name": axis, "type": kind[axis]} if axis in kind
        else {"name": axis, "type": "space", **units}
        for axis in axes
    ]  # fmt: skip
    steps = [{"type": "scale", "scale": [scale or 1.0 if a in "yx" else 1.0 for a in axes]}]
    multiscales = [
        {"axes": described, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    ]
    if version == "0.4":
        multiscales[0]["version"] = "0.4"
        root.attrs["multiscales"] = multiscales
    else:
        root.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return path
