"""Options that several commands share; each group of them hands the command one object."""

import functools
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from oce2stardist.errors import InputError, one_line

from .completion import folders, paths, presets

Command = TypeVar("Command", bound=Callable[..., Any])


def _add_options(
    *options: Callable[[Any], Any], make: Callable[[dict[str, Any]], None]
) -> Callable[[Command], Command]:
    """Add options, of which `make` puts what they mean into the command's arguments."""

    def add(command: Any) -> Any:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            make(given)
            command(**given)

        for option in reversed(options):
            run = option(run)
        return run

    return add


_VERBOSITY = (
    click.option("-v", "--verbose", is_flag=True, help="Print what is done in detail."),
    click.option("-q", "--quiet", is_flag=True, help="Print results and errors only."),
)


def _make_reporter(given: dict[str, Any]) -> None:
    from .reporting import open_reporter

    given["reporter"] = open_reporter(quiet=given["quiet"])
    _only_log(given)


def _only_log(given: dict[str, Any]) -> None:
    set_up_logging(verbose=given.pop("verbose"), quiet=given.pop("quiet"))


verbosity_options = _add_options(*_VERBOSITY, make=_make_reporter)
"""Add -v and -q; set up logging and hand `reporter`."""

logging_options = _add_options(*_VERBOSITY, make=_only_log)
"""Add -v and -q to a command that tells nothing on its way; set up logging."""


def config_options(**settings: str) -> Callable[[Command], Command]:
    """Add --config and --seed, and hand `config`.

    The other options that go into it stand above: `device_option`, `deterministic_option`, and
    `settings`, the key of the config by the name of the option.
    """

    def make(given: dict[str, Any]) -> None:
        from oce2stardist.config import Config
        from oce2stardist.presets import find_config

        file = given.pop("config_file")
        config = Config() if file is None else Config.from_yaml(find_config(file))
        changes = {
            "seed": given.pop("seed"),
            "device": given.pop("device", None),
            "deterministic": given.pop("deterministic", None) or None,
            **{key: given.pop(name) for name, key in settings.items()},
        }
        changes = {key: value for key, value in changes.items() if value is not None}
        given["config"] = config.replace(**changes)

    return _add_options(
        click.option(
            "--config",
            "config_file",
            metavar="FILE",
            shell_complete=presets,
            help="YAML file, or a preset by name: fast (the default), quick, paper. Options "
            "override it.",
        ),
        click.option("--seed", type=int, help="The one seed of every random draw.  [default: 0]"),
        make=make,
    )


def _cluster(workers_help: str) -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--workers", type=click.IntRange(1), help=f"{workers_help}  [default: one a processor]"
        ),
        click.option(
            "--threads", type=click.IntRange(1), help="Threads of each.  [default: shared out]"
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Run on the workers of this dask scheduler, such as tcp://host:8786; they "
            "must see the same folders.",
        ),
        click.option(
            "--slurm",
            metavar="FILE",
            shell_complete=paths,
            help="Run on SLURM: a YAML file with the arguments of dask_jobqueue.SLURMCluster "
            "and the number of jobs (docs/experiments.md has an example).",
        ),
    )


def _check_cluster(given: dict[str, Any]) -> None:
    if given["scheduler"] is not None and given["slurm"] is not None:
        raise InputError("--scheduler and --slurm can't be given together; leave one out.")


def cluster_options(workers_help: str) -> Callable[[Command], Command]:
    """Add --workers, --threads, --scheduler and --slurm; hand `where`."""

    def make(given: dict[str, Any]) -> None:
        from oce2stardist.runs.cluster import ClusterSettings

        _check_cluster(given)
        names = ("workers", "threads", "scheduler", "slurm")
        given["where"] = ClusterSettings(*(given.pop(name) for name in names))

    return _add_options(*_cluster(workers_help), make=make)


def block_options(*, side: int) -> Callable[[Command], Command]:
    """Add --in-place, --blocks-above, --block and what `cluster_options` adds; hand `blocks`."""

    def make(given: dict[str, Any]) -> None:
        from oce2stardist.blockwise.settings import Blocks

        _check_cluster(given)
        given["blocks"] = Blocks(**{field.name: given.pop(field.name) for field in fields(Blocks)})

    return _add_options(
        click.option(
            "--in-place",
            is_flag=True,
            help="Write the labels of an OME-Zarr into its own labels group, where viewers "
            "show them over the image.",
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
            "--block",
            "side",
            type=click.IntRange(64, 8192),
            default=side,
            show_default=True,
            help="Side of a block, pixels. Labels do not depend on it, memory does.",
        ),
        *_cluster(
            "Blocks at a time on this machine, each a process of at most 1.4 GB; more ends it."
        ),
        make=make,
    )


def output_option(metavar: str, about: str) -> Callable[[Command], Command]:
    """Add -o, without which a command does not run."""
    return click.option(
        "-o", "--output", required=True, metavar=metavar, shell_complete=folders, help=about
    )


def _draw_cells(given: dict[str, Any]) -> None:
    from oce2stardist import CellDraw

    given["cells"] = CellDraw(
        fraction=given.pop("fraction"),
        count=given.pop("cells"),
        listed_in=given.pop("use_cells"),
        per_image=given.pop("per_image"),
        zero=given.pop("zero"),
    )


def _annotation_options(*, required: bool) -> Callable[[Command], Command]:
    return _add_options(
        click.option(
            "--annotations",
            required=required,
            metavar="PATH",
            shell_complete=paths,
            help="Folder or file with outlines of some cells, or points on them: label images, "
            "ImageJ ROIs (.roi, .zip), QuPath GeoJSON, COCO JSON, LabelMe JSON, napari shapes and "
            "points (.csv), tables of points or verdicts (.csv).",
        ),
        click.option(
            "--fraction",
            type=float,
            help="Use only this share of the annotated cells, to simulate few annotations: 0.01 "
            "is 1 %.",
        ),
        click.option("--cells", type=int, metavar="N", help="Use only this many annotated cells."),
        click.option(
            "--per-image",
            is_flag=True,
            help="Take --fraction or --cells of every image instead of the whole set.",
        ),
        click.option(
            "--use-cells",
            metavar="FILE",
            shell_complete=paths,
            help="Use the annotated cells listed in a CSV file, such as training/cells.csv of a "
            "run.",
        ),
        click.option(
            "--zero",
            type=click.Choice(["auto", "unlabelled", "background"]),
            default="auto",
            show_default=True,
            help="What 0 means in the annotations; auto: background with --fraction, --cells or "
            "--use-cells, else unlabelled.",
        ),
        make=_draw_cells,
    )


annotation_options = _annotation_options(required=True)
"""Add --annotations and which of their cells to use; hand `annotations` and `cells`."""

optional_annotation_options = _annotation_options(required=False)
"""The same where a run can do without; `annotations` may be None."""


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
instances_option = click.option(
    "--instances",
    type=click.Choice(["auto", "labels", "components"]),
    help="What a number in label images is: labels, a cell; components, a mask, each piece of "
    "which is a cell; auto, a cell, and what can't be is refused.  [default: auto]",
)
"""Goes above `config_options`, which is told `instances="instances"`."""

overlay_option = click.option(
    "--overlay", is_flag=True, help="Also write PNGs with outlines over the images."
)


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
