"""What dask workers do with a block; every function reads and writes files, and may be repeated."""

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.big_images import LazyImage, sample_windows
from oce2stardist.blocks import Block, BlockGrid, Window
from oce2stardist.errors import InputError
from oce2stardist.io import replacing

if TYPE_CHECKING:
    from oce2stardist.stardist_model.blockwise import Objects
    from oce2stardist.stardist_model.network import SparseStarDist2D

_SAMPLES = 4
_SAMPLE_SIDE = 512

# A worker may have several threads; the network's memory is for one block.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Plane:
    """One image on its way to labels.

    Attributes
    ----------
    image : LazyImage
    model : Path
        A StarDist model folder.
    device : str
    low, high : tuple of float
        Percentiles of every channel, which become 0 and 1.
    side : int
        Of a block, pixels.
    nms_thresh : float
        The model's.
    work : Path
        Folder for what is known of blocks.
    store : Path
        Zarr group of the labels.
    arrays : tuple of str
        The label arrays in it, the finest first.
    """

    image: LazyImage
    model: Path
    device: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    side: int
    nms_thresh: float
    work: Path
    store: Path
    arrays: tuple[str, ...] = ()

    @property
    def grid(self) -> BlockGrid:
        """The blocks."""
        return BlockGrid(self.image.shape[:2], self.side)

    def found(self, block: Block) -> Path:
        """File of the objects found in a block."""
        return self.work / "found" / f"{block.name}.npz"

    def settled(self, block: Block) -> Path:
        """File of those that stay once the blocks around it are known."""
        return self.work / "settled" / f"{block.name}.npz"

    def ids(self, row: int) -> Path:
        """File of the ids of a row of blocks."""
        return self.work / "ids" / f"{row:06d}.npz"

    def drawn(self, block: Block) -> Path:
        """File that says that a block is drawn."""
        return self.work / "drawn" / block.name

    def read(self, window: Window) -> NDArray[np.float32]:
        """Read a normalised window, as `oce2stardist.io.normalise_percentiles` does."""
        scaled = self.image.read(window)
        low, high = np.array([self.low, self.high], np.float32)
        flat = high <= low
        scaled -= low
        scaled /= np.where(flat, np.float32(1), high - low)
        scaled[..., flat] = 0
        return scaled


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


def look_around(plane: Plane) -> float:
    """Measure how far outlines lie from their centres in a sample of the image."""
    from oce2stardist.stardist_model.blockwise import find_objects

    height, width = plane.image.shape[:2]
    starts = [
        (window[0].start, window[1].start)
        for window in sample_windows((height, width), seed=0, largest=_SAMPLES * 256**2)
    ][:_SAMPLES]
    reach = 1.0
    with _one_at_a_time:
        model = _model(plane.model, plane.device)
        for top, left in starts:
            window = (
                slice(top, min(height, top + _SAMPLE_SIDE)),
                slice(left, min(width, left + _SAMPLE_SIDE)),
            )
            shape = (window[0].stop - top, window[1].stop - left)
            pixels = plane.read(window)
            crop = (slice(0, shape[0]), slice(0, shape[1]))
            found = find_objects(model, pixels.__getitem__, crop, shape, reach=1.0)
            reach = max(reach, found.reach)
    return reach


def find_block(plane: Plane, block: Block, reach: float) -> float:
    """Write the objects whose centres lie in a block; return how far they reach."""
    from oce2stardist.stardist_model.blockwise import find_objects

    with _one_at_a_time:
        model = _model(plane.model, plane.device)
        found = find_objects(model, plane.read, block.core, plane.image.shape[:2], reach=reach)
    _write(plane.found(block), found)
    return found.reach


def settle_block(plane: Plane, block: Block, reach: float) -> int:
    """Write those that stay beside what other blocks found; return how many went."""
    from oce2stardist.stardist_model.blockwise import Objects, settle

    own = _read(plane.found(block))
    around = [_read(plane.found(one)) for one in plane.grid.near(block, 2 * reach) if one != block]
    stays = np.ones(len(own), bool)
    if around:
        stays = settle(own, Objects.join(around), nms_thresh=plane.nms_thresh)
    _write(plane.settled(block), own[stays])
    return int((~stays).sum())


def number_rows(plane: Plane) -> int:
    """Number all objects of the image by position, row of blocks after row; return how many.

    Rows of blocks follow each other from top to bottom, so the order by (y, x) of the centres,
    and with it every id, does not depend on the blocks.
    """
    total = 0
    for row in range(plane.grid.rows):
        points = [read_points(plane.settled(block)) for block in plane.grid.row(row)]
        y, x = np.concatenate(points).T
        ids = np.empty(len(y), np.int32)
        if total + len(ids) > np.iinfo(np.int32).max:
            raise InputError(
                f"an image must hold fewer than 2**31 objects. Got more in {plane.image.name}; "
                "cut it."
            )
        ids[np.lexsort((x, y))] = np.arange(total + 1, total + 1 + len(ids))
        parts = np.split(ids, np.cumsum([len(one) for one in points])[:-1])
        with replacing(plane.ids(row)) as temporary:
            np.savez(temporary, **{str(n): part for n, part in enumerate(parts)})  # type: ignore[arg-type]
        total += len(ids)
    return total


def draw_block(plane: Plane, block: Block, reach: float) -> None:
    """Draw the objects that reach into a block."""
    from oce2stardist.stardist_model.blockwise import Objects, draw_objects

    blocks = plane.grid.near(block, reach + 1)
    rows = {one.row for one in blocks}
    ids_of = {row: dict(np.load(plane.ids(row))) for row in rows}
    objects = Objects.join([_read(plane.settled(one)) for one in blocks])
    ids = np.concatenate([ids_of[one.row][str(one.column)] for one in blocks])
    # Only those that may be seen here.
    low = [side.start - reach - 1 for side in block.core]
    high = [side.stop + reach + 1 for side in block.core]
    near = (objects.points >= low) & (objects.points <= high)
    seen: NDArray[np.bool_] = np.all(near, axis=1)
    labels = draw_objects(objects[seen], ids[seen], block.core)
    _label_array(plane, 0)[_at(plane, block.core)] = labels
    with replacing(plane.drawn(block)) as temporary:
        temporary.touch()


def halve_region(plane: Plane, level: int, region: Window) -> None:
    """Write a region of a coarser level: every second pixel of the finer one."""
    fine = tuple(slice(2 * side.start, 2 * side.stop) for side in region)
    values = _label_array(plane, level - 1)[_at(plane, fine)]
    _label_array(plane, level)[_at(plane, region)] = values[::2, ::2]


def _label_array(plane: Plane, level: int) -> Any:
    import zarr

    return zarr.open_group(str(plane.store), mode="r+")[plane.arrays[level]]


def _at(plane: Plane, window: tuple[slice, ...]) -> tuple[Any, ...]:
    return window if plane.image.time is None else (plane.image.time, *window)


def _write(path: Path, objects: "Objects") -> None:
    with replacing(path) as temporary:
        np.savez(
            temporary,
            points=objects.points,
            prob=objects.prob,
            dist=objects.dist,
            reach=np.float32(objects.reach),
        )


def _read(path: Path) -> "Objects":
    from oce2stardist.stardist_model.blockwise import Objects

    with np.load(path) as stored:
        return Objects(stored["points"], stored["prob"], stored["dist"])


def read_reach(path: Path) -> float:
    """Read how far the objects of a block reach."""
    with np.load(path) as stored:
        return float(stored["reach"])


def read_points(path: Path) -> NDArray[np.int32]:
    """Read the centres (y, x) alone."""
    with np.load(path) as stored:
        points: NDArray[np.int32] = stored["points"]
        return points
