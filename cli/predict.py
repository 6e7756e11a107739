"""The command `oce2stardist predict`."""

import contextlib
from pathlib import Path
from typing import Any

import click

from .options import (
    axes_option,
    clustered,
    device_option,
    overlay_option,
    set_up_logging,
    talkative,
)


@click.command()
@click.argument("images")
@click.option("--model", required=True, metavar="MODEL", help="A StarDist model folder.")
@click.option("-o", "--output", required=True, metavar="OUT", help="Folder for label images.")
@axes_option
@overlay_option
@click.option(
    "--in-place",
    is_flag=True,
    help="Write the labels of an OME-Zarr into its own labels group, where viewers show them "
    "over the image.",
)
@click.option(
    "--blocks-above",
    type=click.FloatRange(0),
    default=64,
    show_default=True,
    metavar="MEGAPIXELS",
    help="Predict larger TIFF files in blocks, as every OME-Zarr.",
)
@click.option(
    "--block",
    type=click.IntRange(64, 8192),
    default=1024,
    show_default=True,
    help="Side of a block, pixels. Labels do not depend on it, memory does.",
)
@clustered("Blocks at a time on this machine, each a process of at most 1.4 GB; more ends it.")
@device_option
@talkative
def predict(
    images: str,
    model: str,
    output: str,
    axes: str | None,
    overlay: bool,
    in_place: bool,
    blocks_above: float,
    block: int,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    slurm: str | None,
    device: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Predict label images (int32) of IMAGES with a StarDist model.

    OME-Zarr and large TIFF are predicted in blocks, several at a time; the image never has to
    fit into memory. A command given again goes on where it was stopped.
    """
    from oce2stardist.errors import InputError
    from oce2stardist.runners.predict import predict_images
    from oce2stardist.runners.predict_sources import find_sources

    from .reporting import TerminalReporter

    set_up_logging(verbose=verbose, quiet=quiet)
    if scheduler is not None and slurm is not None:
        raise InputError("--scheduler and --slurm can't be given together; leave one out.")
    reporter = TerminalReporter(quiet=quiet)
    sources = find_sources(images, axes=axes, largest=blocks_above)
    if in_place and not sources.in_blocks:
        raise InputError(f"--in-place needs an OME-Zarr. Got {images}; leave it out.")
    counts: dict[str, int] = {}
    if sources.at_once:
        predicted = predict_images(
            sources.at_once,
            output,
            model=model,
            axes=axes,
            overlay=overlay,
            device=device or "auto",
            reporter=reporter,
        )
        counts |= {stem: int(labels.max()) for stem, labels in predicted.items()}
    if sources.in_blocks:
        if overlay:
            reporter.warn("No overlays are drawn of images that are predicted in blocks.")
        counts |= _predict_in_blocks(
            sources.in_blocks,
            output,
            where=(workers, threads, scheduler, slurm),
            model=model,
            axes=axes,
            side=block,
            in_place=in_place,
            device=device or "auto",
            reporter=reporter,
        )
    click.echo(f"{sum(counts.values())} cells in {len(counts)} images: {output}")


def _predict_in_blocks(
    paths: list[Path], output: str, *, where: tuple[Any, ...], model: str, **options: Any
) -> dict[str, int]:
    from oce2stardist.big_images import list_images
    from oce2stardist.runners.blockwise import WORKER_MEMORY, predict_in_blocks
    from oce2stardist.runners.cluster import Where, connected, limited_to
    from oce2stardist.runners.interruption import stop_on_signal

    for path in paths:  # what is wrong with them is said before workers are started
        list_images(path, axes=options["axes"])
    place = Where(*where)
    environment = limited_to(place.cell_threads)
    counts: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(
            connected(place, memory=WORKER_MEMORY, environment=environment)
        )
        should_stop = stack.enter_context(stop_on_signal())
        for path in paths:
            counts |= predict_in_blocks(
                path,
                Path(output),
                model=Path(model),
                client=client,
                should_stop=should_stop,
                **options,
            )
    return counts
