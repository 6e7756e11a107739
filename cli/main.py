"""The `oce2stardist` program and what its commands share."""

import errno
import importlib
import logging
import os
import sys
from typing import Any, NoReturn

import click

from oce2stardist.errors import InputError, is_out_of_memory
from oce2stardist.runs.interruption import Interrupted, was_stopped

_NOT_OURS = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENOENT", "ENOTDIR", "EISDIR"),
        *("EEXIST", "ENAMETOOLONG", "ELOOP", "EMFILE", "ENFILE", "EIO", "ESTALE", "ENODEV"),
    )
    if hasattr(errno, name)
}
"""Errors of the system that the user, not the program, can do something about."""

STOPPED = 130
"""Exit code after Ctrl-C."""

_OUT_OF_MEMORY = (
    "there must be memory for images and network. Got none left; what is on disk is whole: close "
    "other programs, work on fewer or smaller images at a time, and give the same command again."
)

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
    "doctor": "Check that everything works here.",
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
        for reader in ("tifffile", "roifile", "liffile"):  # they remark what our own line says
            logging.getLogger(reader).setLevel(logging.CRITICAL)
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            if was_stopped(error):  # first: what Ctrl-C broke may look like any other fault
                line = str(error) if isinstance(error, Interrupted) else "Stopped."
                click.echo(line, err=True, nl=bool(line))
                sys.exit(STOPPED)
            if isinstance(error, InputError):
                _refuse(str(error))
            if is_out_of_memory(error):
                _refuse(_OUT_OF_MEMORY)
            if isinstance(error, OSError) and error.errno in _NOT_OURS:
                _refuse(_explain(error))
            raise


def _refuse(message: str) -> NoReturn:
    """Print one line; what a terminal would obey, such as a name with escape codes, is shown."""
    line = "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode("ascii")
        for one in " ".join(message.split())
    )
    click.echo(f"Error: {line}", err=True)
    sys.exit(2)


def _explain(error: OSError) -> str:
    """Word an error of the system: which file, what is wrong, what to do."""
    assert error.errno is not None
    file = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "a file"
    advice = {
        errno.ENOSPC: "free some space and give the same command again",
        errno.EDQUOT: "free some space and give the same command again",
        errno.EROFS: "choose another folder",
        errno.EACCES: "change its permissions or choose another folder",
        errno.EPERM: "change its permissions or choose another folder",
    }.get(error.errno, "check the path")
    return f"{file} can't be read or written: {os.strerror(error.errno)}; {advice}."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="oce2stardist")
def main() -> None:
    """Turn a folder of microscopy images and a few annotated cells into a StarDist model.

    \b
    oce2stardist pseudo images/ -o run
    oce2stardist finetune images/ --pseudo run --annotations masks/ -o model
    oce2stardist predict new_images/ --model model -o labels

    Results go to standard output, progress to standard error. Every command tells its options
    and examples with --help, prints its result for programs with --json, and is colourless
    where output is no terminal or NO_COLOR is set.

    \b
    Let your shell complete commands, options, presets and files:
      bash  eval "$(_OCE2STARDIST_COMPLETE=bash_source oce2stardist)"
      zsh   eval "$(_OCE2STARDIST_COMPLETE=zsh_source oce2stardist)"
      fish  _OCE2STARDIST_COMPLETE=fish_source oce2stardist | source
    """
