"""Write figures to files: the same numbers give the same bytes, in every format."""

import io
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from oce2stardist.files.atomic import write_bytes

FORMATS = ("svg", "pdf", "png")

_DPI = 200
"""Of PNGs, and of photographs within the vector formats."""

# Without dates and versions of programs.
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
_SETTINGS: Any = {
    "svg.hashsalt": "oce2stardist",
    "svg.fonttype": "path",  # looks the same where the font is not installed
    "pdf.fonttype": 42,  # text that can be searched and edited
}


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in all `FORMATS`, in their order, each file whole or not at all."""
    paths = [folder / f"{name}.{kind}" for kind in FORMATS]
    for path, kind in zip(paths, FORMATS, strict=True):
        write_bytes(path, encode_figure(figure, kind))
    return paths


def small_png(figure: Figure, *, transparent: bool = False) -> bytes:
    """Draw a figure as a PNG of its own resolution."""
    return encode_figure(figure, "png", dpi=figure.dpi, transparent=transparent)


def encode_figure(
    figure: Figure, kind: str, *, dpi: float = _DPI, transparent: bool = False
) -> bytes:
    """Draw a figure as ``svg``, ``pdf`` or ``png``."""
    options: dict[str, Any] = {"metadata": _METADATA[kind], "transparent": transparent}
    buffer = io.BytesIO()
    with rc_context(_SETTINGS):
        figure.savefig(buffer, format=kind, dpi=dpi, **options)
    return buffer.getvalue()
