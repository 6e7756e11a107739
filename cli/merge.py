"""The command `oce2stardist merge`."""

from pathlib import Path

import click

from .completion import folders
from .options import annotated, build_config, configured, set_up_logging, talkative
from .results import prints_json, tell


@click.command()
@click.argument("run", shell_complete=folders)
@annotated
@configured
@talkative
@prints_json(
    training="folder that was written",
    n_annotated="annotated cells that are used",
    n_pseudo="pseudo objects that are kept",
    n_images="how many images",
)
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
    """Merge annotations into the pseudo labels of RUN; writes RUN/training.

    To look at what finetune would train on; finetune merges by itself.

    \b
    Examples:
      oce2stardist merge run --annotations masks/
      oce2stardist merge run --annotations cells.json --zero background
    """
    from oce2stardist.runners.merge import merge_run
    from oce2stardist.training_labels.draw_cells import CellDraw

    set_up_logging(verbose=verbose, quiet=quiet)
    merged = merge_run(
        run,
        annotations,
        cells=CellDraw(
            fraction=fraction,
            count=cells,
            listed_in=use_cells,
            per_image=per_image,
            zero=zero,  # type: ignore[arg-type]  # click.Choice checked it
        ),
        config=build_config(config_file, seed=seed),
    )
    sources = merged.objects["source"].value_counts()
    n_annotated, n_pseudo = int(sources.get("manual", 0)), int(sources.get("pseudo", 0))
    tell(
        {
            "training": Path(run) / "training",
            "n_annotated": n_annotated,
            "n_pseudo": n_pseudo,
            "n_images": len(merged.pseudo),
        },
        f"{n_annotated} annotated cells and {n_pseudo} pseudo objects "
        f"in {len(merged.pseudo)} images: {run}/training",
    )
