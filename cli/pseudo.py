"""The command `oce2stardist pseudo`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from oce2stardist.errors import plural

from .completion import folders, paths
from .grouping import GroupedCommand
from .options import (
    axes_option,
    block_options,
    config_options,
    deterministic_option,
    device_option,
    instances_option,
    output_option,
    overlay_option,
    overwrite_option,
    verbosity_options,
)
from .results import prints_json, tell
from .voxels import voxel_size_option

if TYPE_CHECKING:
    from oce2stardist import Config
    from oce2stardist.blockwise.settings import Blocks
    from oce2stardist.images.pixel_size import VoxelSize
    from oce2stardist.runs.progress import Reporter


def _diameter(value: str) -> float | Path:
    """Read a number of pixels, or the path of a file of them."""
    try:
        return float(value)
    except ValueError:
        path = Path(value)
    if not path.is_file():
        raise click.BadParameter(f"must be a number of pixels or a CSV file. Got {value!r}.")
    return path


@click.command(cls=GroupedCommand)
@click.argument("images", shell_complete=paths)
@output_option("RUN", "Run folder to write.")
@click.option(
    "--diameter",
    type=_diameter,
    metavar="PIXELS|CSV",
    shell_complete=paths,
    help="Median cell diameter in the images, pixels; or a CSV file with the columns image and "
    "diameter.  [default: from the annotations, else estimated]",
)
@click.option(
    "--annotations",
    metavar="PATH",
    shell_complete=paths,
    help="Outlines of some cells, in any format that finetune reads (0: not annotated); diameter "
    "and settings are chosen on them. Points choose between what embeddings and drawn start find.",
)
@click.option(
    "--trained",
    metavar="RUN",
    shell_complete=folders,
    help="A finished run on other images: use its network, scale and settings, train nothing.",
)
@click.option("--steps", type=int, help="Training steps.  [default: from the config]")
@axes_option
@voxel_size_option
@overlay_option
@overwrite_option
@block_options(side=2048)
@device_option
@deterministic_option
@instances_option
@config_options(steps="embedding.steps", instances="instances")
@verbosity_options
@prints_json(
    labels="folder of the pseudo labels",
    n_images="how many images",
    n_objects="in all",
    objects="number by image or, of images read in blocks, by crop",
    whole_objects="number by image of those read in blocks",
    trusted="whether the run trusts them",
    parameters="what was chosen, value and reason",
    seconds="by step",
    report="page of pictures",
)
def pseudo(
    images: str,
    output: str,
    diameter: float | Path | None,
    annotations: str | None,
    trained: str | None,
    axes: str | None,
    voxel_size: "VoxelSize | None",
    overlay: bool,
    config: "Config",
    overwrite: bool,
    blocks: "Blocks",
    reporter: "Reporter",
) -> None:
    """Train embeddings on IMAGES and write pseudo labels, without any annotation.

    IMAGES is a folder, a quoted glob or a file (TIFF, PNG, OME-Zarr, CZI, LIF, ND2 ...). An
    interrupted run goes on when the same command is given again. Look at RUN/report/index.html
    afterwards: are the outlined objects your cells? All that was said is in RUN/log.txt.

    OME-Zarr and large TIFF never have to fit into memory: embeddings train on pixels drawn from
    the whole image, settings are chosen on crops of it (RUN/crops, for you to annotate), and
    then the whole is labelled in blocks, several at a time (RUN/pseudo/whole).

    Stacks with planes along Z are labelled in three dimensions. The file or --axes says that there
    is a Z; the file or --voxel-size says how far planes lie apart.

    \b
    Examples:
      oce2stardist pseudo images/ -o run
      oce2stardist pseudo images/ -o run --annotations masks/
      oce2stardist pseudo images/ -o run --diameter 28 --config quick
      oce2stardist pseudo more_images/ -o run2 --trained run
      oce2stardist pseudo slide.ome.zarr -o slide
      oce2stardist pseudo stacks/ -o run --axes ZYX --voxel-size 2,0.5,0.5
    """
    from oce2stardist.runners.pseudo import make_pseudo_labels

    if trained is not None and click.get_current_context().params["steps"] is not None:
        raise click.UsageError("--trained trains nothing, so --steps has no meaning; drop one.")
    result = make_pseudo_labels(
        images,
        output,
        config=config,
        diameter=diameter,
        annotations=annotations,
        trained=trained,
        axes=axes,
        voxel_size=voxel_size,
        overlay=overlay,
        overwrite=overwrite,
        blocks=blocks,
        command="oce2stardist pseudo",
        reporter=reporter,
    )
    if not result.labels:
        return  # one of several processes under torchrun, and not the main one
    objects = {stem: int(labels.max()) for stem, labels in result.labels.items()}
    n_objects, whole = sum(objects.values()), result.whole_objects
    lines = [
        f"{plural(n_objects, 'object')} in {plural(len(objects), 'crop' if whole else 'image')}: "
        f"{output}/pseudo/labels",
        f"Look at {result.report}",
    ]
    if whole:
        total = sum(whole.values())
        found = f"{plural(total, 'object')} in {plural(len(whole), 'whole image')}"
        lines.insert(1, f"{found}: {output}/pseudo/whole")
    tell(
        {
            "labels": Path(output) / "pseudo" / "labels",
            "n_images": len(objects),
            "n_objects": n_objects,
            "objects": objects,
            "whole_objects": whole,
            "trusted": result.trust.trusted if result.trust else None,
            "parameters": result.parameters,
            "seconds": result.seconds,
            "report": result.report,
        },
        lines,
    )
