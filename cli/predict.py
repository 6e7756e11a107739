"""The command `oce2stardist predict`."""

from pathlib import Path

import click

from .completion import folders, paths
from .options import axes_option, device_option, overlay_option, set_up_logging, talkative
from .results import prints_json, tell


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
    "geojson (QuPath), csv (objects.csv, a table of all objects), overlay (PNG).",
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
@device_option
@talkative
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
    device: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Predict the cells of IMAGES with a StarDist model.

    IMAGES is a folder, a quoted glob or a file (TIFF, OME-TIFF, PNG). MODEL is a folder of
    finetune, or of plain stardist. Label images are int32 TIFF; what else --write names holds
    the same objects, under the same numbers.

    \b
    Examples:
      oce2stardist predict new_images/ --model model -o labels
      oce2stardist predict "a/*.tif" --model model -o out --write rois,csv
    """
    from oce2stardist.runners.predict import predict_images
    from oce2stardist.runners.run_log import logged

    from .reporting import TerminalReporter

    set_up_logging(verbose=verbose, quiet=quiet)
    with logged(TerminalReporter(quiet=quiet), "oce2stardist predict") as log:
        if log_file is not None:
            log.open(Path(log_file).parent, Path(log_file).name)
        predicted = predict_images(
            images,
            output,
            model=model,
            axes=axes,
            write=write,
            overlay=overlay,
            device=device or "auto",
            reporter=log,
        )
    cells = {stem: int(labels.max()) for stem, labels in predicted.items()}
    n_cells = sum(cells.values())
    tell(
        {"output": output, "n_images": len(cells), "n_cells": n_cells, "cells": cells},
        f"{n_cells} cells in {len(predicted)} images: {output}",
    )
