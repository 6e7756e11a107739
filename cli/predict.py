"""The command `oce2stardist predict`."""

from typing import TYPE_CHECKING

import click

from oce2stardist.errors import plural

from .completion import folders, paths
from .grouping import GroupedCommand
from .options import (
    axes_option,
    block_options,
    deterministic_option,
    device_option,
    output_option,
    overlay_option,
    verbosity_options,
)
from .results import prints_json, tell
from .voxels import voxel_size_option

if TYPE_CHECKING:
    from oce2stardist.blockwise.settings import Blocks
    from oce2stardist.images.pixel_size import VoxelSize
    from oce2stardist.runs.progress import Reporter


@click.command(cls=GroupedCommand)
@click.argument("images", shell_complete=paths)
@click.option(
    "--model",
    required=True,
    metavar="MODEL",
    shell_complete=folders,
    help="A StarDist model folder.",
)
@output_option("OUT", "Folder to write to.")
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
@voxel_size_option
@click.option(
    "--diameter",
    type=float,
    metavar="PIXELS",
    help="Median diameter of the cells: images are zoomed to what the model was trained on.  "
    "[default: the model's own scale]",
)
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
    voxel_size: "VoxelSize | None",
    diameter: float | None,
    overlay: bool,
    blocks: "Blocks",
    device: str | None,
    deterministic: bool,
    reporter: "Reporter",
) -> None:
    """Predict the cells of IMAGES with a StarDist model.

    IMAGES is a folder, a quoted glob or a file (TIFF, PNG, OME-Zarr, CZI, LIF, ND2 ...). MODEL is a
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
    from oce2stardist.runners.predict import predict_images

    result = predict_images(
        images,
        output,
        model=model,
        axes=axes,
        voxel_size=voxel_size,
        write=write,
        overlay=overlay,
        diameter=diameter,
        blocks=blocks,
        device=device or "auto",
        deterministic=deterministic,
        keep=False,
        log_file=log_file,
        command="oce2stardist predict",
        reporter=reporter,
    )
    cells = result.counts
    n_cells = sum(cells.values())
    tell(
        {"output": output, "n_images": len(cells), "n_cells": n_cells, "cells": cells},
        f"{plural(n_cells, 'cell')} in {plural(len(cells), 'image')}: {output}",
    )
