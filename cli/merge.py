"""The command `oce2stardist merge`."""

import click

from .options import annotated, build_config, configured, set_up_logging, talkative


@click.command()
@click.argument("run")
@annotated
@configured
@talkative
def merge(
    run: str,
    annotations: str,
    fraction: float | None,
    cells: int | None,
    per_image: bool,
    use_cells: str | None,
    zero: str,
    config_file: str | None,
    seed: int | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Merge annotations into the pseudo labels of RUN; writes RUN/training."""
    from oce2stardist.runners.training_labels import merge_run

    set_up_logging(verbose=verbose, quiet=quiet)
    config = build_config(config_file, seed=seed)
    merged = merge_run(
        run,
        annotations,
        fraction=fraction,
        count=cells,
        per_image=per_image,
        use_cells=use_cells,
        zero=zero,  # type: ignore[arg-type]  # click.Choice checked it
        background_distance=config.merge.background_distance,
        overlap=config.merge.overlap,
        seed=config.seed,
    )
    sources = merged.objects["source"].value_counts()
    click.echo(
        f"{sources.get('manual', 0)} annotated cells and {sources.get('pseudo', 0)} pseudo objects "
        f"in {len(merged.pseudo)} images: {run}/training"
    )
