"""The command `oce2stardist finetune`."""

import click

from .completion import folders, paths
from .options import (
    ALPHA,
    annotated,
    axes_option,
    build_config,
    configured,
    deterministic_option,
    device_option,
    overwrite_option,
    set_up_logging,
    talkative,
)
from .results import prints_json, tell


@click.command()
@click.argument("images", shell_complete=paths)
@click.option(
    "--pseudo",
    metavar="RUN",
    shell_complete=folders,
    help="Run folder of `oce2stardist pseudo`.",
)
@annotated
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="MODEL",
    shell_complete=folders,
    help="Model folder to write.",
)
@click.option(
    "--alpha",
    type=ALPHA,
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
    metavar="MODEL",
    shell_complete=folders,
    help="Start from this StarDist folder, ours or stock.",
)
@click.option("--tensorboard", is_flag=True, help="Write the training's course to MODEL/logs.")
@axes_option
@overwrite_option
@device_option
@deterministic_option
@configured
@talkative
@prints_json(
    model="the StarDist folder",
    f1="on annotated cells that judge: value, interval where there is one, and reason",
    parameters="what was chosen, value and reason",
    report="page of pictures",
)
def finetune(
    images: str,
    pseudo: str | None,
    annotations: str,
    output: str,
    fraction: float | None,
    cells: int | None,
    per_image: bool,
    use_cells: str | None,
    alpha: float | str | None,
    zero: str,
    steps: int | None,
    rounds: int | None,
    init: str | None,
    tensorboard: bool,
    axes: str | None,
    config_file: str | None,
    seed: int | None,
    overwrite: bool,
    device: str | None,
    deterministic: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Train a StarDist model on annotations and pseudo labels.

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
    from oce2stardist.training_labels.draw_cells import CellDraw

    from .reporting import open_reporter

    set_up_logging(verbose=verbose, quiet=quiet)
    config = build_config(
        config_file,
        **{
            "seed": seed,
            "device": device,
            "deterministic": deterministic or None,
            "stardist.alpha": alpha,
            "stardist.steps": steps,
            "stardist.rounds": rounds,
        },
    )
    result = finetune_stardist(
        images,
        output,
        annotations=annotations,
        pseudo=pseudo,
        cells=CellDraw(
            fraction=fraction,
            count=cells,
            listed_in=use_cells,
            per_image=per_image,
            zero=zero,  # type: ignore[arg-type]  # click.Choice checked it
        ),
        init=init,
        tensorboard=tensorboard,
        config=config,
        axes=axes,
        overwrite=overwrite,
        command="oce2stardist finetune",
        reporter=open_reporter(quiet=quiet),
    )
    score = result.parameters["f1"]
    shown = score["reason"]
    if score["value"] is not None:
        shown = f"{say_setting('F1', score)}: {shown}"
    tell(
        {"model": output, "f1": score, "parameters": result.parameters, "report": result.report},
        [f"Model: {output} ({shown})", f"Look at {result.report}"],
    )
