"""A StarDist model's objects, block by block."""

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.blockwise.image import BlockwiseImage
from oce2stardist.errors import InputError
from oce2stardist.files.arrays import read_arrays, write_arrays
from oce2stardist.files.digests import digest
from oce2stardist.images.blocks import Block, Window
from oce2stardist.images.lazy import sample_windows
from oce2stardist.images.normalise import normalise_between

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D
    from oce2stardist.stardist_model.polygons import Objects

_SAMPLES = 4
_SAMPLE_SIDE = 512

# A worker may have several threads; the network's memory is for one block.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class StarDistImage(BlockwiseImage):
    """One image that a StarDist model predicts.

    Attributes
    ----------
    model : Path
        A StarDist model folder.
    low, high : tuple of float
        Percentiles of every channel, which become 0 and 1.
    nms_thresh : float
        The model's.
    """

    model: Path
    low: tuple[float, ...]
    high: tuple[float, ...]
    nms_thresh: float

    @property
    def identity(self) -> list[Any]:
        """The model's files and the intensities."""
        files = [one for one in self.model.iterdir() if one.suffix in (".h5", ".json")]
        return [digest(files), self.low, self.high]

    def read(self, window: Window) -> NDArray[np.float32]:
        """Read a window, normalised as `normalise_percentiles` does."""
        return normalise_between(self.image.read(window), self.low, self.high)

    @property
    def samples(self) -> list[Window]:
        """Windows in which `look_around` looks."""
        height, width = self.image.shape[:2]
        windows = sample_windows((height, width), seed=0, largest=_SAMPLES * 256**2)
        return [
            (
                slice(rows.start, min(height, rows.start + _SAMPLE_SIDE)),
                slice(columns.start, min(width, columns.start + _SAMPLE_SIDE)),
            )
            for rows, columns in windows[:_SAMPLES]
        ]

    def look_around(self, sample: Window) -> float:
        """Measure how far outlines lie from their centres in a window."""
        from oce2stardist.stardist_model.polygons import find_objects

        pixels = self.read(sample)
        shape = pixels.shape[0], pixels.shape[1]
        crop = (slice(0, shape[0]), slice(0, shape[1]))
        with _one_at_a_time:
            model = _model(self.model, self.device)
            found = find_objects(model, pixels.__getitem__, crop, shape, reach=1.0)
        return max(1.0, found.reach)

    def find(self, block: Block, reach: float) -> float:
        """Write the objects whose centres lie in a block; return how far they reach."""
        from oce2stardist.stardist_model.polygons import find_objects

        with _one_at_a_time:
            model = _model(self.model, self.device)
            found = find_objects(model, self.read, block.core, self.image.shape[:2], reach=reach)
        _write(self.found(block), found)
        return found.reach

    def drop_doubles(self, block: Block, reach: float) -> int:
        """Write those that stay beside what other blocks found; return how many went."""
        from oce2stardist.stardist_model.polygons import Objects, drop_doubles

        own = _read(self.found(block))
        near = [one for one in self.grid.near(block, 2 * reach) if one != block]
        around = [_read(self.found(one)) for one in near]
        stays = np.ones(len(own), bool)
        if around:
            stays = drop_doubles(own, Objects.join(around), nms_thresh=self.nms_thresh)
        _write(self.kept(block), own[stays])
        return int((~stays).sum())

    def draw(self, block: Block, reach: float) -> None:
        """Draw the objects that reach into a block."""
        from oce2stardist.stardist_model.polygons import Objects, draw_objects

        blocks = self.grid.near(block, reach + 1)
        objects = Objects.join([_read(self.kept(one)) for one in blocks])
        ids = self.ids_of(blocks)
        # Only those that may be seen here.
        low = [side.start - reach - 1 for side in block.core]
        high = [side.stop + reach + 1 for side in block.core]
        near = (objects.points >= low) & (objects.points <= high)
        seen: NDArray[np.bool_] = np.all(near, axis=1)
        self.write_labels(block, draw_objects(objects[seen], ids[seen], block.core))


@functools.lru_cache(maxsize=1)
def _model(folder: Path, device: str) -> "SparseStarDist2D":
    from oce2stardist.stardist_model.network import open_model, prepare_tensorflow

    prepare_tensorflow(device)
    return open_model(folder)


def check_model(model: Path, device: str, channels: int, name: str) -> float:
    """Refuse an image that the model can't take; return the model's nms_thresh.

    Raises
    ------
    InputError
        If it has another number of channels.
    """
    with _one_at_a_time:
        network = _model(model, device)
    expected = network.config.n_channel_in
    if channels != expected:
        raise InputError(
            f"images must have the model's {expected} channels. Got {channels} in {name}; pass "
            "images like those it was trained on."
        )
    return float(network.thresholds.nms)


def _write(path: Path, objects: "Objects") -> None:
    write_arrays(
        path,
        {
            "points": objects.points,
            "prob": objects.prob,
            "dist": objects.dist,
            "reach": np.array(objects.reach, np.float32),
        },
    )


def _read(path: Path) -> "Objects":
    from oce2stardist.stardist_model.polygons import Objects

    stored = read_arrays(path)
    return Objects(stored["points"], stored["prob"], stored["dist"])
