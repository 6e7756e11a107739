"""The command `oce2stardist finetune`."""

from typing import TYPE_CHECKING

import click

from .completion import folders, paths
from .grouping import GroupedCommand
from .options import (
    axes_option,
    config_options,
    deterministic_option,
    device_option,
    instances_option,
    optional_annotation_options,
    output_option,
    overwrite_option,
    verbosity_options,
)
from .results import prints_json, tell
from .voxels import voxel_size_option

if TYPE_CHECKING:
    from oce2stardist import CellDraw, Config
    from oce2stardist.images.pixel_size import VoxelSize
    from oce2stardist.runs.progress import Reporter


def _alpha(value: str) -> float | str:
    if value == "auto":
        return value
    try:
        return float(value)
    except ValueError:
        message = f"must be auto or a number from 0 to 1. Got {value!r} instead."
        raise click.BadParameter(message) from None


@click.command(cls=GroupedCommand)
@click.argument("images", shell_complete=paths)
@click.option(
    "--pseudo", metavar="RUN", shell_complete=folders, help="Run folder of `oce2stardist pseudo`."
)
@optional_annotation_options
@output_option("MODEL", "Model folder to write.")
@click.option(
    "--alpha",
    type=_alpha,
    metavar="NUMBER|AUTO",
    help="Weight of the pseudo labels, 0 to 1: 0 trains on annotations alone; auto judges the "
    "pseudo labels on the annotated cells.  [default: auto]",
)
@click.option("--steps", type=int, help="Training steps.  [default: from the config]")
@click.option(
    "--rounds",
    type=int,
    help="Train so many times; from the second on, the model's own labels are the pseudo "
    "labels. A round that scores lower on held-back cells is dropped.  [default: 1]",
)
@click.option(
    "--init",
    metavar="MODEL|drawn|none",
    shell_complete=folders,
    help="Start from this StarDist folder, ours or stock; drawn: the network that was trained on "
    "drawn cells; none: from nothing.  [default: from the config]",
)
@click.option(
    "--how-many-more",
    is_flag=True,
    default=None,
    help="Also tell what more annotated cells would bring, by three trainings on parts of those "
    "there are, each of a fifth of the steps. Takes 12 cells.",
)
@click.option("--tensorboard", is_flag=True, help="Write the training's course to MODEL/logs.")
@axes_option
@voxel_size_option
@overwrite_option
@device_option
@deterministic_option
@instances_option
@config_options(
    alpha="stardist.alpha",
    steps="stardist.steps",
    rounds="stardist.rounds",
    how_many_more="stardist.how_many_more",
    instances="instances",
)
@verbosity_options
@prints_json(
    model="the StarDist folder",
    f1="on annotated cells that judge: value, interval where there is one, and reason",
    parameters="what was chosen, value and reason",
    report="page of pictures",
)
def finetune(
    images: str,
    pseudo: str | None,
    annotations: str | None,
    output: str,
    cells: "CellDraw",
    init: str | None,
    tensorboard: bool,
    axes: str | None,
    voxel_size: "VoxelSize | None",
    config: "Config",
    overwrite: bool,
    reporter: "Reporter",
) -> None:
    """Train a StarDist model on annotations and pseudo labels, or on either.

    MODEL is a StarDist folder: plain stardist opens it. An interrupted run goes on when
    the same command is given again. All that was said is in MODEL/log.txt.

    \b
    Examples:
      oce2stardist finetune images/ --pseudo run --annotations masks/ -o model
      oce2stardist finetune images/ --annotations masks/ --alpha 0 -o model
      oce2stardist finetune images/ --pseudo run --annotations masks/ \\
          --fraction 0.01 -o model
    """
    from oce2stardist.reports.wording import say_setting
    from oce2stardist.runners.finetune import finetune_stardist

    result = finetune_stardist(
        images,
        output,
        annotations=annotations,
        pseudo=pseudo,
        cells=cells,
        init=init,
        tensorboard=tensorboard,
        config=config,
        axes=axes,
        voxel_size=voxel_size,
        overwrite=overwrite,
        command="oce2stardist finetune",
        reporter=reporter,
    )
    score = result.parameters["f1"]
    shown = score["reason"]
    if score["value"] is not None:
        shown = f"{say_setting('F1', score)}: {shown}"
    tell(
        {"model": output, "f1": score, "parameters": result.parameters, "report": result.report},
        [
            f"Model: {output} ({shown})",
            *([f"Look at {result.report}"] if result.report is not None else []),
        ],
    )
