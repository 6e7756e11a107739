"""Find a StarDist model's objects block by block."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.blockwise.image import BlockwiseImage
from oce2stardist.errors import InputError
from oce2stardist.files.arrays import read_arrays, write_arrays
from oce2stardist.files.digests import digest
from oce2stardist.images.blocks import Block, Window
from oce2stardist.images.lazy import LazyImage, sample_windows
from oce2stardist.images.normalise import normalise_between
from oce2stardist.stardist_model.scale import ModelScale, zoom_window, zoomed_core, zoomed_shape

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D
    from oce2stardist.stardist_model.polygons import Objects

_SAMPLES = 4
_SAMPLE_SIDE = 512
_MIDDLE = 1024

# A worker may have several threads; the network's memory is for one block.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class StarDistImage(BlockwiseImage):
    """One image that a StarDist model predicts."""

    model: Path  # a StarDist model folder
    low: tuple[float, ...]  # percentiles of every channel, which become 0
    high: tuple[float, ...]  # and 1
    nms_thresh: float  # the model's
    scale: float  # by what the image is zoomed for it: objects on disk are as the network sees them

    @property
    def identity(self) -> list[Any]:
        files = [path for path in self.model.iterdir() if path.suffix in (".h5", ".json")]
        return [digest(files), self.low, self.high, self.scale]

    def read(self, window: Window) -> NDArray[np.float32]:
        """Read a window, normalised as `normalise_percentiles` does."""
        return normalise_between(self.image.read(window), self.low, self.high)

    @property
    def samples(self) -> list[Window]:
        height, width = self.image.shape[:2]
        windows = sample_windows((height, width), seed=0, largest=_SAMPLES * 256**2)[:_SAMPLES]
        corners = [(rows.start, columns.start) for rows, columns in windows]
        return [
            (slice(y, min(height, y + _SAMPLE_SIDE)), slice(x, min(width, x + _SAMPLE_SIDE)))
            for y, x in corners
        ]

    def look_around(self, sample: Window) -> float:
        pixels = self.read(sample)
        shape = pixels.shape[0], pixels.shape[1]
        crop = (slice(0, shape[0]), slice(0, shape[1]))
        return max(1.0, self._find_in(pixels.__getitem__, crop, shape, 1.0).reach / self.scale)

    def find(self, block: Block, reach: float) -> float:
        objects = self._find_in(self.read, block.core, self.image.shape[:2], reach)
        reach = objects.reach / self.scale
        _write(self.found(block), objects, reach)
        return reach

    def _find_in(
        self, read: Callable[[Window], Any], core: Window, shape: tuple[int, int], reach: float
    ) -> "Objects":
        from oce2stardist.stardist_model.polygons import find_objects

        factor = self.scale
        zoomed = partial(zoom_window, read, shape=shape, factor=factor)
        with _one_at_a_time:
            return find_objects(
                _model(self.model, self.device),
                zoomed,
                zoomed_core(core, shape, factor),
                zoomed_shape(shape, factor),
                reach=reach * factor,
            )

    def drop_doubles(self, block: Block, reach: float) -> int:
        from oce2stardist.stardist_model.polygons import Objects, drop_doubles

        own = _read(self.found(block))
        near = [other for other in self.grid.near(block, 2 * reach) if other != block]
        stays = np.ones(len(own), bool)
        if near:
            around = Objects.join([_read(self.found(other)) for other in near])
            stays = drop_doubles(own, around, nms_thresh=self.nms_thresh)
        _write(self.kept(block), own[stays], reach)
        return int((~stays).sum())

    def draw(self, block: Block, reach: float) -> None:
        from oce2stardist.stardist_model.polygons import Objects, draw_objects

        blocks = self.grid.near(block, reach + 1)
        objects = Objects.join([_read(self.kept(near)) for near in blocks]).zoomed(1 / self.scale)
        low = [side.start - reach - 1 for side in block.core]
        high = [side.stop + reach + 1 for side in block.core]
        may_be_seen = np.all((objects.points >= low) & (objects.points <= high), axis=1)
        ids = self.ids_of(blocks)[may_be_seen]
        self.write_labels(block, draw_objects(objects[may_be_seen], ids, block.core))


@functools.lru_cache(maxsize=1)
def _model(folder: Path, device: str) -> "SparseStarDist2D":
    from oce2stardist.stardist_model.network import open_model, prepare_tensorflow

    prepare_tensorflow(device)
    return open_model(folder)


def check_model(model: Path, device: str, channels: int, name: str) -> float:
    """Refuse an image with other channels than the model's; return the model's nms_thresh."""
    with _one_at_a_time:
        network = _model(model, device)
    expected = network.config.n_channel_in
    if channels != expected:
        raise InputError(
            f"images must have the model's {expected} channels. Got {channels} in {name}; pass "
            "images like those it was trained on."
        )
    return float(network.thresholds.nms)


def find_factor(
    model: Path,
    device: str,
    image: LazyImage,
    low: tuple[float, ...],
    high: tuple[float, ...],
    scale: ModelScale,
) -> float:
    """Find by what a large image is to be zoomed; where it has its own factor, from its middle."""
    if not scale.per_image:
        return scale.factor
    from oce2stardist.stardist_model.predict import find_scale

    starts = [max(0, (side - _MIDDLE) // 2) for side in image.shape[:2]]
    window = slice(starts[0], starts[0] + _MIDDLE), slice(starts[1], starts[1] + _MIDDLE)
    with _one_at_a_time:
        return find_scale(
            _model(model, device), normalise_between(image.read(window), low, high), scale
        )


def _write(path: Path, objects: "Objects", reach: float) -> None:
    """Write objects as the network sees them, and how far they reach in stored pixels."""
    arrays = {"points": objects.points, "prob": objects.prob, "dist": objects.dist}
    write_arrays(path, arrays | {"reach": np.array(reach, np.float32)})


def _read(path: Path) -> "Objects":
    from oce2stardist.stardist_model.polygons import Objects

    stored = read_arrays(path)
    return Objects(stored["points"], stored["prob"], stored["dist"])
