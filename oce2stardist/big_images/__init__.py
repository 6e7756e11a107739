"""Images that need not fit into memory: OME-Zarr and large TIFF, read window by window."""

from oce2stardist.big_images.lazy import LazyImage, PixelSize, percentiles, sample_windows
from oce2stardist.big_images.open import is_ome_zarr, list_images
from oce2stardist.big_images.working import Levels, WorkingImage

__all__ = [
    "LazyImage",
    "Levels",
    "PixelSize",
    "WorkingImage",
    "is_ome_zarr",
    "list_images",
    "percentiles",
    "sample_windows",
]
