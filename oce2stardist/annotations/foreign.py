"""What files of other tools are that can't be read, and what to do instead: one line each."""

from pathlib import Path
from typing import Any

PICKLED = (
    "Cellpose's _seg.npy is a pickle, which may run any program when it is opened, and is not "
    "read; save the masks in Cellpose as PNG or TIFF (x_cp_masks.png)"
)
OTHER_JSON = "neither GeoJSON, COCO JSON nor LabelMe's"
OTHER_CSV = (
    "a table, not napari's shapes or points (index, axis-0, axis-1, ...), and neither points (y, "
    "x, perhaps image and label) nor verdicts (id, verdict, perhaps image)"
)


def explain_file(file: Path) -> str:
    """Say why a file that is no image, selection, JSON or table of napari can't be read."""
    if file.name.lower().endswith("_seg.npy"):
        return PICKLED
    if file.suffix.lower() in (".npy", ".npz", ".mat", ".h5", ".hdf5"):
        return f"arrays in {file.suffix} are not read; save label images as TIFF"
    if file.suffix.lower() == ".csv":
        return OTHER_CSV
    return f"{file.suffix or 'no suffix'} is no format of annotations"


def explain_json(document: Any) -> str:
    """Say what parsed JSON is that is none of the formats that are read."""
    first = document[0] if isinstance(document, list) and document else document
    keys = set(first) if isinstance(first, dict) else set()
    values = list(first.values()) if isinstance(first, dict) else []
    if {"image_id", "segmentation"} <= keys:
        return "COCO results, without images; export COCO JSON with images and annotations"
    if "images" in keys:
        return "COCO JSON without annotations; export instance segmentations"
    if any(key.startswith("_via") for key in keys) or any(
        isinstance(value, dict) and "regions" in value for value in values
    ):
        return "VGG Image Annotator's (VIA); export COCO JSON there"
    if "data" in keys and keys & {"annotations", "completions", "predictions"}:
        return "Label Studio's; export COCO JSON there"
    if keys & {"data_row", "Labeled Data"}:
        return "Labelbox's; export COCO JSON there"
    if {"objects", "size"} <= keys:
        return "Supervisely's; export COCO JSON there"
    if isinstance(first, dict) and first.get("type") == "Topology":
        return "TopoJSON; export GeoJSON"
    return OTHER_JSON
