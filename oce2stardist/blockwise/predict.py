"""Predict the labels of images larger than memory with a StarDist model."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from distributed import Client

from oce2stardist.blockwise.job import label_in_blocks, plane_folder, run_all, store_of
from oce2stardist.blockwise.polygons import StarDistImage, check_model, find_factor
from oce2stardist.images.lazy import percentiles
from oce2stardist.images.sources import list_images
from oce2stardist.runs.progress import Reporter, SilentReporter
from oce2stardist.stardist_model.scale import choose_scale_for

LABELS = "cells"
"""Name of the label image inside the ``labels`` group."""


def predict_in_blocks(
    path: Path,
    output: Path,
    *,
    model: Path,
    diameter: float | None = None,
    client: Client,
    axes: str | None = None,
    side: int = 1024,
    in_place: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, int]:
    """Predict every image in an OME-Zarr or TIFF block by block; returns numbers of cells by name.

    Parameters
    ----------
    path : Path
        OME-Zarr (NGFF 0.4 or 0.5) or TIFF; fields and time points are images of their own.
    output, client, reporter, should_stop
        As in `label_in_blocks`.
    model : Path
        A StarDist model folder, ours or stock.
    diameter : float > 0, optional
        Of a median cell, pixels; see `oce2stardist.predict_images`.
    axes : str, optional
        Of a TIFF, where its metadata do not say.
    side, in_place
        See `Blocks`.
    """
    # Absolute: a worker's working directory is its own.
    path, output, model = path.resolve(), output.resolve(), model.resolve()
    counts: dict[str, int] = {}
    for _, group in groupby(list_images(path, axes=axes), key=lambda image: image.stem):
        images = list(group)
        first = images[0]
        check = (model, device, first.shape[2], first.name)
        (nms_thresh,) = run_all(client, check_model, [check], should_stop)
        planes = []
        for image in images:
            low, high = percentiles(image)
            scale = choose_scale_for(model, image.pixel_size, diameter)
            look = (model, device, image, low, high, scale)
            (factor,) = run_all(client, find_factor, [look], should_stop)
            planes.append(
                StarDistImage(
                    image=image,
                    device=device,
                    side=side,
                    work=plane_folder(image, output),
                    store=store_of(image, output, in_place=in_place),
                    arrays=(),
                    known_reach=1.0,
                    model=model,
                    low=low,
                    high=high,
                    nms_thresh=nms_thresh,
                    scale=factor,
                )
            )
        counts |= label_in_blocks(
            planes,
            output,
            name=LABELS,
            client=client,
            reporter=reporter or SilentReporter(),
            should_stop=should_stop,
        )
    return counts
