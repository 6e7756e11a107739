"""What every format is read into: shapes and marks in pixel coordinates, with role and name.

Coordinates are (x, y) with integers at the corners of pixels: the pixel in column 0 and row 0
reaches from (0, 0) to (1, 1) and has its centre at (0.5, 0.5).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError, name_some

Role = Literal["cell", "background", "unknown", "box"]
Bounds = tuple[float, float, float, float]  # left, top, right, bottom

TOLERANCE = 1.0  # pixels by which rounding may carry a shape out of its image, without a word
MAX_SHAPES = 100_000  # of one image: more is no drawing by hand, and costs memory
NO_PIXEL = "holds no pixel centre"
ANOTHER = "is it another image's, or at another scale?"

_BACKGROUND = re.compile(r"background(?![^\W\d_])", re.IGNORECASE)  # not "backgrounded"
_BOX = re.compile(r"b?box(?![^\W\d_])", re.IGNORECASE)
_IGNORED = re.compile(r"ignored?(?![^\W\d_])|.*\*$", re.IGNORECASE)


@dataclass(frozen=True)
class Outline:
    """One or more closed rings, filled together by the even-odd rule.

    ``rings`` are float64 arrays of shape (points, 2), (x, y); whether the first point is
    repeated at the end makes no difference.
    """

    rings: tuple[NDArray[np.float64], ...]

    @property
    def bounds(self) -> Bounds:
        points = np.concatenate(self.rings)
        left, top = points.min(axis=0).tolist()
        right, bottom = points.max(axis=0).tolist()
        return left, top, right, bottom


@dataclass(frozen=True)
class Patch:
    """Pixels: a boolean mask of shape (Y, X) and the row and column where it begins.

    ``is_cut`` tells whether the shape reached over the border of its image.
    """

    top: int
    left: int
    mask: NDArray[np.bool_]
    is_cut: bool = False

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class Shape:
    """What somebody drew: the union of its parts.

    ``name`` is the tool's name or id, "" where it gave none; ``number`` is the place in the
    file, from 1. ``may_be_region``: the tool draws regions, in which it looks for cells, so.
    """

    parts: tuple[Outline | Patch, ...]
    role: Role
    name: str
    number: int
    may_be_region: bool = False

    def __str__(self) -> str:
        return f"shape {self.number} ({self.name})" if self.name else f"shape {self.number}"


@dataclass(frozen=True)
class Mark:
    """A click on a cell, or a stroke through it: it has no outline.

    ``lines`` are float64 arrays of shape (points, 2), (x, y): one of one point for a click.
    """

    lines: tuple[NDArray[np.float64], ...]
    role: Role
    name: str
    number: int

    def __str__(self) -> str:
        return f"mark {self.number} ({self.name})" if self.name else f"mark {self.number}"


Word = Literal["right", "wrong", "background"]
"""Of a verdict on a pseudo object: it is a cell; it is none as it stands; nothing there is."""


@dataclass(frozen=True)
class ObjectVerdict:
    """What was said of a pseudo object, and the centroid (y, x) that it had then, if known."""

    word: Word
    centroid: tuple[float, float] | None = None


@dataclass(frozen=True)
class Reading:
    """What a file says of one image, in the order of the file, and notes for the user.

    Verdicts are by the number of the object in the label image of the pseudo labels.
    """

    shapes: list[Shape]
    notes: list[str]
    marks: Sequence[Mark] = ()
    verdicts: Mapping[int, ObjectVerdict] = field(default_factory=dict)


class Skipped:
    """Collects the shapes that are left out, by reason, and words one note for each."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, name: str, *, reason: str) -> None:
        self._names.setdefault(reason, []).append(name)

    def notes(self, file: str) -> list[str]:
        return [
            f"{file}: left out {count(len(names), 'shape')} ({name_some(names)}): {reason}"
            for reason, names in self._names.items()
        ]


def role_of(name: str) -> Role:
    """Tell from a class, a category or a name what a shape marks.

    ``background``, also with a number as in ``background-2``, marks known background;
    ``ignore``, likewise, and every name ending in ``*`` (in QuPath: a class to be ignored)
    mark what stays unknown; ``box`` and ``bbox``, likewise, are a box around a cell; everything
    else is a cell. Case makes no difference.
    """
    if _IGNORED.match(name.strip()):
        return "unknown"
    if _BOX.match(name.strip()):
        return "box"
    return "background" if _BACKGROUND.match(name.strip()) else "cell"


def reaches_over(bounds: Bounds, *, shape: tuple[int, int], what: str) -> bool:
    """Tell whether a shape reaches over the border of its image (Y, X), where it is to be cut.

    One is refused that lies outside, reaches further out than the image is large, or has a
    coordinate that is not finite.
    """
    if not np.all(np.isfinite(bounds)):
        got = ", ".join(f"{value:g}" for value in bounds)
        raise InputError(f"{what} must have finite coordinates. Got {got}; redraw it.")
    left, top, right, bottom = bounds
    height, width = shape
    over = max(-left, -top, right - width, bottom - height)
    is_outside = left > width or top > height or right < 0 or bottom < 0
    if over > max(shape) or (is_outside and over > TOLERANCE):
        raise InputError(
            f"{what} must lie inside its image of {width} x {height} pixels. Got x, y from "
            f"{left:g}, {top:g} to {right:g}, {bottom:g}; {ANOTHER}"
        )
    return over > TOLERANCE


def count(number: int, noun: str) -> str:
    """Word a count: ``1 cell``, ``2 cells``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
