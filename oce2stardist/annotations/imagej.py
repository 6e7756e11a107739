"""ImageJ and Fiji selections: ``.roi`` files, and ``.zip`` files of them (ROI Manager).

Where ImageJ puts the pixels of a selection (compared with ImageJ 1.53t, see the tests):

- polygon, freehand and traced outlines, with integer corners or finer ones, fitted ellipses,
  rotated rectangles and composites: coordinates are corners of pixels, and a pixel belongs if
  its centre is inside (`fill_rings` says what "inside" means on the very edge);
- rectangles: the integer bounds of the file's header, right and bottom excluded. Finer bounds
  are ignored, as ImageJ's own mask does;
- ovals: pixel centres in or on the ellipse that these integer bounds enclose;
- rounded rectangles: the same with a quarter disc in each corner.

Tried on 733 selections of all these kinds, written by ImageJ 1.53t: the same pixels in each. A
polygon that was fitted with a spline is redrawn with a periodic cubic spline, which is close to
ImageJ's, not the same: 1.3 % of the pixels differed over 40 splines of 16 to 40 px.

Points are clicks, and lines are strokes; the pixel of a point is that in which it lies. Angles,
text, arrows and pictures mark nothing: they are left out.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi
from scipy.interpolate import CubicSpline

from oce2stardist.annotations.parsing import naming
from oce2stardist.annotations.shapes import (
    MAX_SHAPES,
    Mark,
    Outline,
    Patch,
    Reading,
    Shape,
    Skipped,
    reaches_over,
    role_of,
)
from oce2stardist.errors import InputError, name_some

MAX_BYTES = 256 * 2**20  # of all selections of a file, unpacked
OUTLINES = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
AREAS = (*OUTLINES, ROI_TYPE.RECT, ROI_TYPE.OVAL)
STROKES = (ROI_TYPE.LINE, ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE)
NO_MARK = "angles, text, arrows, pictures and outlines of two points mark no cell"
CURVE_STEPS = 32  # straight pieces per curve: within 0.01 px of an arc of 10 px radius
POINTS_OF = {0: 1, 1: 1, 2: 2, 3: 3, 4: 0}  # java.awt.geom.PathIterator: segment -> points

Points = NDArray[np.float64]  # (n, 2), (x, y)


def slices_of(file: Path) -> list[int]:
    """List the slices on which selections mark something, from 1; 0 where one tells none."""
    slices = set()
    for member, data in _members(file):
        with naming(f"{member} in {file}", expected="an ImageJ selection"):
            roi = ImagejRoi.frombytes(data)
        if _marks_something(roi):
            slices.add(_slice_of(roi))
    return sorted(slices)


def _slice_of(roi: ImagejRoi) -> int:
    """Return the slice of a selection, in a hyperstack or in a stack of nothing but slices."""
    return int(roi.z_position if roi.z_position > 0 else roi.position)


def read_rois(file: Path, *, shape: tuple[int, int], slice_number: int | None = None) -> Reading:
    """Read the selections of a ``.roi``, a ``.zip`` or a folder of ``.roi`` files.

    They come in the order of the zip, which is read in memory, never unpacked, or of the names
    in the folder. What a selection marks is told by its name (`role_of`). `shape` is (Y, X) of
    the image. Of a stack only those on one slice are read.
    """
    shapes: list[Shape] = []
    marks: list[Mark] = []
    splines, skipped, planes = [], Skipped(), set()
    for number, (member, data) in enumerate(_members(file), start=1):
        what = f"{member} in {file}" if member != file.name else f"{file}"
        with naming(what, expected="an ImageJ selection"):
            roi = ImagejRoi.frombytes(data)
        if slice_number is not None and _slice_of(roi) != slice_number:
            continue
        name = roi.name or re.sub(r"\.roi$", "", member, flags=re.IGNORECASE)
        if not _marks_something(roi):
            skipped.add(name, reason=NO_MARK)
            continue
        planes.add((roi.position, roi.z_position, roi.t_position))
        if roi.roitype not in AREAS:
            with naming(what, expected="an ImageJ selection"):
                marks += [Mark(one, role_of(name), name, number) for one in _to_lines(roi)]
            continue
        if roi.options & ROI_OPTIONS.SPLINE_FIT:
            splines.append(name)
        part = _to_part(roi, shape=shape, what=f"{member} of {file}")
        shapes.append(Shape((part,), role_of(name), name, number))
    notes = skipped.notes(file.name)
    if splines:
        notes.append(
            f"{file.name}: redrew splines, to within a few pixels of ImageJ's "
            f"({name_some(splines)})"
        )
    if len(planes) > 1:
        notes.append(f"{file.name}: took the selections of {len(planes)} planes of a stack as one")
    return Reading(shapes, notes, marks)


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the selections in a file or folder, within the limits."""
    if file.is_dir():
        files = sorted(filter(is_roi, file.iterdir()))
        _check_limits(file, [path.stat().st_size for path in files])
        yield from ((path.name, path.read_bytes()) for path in files)
        return
    _check_limits(file, [file.stat().st_size])
    data = file.read_bytes()
    if file.suffix.lower() == ".roi":
        yield file.name, data
    else:
        yield from _unzip(data, file)


def _unzip(data: bytes, file: Path) -> Iterator[tuple[str, bytes]]:
    with naming(f"{file}", expected="a zip of ImageJ selections"):
        archive = zipfile.ZipFile(io.BytesIO(data))
    members = [info for info in archive.infolist() if is_roi(Path(info.filename))]
    if not members:
        raise InputError(
            f"{file} must hold ImageJ selections (.roi). Got "
            f"{name_some(archive.namelist()) or 'an empty zip'}; save it with the ROI Manager."
        )
    _check_limits(file, [info.file_size for info in members])
    for info in members:
        with naming(f"{info.filename} in {file}", expected="an ImageJ selection"):
            content = archive.read(info)  # zipfile stops at file_size, whatever is packed
        yield Path(info.filename).name, content


def is_roi(path: Path) -> bool:
    """Tell by its name whether a file is a selection."""
    return path.name.lower().endswith(".roi") and path.name[0] != "."  # macOS adds ._x.roi


def _check_limits(file: Path, sizes: list[int]) -> None:
    if len(sizes) > MAX_SHAPES or sum(sizes) > MAX_BYTES:
        raise InputError(
            f"{file} must hold at most {MAX_SHAPES} selections and {MAX_BYTES} bytes of them. "
            f"Got {len(sizes)} and {sum(sizes)}; save dense labels as a label image."
        )


def _marks_something(roi: ImagejRoi) -> bool:
    """Tell whether a selection is an area, points or a line, and no decoration."""
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE):
        return False
    if roi.roitype in OUTLINES:
        return int(roi.n_coordinates) > 2
    return roi.roitype in (*AREAS, *STROKES, ROI_TYPE.POINT)


def _to_lines(roi: ImagejRoi) -> list[tuple[Points, ...]]:
    """Return the lines of each mark: every point of a selection is one, a line is one."""
    if roi.roitype == ROI_TYPE.LINE:
        return [(np.array([(roi.x1, roi.y1), (roi.x2, roi.y2)], np.float64),)]
    points = np.asarray(roi.coordinates(), np.float64).reshape(-1, 2)
    return [(points,)] if roi.roitype in STROKES else [(point[None],) for point in points]


def _to_part(roi: ImagejRoi, *, shape: tuple[int, int], what: str) -> Outline | Patch:
    if roi.composite:
        with naming(what, expected="a composite selection"):
            return Outline(tuple(_walk(roi.multi_coordinates)))
    if roi.roitype in OUTLINES:
        points = np.asarray(roi.coordinates(), np.float64)
        return Outline((_bend(points) if roi.options & ROI_OPTIONS.SPLINE_FIT else points,))
    bounds = (roi.left, roi.top, roi.right, roi.bottom)
    is_cut = reaches_over(bounds, shape=shape, what=what)
    height, width = max(roi.bottom - roi.top, 0), max(roi.right - roi.left, 0)
    if roi.roitype == ROI_TYPE.OVAL:
        arcs = (height / 2, width / 2)
    else:
        radius = min(roi.rounded_rect_arc_size, height, width) / 2
        arcs = (radius, radius)
    # no more of it than lies in the image
    rows = np.arange(max(-roi.top, 0), min(height, shape[0] - roi.top))
    columns = np.arange(max(-roi.left, 0), min(width, shape[1] - roi.left))
    mask = _round_off((rows, columns), size=(height, width), arcs=arcs)
    return Patch(max(roi.top, 0), max(roi.left, 0), mask, is_cut)


def _round_off(
    pixels: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    size: tuple[int, int],
    arcs: tuple[float, float],
) -> NDArray[np.bool_]:
    """Return rows and columns of a box of ``size`` (Y, X) whose corners are quarter ellipses.

    Their semi-axes are ``arcs``.
    """
    if not min(arcs) > 0:
        return np.ones([len(places) for places in pixels], np.bool_)
    y, x = (
        np.maximum(np.abs(places + 0.5 - length / 2) - (length / 2 - arc), 0) / arc
        for places, length, arc in zip(pixels, size, arcs, strict=True)
    )
    return np.asarray(y[:, None] ** 2 + x**2 <= 1)


def _walk(path: NDArray[np.float32] | None) -> Iterator[Points]:
    """Yield the closed rings of a path as ImageJ stores it: segment type, its points, ..."""
    values = [] if path is None else path.tolist()
    ring: list[tuple[float, float]] = []
    at = 0
    while at < len(values):
        kind = int(values[at])
        end = at + 1 + 2 * POINTS_OF[kind]
        numbers = values[at + 1 : end]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        if kind == 0 and ring:
            yield np.array(ring)
            ring = []
        ring += points if kind < 2 or kind == 4 else _flatten([ring[-1], *points])
        at = end
    if not ring:
        raise ValueError("it has no points")
    yield np.array(ring)


def _bend(points: Points) -> Points:
    """Draw a smooth closed curve through points (n, 2)."""
    if not np.isfinite(points).all():  # refused with the name of its file, as every shape like it
        return points
    closed = np.concatenate([points, points[:1]])
    curve = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
    return np.asarray(curve(np.arange(0, len(points), 1 / CURVE_STEPS)))


def _flatten(control: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Replace a Bezier curve by points on it, without the first, by de Casteljau's scheme."""
    points = np.array(control)[:, None]  # (degree + 1, 1, 2)
    along = np.linspace(0, 1, CURVE_STEPS + 1)[1:, None]
    while len(points) > 1:
        points = (1 - along) * points[:-1] + along * points[1:]
    return [(x, y) for x, y in points[0].tolist()]
