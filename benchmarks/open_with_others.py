"""Open an image and the labels that `predict` wrote for it with ome-zarr-py and with napari.

    python benchmarks/open_with_others.py numbers IMAGE.ome.zarr LABELS.ome.zarr
    python benchmarks/open_with_others.py reader LABELS.ome.zarr
    xvfb-run -a -s "-screen 0 1280x1024x24" \
        python benchmarks/open_with_others.py napari IMAGE.ome.zarr LABELS.ome.zarr \
        --at 12000 12000 --pictures scratch
    python benchmarks/open_with_others.py copy IMAGE.ome.zarr COPY.ome.zarr --version 0.4

LABELS is the image itself after `predict --in-place`. `numbers` compares each level of the labels
with the image in NGFF's own coordinates; `reader` needs ome-zarr-py (pip install ome-zarr), in an
environment of its own; `napari` needs napari-ome-zarr and a screen, which may be one that nobody
sees, and looks at both as rendered, around a pixel and as a whole; `copy` writes an image with
several levels, all five axes and a translation, to be predicted in place. Anything that does not
line up ends with exit code 1.
"""

import argparse
import importlib
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

REACH = 4
"""Pixels by which labels are shifted each way to see where they fit the image best."""

LARGEST_SHIFT = 0.75
"""Pixels of the level or of the screen that count as lined up. Half a pixel is expected where one
of two coarse levels has means and the other every second pixel."""

SIDE = 512
"""Pixels of a level that are compared, around the place looked at."""


@dataclass(frozen=True)
class Level:
    """One array of a multiscale image, and where its pixels lie in the world (y, x)."""

    array: Any
    axes: str
    scale: NDArray[np.float64]
    translation: NDArray[np.float64]

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a window of the first channel, plane and time point."""
        place = {"y": rows, "x": columns}
        return np.asarray(self.array[tuple(place.get(axis, 0) for axis in self.axes)])

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X)."""
        return self.array.shape[self.axes.index("y")], self.array.shape[self.axes.index("x")]


def open_levels(group: Any) -> list[Level]:
    """Read the levels of a multiscale image as NGFF 0.4 and 0.5 describe them."""
    attributes = dict(group.attrs)
    scales = attributes.get("ome", attributes)["multiscales"][0]
    axes = "".join(axis["name"] for axis in scales["axes"])
    places = [axes.index("y"), axes.index("x")]
    levels = []
    for one in scales["datasets"]:
        scale, translation = np.ones(2), np.zeros(2)
        for holder in (one, scales):
            for step in holder.get("coordinateTransformations", []):
                if step["type"] == "scale":
                    by = np.array(step["scale"])[places]
                    scale, translation = scale * by, translation * by
                else:
                    translation = translation + np.array(step["translation"])[places]
        levels.append(Level(group[one["path"]], axes, scale, translation))
    return levels


def label_names(store: Path) -> list[str]:
    """List the label images of a store."""
    attributes: dict[str, Any] = dict(zarr.open_group(str(store), mode="r")["labels"].attrs)
    return list(attributes.get("ome", attributes)["labels"])


def find_shift(image: NDArray[Any], is_cell: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Find by how many pixels cells have to be moved to fit the image best, and how well they do.

    The correlation of both is looked at for all shifts within `REACH`; a parabola through its
    highest values gives the fractions.
    """
    inner = (slice(REACH, -REACH), slice(REACH, -REACH))
    # Bright debris must not decide.
    pixels = np.minimum(image, np.percentile(image, 99)).astype(np.float64)[inner]
    shifts = range(-REACH, REACH + 1)
    fits = np.empty((len(shifts), len(shifts)))
    for row, down in enumerate(shifts):
        for column, right in enumerate(shifts):
            moved = np.roll(is_cell, (down, right), (0, 1))[inner]
            fits[row, column] = np.corrcoef(pixels.ravel(), moved.ravel())[0, 1]
    best_row, best_column = (int(n) for n in np.unravel_index(np.argmax(fits), fits.shape))
    rows = _peak(fits[:, best_column], best_row) - REACH
    columns = _peak(fits[best_row], best_column) - REACH
    return rows, columns, float(fits.max())


def _peak(values: NDArray[np.float64], at: int) -> float:
    if at in (0, len(values) - 1):
        return float(at)
    before, here, after = values[at - 1 : at + 2]
    return at + float((before - after) / (2 * (before - 2 * here + after)))


def is_lined_up(what: str, image: NDArray[Any], is_cell: NDArray[np.bool_]) -> bool:
    """Print and tell whether cells lie where the image is bright."""
    if not is_cell.any() or is_cell.all():
        print(f"{what}: NOT lined up, {'all' if is_cell.all() else 'nothing'} is cell")
        return False
    down, right, fit = find_shift(image, is_cell)
    inside, outside = image[is_cell].mean(), image[~is_cell].mean()
    good = max(abs(down), abs(right)) <= LARGEST_SHIFT and inside > outside
    print(
        f"{what}: {'lined up' if good else 'NOT lined up'}, best shift {down:+.2f} {right:+.2f} px "
        f"(correlation {fit:.2f}), intensity {inside:.0f} in cells and {outside:.0f} outside"
    )
    return good


def compare_numbers(given: argparse.Namespace) -> bool:
    """Compare each level of the labels with the image's level of the same scale, or the finest."""
    image = open_levels(zarr.open_group(str(given.image), mode="r"))
    good = True
    for name in label_names(given.labels):
        labels = open_levels(zarr.open_group(str(given.labels), mode="r")[f"labels/{name}"])
        print(f"{name}: {len(labels)} levels, image {len(image)}, axes {labels[0].axes.upper()}")
        for number, level in enumerate(labels):
            same = [one for one in image if np.allclose(one.scale, level.scale)]
            below = same[0] if same else image[0]
            height, width = level.shape
            centre = np.array(given.at) * labels[0].scale / level.scale
            top, left = (
                int(np.clip(at - SIDE / 2, 0, max(0, n - SIDE)))
                for at, n in zip(centre, level.shape, strict=True)
            )
            window = (slice(top, min(height, top + SIDE)), slice(left, min(width, left + SIDE)))
            is_cell = level.read(*window) > 0
            pixels = sample(below, level, window)
            which = "its level" if same else "the finest level"
            good &= is_lined_up(f"  level {number} with {which}, rows {top}", pixels, is_cell)
    return good


def sample(image: Level, like: Level, window: tuple[slice, slice]) -> NDArray[np.float64]:
    """Look up the image at the centres of another level's pixels, means over their size."""
    factors = like.scale / image.scale
    half = np.maximum(0, (factors - 1) / 2)
    indices = []
    for axis, side in enumerate(window):
        world = np.arange(side.start, side.stop) * like.scale[axis] + like.translation[axis]
        indices.append((world - image.translation[axis]) / image.scale[axis])
    starts = [int(max(0, np.floor(one[0] - by))) for one, by in zip(indices, half, strict=True)]
    stops = [int(np.ceil(one[-1] + by)) + 1 for one, by in zip(indices, half, strict=True)]
    read = image.read(*(slice(a, b) for a, b in zip(starts, stops, strict=True)))
    sums = np.pad(read.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    corners = []
    for axis, (one, by) in enumerate(zip(indices, half, strict=True)):
        low = np.clip(np.rint(one - by).astype(int) - starts[axis], 0, read.shape[axis] - 1)
        high = np.clip(np.rint(one + by).astype(int) + 1 - starts[axis], 1, read.shape[axis])
        corners.append((low, np.maximum(high, low + 1)))
    (top, bottom), (left, right) = corners
    total = (
        sums[np.ix_(bottom, right)]
        - sums[np.ix_(top, right)]
        - sums[np.ix_(bottom, left)]
        + sums[np.ix_(top, left)]
    )
    return total / np.outer(bottom - top, right - left)


def open_with_reader(given: argparse.Namespace) -> bool:
    """Open every label image with ome-zarr-py's Reader; it has to find all levels and the image."""
    try:
        parse_url = importlib.import_module("ome_zarr.io").parse_url
        reader = importlib.import_module("ome_zarr.reader")
    except ImportError:
        print("ome-zarr-py must be installed. Got none; pip install ome-zarr, in a new venv.")
        return False
    print(f"ome-zarr-py {version('ome-zarr')}, zarr {version('zarr')}")
    good = True
    for name in label_names(given.labels):
        path = given.labels / "labels" / name
        location = parse_url(str(path))
        nodes = [] if location is None else list(reader.Reader(location)())
        stored = open_levels(zarr.open_group(str(path), mode="r"))
        opened: dict[str, list[list[tuple[int, ...]]]] = {"image": [], "labels": []}
        for node in nodes:
            kind = "labels" if node.load(reader.Label) is not None else "image"
            shapes = [tuple(level.shape) for level in node.data]
            if not shapes:  # the group of labels
                continue
            opened[kind].append(shapes)
            print(f"{name}: {kind} of shapes {shapes}")
            for steps in node.metadata.get("coordinateTransformations", []):
                print("  ", ", ".join(f"{one['type']} {one[one['type']]}" for one in steps))
        good &= [tuple(level.array.shape) for level in stored] in opened["labels"]
        if not opened["image"]:
            print(f"{name}: the image must be found from its labels. Got none.")
            good = False
    print("opened" if good else "NOT opened as written")
    return good


def look_with_napari(given: argparse.Namespace) -> bool:
    """Open both in napari, save pictures of a region and of the whole, and compare as rendered."""
    napari = importlib.import_module("napari")
    packages = ("napari", "napari-ome-zarr", "zarr", "vispy", "pyqt6")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    viewer = napari.Viewer()
    viewer.window.resize(1200, 900)
    camera = getattr(viewer, "scene", viewer).camera  # napari before 0.9 has no scene
    layers = viewer.open(str(given.image), plugin="napari-ome-zarr")
    if given.labels != given.image:
        for name in label_names(given.labels):
            path = given.labels / "labels" / name
            layers += viewer.open(str(path), plugin="napari-ome-zarr")
    below = next(one for one in layers if one._type_string == "image")
    above = [one for one in layers if one._type_string == "labels"]
    if not above:
        print("labels must be opened as labels. Got none.")
        return False
    good = True
    size = np.array(below.scale[-2:])
    whole = np.array(below.level_shapes[0][-2:] if below.multiscale else below.data.shape[-2:])
    places = {"region": (np.array(given.at), given.side), "whole": (whole / 2, int(whole.max()))}
    given.pictures.mkdir(parents=True, exist_ok=True)
    for number, layer in enumerate(above):
        layer.visible = True
        print(f"{layer.name}: {layer.ndim} axes as the image has {below.ndim}")
        good &= layer.ndim == below.ndim
        for name, (centre, side) in places.items():
            canvas = np.array(viewer.window._qt_viewer.canvas.size)
            start = below.data_to_world((0,) * below.ndim)[-2:]
            camera.center = (0, *(start + centre * size))
            camera.zoom = 0.95 * canvas.min() / (side * size.max())
            below.contrast_limits = tuple(np.percentile(_around(below, centre, side), (1, 99.8)))
            layer.contour = 2 if side <= 2000 else 0
            layer.opacity = 0.9 if side <= 2000 else 0.4
            stem = given.image.name.split(".")[0]
            picture = given.pictures / f"{stem}-{number}-{name}.png"
            viewer.screenshot(str(picture), flash=False)
            level = layer.data_level if layer.multiscale else 0
            image, is_cell = _rendered(viewer, below, layer)
            where = f"  {name}, level {level} of {len(layer.data) if layer.multiscale else 1}"
            good &= is_lined_up(where, image, is_cell)
    viewer.close()
    return good


def _around(layer: Any, centre: NDArray[Any], side: int) -> NDArray[Any]:
    """Read every n-th pixel around a place."""
    step = max(1, side // 512)
    data = layer.data[0] if layer.multiscale else layer.data
    window = tuple(slice(max(0, int(at) - side // 2), int(at) + side // 2, step) for at in centre)
    return np.asarray(data[(0,) * (data.ndim - 2) + window])


def _rendered(viewer: Any, below: Any, above: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Take the image alone and the labels alone as they are on the screen."""
    contour, opacity = above.contour, above.opacity
    above.contour, above.opacity = 0, 1.0
    pictures = []
    for shown, hidden in ((below, above), (above, below)):
        shown.visible, hidden.visible = True, False
        pictures.append(viewer.screenshot(flash=False)[..., :3].astype(np.float64).sum(-1))
    below.visible = above.visible = True
    above.contour, above.opacity = contour, opacity
    image, labels = pictures
    height, width = image.shape
    side = int(0.9 * min(height, width)) // 2
    middle = (
        slice(height // 2 - side, height // 2 + side),
        slice(width // 2 - side, width // 2 + side),
    )
    return image[middle], labels[middle] > 0


def copy_image(given: argparse.Namespace) -> bool:
    """Write an image's first plane with axes TCZYX, three levels of means and a translation."""
    (source, *_) = open_levels(zarr.open_group(str(given.image), mode="r"))
    is_old = given.version == "0.4"
    root: Any = zarr.open_group(str(given.copy), mode="w-", zarr_format=2 if is_old else 3)
    pixels = source.read(slice(0, given.side), slice(0, given.side))
    start, datasets = source.scale * (100, 300), []
    for level in range(3):
        root.create_array(
            str(level),
            data=pixels[None, None, None],
            chunks=(1, 1, 1, 512, 512),
            dimension_names=None if is_old else list("tczyx"),
        )
        scale = source.scale * 2**level
        # The centre of a mean lies between the pixels it was taken of.
        translation = start + (scale - source.scale) / 2
        steps: list[dict[str, Any]] = [
            {"type": "scale", "scale": [2.5, 1.0, 3.0, *scale]},
            {"type": "translation", "translation": [0.0, 0.0, 0.0, *translation]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
        height, width = (n // 2 * 2 for n in pixels.shape)
        parts = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2)
        pixels = parts.mean((1, 3)).astype(pixels.dtype)
    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    multiscales = [{"version": given.version, "axes": axes, "datasets": datasets}]
    if is_old:
        root.attrs["multiscales"] = multiscales
    else:
        del multiscales[0]["version"]
        root.attrs["ome"] = {"version": given.version, "multiscales": multiscales}
    return True


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(required=True)
    for name, function in (
        ("numbers", compare_numbers),
        ("reader", open_with_reader),
        ("napari", look_with_napari),
        ("copy", copy_image),
    ):
        kind = kinds.add_parser(name)
        kind.set_defaults(function=function)
        if name != "reader":
            kind.add_argument("image", type=Path)
        if name == "copy":
            kind.add_argument("copy", type=Path)
            kind.add_argument("--version", choices=("0.4", "0.5"), default="0.5")
            kind.add_argument("--side", type=int, default=2048, help="pixels, from the upper left")
            continue
        kind.add_argument("labels", type=Path)
        if name != "reader":
            kind.add_argument("--at", type=int, nargs=2, default=(256, 256), metavar=("Y", "X"))
        if name == "napari":
            kind.add_argument("--side", type=int, default=400, help="pixels of the region shown")
            kind.add_argument("--pictures", type=Path, default=Path())
    given = parser.parse_args()
    return 0 if given.function(given) else 1


if __name__ == "__main__":
    sys.exit(main())
