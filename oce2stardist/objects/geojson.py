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
    """Make a FeatureCollection of detections.

    Parameters
    ----------
    image : str
        Name of the image; together with the label it gives each detection its id.
    objects : mapping of label to Polygons
    measurements : mapping of label to (name to value)
        What QuPath shows in its measurement tables; values that are not finite are left out, as
        JSON has none.

    Returns
    -------
    dict
        Coordinates are in pixels of the image, integers at corners.
    """
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{image}/{label}")),
            "geometry": _geometry(polygons),
            "properties": {
                "objectType": "detection",
                "name": str(label),
                "classification": {"name": CLASS_NAME, "color": list(_COLOUR)},
                "measurements": {
                    name: value
                    for name, value in measurements.get(label, {}).items()
                    if math.isfinite(value)
                },
            },
        }
        for label, polygons in objects.items()
    ]
    return {"type": "FeatureCollection", "features": features}


def _geometry(polygons: Sequence[Polygon]) -> dict[str, Any]:
    coordinates = [[_close(ring) for ring in polygon.rings] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _close(ring: Ring) -> list[list[float]]:
    points: list[list[float]] = ring.tolist()
    return [*points, points[0]]
