"""Objects as GeoJSON that QuPath imports: detections with a class and measurements."""

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from oce2stardist.objects.outlines import Polygon, Ring

CLASS_NAME = "cell"
_COLOUR = (255, 200, 0)
_NAMESPACE = uuid.UUID("7b0a4b1e-6a0c-4f2e-9d3b-5f6f0c2f1a55")


def to_features(
    image: str,
    objects: Mapping[int, Sequence[Polygon]],
    measurements: Mapping[int, Mapping[str, float]],
) -> dict[str, Any]:
    """Make a FeatureCollection of detections, coordinates in pixels with integers at corners.

    The name of the image and the label give each detection its id. QuPath shows measurements in
    its tables; values that are not finite are left out, as JSON has none.
    """
    features = []
    for label, polygons in objects.items():
        measured = measurements.get(label, {}).items()
        properties = {
            "objectType": "detection",
            "name": str(label),
            "classification": {"name": CLASS_NAME, "color": list(_COLOUR)},
            "measurements": {name: value for name, value in measured if math.isfinite(value)},
        }
        feature = {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{image}/{label}")),
            "geometry": _geometry(polygons),
            "properties": properties,
        }
        features.append(feature)
    return {"type": "FeatureCollection", "features": features}


def _geometry(polygons: Sequence[Polygon]) -> dict[str, Any]:
    coordinates = [[_close(ring) for ring in polygon.rings] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _close(ring: Ring) -> list[list[float]]:
    points: list[list[float]] = ring.tolist()
    return [*points, points[0]]
