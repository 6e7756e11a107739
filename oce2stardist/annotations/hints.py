"""What was said of cells without outlining them, in pixels of their image.

Hints say something only together with pseudo labels: see `oce2stardist.training_labels.hints`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from oce2stardist.annotations.shapes import (
    MAX_SHAPES,
    Bounds,
    ObjectVerdict,
    Outline,
    Reading,
    Role,
    Shape,
    reaches_over,
)
from oce2stardist.errors import InputError

MAX_LENGTH = 10_000_000
"""Of a stroke, pixels: more is no stroke by hand, and costs memory."""

Lines = Iterable[NDArray[np.float64]]


@dataclass(frozen=True)
class Stroke:
    """Pixels, (n, 2), (y, x), of one cell, of background, or of what stays unknown.

    A click is a stroke of one pixel. `what` names it in messages.
    """

    pixels: NDArray[np.int64]
    role: Role
    what: str


@dataclass(frozen=True)
class Box:
    """Rows and columns that a cell fills from edge to edge."""

    window: tuple[slice, slice]
    what: str


@dataclass(frozen=True)
class Hints:
    """What was said of the cells of one image. Verdicts are by the numbers of pseudo objects."""

    strokes: Sequence[Stroke] = ()
    boxes: Sequence[Box] = ()
    verdicts: Mapping[int, ObjectVerdict] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.strokes or self.boxes or self.verdicts)

    @property
    def cells_at(self) -> NDArray[np.int64]:
        """A pixel, (n, 2), (y, x), of each cell that was clicked on."""
        places = [one.pixels[0] for one in self.strokes if one.role == "cell"]
        return np.array(places, np.int64).reshape(-1, 2)


def find_hints(readings: Iterable[tuple[str, Reading]], *, shape: tuple[int, int]) -> Hints:
    """Take the hints out of what files, by their titles, say of one image of (Y, X).

    What was said twice counts once.
    """
    strokes: dict[tuple[Role, bytes], Stroke] = {}
    boxes: dict[Bounds, Box] = {}
    verdicts: dict[int, ObjectVerdict] = {}
    for title, reading in readings:
        if len(reading.marks) > MAX_SHAPES:
            raise InputError(
                f"{title} must hold at most {MAX_SHAPES} marks an image. Got {len(reading.marks)}; "
                "save dense labels as a label image."
            )
        for mark in reading.marks:
            what = f"{mark} of {title}"
            if not all(map(len, mark.lines)):
                raise InputError(f"{what} must have a point. Got none; draw it again.")
            if mark.role == "box":
                bounds = Outline(mark.lines).bounds
                boxes.setdefault(bounds, _to_box(bounds, shape=shape, what=what))
                continue
            stroke = Stroke(_trace(mark.lines, shape=shape, what=what), mark.role, what)
            strokes.setdefault((stroke.role, stroke.pixels.tobytes()), stroke)
        for drawn in reading.shapes:
            if drawn.role == "box":
                bounds = _bounds(drawn)
                boxes.setdefault(bounds, _to_box(bounds, shape=shape, what=f"{drawn} of {title}"))
        for number, verdict in reading.verdicts.items():
            if verdicts.setdefault(number, verdict).word != verdict.word:
                raise InputError(
                    f"verdicts must say one thing of an object. Got {verdicts[number].word} and, "
                    f"in {title}, {verdict.word} for {number}; remove one."
                )
    return Hints(tuple(strokes.values()), tuple(boxes.values()), verdicts)


def _trace(lines: Lines, *, shape: tuple[int, int], what: str) -> NDArray[np.int64]:
    """Find the pixels (n, 2), (y, x), through which lines of (x, y) go, in the order of drawing."""
    traced = []
    for line in lines:
        left, top = line.min(axis=0).tolist()
        right, bottom = line.max(axis=0).tolist()
        reaches_over((left, top, right, bottom), shape=shape, what=what)
        steps = np.diff(line, axis=0)
        # every half pixel, so that none is missed but where a corner is cut
        counts = np.ceil(2 * np.abs(steps).max(axis=1, initial=0)).astype(np.int64).clip(1)
        if counts.sum() > MAX_LENGTH:
            raise InputError(
                f"{what} must be at most {MAX_LENGTH // 2} pixels long. Got {counts.sum() // 2}; "
                "save dense labels as a label image."
            )
        for start, step, count in zip(line, steps, counts, strict=False):
            traced.append(start + step * (np.arange(count) / count)[:, None])
        traced.append(line[-1:])
    pixels = np.floor(np.concatenate(traced)[:, ::-1]).astype(np.int64)
    inside = ((pixels >= 0) & (pixels < shape)).all(axis=1)
    # rounding may carry a click out of its image, see `reaches_over`
    pixels = pixels[inside] if inside.any() else pixels.clip(0, np.array(shape) - 1)
    return pixels[np.sort(np.unique(pixels, axis=0, return_index=True)[1])]


def _bounds(drawn: Shape) -> Bounds:
    """Find the bounds of all parts of a shape."""
    corners = []
    for part in drawn.parts:
        if isinstance(part, Outline):
            corners.append(part.bounds)
            continue
        rows, columns = part.window
        corners.append((columns.start, rows.start, columns.stop, rows.stop))
    sides = np.array(corners, np.float64)
    left, top = sides[:, :2].min(axis=0).tolist()
    right, bottom = sides[:, 2:].max(axis=0).tolist()
    return left, top, right, bottom


def _to_box(bounds: Bounds, *, shape: tuple[int, int], what: str) -> Box:
    reaches_over(bounds, shape=shape, what=what)
    left, top, right, bottom = (round(side) for side in bounds)
    window = (slice(max(0, top), min(shape[0], bottom)), slice(max(0, left), min(shape[1], right)))
    if any(side.stop <= side.start for side in window):
        raise InputError(
            f"{what} must be a box of at least one pixel. Got x, y from {bounds[0]:g}, "
            f"{bounds[1]:g} to {bounds[2]:g}, {bounds[3]:g}; redraw it."
        )
    return Box(window, what)
