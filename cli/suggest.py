"""The command `oce2stardist suggest`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .completion import folders, paths
from .grouping import GroupedCommand
from .options import axes_option, device_option, verbosity_options
from .results import prints_json, tell

if TYPE_CHECKING:
    from oce2stardist.runs.progress import Reporter


@click.command(cls=GroupedCommand)
@click.argument("run", shell_complete=folders)
@click.option(
    "--images", metavar="IMAGES", shell_complete=paths, help="Images, if not where RUN says."
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    shell_complete=folders,
    help="Folder to write.  [default: RUN/suggestions]",
)
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
@verbosity_options
@prints_json(
    output="folder that was written",
    regions="rows of suggestions.csv: rank, image, y0, x0, y1, x1, score, reason, and counts",
)
def suggest(
    run: str,
    images: str | None,
    output: str | None,
    count: int,
    window: int | None,
    axes: str | None,
    device: str | None,
    reporter: "Reporter",
) -> None:
    """List the image regions whose annotation should help most.

    RUN is a model folder of `finetune`: regions where the model and the pseudo labels
    disagree, or the model is not sure. Before anything is annotated, it is a run folder of
    `pseudo`: regions of low confidence, and typical ones. Writes a table (CSV), rectangles
    that QuPath imports (GeoJSON), and a picture.

    \b
    Examples:
      oce2stardist suggest model
      oce2stardist suggest run --count 5 -o to_annotate
    """
    from oce2stardist.suggestion.run import suggest_regions

    table = suggest_regions(
        run,
        output,
        images=images,
        count=count,
        window=window,
        axes=axes,
        device=device or "auto",
        reporter=reporter,
    )
    folder = Path(output) if output else Path(run) / "suggestions"
    lines = [
        f"{row.rank:>3}  {row.image}  y {row.y0}, x {row.x0}: {row.reason}"
        for row in table.itertuples()
    ]
    if table.empty:
        lines.append("Nothing to suggest: no object is open outside the annotated regions.")
    else:
        lines.append(f"Look at {folder / 'suggestions.png'}")
    tell({"output": folder, "regions": table.to_dict("records")}, lines)
