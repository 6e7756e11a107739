"""The command `oce2stardist suggest`."""

from pathlib import Path

import click

from .options import axes_option, device_option, set_up_logging, talkative


@click.command()
@click.argument("run")
@click.option("--images", metavar="IMAGES", help="Images, if not where RUN says.")
@click.option("-o", "--output", metavar="OUT", help="Folder to write.  [default: RUN/suggestions]")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="At most this many regions.",
)
@click.option(
    "--window",
    type=click.IntRange(min=8),
    metavar="PX",
    help="Side of the regions, pixels.  [default: five median diameters]",
)
@axes_option
@device_option
@talkative
def suggest(
    run: str,
    images: str | None,
    output: str | None,
    count: int,
    window: int | None,
    axes: str | None,
    device: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """List the image regions whose annotation should help most.

    RUN is a model folder of `finetune`: regions where the model and the pseudo labels
    disagree, or the model is not sure. Before anything is annotated, it is a run folder of
    `pseudo`: regions of low confidence, and typical ones. Writes a table (CSV), rectangles
    that QuPath imports (GeoJSON), and a picture.
    """
    from oce2stardist.runners.suggest import suggest_regions

    from .reporting import TerminalReporter

    set_up_logging(verbose=verbose, quiet=quiet)
    table = suggest_regions(
        run,
        output,
        images=images,
        count=count,
        window=window,
        axes=axes,
        device=device or "auto",
        reporter=TerminalReporter(quiet=quiet),
    )
    for row in table.itertuples():
        click.echo(f"{row.rank:>3}  {row.image}  y {row.y0}, x {row.x0}: {row.reason}")
    folder = Path(output) if output else Path(run) / "suggestions"
    if table.empty:
        click.echo("Nothing to suggest: no object is open outside the annotated regions.")
    else:
        click.echo(f"Look at {folder / 'suggestions.png'}")
