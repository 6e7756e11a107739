"""Turns label images into what other programs open: outlines, measurements, their formats.

Outlines pass half-way between the centres of the object's outermost pixels and those next to
them. So the pixels whose centres lie inside are those of the object, exactly: what
`oce2stardist.annotations` reads from these files is the label image they were written from.
"""

from oce2stardist.objects.geojson import to_features
from oce2stardist.objects.imagej import pack_rois, to_roi
from oce2stardist.objects.outlines import Polygon, trace_objects
from oce2stardist.objects.table import measure_objects

__all__ = ["Polygon", "measure_objects", "pack_rois", "to_features", "to_roi", "trace_objects"]
