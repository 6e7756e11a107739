"""Write one HTML file that needs no other: text, tables and pictures; it runs no script."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from numbers import Number
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import yaml
from jinja2 import Environment, StrictUndefined

from oce2stardist.files.atomic import write_text
from oce2stardist.reports.drawing.pictures import RGB
from oce2stardist.runs.ahead import map_in_threads


@dataclass(frozen=True)
class Part:
    """A piece of what a cell says, in plain text.

    A click opens `href`, a path relative to the page, percent-encoded.
    """

    text: str
    is_bold: bool = False
    href: str | None = None

    def __post_init__(self) -> None:
        """Refuse to lead out of the folders around the page."""
        if self.href is not None and re.match(r"[a-zA-Z][\w+.-]*:|[/\\]", self.href):
            raise ValueError(
                f"href must be a path relative to the page. Got {self.href!r}; leave out what "
                "comes before."
            )


@dataclass(frozen=True)
class Rich:
    """A cell of several parts, one after the other, which stands for a number or not."""

    parts: Sequence[Part]
    is_number: bool = False


Cell = str | int | float | None | Rich

Panel = tuple[str, RGB | bytes]
"""A caption and a picture; or an SVG of a plot, dark on nothing; or a PNG, of such a plot or of
an opaque sheet."""

_RECORDED = ("command", "seed", "versions")

_LARGEST_PNG = 60_000
"""Bytes above which a picture is compressed with loss: noise takes ten times less, unseen."""

_QUALITY = 75
_PIXELS_PER_POINT = 4 / 3  # of CSS


DOCUMENTATION = "https://oce2stardist.readthedocs.io/en/latest"
"""Where the pages of docs/ are published; tests compare it with pyproject.toml."""

Light = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class Step:
    """What to do next: a sentence, and the command to paste if there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Guide:
    """A page of the documentation, and what it is called."""

    page: str
    title: str


@dataclass(frozen=True)
class Verdict:
    """What a reader must know first: what came of it and why, what to do, where it is explained.

    All of it is plain text.
    """

    light: Light
    text: str
    steps: Sequence[Step]
    guide: Guide


@dataclass(frozen=True)
class Section:
    """A part of a page; every text in it is plain text and is escaped.

    Attributes
    ----------
    text : str
        An empty line starts a paragraph.
    table : sequence of rows, optional
        The first row names the columns. Columns of numbers are aligned right; floats get
        three decimals, and None and NaN a dash.
    panels : sequence of (caption, picture)
        Pictures and opaque sheets can be enlarged on the page; plots can't. Plots and sheets
        take a row of their own.
    legends : sequence of (caption, RGB)
        Small pictures that explain the colours of the panels.
    level : {2, 3}
        3 for a part of the section before.
    """

    heading: str
    text: str = ""
    table: Sequence[Sequence[Cell]] | None = None
    panels: Sequence[Panel] = ()
    legends: Sequence[tuple[str, RGB]] = ()
    level: int = 2


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    verdict: Verdict,
    sections: Sequence[Section],
    runs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write a page, whole or not at all; returns its path.

    Title and lead are plain text. Of `runs`, contents of run.yaml by name, command, seed and
    versions stand at the foot of the page, folded.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("oce2stardist.reports.drawing").joinpath("page.html.j2")
    html = environment.from_string(template.read_text(encoding="utf-8")).render(
        title=title,
        lead=lead,
        verdict=verdict,
        documentation=DOCUMENTATION,
        sections=list(map_in_threads(_describe, sections)),  # pictures take long to compress
        runs={name: _record(run) for name, run in (runs or {}).items()},
    )
    write_text(path, html)
    return path


def _describe(section: Section) -> dict[str, Any]:
    """Turn a section into what the template shows."""
    assert section.level in (2, 3), section.level
    header, *rows = section.table or [[]]
    pictures = [picture for _, picture in section.panels if not isinstance(picture, bytes)]
    # Flat pictures in many columns would be too low to see anything in.
    is_flat = any(picture.shape[1] > 1.4 * picture.shape[0] for picture in pictures)
    return {
        "heading": section.heading,
        "level": section.level,
        "paragraphs": [part for part in section.text.split("\n\n") if part.strip()],
        "header": header,
        "rows": [[_parts(cell) for cell in row] for row in rows],
        "numeric": [all(_is_number(row[column]) for row in rows) for column in range(len(header))],
        "columns": max(2, len(pictures) if len(pictures) <= (3 if is_flat else 4) else 2),
        "panels": [
            {"caption": caption, "is_wide": isinstance(picture, bytes), **_embed(picture)}
            for caption, picture in section.panels
        ],
        "legends": [
            {"caption": caption, **_embed(picture)} for caption, picture in section.legends
        ],
    }


def _parts(cell: Cell) -> Sequence[Part]:
    return cell.parts if isinstance(cell, Rich) else [Part(_say(cell))]


def _is_number(cell: Cell) -> bool:
    """Tell whether a cell fits into a column of numbers; a missing one does."""
    return cell.is_number if isinstance(cell, Rich) else isinstance(cell, Number | None)


def _say(cell: str | int | float | None) -> str:
    if cell is None or cell != cell:  # NaN differs from itself
        return "–"
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _embed(picture: RGB | bytes) -> dict[str, Any]:
    """Encode a picture into the page; also its size, so that nothing jumps while it loads."""
    is_vector = isinstance(picture, bytes) and picture.lstrip().startswith(b"<")
    if isinstance(picture, bytes) and is_vector:
        # As an image it can neither run a script nor fetch anything.
        encoded, kind, is_plot = picture, "svg+xml", True
        _, _, *size = map(float, ElementTree.fromstring(picture).attrib["viewBox"].split())
        width, height = (round(side * _PIXELS_PER_POINT) for side in size)
    elif isinstance(picture, bytes):
        pixels = imagecodecs.png_decode(picture)
        height, width = pixels.shape[:2]
        is_plot = pixels.shape[-1] == 4 and bool((pixels[..., 3] < 255).any())
        encoded, kind = (picture, "png") if is_plot else _compress(pixels[..., :3])
    else:
        assert picture.dtype == np.uint8 and picture.ndim == 3, (picture.dtype, picture.shape)
        height, width = picture.shape[:2]
        is_plot = False
        encoded, kind = _compress(picture)
    return {
        "source": f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}",
        "width": width,
        "height": height,
        "is_plot": is_plot,
        "is_vector": is_vector,
    }


def _compress(picture: RGB) -> tuple[bytes, str]:
    """Encode without loss what stays small that way, the rest as JPEG at full colour."""
    is_grey = (picture == picture[..., :1]).all()
    shown = np.ascontiguousarray(picture[..., 0] if is_grey else picture)
    png = bytes(imagecodecs.png_encode(shown, level=7))
    if len(png) <= _LARGEST_PNG:
        return png, "png"
    # Halved colour, as is usual, would wash out outlines one pixel wide.
    subsampling = None if is_grey else "444"
    return bytes(imagecodecs.jpeg8_encode(shown, level=_QUALITY, subsampling=subsampling)), "jpeg"


def _record(run: Mapping[str, Any]) -> str:
    kept = {key: run[key] for key in _RECORDED if key in run}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).strip()
