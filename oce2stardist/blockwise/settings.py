"""How images larger than memory are gone through in blocks, and where."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oce2stardist.errors import InputError
from oce2stardist.images.sources import LARGEST_AT_ONCE, Sources

if TYPE_CHECKING:
    from oce2stardist.runs.cluster import ClusterSettings


@dataclass(frozen=True)
class Blocks:
    """Which images are taken in blocks, of what size, and where these are worked on.

    Attributes
    ----------
    side : int
        Of a block, pixels. Labels do not depend on it, memory does.
    in_place : bool
        Write the labels of an OME-Zarr into its own ``labels`` group.
    blocks_above : float
        Megapixels from which a TIFF is taken in blocks, as every OME-Zarr is.
    workers, threads, scheduler, slurm
        See `oce2stardist.runs.cluster.ClusterSettings`.
    """

    side: int
    in_place: bool = False
    blocks_above: float = LARGEST_AT_ONCE
    workers: int | None = None
    threads: int | None = None
    scheduler: str | None = None
    slurm: str | Path | None = None

    @property
    def where(self) -> "ClusterSettings":
        """Say where blocks are worked on; made when asked for, since it imports dask."""
        from oce2stardist.runs.cluster import ClusterSettings

        return ClusterSettings(self.workers, self.threads, self.scheduler, self.slurm)

    def check(self, images: object, sources: Sources) -> None:
        """Refuse labels in place where no image is read in blocks."""
        if self.in_place and not sources.in_blocks:
            raise InputError(f"--in-place needs an OME-Zarr. Got {images}; leave it out.")
