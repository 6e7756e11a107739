"""The images of a run by name, from files or arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.digests import digest, digest_arrays, digest_named
from oce2stardist.images.find import find_images, image_stem
from oce2stardist.images.pixel_size import PixelSize, VoxelSize
from oce2stardist.images.read import ImageFile
from oce2stardist.labels import Image


@dataclass(frozen=True)
class ImageSet:
    """Images by stem, in the order of their file names, and where they came from.

    ``paths`` is empty and ``source``, the folder or glob, None where the images were given as
    arrays. ``pixel_sizes`` and ``digests``, SHA-256 of the files, are known of images that
    `read_images` read. Where the images are stacks, (Z, Y, X, C), each has a voxel size.
    """

    paths: dict[str, Path]
    images: dict[str, Image]
    source: str | None = None
    pixel_sizes: Mapping[str, PixelSize | None] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    voxel_sizes: Mapping[str, VoxelSize] = field(default_factory=dict)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "ImageSet":
        """Take images by name, of shape (Y, X) or (Y, X, C), all with as many channels."""
        images = {name: _as_image(name, arrays[name]) for name in sorted(arrays)}
        if not images:
            raise InputError("there must be at least one image. Got none; pass some.")
        image_set = cls({}, images)
        image_set.check_channels()
        return image_set

    @property
    def are_stacks(self) -> bool:
        """Whether the images have planes along Z."""
        return bool(self.voxel_sizes)

    def sides(self, stem: str) -> tuple[float, ...]:
        """The sides of a pixel in pixels, (1, 1), or of a voxel in units of its width."""
        return self.voxel_sizes[stem].in_pixels if self.are_stacks else (1.0, 1.0)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(Y, X) of every image that is no stack."""
        return {stem: (image.shape[0], image.shape[1]) for stem, image in self.images.items()}

    @property
    def files(self) -> list[Path]:
        """The image files; none where the images were given as arrays."""
        return list(self.paths.values())

    def digest(self) -> str:
        """Hash the files, or the arrays where there are none."""
        if self.digests:
            return digest_named((self.paths[stem].name, self.digests[stem]) for stem in self.paths)
        return digest(self.paths.values()) if self.paths else digest_arrays(self.images)

    def check_channels(self) -> None:
        """Refuse images that differ in their number of channels."""
        counts = {stem: image.shape[-1] for stem, image in self.images.items()}
        (first, expected), *others = counts.items()
        for stem, count in others:
            if count != expected:
                files = {name: path.name for name, path in self.paths.items() if path.suffix}
                names = [files.get(name, name) for name in (first, stem)]
                raise InputError(
                    f"images must all have the same number of channels. Got {expected} in "
                    f"{names[0]} and {count} in {names[1]}; convert them or pass them in separate "
                    "runs."
                )

    @property
    def channels(self) -> int:
        """Number of channels, the same for every image."""
        return next(iter(self.images.values())).shape[-1]


def read_images(
    source: str | Path | ImageSet,
    *,
    axes: str | None = None,
    files: Sequence[Path] | None = None,
    first: ImageFile | None = None,
) -> ImageSet:
    """Read every image of a folder, glob or file; an `ImageSet` is passed through.

    Parameters
    ----------
    source : path, glob or ImageSet
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
    files : sequence of Path, optional
        What `source` held when it was listed. Default: it is listed now.
    first : ImageFile, optional
        The first of the files, where it was read already.
    """
    if isinstance(source, ImageSet):
        return source
    listed = find_images(source) if files is None else files
    paths = {image_stem(path): path for path in listed}
    opened = {} if first is None else {image_stem(listed[0]): first}
    opened |= {
        stem: ImageFile.read(path, axes=axes) for stem, path in paths.items() if stem not in opened
    }
    image_set = ImageSet(
        paths,
        {stem: file.pixels for stem, file in opened.items()},
        str(source),
        {stem: file.pixel_size for stem, file in opened.items()},
        {stem: file.digest for stem, file in opened.items()},
    )
    image_set.check_channels()
    return image_set


def _as_image(name: str, array: NDArray[Any]) -> Image:
    image = np.asarray(array)
    if image.ndim not in (2, 3) or image.dtype.kind not in "biuf" or 0 in image.shape:
        raise InputError(
            f"images must be numbers of shape (Y, X) or (Y, X, C). Got {image.dtype} of shape "
            f"{image.shape} for {name}; move other axes away."
        )
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise InputError(
            f"images must hold finite numbers. Got NaN or infinity in {name}; replace them."
        )
    return image if image.ndim == 3 else image[..., None]
