"""The command `oce2stardist predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .completion import folders, paths
from .options import (
    Blocks,
    axes_option,
    block_options,
    deterministic_option,
    device_option,
    overlay_option,
    verbosity_options,
)
from .results import prints_json, tell

if TYPE_CHECKING:
    from oce2stardist.runs.cluster import Where
    from oce2stardist.runs.progress import Reporter


@click.command()
@click.argument("images", shell_complete=paths)
@click.option(
    "--model",
    required=True,
    metavar="MODEL",
    shell_complete=folders,
    help="A StarDist model folder.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    shell_complete=folders,
    help="Folder to write to.",
)
@click.option(
    "--write",
    default="labels",
    show_default=True,
    metavar="KINDS",
    help="What to write, with commas: labels (TIFF), rois (zip for the ROI Manager of Fiji), "
    "geojson (QuPath), csv (objects.csv, a table of all objects), overlay (PNG), "
    "ome-zarr (image and labels in one store).",
)
@click.option(
    "--log",
    "log_file",
    metavar="FILE",
    shell_complete=paths,
    help="Also write to FILE, with the time, all that is said and warned.",
)
@axes_option
@overlay_option
@block_options(side=1024)
@device_option
@deterministic_option
@verbosity_options
@prints_json(
    output="folder of the label images",
    n_images="how many images",
    n_cells="in all",
    cells="number by image",
)
def predict(
    images: str,
    model: str,
    output: str,
    write: str,
    log_file: str | None,
    axes: str | None,
    overlay: bool,
    blocks: Blocks,
    device: str | None,
    deterministic: bool,
    reporter: "Reporter",
) -> None:
    """Predict the cells of IMAGES with a StarDist model.

    IMAGES is a folder, a quoted glob or a file (TIFF, OME-TIFF, PNG, OME-Zarr). MODEL is a
    folder of finetune, or of plain stardist. Label images are int32; what else --write names
    holds the same objects, under the same numbers.

    OME-Zarr and large TIFF are predicted in blocks, several at a time; the image never has to
    fit into memory. A command given again goes on where it was stopped.

    \b
    Examples:
      oce2stardist predict new_images/ --model model -o labels
      oce2stardist predict "a/*.tif" --model model -o out --write rois,csv
      oce2stardist predict slide.ome.zarr --model model -o labels
    """
    from oce2stardist.errors import InputError
    from oce2stardist.images.sources import find_sources
    from oce2stardist.runners.predict import predict_images
    from oce2stardist.runs.log import logged

    sources = find_sources(images, axes=axes, largest=blocks.blocks_above)
    if blocks.in_place and not sources.in_blocks:
        raise InputError(f"--in-place needs an OME-Zarr. Got {images}; leave it out.")
    cells: dict[str, int] = {}
    with logged(reporter, "oce2stardist predict") as log:
        if log_file is not None:
            log.open(Path(log_file).parent, Path(log_file).name)
        if sources.at_once:
            predicted = predict_images(
                sources.at_once,
                output,
                model=model,
                axes=axes,
                write=write,
                overlay=overlay,
                device=device or "auto",
                deterministic=deterministic,
                reporter=log,
            )
            cells |= {stem: int(labels.max()) for stem, labels in predicted.items()}
        if sources.in_blocks:
            if overlay or write != "labels":
                log.warn("Of images that are predicted in blocks, only labels are written.")
            cells |= _predict_in_blocks(
                sources.in_blocks,
                output,
                where=blocks.where,
                model=model,
                deterministic=deterministic,
                axes=axes,
                side=blocks.side,
                in_place=blocks.in_place,
                device=device or "auto",
                reporter=log,
            )
    n_cells = sum(cells.values())
    tell(
        {"output": output, "n_images": len(cells), "n_cells": n_cells, "cells": cells},
        f"{n_cells} cells in {len(cells)} images: {output}",
    )


def _predict_in_blocks(
    paths: list[Path],
    output: str,
    *,
    where: "Where",
    model: str,
    deterministic: bool,
    **options: Any,
) -> dict[str, int]:
    from oce2stardist.blockwise.job import block_workers
    from oce2stardist.blockwise.predict import predict_in_blocks
    from oce2stardist.images.open import list_images

    for path in paths:  # what is wrong with them is said before workers are started
        list_images(path, axes=options["axes"])
    counts: dict[str, int] = {}
    with block_workers(where, deterministic=deterministic) as (client, should_stop):
        for path in paths:
            counts |= predict_in_blocks(
                path,
                Path(output),
                model=Path(model),
                client=client,
                should_stop=should_stop,
                **options,
            )
    return counts
