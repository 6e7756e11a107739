"""The command `oce2stardist demo`."""

from typing import TYPE_CHECKING

import click

from oce2stardist.errors import plural

from .completion import folders
from .grouping import GroupedCommand
from .options import device_option, verbosity_options
from .results import prints_json, tell

if TYPE_CHECKING:
    from oce2stardist.runs.progress import Reporter


@click.command(cls=GroupedCommand)
@click.option(
    "-o",
    "--output",
    default="demo-run",
    show_default=True,
    metavar="RUN",
    shell_complete=folders,
    help="Folder to write.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@device_option
@verbosity_options
@prints_json(
    scores="F1, SEG and counts by what was scored",
    n_annotated="annotated cells",
    seconds="by step",
    report="page of pictures",
)
def demo(output: str, seed: int, device: str | None, reporter: "Reporter") -> None:
    """Run all stages on real nuclei that a dependency ships, and write a page of pictures.

    It takes some minutes and no data of yours. An interrupted demo goes on when the same
    command is given again.

    \b
    Examples:
      oce2stardist demo
      oce2stardist demo -o elsewhere --seed 1
    """
    from oce2stardist.runners.demo import run_demo

    result = run_demo(output, seed=seed, device=device or "auto", reporter=reporter)
    lines = [
        "\nOn the part of the image where nothing was annotated "
        f"({plural(result.n_annotated, 'cell')} annotated elsewhere):"
    ]
    for name, scores in result.scores.items():
        lines.append(f"  {name:<42} F1 {scores.f1:.3f}   SEG {scores.seg:.3f}")
    tell(
        {
            "scores": {name: scores.to_dict() for name, scores in result.scores.items()},
            "n_annotated": result.n_annotated,
            "seconds": result.seconds,
            "report": result.report,
        },
        [*lines, f"Look at {result.report}"],
    )
