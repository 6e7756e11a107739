"""The command `oce2stardist demo`."""

import click

from .options import device_option, set_up_logging, talkative


@click.command()
@click.option(
    "-o", "--output", default="demo-run", show_default=True, metavar="RUN", help="Folder to write."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@device_option
@talkative
def demo(output: str, seed: int, device: str | None, verbose: bool, quiet: bool) -> None:
    """Run all stages on real nuclei that a dependency ships, and write a page of pictures."""
    from oce2stardist.runners.demo import run_demo

    from .reporting import TerminalReporter

    set_up_logging(verbose=verbose, quiet=quiet)
    reporter = TerminalReporter(quiet=quiet)
    result = run_demo(output, seed=seed, device=device or "auto", reporter=reporter)
    click.echo(
        f"\nOn the part of the image where nothing was annotated ({result.n_annotated} cells "
        "annotated elsewhere):"
    )
    for name, scores in result.scores.items():
        click.echo(f"  {name:<42} F1 {scores.f1:.3f}   SEG {scores.seg:.3f}")
    click.echo(f"Look at {result.report}")
