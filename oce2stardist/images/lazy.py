"""An image of which only windows are read, and its percentiles from a sample of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError, one_line
from oce2stardist.images.blocks import BlockGrid, Window
from oce2stardist.images.microscope import read_inside, split_path
from oce2stardist.images.normalise import ByChannel, measure_percentiles
from oce2stardist.images.pixel_size import PixelSize
from oce2stardist.images.tiff import open_alone, open_tiff

LARGEST_SAMPLE = 2**24
"""Pixels of a channel from which percentiles are taken; smaller images are taken whole."""

_SAMPLE_SIDE = 256
_BLOCK = 2048
_READERS = 4


@dataclass(frozen=True)
class LazyImage:
    """One 2-D image inside a file, at one time point: small to send, read where it is needed."""

    name: str  # for files and messages
    path: Path  # the file, or the zarr group that holds the image
    array: str  # of a zarr group the array, of a TIFF the number of its series, else its name
    axes: str  # of the stored array, such as "tczyx"; "-" is any of one element
    stored: tuple[int, ...]  # the stored array's shape; without opacity, the last of s
    fixed: tuple[tuple[str, int], ...]  # axis and index: where along others this image lies
    pixel_size: PixelSize | None  # if the file says it
    stem: str  # the name without the time point
    white: float | None = None  # from which stored values count down, where 0 is white

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Y, X, C)."""
        size = dict(zip(self.axes, self.stored, strict=True))
        channels = size.get("c", 1) * size.get("s", 1)
        return size["y"], size["x"], channels

    @property
    def label_axes(self) -> str:
        """Axes of its labels: all but channels, so that they lie over it; y and x are the last."""
        return "".join(axis for axis in self.axes if axis not in "csyx-") + "yx"

    @property
    def time(self) -> int | None:
        """Index of the time point; None where the file has no such axis."""
        return dict(self.fixed).get("t")

    def read(self, window: Window) -> NDArray[np.float32]:
        """Read a window as float32 of shape (Y, X, C); stored values, not rescaled."""
        rows, columns = window
        fixed, sizes = dict(self.fixed), dict(zip(self.axes, self.stored, strict=True))
        place = {"y": rows, "x": columns, "c": slice(sizes.get("c")), "s": slice(sizes.get("s"))}
        index = tuple(place.get(axis, fixed.get(axis, 0)) for axis in self.axes)
        try:
            if split_path(self.path) is not None:
                values = read_inside(self.path / self.array if self.array else self.path, window)
            else:
                with _opened(self.path, self.array) as stored:
                    values = np.asarray(stored[index])
        except InputError:
            raise
        except Exception as error:  # decoders raise whatever a broken file makes them
            raise InputError(f"{self.path} must be readable. Got: {one_line(error)}") from error
        left = [axis for axis in self.axes if axis in place]
        values = np.moveaxis(values, (left.index("y"), left.index("x")), (0, 1))
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite
            image: NDArray[np.float32] = values.reshape(*values.shape[:2], -1).astype(np.float32)
        if not np.isfinite(image).all():
            raise InputError(
                f"{self.name} must hold finite numbers. Got NaN or infinity in rows {rows.start} "
                f"to {rows.stop}, columns {columns.start} to {columns.stop}; replace them."
            )
        return image if self.white is None else self.white - image


def time_points(
    name: str,
    path: Path,
    array: str,
    axes: str,
    shape: tuple[int, ...],
    size: PixelSize | None,
    white: float | None = None,
) -> Iterator[LazyImage]:
    """Yield one image for each time point; refuses other axes of more than one element."""
    sizes = dict(zip(axes, shape, strict=True))
    others = {axis: n for axis, n in sizes.items() if axis not in "tcsyx" and n > 1}
    if others or not {"y", "x"} <= set(axes) or 0 in shape:
        raise InputError(
            f"{path} must hold images with axes T, C, Y and X. Got {axes.upper()} of shape "
            f"{shape}; project or split what else there is."
        )
    n_times = sizes.get("t", 1)
    for time in range(n_times):
        fixed = (("t", time),) if "t" in axes else ()
        suffix = f"_t{time:04d}" if n_times > 1 else ""
        yield LazyImage(name + suffix, path, array, axes, shape, fixed, size, name, white)


@contextmanager
def _opened(path: Path, array: str) -> Iterator[Any]:
    """Open the stored array; a TIFF is closed again, which costs little beside what is read."""
    import zarr

    if path.is_dir():
        yield _opened_zarr(path, array, _written(path / array))
        return
    with (
        open_alone(path) as file,
        open_tiff(file, path) as tiff,
        tiff.series[int(array)].aszarr(level=0) as store,
    ):
        yield zarr.open(store, mode="r")


def _written(array: Path) -> int:
    """Tell when an array's description was written last."""
    described = (array / "zarr.json", array / ".zarray")
    return max((file.stat().st_mtime_ns for file in described if file.exists()), default=0)


@lru_cache(maxsize=16)
def _opened_zarr(path: Path, array: str, written: int) -> Any:
    """Open an array of a zarr group; training reads windows from it by the ten thousand."""
    import zarr

    return zarr.open_group(str(path), mode="r")[array]


def sample_windows(
    shape: tuple[int, int], *, seed: int, largest: int = LARGEST_SAMPLE, side: int = _SAMPLE_SIDE
) -> list[Window]:
    """Choose windows that stand for the whole image: one at a random place in each of many fields.

    They measure `side` pixels a side and hold `largest` together. An image (Y, X) of no more
    pixels than these is taken whole, in bands.
    """
    height, width = shape
    if height * width <= largest:
        step = max(1, largest // (8 * width))
        return [
            (slice(top, min(top + step, height)), slice(0, width)) for top in range(0, height, step)
        ]
    side_y, side_x = min(side, height), min(side, width)
    wanted = largest // (side_y * side_x)
    down = max(1, min(round((wanted * height / width) ** 0.5), height // side_y))
    across = max(1, min(wanted // down, width // side_x))
    rng = np.random.default_rng(seed)
    windows = []
    for row in range(down):
        for column in range(across):
            top = _anywhere(rng, row * height // down, (row + 1) * height // down, side_y)
            left = _anywhere(rng, column * width // across, (column + 1) * width // across, side_x)
            windows.append((slice(top, top + side_y), slice(left, left + side_x)))
    return windows


def _anywhere(rng: np.random.Generator, start: int, stop: int, side: int) -> int:
    return start + int(rng.integers(0, max(1, stop - start - side + 1)))


def percentiles(image: LazyImage) -> tuple[ByChannel, ByChannel]:
    """Measure the percentiles 1 and 99.8 of every channel.

    Up to `LARGEST_SAMPLE` pixels they are those of the whole image, beyond it those of
    `sample_windows`. Where these show a ground of one value and nothing else, the image is searched
    for what they missed: its largest value takes the place of the upper percentile.
    """
    windows = sample_windows(image.shape[:2], seed=0)
    with ThreadPoolExecutor(_READERS) as pool:  # most of it is decompression
        low, high = measure_percentiles(list(pool.map(image.read, windows)))
        if all(bottom < top for bottom, top in zip(low, high, strict=True)):
            return low, high
        blocks = (block.core for block in BlockGrid(image.shape[:2], _BLOCK))
        most = np.max(
            list(pool.map(lambda core: image.read(core).max(axis=(0, 1)), blocks)), axis=0
        )
    found = (float(top) if a == b else b for a, b, top in zip(low, high, most, strict=True))
    return low, tuple(found)
