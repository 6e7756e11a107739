"""The command `oce2stardist predict`."""

import click

from .options import axes_option, device_option, overlay_option, set_up_logging, talkative


@click.command()
@click.argument("images")
@click.option("--model", required=True, metavar="MODEL", help="A StarDist model folder.")
@click.option("-o", "--output", required=True, metavar="OUT", help="Folder to write to.")
@click.option(
    "--write",
    default="labels",
    show_default=True,
    metavar="KINDS",
    help="What to write, with commas: labels (TIFF), rois (zip for the ROI Manager of Fiji), "
    "geojson (QuPath), csv (objects.csv, a table of all objects), overlay (PNG).",
)
@axes_option
@overlay_option
@device_option
@talkative
def predict(
    images: str,
    model: str,
    output: str,
    write: str,
    axes: str | None,
    overlay: bool,
    device: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Predict the cells of IMAGES with a StarDist model.

    Label images are int32 TIFF. What else --write names holds the same objects, under the same
    numbers.
    """
    from oce2stardist.runners.predict import predict_images

    from .reporting import TerminalReporter

    set_up_logging(verbose=verbose, quiet=quiet)
    predicted = predict_images(
        images,
        output,
        model=model,
        axes=axes,
        write=write,
        overlay=overlay,
        device=device or "auto",
        reporter=TerminalReporter(quiet=quiet),
    )
    n_cells = sum(int(labels.max()) for labels in predicted.values())
    click.echo(f"{n_cells} cells in {len(predicted)} images: {output}")
