"""Writes the objects of a prediction in the formats that other programs open."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import replacing, replacing_folder, write_bytes, write_text
from oce2stardist.images.label_files import write_labels
from oce2stardist.images.pixel_size import PixelSize
from oce2stardist.images.read import narrowest
from oce2stardist.labels import Image, Labels
from oce2stardist.objects import (
    Polygon,
    measure_objects,
    pack_rois,
    to_features,
    to_roi,
    trace_objects,
)
from oce2stardist.objects.overlay import write_overlay
from oce2stardist.objects.table import name_for_qupath

TABLE = "objects.csv"


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one image, and what that says about its objects."""

    stem: str
    image: Image
    labels: Labels
    probabilities: NDArray[np.float32]  # (n,), of the objects 1 to n
    pixel_size: PixelSize | None
    file: Path | None  # of the image

    @cached_property
    def outlines(self) -> dict[int, list[Polygon]]:
        """Outlines by label."""
        return trace_objects(self.labels)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Measurements, one row per object, the name of the image in front."""
        measured = measure_objects(
            self.labels, self.image, probabilities=self.probabilities, pixel_size=self.pixel_size
        )
        measured.insert(0, "image", self.stem)
        return measured


def _write_labels(folder: Path, made: Prediction) -> None:
    write_labels(folder / f"{made.stem}.tif", made.labels, image=made.file)


def _write_rois(folder: Path, made: Prediction) -> None:
    digits = max(4, len(str(max(made.outlines, default=0))))
    rois = []
    for label, polygons in made.outlines.items():
        properties = {"probability": float(made.probabilities[label - 1])}
        rois.append(to_roi(polygons, name=f"{label:0{digits}d}", properties=properties))
    write_bytes(folder / f"{made.stem}_rois.zip", pack_rois(rois))


def _write_geojson(folder: Path, made: Prediction) -> None:
    rows = made.table.drop(columns="image").round(6).to_dict("records")
    measurements = {int(row["label"]): name_for_qupath(row) for row in rows}
    features = to_features(made.stem, made.outlines, measurements)
    text = json.dumps(features, allow_nan=False, ensure_ascii=False)
    write_text(folder / f"{made.stem}.geojson", text)


def _write_overlay(folder: Path, made: Prediction) -> None:
    write_overlay(folder / f"{made.stem}_overlay.png", made.image, made.labels)


def _write_ome_zarr(folder: Path, made: Prediction) -> None:
    from oce2stardist.images.ome_zarr import need_zarr
    from oce2stardist.images.zarr_labels import is_ours, write_with_labels

    need_zarr()
    store = folder / f"{made.stem}.ome.zarr"
    if store.exists() and not is_ours(store):
        raise InputError(
            f"labels must not replace a store of something else. Got {store}, which oce2stardist "
            "did not write; choose another output."
        )
    with replacing_folder(store) as temporary:
        write_with_labels(
            temporary, narrowest(made.image), made.labels, name="cells", size=made.pixel_size
        )


_WRITERS: dict[str, Callable[[Path, Prediction], None] | None] = {
    "labels": _write_labels,
    "rois": _write_rois,
    "geojson": _write_geojson,
    "csv": None,  # one for all images: `open_table`
    "overlay": _write_overlay,
    "ome-zarr": _write_ome_zarr,
}


def check_kinds(write: str | Iterable[str]) -> set[str]:
    """Split and check the names of what to write."""
    names = write.split(",") if isinstance(write, str) else list(write)
    kinds = [name.strip() for name in names]
    unknown = [name for name in kinds if name not in _WRITERS]
    if unknown or not kinds:
        raise InputError(
            f"what to write must be among {', '.join(_WRITERS)}. Got "
            f"{', '.join(map(repr, unknown)) or 'nothing'}; name one or more, with commas."
        )
    return set(kinds)


def write_prediction(folder: Path, made: Prediction, kinds: Iterable[str]) -> None:
    """Write the files of one image."""
    for kind in kinds:
        writer = _WRITERS[kind]
        if writer is not None:
            writer(folder, made)


@contextmanager
def open_table(
    folder: Path, *, channels: int, in_micrometres: bool
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield what adds the objects of one image to the CSV file of all; it is written as it grows.

    Columns in micrometres are there if the pixel size of any image is known, and empty for the
    others.
    """
    nothing = measure_objects(
        np.zeros((1, 1), np.int32),
        np.zeros((1, 1, channels), np.float32),
        probabilities=np.zeros(0),
        pixel_size=(1.0, 1.0) if in_micrometres else None,
    )
    columns = ["image", *nothing.columns]
    with (
        replacing(folder / TABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write(",".join(columns) + "\n")

        def add(table: pd.DataFrame) -> None:
            rows = table.reindex(columns=columns)
            file.write(
                rows.to_csv(index=False, header=False, float_format="%.6g", lineterminator="\n")
            )

        yield add
