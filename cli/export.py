"""The command `oce2stardist export`."""

from typing import TYPE_CHECKING

import click

from .completion import folders, paths
from .grouping import GroupedCommand
from .options import axes_option, device_option, logging_options, output_option
from .results import prints_json, tell

if TYPE_CHECKING:
    from oce2stardist.export.model import Format


@click.command(cls=GroupedCommand)
@click.argument("model", shell_complete=folders)
@click.option(
    "--to",
    required=True,
    type=click.Choice(["stardist", "bioimageio", "onnx", "savedmodel"]),
    help="stardist: a zip of the folder; bioimageio: a package for the model zoo; onnx: for QuPath "
    "(OpenCV) and others; savedmodel: TensorFlow's format, readable by the TensorFlow 1 of Fiji.",
)
@output_option("OUT", "Folder to write to.")
@click.option(
    "--image",
    metavar="FILE",
    shell_complete=paths,
    help="Compare outputs on this image.  [default: nuclei of stardist]",
)
@axes_option
@click.option(
    "--pixel-size",
    type=float,
    metavar="UM",
    help="Of images like those it was trained on, micrometres.  [default: what --image says]",
)
@click.option(
    "--author", "authors", multiple=True, metavar="NAME", help="For bioimageio; may be repeated."
)
@prints_json(
    files="what was written",
    difference="largest between its output and the model's",
    compared_on="which image",
    lost="what the format can't carry",
)
@device_option
@logging_options
def export(
    model: str,
    to: "Format",
    output: str,
    image: str | None,
    axes: str | None,
    pixel_size: float | None,
    authors: tuple[str, ...],
    device: str | None,
) -> None:
    """Write the StarDist folder MODEL in another format.

    What was written is opened again and must give the model's output on an image, within 1e-4;
    else nothing is left behind.

    \b
    Examples:
      oce2stardist export model --to onnx -o exported
      oce2stardist export model --to bioimageio -o exported --author "A. Name"
    """
    from oce2stardist.export.model import export_model

    exported = export_model(
        model,
        output,
        to=to,
        image=image,
        axes=axes,
        pixel_size=pixel_size,
        authors=authors,
        device=device or "auto",
    )
    lines = [f"wrote {path}" for path in exported.files]
    lines.append(
        f"its output differs from the model's by at most {exported.difference:.1g} "
        f"(on {exported.compared_on})"
    )
    if not click.get_current_context().params["quiet"]:
        lines += [f"not in it: {lost}" for lost in exported.lost]
    names = ("files", "difference", "compared_on", "lost")
    tell({name: getattr(exported, name) for name in names}, lines)
