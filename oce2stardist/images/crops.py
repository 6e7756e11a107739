"""Images larger than memory for stage one: crops to look at, and the whole to train on, lazily."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.files.atomic import replacing
from oce2stardist.images.blocks import Window
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.lazy import LazyImage, sample_windows
from oce2stardist.images.prepare import PreparedImages, check_size, choose_channels_and_scales
from oce2stardist.images.read import narrowest, read_image
from oce2stardist.images.scale import Scales
from oce2stardist.images.working import RescaledImage
from oce2stardist.labels import Image, Labels

CROP_SIDE = 768
"""Pixels a side of a crop."""

_CROPS = 16
"""Crops of all images together; every image has one at least, up to `_MOST_CROPPED` of them."""

_MOST_CROPPED = 64


@dataclass(frozen=True)
class LargeImages:
    """Images of which only windows fit into memory, and some crops of them that do.

    What is chosen for a set, such as scale, foreground and bandwidth, is chosen on the crops;
    training draws from the whole; labels of the whole come block by block.
    """

    images: dict[str, LazyImage]
    crops: ImageSet  # stored values
    windows: dict[str, Window]  # by name of the crop
    image_of: dict[str, str]  # from a crop's name to its image's

    @classmethod
    def sample(cls, images: Sequence[LazyImage], *, seed: int) -> "LargeImages":
        """Draw the crops."""
        n_cropped = min(len(images), _MOST_CROPPED)
        rng = np.random.default_rng(seed)
        cropped = sorted(rng.choice(len(images), n_cropped, replace=False))
        largest = max(1, _CROPS // n_cropped) * CROP_SIDE**2
        windows: dict[str, Window] = {}
        image_of: dict[str, str] = {}
        pixels: dict[str, Image] = {}
        for index in cropped:
            image = images[index]
            for window in _crop_windows(image.shape[:2], seed=seed, largest=largest):
                name = f"{image.name}_y{window[0].start:06d}_x{window[1].start:06d}"
                windows[name], image_of[name] = window, image.name
                pixels[name] = image.read(window)
        crops = ImageSet({}, {name: pixels[name] for name in sorted(pixels)})
        crops.check_channels()
        return cls({image.name: image for image in images}, crops, windows, image_of)

    def with_files(self, folder: Path) -> "LargeImages":
        """Write the crops as TIFF, to be annotated, and name these files; known ones stay."""
        paths = {name: folder / f"{name}.tif" for name in self.crops.images}
        for name, path in paths.items():
            pixels = self.crops.images[name]
            if path.exists() and np.array_equal(read_image(path), pixels):
                continue
            with replacing(path) as temporary:
                tifffile.imwrite(
                    temporary,
                    np.moveaxis(narrowest(pixels), -1, 0),
                    photometric="minisblack",
                    metadata={"axes": "CYX"},
                    compression="zlib",
                )
        return replace(self, crops=ImageSet(paths, self.crops.images))

    def prepare(
        self,
        config: Config,
        *,
        diameter: float | str | Path | None,
        annotations: Mapping[str, Labels] | None = None,
        scales: Scales | None = None,
    ) -> PreparedImages:
        """Choose channels, scale and intensities on the crops, and bring these to them.

        See `prepare_images`; all images have one factor.
        """
        if isinstance(diameter, (str, Path)):
            raise InputError(
                "--diameter must be a number for images that are read in blocks. Got the file "
                f"{diameter}; run images of other sizes on their own."
            )
        settings = config.pseudo
        image_set, channels, scales = choose_channels_and_scales(
            self.crops, config, "set", diameter, annotations, scales
        )
        knee = settings.knee if settings.intensity == "compressed" else None
        whole = {}
        for name, image in self.images.items():
            working = RescaledImage(image, scales.median, channels)
            check_size(name, working.shape, scales.median)
            whole[name] = working.with_levels(knee=knee, seed=config.seed)
        seen, linear = {}, {}
        for crop in image_set.images:
            working = whole[self.image_of[crop]]
            window = working.to_working(self.windows[crop])
            seen[crop], linear[crop] = working[window], working.linear(window)
        return PreparedImages(image_set, scales, channels, seen, linear, self.image_of, whole)


def _crop_windows(shape: tuple[int, int], *, seed: int, largest: int) -> list[Window]:
    """Choose crops spread over an image; one that is small enough is a crop itself."""
    if shape[0] * shape[1] <= largest:
        return [(slice(0, shape[0]), slice(0, shape[1]))]
    return sample_windows(shape, seed=seed, largest=largest, side=CROP_SIDE)
