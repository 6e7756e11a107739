"""Adapt the libraries that read CZI, LIF and ND2 to scenes, time points and windows."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from oce2stardist.images.blocks import Window
from oce2stardist.images.pixel_size import PixelSize, to_pixel_size

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scene:
    """What a file tells of a scene; `trouble` says why it can't be read, if so."""

    shape: tuple[int, int, int] = (0, 0, 0)
    times: int = 0
    pixel_size: PixelSize | None = None
    trouble: str = ""


class Source(ABC):
    """An open file of a microscope."""

    package: str  # that reads it

    @abstractmethod
    def __init__(self, file: Path) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def scenes(self) -> list[Scene]:
        """Tell of all scenes, in the order of the file."""

    @abstractmethod
    def read(self, scene: int, time: int, window: Window) -> NDArray[Any]:
        """Read a window (Y, X, C) of one time point."""


class Czi(Source):
    """Of ZEISS, by their own library, which also stitches tiles and takes of pyramids the full."""

    package = "pylibCZIrw"

    def __init__(self, file: Path) -> None:
        from pylibCZIrw.czi import CziReader

        self._czi = CziReader(str(file))
        places = self._czi.scenes_bounding_rectangle_no_pyramid
        self._places = dict(sorted(places.items())) or {
            None: self._czi.total_bounding_rectangle_no_pyramid
        }
        self._planes: dict[int | None, list[dict[str, int]]] = {key: [] for key in self._places}

        def note(_: int, block: Any) -> bool:
            plane = block.coordinate.to_dict()
            self._planes[plane.pop("S") if None not in self._planes else None].append(plane)
            return True

        self._czi.enumerate_subblocks_subset(note, only_layer0=True)

    def close(self) -> None:
        self._czi.close()

    def _indices(self, key: int | None, axis: str) -> list[int]:
        return sorted({plane.get(axis, 0) for plane in self._planes[key]})

    def scenes(self) -> list[Scene]:
        types = self._czi.pixel_types
        root = ElementTree.fromstring(self._czi.raw_metadata)
        metres = {
            one.get("Id"): float(one.findtext("Value") or 0)
            for one in root.iterfind(".//Scaling/Items/Distance")
        }
        size = to_pixel_size((metres.get("Y"), "m"), (metres.get("X"), "m"))
        listed = []
        for key, place in self._places.items():
            axes = {axis for plane in self._planes[key] for axis in plane} | {"T", "C"}
            sizes = {axis: len(self._indices(key, axis)) for axis in axes} | {"Y": 1, "X": 1}
            planes = {(plane.get("T", 0), plane.get("C", 0)) for plane in self._planes[key]}
            trouble = _other_axes(sizes)
            if len(planes) < sizes["T"] * sizes["C"] or not planes:
                trouble = trouble or "channels that some time points lack"
            samples = sum(3 if "Bgr" in types[c] else 1 for c in self._indices(key, "C"))
            shape = (place.h, place.w, samples)
            listed.append(Scene(shape, 0 if trouble else sizes["T"], size, trouble))
        return listed

    def read(self, scene: int, time: int, window: Window) -> NDArray[Any]:
        key, place = list(self._places.items())[scene]
        rows, columns = window
        roi = (
            place.x + columns.start,
            place.y + rows.start,
            columns.stop - columns.start,
            rows.stop - rows.start,
        )
        first = self._planes[key][0]
        planes = [
            self._czi.read(
                roi=roi,
                scene=key,
                plane={**first, "T": self._indices(key, "T")[time], "C": channel},
            )[..., ::-1]  # blue, green, red
            for channel in self._indices(key, "C")
        ]
        return np.concatenate(planes, axis=-1)


class Lif(Source):
    """Of Leica."""

    package = "liffile"

    def __init__(self, file: Path) -> None:
        from liffile import LifFile

        self._lif = LifFile(file)

    def close(self) -> None:
        self._lif.close()

    def scenes(self) -> list[Scene]:
        listed = []
        for image in self._lif.images:
            sizes: dict[str, int] = dict(image.sizes)
            trouble = _other_axes(sizes)
            if not _is_there(image):
                trouble = trouble or "no pixels: the file is cut off"
            channels = sizes.get("C", 1) * sizes.get("S", 1)
            shape = (sizes.get("Y", 0), sizes.get("X", 0), channels)
            times = 0 if trouble else sizes.get("T", 1)
            listed.append(Scene(shape, times, _lif_pixel_size(image), trouble))
        return listed

    def read(self, scene: int, time: int, window: Window) -> NDArray[Any]:
        image = self._lif.images[scene]
        stored = image.asarray(mode="c", out="memmap")  # c: colours may be put in order
        rows, columns = window
        place = {"T": time, "Y": rows, "X": columns}
        values = stored[tuple(place.get(axis, slice(None)) for axis in image.dims)]
        return _channels_last(np.asarray(values), [axis for axis in image.dims if axis != "T"])


class Nd2(Source):
    """Of Nikon."""

    package = "nd2"

    def __init__(self, file: Path) -> None:
        from nd2 import ND2File

        self._nd2 = ND2File(file)

    def close(self) -> None:
        self._nd2.close()

    def _frame(self, scene: int, time: int) -> int | None:
        """Find the place of a frame among those that were taken; None if it was not."""
        loops = self._nd2.loop_indices
        for at, place in enumerate(loops[: self._nd2.attributes.sequenceCount]):
            if (place.get("P", 0), place.get("T", 0)) == (scene, time):
                return at
        return None

    def scenes(self) -> list[Scene]:
        about, sizes = self._nd2.attributes, dict(self._nd2.sizes)
        trouble = _other_axes({axis: n for axis, n in sizes.items() if axis != "P"})
        if "C" in self._nd2.loop_indices[0]:
            trouble = trouble or "channels in frames of their own"
        size = self._pixel_size()
        shape = (about.heightPx, about.widthPx or 0, about.componentCount)
        listed = []
        for scene in range(sizes.get("P", 1)):
            times = [self._frame(scene, time) for time in range(sizes.get("T", 1))]
            taken = len(times) - times.count(None)
            missing = "" if taken else "no frame that was taken"
            listed.append(Scene(shape, 0 if trouble else taken, size, trouble or missing))
        return listed

    def _pixel_size(self) -> PixelSize | None:
        try:
            volume = self._nd2.metadata.channels[0].volume
        except Exception as error:  # a broken description is no reason not to read the image
            _log.debug("no pixel size in %s: %s", self._nd2.path, error)
            return None
        if not all(volume.axesCalibrated[:2]):  # what it has then is 1
            return None
        x, y = volume.axesCalibration[:2]
        return to_pixel_size((y, "µm"), (x, "µm"))

    def read(self, scene: int, time: int, window: Window) -> NDArray[Any]:
        at = self._frame(scene, time)
        assert at is not None, (scene, time)
        frame = self._nd2.read_frame(at)
        if not frame.any():  # that is what the library gives for it
            raise ValueError(f"frame {at} of it is missing, or 0 everywhere")
        about, samples = self._nd2.attributes, self._nd2.components_per_channel
        stored = frame.reshape(-1, about.heightPx, about.widthPx, samples)
        return _channels_last(stored[:, window[0], window[1]], list("CYXS"))


SOURCES: dict[str, type[Source]] = {".czi": Czi, ".lif": Lif, ".nd2": Nd2}


def _other_axes(sizes: dict[str, int]) -> str:
    """Say which axes a 2-D image must not have, or lacks; "" if there is nothing to say."""
    others = [f"axis {axis} of {n}" for axis, n in sizes.items() if n > 1 and axis not in "TCSYX"]
    return " and ".join(others + [f"no axis {axis}" for axis in "YX" if axis not in sizes])


def _channels_last(values: NDArray[Any], axes: list[str]) -> NDArray[Any]:
    order = [axes.index(axis) for axis in "YXCS" if axis in axes]
    ordered = values.transpose(order)
    # A copy: what is mapped into memory is gone once its file is closed.
    return np.array(ordered.reshape(*ordered.shape[:2], -1))


def _is_there(image: Any) -> bool:
    """Tell whether the file goes on up to the pixels of a Leica image."""
    try:
        return bool(image.memory_block.size)
    except LookupError:
        return False


def _lif_pixel_size(image: Any) -> PixelSize | None:
    """Read the distance of pixels: the length of a side is that between its outermost ones."""
    sides: dict[str, tuple[float | None, str | None]] = {}
    described = "./Data/Image/ImageDescription/Dimensions/DimensionDescription"
    for side in image.xml_element.iterfind(described):
        steps = int(side.get("NumberOfElements", 0)) - 1
        if steps > 0:
            length = abs(float(side.get("Length", 0)))
            sides[side.get("DimID", "")] = length / steps, side.get("Unit")
    nothing = (None, None)
    return to_pixel_size(sides.get("2", nothing), sides.get("1", nothing))  # 1 is X, 2 is Y
