"""The `oce2stardist` program and what its commands share."""

import importlib
import sys
from typing import Any

import click

from oce2stardist.errors import InputError
from oce2stardist.runners.interruption import Interrupted

_COMMANDS = {
    "demo": "Run all stages on real nuclei and write a page of pictures.",
    "pseudo": "Train embeddings on images and write pseudo labels.",
    "merge": "Merge annotations into the pseudo labels of a run.",
    "finetune": "Train a StarDist model on annotations and pseudo labels.",
    "suggest": "List the regions to annotate next.",
    "predict": "Predict label images with a StarDist model.",
    "export": "Write a StarDist model as ONNX, SavedModel or bioimage.io package.",
    "evaluate": "Score predicted labels against true ones.",
    "experiment": "Run the paper's studies, or ask how many cells to annotate.",
}


class LazyGroup(click.Group):
    """Imports a command's module when it is called, so that --help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which they are used."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f".{cmd_name}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; bad input ends it with one line and exit code 2."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            sys.exit(130)
        except Interrupted as stopped:
            click.echo(str(stopped), err=True)
            sys.exit(130)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="oce2stardist")
def main() -> None:
    """Turn a folder of microscopy images and a few annotated cells into a StarDist model.

    \b
    oce2stardist pseudo images/ -o run
    oce2stardist finetune images/ --pseudo run --annotations masks/ -o model
    oce2stardist predict new_images/ --model model -o labels
    """
