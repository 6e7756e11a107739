"""Outlines as ImageJ selections, and a zip of them as the ROI Manager opens it."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from oce2stardist.objects.outlines import Polygon, Ring

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0  # java.awt.geom.PathIterator


def to_roi(
    polygons: Sequence[Polygon], *, name: str, properties: dict[str, float] | None = None
) -> ImagejRoi:
    """Make one selection of an object, with sub-pixel coordinates, that shows on every channel.

    One polygon without holes becomes a traced outline; more, or one with holes, a composite.
    The ROI Manager lists the name; ImageJ's ``Roi.getProperty`` gives the properties.
    """
    rings = [ring for polygon in polygons for ring in polygon.rings]
    roi = ImagejRoi.frompoints(rings[0].astype(np.float32), name=name)
    if len(rings) == 1:
        roi.roitype = ROI_TYPE.TRACED
    else:
        _make_composite(roi, rings)
    roi.props = "".join(f"{key}: {value:.6g}\n" for key, value in (properties or {}).items())
    return roi


def _make_composite(roi: ImagejRoi, rings: Sequence[Ring]) -> None:
    points = np.concatenate(rings)
    path: list[float] = []
    for ring in rings:
        for number, (x, y) in enumerate(ring.tolist()):
            path += [_LINE if number else _MOVE, x, y]
        path.append(_CLOSE)
    roi.roitype = ROI_TYPE.RECT
    roi.options &= ~ROI_OPTIONS.SUB_PIXEL_RESOLUTION  # a path is always finer than pixels
    roi.integer_coordinates = roi.subpixel_coordinates = None
    roi.n_coordinates = 0
    roi.left, roi.top = np.floor(points.min(axis=0)).astype(int).tolist()
    roi.right, roi.bottom = np.ceil(points.max(axis=0)).astype(int).tolist()
    roi.shape_roi_size = len(path)
    roi.multi_coordinates = np.array(path, np.float32)


def pack_rois(rois: Sequence[ImagejRoi]) -> bytes:
    """Pack selections into a zip; the same selections always give the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for roi in rois:
            member = zipfile.ZipInfo(f"{roi.name}.roi")  # dated 1980
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, roi.tobytes())
    return packed.getvalue()
