"""Options that several commands share, and how a config is put together from them."""

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from oce2stardist.errors import one_line

from .completion import paths, presets

if TYPE_CHECKING:
    from oce2stardist.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


def talkative(command: Command) -> Command:
    """Add -v and -q."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Print results and errors only."),
        click.option("-v", "--verbose", is_flag=True, help="Print what is done in detail."),
    ):
        command = option(command)
    return command


def configured(command: Command) -> Command:
    """Add --config and --seed."""
    for option in (
        click.option("--seed", type=int, help="The one seed of every random draw.  [default: 0]"),
        click.option(
            "--config",
            "config_file",
            metavar="FILE",
            shell_complete=presets,
            help="YAML file, or a preset by name: fast (the default), quick, paper. Options "
            "override it.",
        ),
    ):
        command = option(command)
    return command


def clustered(workers_help: str) -> Callable[[Command], Command]:
    """Add --workers, --threads, --scheduler and --slurm."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--slurm",
                metavar="FILE",
                shell_complete=paths,
                help="Run on SLURM: a YAML file with the arguments of dask_jobqueue.SLURMCluster "
                "and the number of jobs (docs/experiments.md has an example).",
            ),
            click.option(
                "--scheduler",
                metavar="ADDRESS",
                help="Run on the workers of this dask scheduler, such as tcp://host:8786; they "
                "must see the same folders.",
            ),
            click.option(
                "--threads", type=click.IntRange(1), help="Threads of each.  [default: shared out]"
            ),
            click.option(
                "--workers",
                type=click.IntRange(1),
                help=f"{workers_help}  [default: one a processor]",
            ),
        ):
            command = option(command)
        return command

    return add


def in_blocks(*, side: int) -> Callable[[Command], Command]:
    """Add --in-place, --blocks-above and --block."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--block",
                type=click.IntRange(64, 8192),
                default=side,
                show_default=True,
                help="Side of a block, pixels. Labels do not depend on it, memory does.",
            ),
            click.option(
                "--blocks-above",
                type=click.FloatRange(0),
                default=64,
                show_default=True,
                metavar="MEGAPIXELS",
                help="Go through larger TIFF files in blocks, as through every OME-Zarr.",
            ),
            click.option(
                "--in-place",
                is_flag=True,
                help="Write the labels of an OME-Zarr into its own labels group, where viewers "
                "show them over the image.",
            ),
        ):
            command = option(command)
        return command

    return add


class _Alpha(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    name = "number|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        if value == "auto":
            return "auto"
        try:
            return float(value)
        except ValueError:
            self.fail(f"must be auto or a number from 0 to 1. Got {value!r} instead.", param, ctx)


ALPHA = _Alpha()


def annotated(command: Command) -> Command:
    """Add --annotations, what 0 means in them, and which of their cells to use."""
    for option in (
        click.option(
            "--zero",
            type=click.Choice(["auto", "unlabelled", "background"]),
            default="auto",
            show_default=True,
            help="What 0 means in the annotations; auto: background with --fraction, --cells or "
            "--use-cells, else unlabelled.",
        ),
        click.option(
            "--use-cells",
            metavar="FILE",
            shell_complete=paths,
            help="Use the annotated cells listed in a CSV file, such as training/cells.csv of a "
            "run.",
        ),
        click.option(
            "--per-image",
            is_flag=True,
            help="Take --fraction or --cells of every image instead of the whole set.",
        ),
        click.option("--cells", type=int, metavar="N", help="Use only this many annotated cells."),
        click.option(
            "--fraction",
            type=float,
            help="Use only this share of the annotated cells, to simulate few annotations: 0.01 "
            "is 1 %.",
        ),
        click.option(
            "--annotations",
            required=True,
            metavar="PATH",
            shell_complete=paths,
            help="Folder or file with outlines of some cells: label images, ImageJ ROIs (.roi, "
            ".zip), QuPath GeoJSON, COCO JSON.",
        ),
    ):
        command = option(command)
    return command


device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    help="Where the networks run.  [default: auto]",
)
overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    help="Start again where the output holds a run with other settings.",
)
deterministic_option = click.option(
    "--deterministic",
    is_flag=True,
    help="Give the same labels, to the bit, with any number of threads or workers of this "
    "machine; slower.",
)
axes_option = click.option(
    "--axes", help="Axes of the image files, such as CYX, where their metadata do not say."
)
overlay_option = click.option(
    "--overlay", is_flag=True, help="Also write PNGs with outlines over the images."
)


def build_config(config_file: str | None, **changes: Any) -> "Config":
    """Read a config file or preset and put the options that were given over it."""
    from oce2stardist.config import Config
    from oce2stardist.presets import find_config

    config = Config() if config_file is None else Config.from_yaml(find_config(config_file))
    given = {name: value for name, value in changes.items() if value is not None}
    return config.replace(**given)


def set_up_logging(*, verbose: bool, quiet: bool) -> None:
    """Send log records and Python's warnings to standard error, each as one line.

    What a reporter tells is logged as well, but not printed again.
    """
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_concerns_the_user)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[handler]
    )
    logging.getLogger("oce2stardist").setLevel(level)
    warnings.showwarning = _ignore_warning if quiet else _print_warning  # type: ignore[assignment]


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """Tell a record from what a reporter prints anyway, and from the chatter of dask."""
    ours = record.name.split(".")[0] == "oce2stardist"
    return not getattr(record, "said", False) and (ours or record.levelno >= logging.WARNING)


def _print_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    where = f"{category.__name__} in {Path(filename).name}, line {lineno}"
    click.echo(f"Warning: {one_line(message)} ({where})", err=True)


def _ignore_warning(*_: object) -> None:
    """Print nothing, with --quiet; log.txt has it."""
