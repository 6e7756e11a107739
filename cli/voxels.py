"""The option that says how large the voxels of stacks are."""

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from oce2stardist.images.pixel_size import VoxelSize


def _voxel_size(_: click.Context, __: click.Parameter, value: str | None) -> "VoxelSize | None":
    """Read three lengths."""
    from oce2stardist.images.pixel_size import VoxelSize

    if value is None:
        return None
    try:
        size = VoxelSize(*map(float, value.split(",")))
    except (TypeError, ValueError):
        size = None
    if size is None or not all(0 < side < math.inf for side in size):
        raise click.BadParameter(
            f"must be three lengths above 0, such as 2,0.5,0.5. Got {value!r}."
        )
    return size


voxel_size_option = click.option(
    "--voxel-size",
    callback=_voxel_size,
    metavar="Z,Y,X",
    help="Of stacks: depth, height and width of a voxel, µm.  [default: as the files say]",
)
