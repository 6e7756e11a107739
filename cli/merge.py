"""The command `oce2stardist merge`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from oce2stardist.errors import plural

from .completion import folders
from .grouping import GroupedCommand
from .options import annotation_options, config_options, instances_option, logging_options
from .results import prints_json, tell

if TYPE_CHECKING:
    from oce2stardist import CellDraw, Config


@click.command(cls=GroupedCommand)
@click.argument("run", shell_complete=folders)
@annotation_options
@instances_option
@config_options(instances="instances")
@logging_options
@prints_json(
    training="folder that was written",
    n_annotated="annotated cells that are used",
    n_confirmed="pseudo objects that points and verdicts confirm, parts of them included",
    n_pseudo="pseudo objects that are kept",
    n_images="how many images",
)
def merge(run: str, annotations: str, cells: "CellDraw", config: "Config") -> None:
    """Merge annotations into the pseudo labels of RUN; writes RUN/training.

    To look at what finetune would train on; finetune merges by itself.

    \b
    Examples:
      oce2stardist merge run --annotations masks/
      oce2stardist merge run --annotations cells.json --zero background
    """
    from oce2stardist.runners.merge import merge_run

    merged = merge_run(run, annotations, cells=cells, config=config)
    sources = merged.objects["source"].value_counts()
    n_annotated, n_pseudo = int(sources.get("manual", 0)), int(sources.get("pseudo", 0))
    n_confirmed = int(sources.sum()) - n_annotated - n_pseudo
    tell(
        {
            "training": Path(run) / "training",
            "n_annotated": n_annotated,
            "n_confirmed": n_confirmed,
            "n_pseudo": n_pseudo,
            "n_images": len(merged.pseudo),
        },
        f"{plural(n_annotated, 'annotated cell')}"
        + f", {plural(n_confirmed, 'confirmed object')}" * (n_confirmed > 0)
        + f" and {plural(n_pseudo, 'pseudo object')} in "
        f"{plural(len(merged.pseudo), 'image')}: {run}/training",
    )
