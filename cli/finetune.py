"""The command `oce2stardist finetune`."""

import click

from .options import (
    axes_option,
    build_config,
    configured,
    device_option,
    overwrite_option,
    set_up_logging,
    talkative,
)


@click.command()
@click.argument("images")
@click.option("--pseudo", metavar="RUN", help="Run folder of `oce2stardist pseudo`.")
@click.option("--annotations", required=True, metavar="PATH", help="Label images of some cells.")
@click.option("-o", "--output", required=True, metavar="MODEL", help="Model folder to write.")
@click.option(
    "--fraction",
    type=float,
    help="Use only this share of the annotated cells, to simulate few annotations: 0.01 is 1 %.",
)
@click.option(
    "--alpha",
    type=float,
    help="Weight of the pseudo labels: 0 trains on annotations alone.  [default: 0.5]",
)
@click.option(
    "--zero",
    type=click.Choice(["auto", "unlabelled", "background"]),
    default="auto",
    show_default=True,
    help="What 0 means in the annotations; auto: background with --fraction, else unlabelled.",
)
@click.option("--steps", type=int, help="Training steps.  [default: from the config]")
@axes_option
@overwrite_option
@device_option
@configured
@talkative
def finetune(
    images: str,
    pseudo: str | None,
    annotations: str,
    output: str,
    fraction: float | None,
    alpha: float | None,
    zero: str,
    steps: int | None,
    axes: str | None,
    config_file: str | None,
    seed: int | None,
    overwrite: bool,
    device: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Train a StarDist model on annotations and pseudo labels.

    MODEL is a StarDist folder: plain stardist opens it. An interrupted run goes on when
    the same command is given again.
    """
    from oce2stardist.runners.finetune import finetune_stardist, preview_predictions
    from oce2stardist.runners.inputs import read_images
    from oce2stardist.runners.report import write_finetune_report
    from oce2stardist.runners.training_labels import read_held_back

    from .reporting import TerminalReporter

    set_up_logging(verbose=verbose, quiet=quiet)
    config = build_config(
        config_file,
        **{"seed": seed, "device": device, "stardist.alpha": alpha, "stardist.steps": steps},
    )
    result = finetune_stardist(
        images,
        output,
        annotations=annotations,
        pseudo=pseudo,
        fraction=fraction,
        zero=zero,  # type: ignore[arg-type]  # click.Choice checked it
        config=config,
        axes=axes,
        overwrite=overwrite,
        command="oce2stardist finetune",
        reporter=TerminalReporter(quiet=quiet),
    )
    found = read_images(images, axes=axes)
    report = write_finetune_report(
        result.model,
        found,
        preview_predictions(result.model, found),
        held_back=read_held_back(result.model),
    )
    score = result.parameters["held_back_score"]
    shown = "not judged" if score["value"] is None else f"{score['value']:.3f}"
    click.echo(f"Model: {output} (score on held-back cells: {shown}; {score['reason']})")
    click.echo(f"Look at {report}")
