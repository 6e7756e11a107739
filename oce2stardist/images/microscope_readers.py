"""Adapt the libraries that read CZI, LIF and ND2 to scenes, time points and windows."""

import logging
import math
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from oce2stardist.images.blocks import Window
from oce2stardist.images.pixel_size import PixelSize, to_pixel_size

_log = logging.getLogger(__name__)
_MOST_FRAMES = 10**7


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


@dataclass(frozen=True)
class _CziScene:
    """Where a scene of a CZI lies, and which planes of it are stored."""

    key: int | None  # its number in the file; None in a file without scenes
    place: tuple[int, int, int, int]  # x, y, width and height in pixels of the full level
    first: dict[str, int]  # index along every axis of a plane that is stored
    indices: dict[str, list[int]]  # those along every axis
    n_planes: int  # of different times and channels


@lru_cache(maxsize=64)
def _czi_scenes(file: Path, modified: int) -> list[_CziScene]:
    """List the scenes of a CZI; its parts, by the ten thousand in a slide, are listed once."""
    from pylibCZIrw.czi import open_czi

    planes: dict[int | None, list[dict[str, int]]] = {}

    def note(_: int, block: Any) -> bool:
        plane = block.coordinate.to_dict()
        planes.setdefault(plane.pop("S", None), []).append(plane)
        return True

    with open_czi(str(file)) as czi:
        czi.enumerate_subblocks_subset(note, only_layer0=True)
        places = czi.scenes_bounding_rectangle_no_pyramid
        places = places or {None: czi.total_bounding_rectangle_no_pyramid}
    scenes = []
    for key in sorted(places):
        here = planes.get(key, [])
        axes = {"T", "C"}.union(*here)
        indices = {axis: sorted({plane.get(axis, 0) for plane in here}) for axis in axes}
        n_planes = len({(plane.get("T", 0), plane.get("C", 0)) for plane in here})
        first = here[0] if here else {}
        scenes.append(_CziScene(key, tuple(places[key]), first, indices, n_planes))
    return scenes


class Czi(Source):
    """Of ZEISS, by their own library, which also stitches tiles and takes of pyramids the full."""

    package = "pylibCZIrw"

    def __init__(self, file: Path) -> None:
        from pylibCZIrw.czi import CziReader

        self._scenes = _czi_scenes(file, file.stat().st_mtime_ns)
        self._czi = CziReader(str(file))

    def close(self) -> None:
        self._czi.close()

    def scenes(self) -> list[Scene]:
        types = self._czi.pixel_types
        metres = {
            one.get("Id"): float(one.findtext("Value") or 0)
            for one in ElementTree.fromstring(self._czi.raw_metadata).iterfind(
                ".//Scaling/Items/Distance"
            )
        }
        size = to_pixel_size((metres.get("Y"), "m"), (metres.get("X"), "m"))
        listed = []
        for scene in self._scenes:
            sizes = {axis: len(indices) for axis, indices in scene.indices.items()}
            trouble = _other_axes(sizes | {"Y": 1, "X": 1})
            if scene.n_planes < max(1, sizes["T"] * sizes["C"]):
                trouble = trouble or "channels that some time points lack"
            samples = sum(3 if "Bgr" in types[c] else 1 for c in scene.indices["C"])
            _, _, width, height = scene.place
            times = 0 if trouble else sizes["T"]
            listed.append(Scene((height, width, samples), times, size, trouble))
        return listed

    def read(self, scene: int, time: int, window: Window) -> NDArray[Any]:
        about, (rows, columns) = self._scenes[scene], window
        left, top, _, _ = about.place
        size = columns.stop - columns.start, rows.stop - rows.start
        roi = (left + columns.start, top + rows.start, *size)
        at = {**about.first, "T": about.indices["T"][time]}
        planes = [
            self._czi.read(roi=roi, scene=about.key, plane={**at, "C": channel})[..., ::-1]
            for channel in about.indices["C"]  # each of grey, or blue, green and red
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
        image: Any = self._lif.images[scene]  # its types name fewer arguments than it takes
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

        with ExitStack() as opened:  # the library leaves files open that it can't read
            self._nd2 = ND2File(opened.enter_context(file.open("rb")))
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._nd2.close()
        self._opened.close()

    @cached_property
    def _frames(self) -> dict[tuple[int, int], int]:
        """Number the frames of every position and time; those that were taken."""
        n_frames = math.prod(loop.count for loop in self._nd2.experiment)
        if n_frames > _MOST_FRAMES:
            raise ValueError(f"it announces {n_frames} frames")
        taken = self._nd2.loop_indices[: self._nd2.attributes.sequenceCount]
        return {(at.get("P", 0), at.get("T", 0)): n for n, at in enumerate(taken)}

    def scenes(self) -> list[Scene]:
        frames, about, sizes = self._frames, self._nd2.attributes, dict(self._nd2.sizes)
        trouble = _other_axes({axis: n for axis, n in sizes.items() if axis != "P"})
        if "C" in self._nd2.loop_indices[0]:
            trouble = trouble or "channels in frames of their own"
        size = self._pixel_size()
        shape = (about.heightPx, about.widthPx or 0, about.componentCount)
        listed = []
        for scene in range(sizes.get("P", 1)):
            taken = sum((scene, time) in frames for time in range(sizes.get("T", 1)))
            missing = "" if taken else "no frame that was taken"
            listed.append(Scene(shape, 0 if trouble else taken, size, trouble or missing))
        return listed

    def _pixel_size(self) -> PixelSize | None:
        try:
            volume = (self._nd2.metadata.channels or [])[0].volume
        except Exception as error:  # a broken description is no reason not to read the image
            _log.debug("no pixel size in %s: %s", self._nd2.path, error)
            return None
        if not all(volume.axesCalibrated[:2]):  # what it has then is 1
            return None
        x, y = volume.axesCalibration[:2]
        return to_pixel_size((y, "µm"), (x, "µm"))

    def read(self, scene: int, time: int, window: Window) -> NDArray[Any]:
        at = self._frames[scene, time]
        frame = self._nd2.read_frame(at)
        if not frame.any():  # that is what the library gives for it
            raise ValueError(f"frame {at} of it is missing, or 0 everywhere")
        about, samples = self._nd2.attributes, self._nd2.components_per_channel
        stored = frame.reshape(-1, about.heightPx, about.widthPx or 0, samples)
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
    """Tell whether the file holds as many bytes of a Leica image as it announces."""
    try:
        return int(image.memory_block.size) >= int(image.nbytes)
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
