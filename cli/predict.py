"""The command `oce2stardist predict`."""

import click

from .options import axes_option, device_option, overlay_option, set_up_logging, talkative


@click.command()
@click.argument("images")
@click.option("--model", required=True, metavar="MODEL", help="A StarDist model folder.")
@click.option("-o", "--output", required=True, metavar="OUT", help="Folder for label images.")
@axes_option
@overlay_option
@device_option
@talkative
def predict(
    images: str,
    model: str,
    output: str,
    axes: str | None,
    overlay: bool,
    device: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Predict label images (int32 TIFF) of IMAGES with a StarDist model."""
    from oce2stardist.runners.predict import predict_images

    from .reporting import TerminalReporter

    set_up_logging(verbose=verbose, quiet=quiet)
    predicted = predict_images(
        images,
        output,
        model=model,
        axes=axes,
        overlay=overlay,
        device=device or "auto",
        reporter=TerminalReporter(quiet=quiet),
    )
    n_cells = sum(int(labels.max()) for labels in predicted.values())
    click.echo(f"{n_cells} cells in {len(predicted)} images: {output}")
