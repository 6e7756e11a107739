"""Draw a contact sheet of the regions to annotate next: what model and pseudo labels say."""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import find_contours

from oce2stardist.labels import BACKGROUND

_COLUMNS = 5
_PANEL = 2.5  # inches
_DPI = 110
_GAP, _CAPTION, _LEGEND = 0.14, 0.76, 0.42  # inches: around panels, above them, at the foot
_LETTERS = 40  # of a caption's line
_GAMMA = 0.6

# Okabe and Ito; each goes with a line of its own, so that colour is not needed to tell them.
_STYLES: dict[str, dict[str, Any]] = {
    "model": {"color": "#56B4E9", "linestyle": "-", "linewidth": 1.5},
    "nearly": {"color": "#F0E442", "linestyle": (0, (1, 1.3)), "linewidth": 1.5},
    "pseudo": {"color": "#E69F00", "linestyle": (0, (4, 2.5)), "linewidth": 1.3},
}
_NAMES = {
    "model": "found by the model",
    "nearly": "nearly found by the model",
    "pseudo": "pseudo label",
}
_ANNOTATED: dict[str, Any] = dict(facecolor="#CC79A7", alpha=0.55, hatch="///", edgecolor="white")


@dataclass(frozen=True)
class SuggestionPanel:
    """One region, with a margin around it; labels are integer arrays of shape (Y, X)."""

    title: str
    reason: str
    image: NDArray[Any]
    """(Y, X, C), normalised: 0 is black, 1 white."""
    window: tuple[int, int, int, int]
    """The region, y0, x0, y1, x1 in pixels of `image`."""
    model: NDArray[np.integer] | None = None
    nearly: NDArray[np.integer] | None = None
    pseudo: NDArray[np.integer] | None = None
    annotations: NDArray[np.integer] | None = None


def suggestion_picture(panels: Sequence[SuggestionPanel]) -> bytes:
    """Draw at least one region with the outlines that both sides give its cells; returns a PNG."""
    _check(panels)
    columns = min(_COLUMNS, max(3, len(panels)))  # the legend needs the width of three
    rows = math.ceil(len(panels) / columns)
    width = columns * (_PANEL + _GAP) + _GAP
    height = rows * (_CAPTION + _PANEL + _GAP) + _LEGEND
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for at, panel in enumerate(panels):
        row, column = divmod(at, columns)
        left = _GAP + column * (_PANEL + _GAP)
        bottom = height - (row + 1) * (_CAPTION + _PANEL + _GAP) + _GAP
        box = (left / width, bottom / height, _PANEL / width, _PANEL / height)
        _draw_panel(figure.add_axes(box), panel)
    _draw_legend(figure, panels)
    buffer = io.BytesIO()
    # Without the program's version, the same numbers give the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def outlines(labels: NDArray[np.integer]) -> list[NDArray[np.float64]]:
    """Trace the objects of labels (Y, X): closed lines of (x, y) between pixel centres."""
    lines = []
    inside = np.maximum(labels, BACKGROUND)
    numbers = np.unique(inside, return_inverse=True)[1].reshape(inside.shape)
    for number, place in enumerate(ndi.find_objects(numbers), start=1):
        if place is None:
            continue
        # Padded, so that lines close where the picture cuts an object.
        own = np.pad(numbers[place] == number, 1).astype(float)
        start = np.array([side.start - 1 for side in place])
        lines += [(line + start)[:, ::-1] for line in find_contours(own, 0.5)]
    return lines


def _check(panels: Sequence[SuggestionPanel]) -> None:
    if not panels:
        raise ValueError("panels must hold at least one region. Got none.")
    for panel in panels:
        for name in (*_STYLES, "annotations"):
            labels = getattr(panel, name)
            if labels is not None and labels.shape != panel.image.shape[:2]:
                raise ValueError(
                    f"labels must have the shape of their image. Got {labels.shape} ({name}) and "
                    f"{panel.image.shape[:2]} for {panel.title}."
                )


def _draw_panel(axes: Axes, panel: SuggestionPanel) -> None:
    axes.imshow(_shown(panel.image), vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    if panel.annotations is not None and (panel.annotations > BACKGROUND).any():
        for line in outlines(panel.annotations):
            axes.fill(*line.T, **_ANNOTATED)
    for name, style in _STYLES.items():
        labels = getattr(panel, name)
        if labels is not None:
            axes.add_collection(LineCollection(outlines(labels), **style))
    y0, x0, y1, x1 = panel.window
    frame = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec="white", lw=2)
    axes.add_patch(frame)
    height, width = panel.image.shape[:2]
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), anchor="NW")
    axes.axis("off")
    title = textwrap.shorten(panel.title, _LETTERS - 6, placeholder=" …")
    reason = textwrap.wrap(panel.reason, _LETTERS, max_lines=3, placeholder=" …")
    for text, above, weight in ((title, 39, "bold"), ("\n".join(reason), 36, "normal")):
        axes.annotate(
            _plain(text),
            (0, 1),
            (0, above),
            "axes fraction",
            "offset points",
            fontsize=8.5,
            weight=weight,
            verticalalignment="bottom" if weight == "bold" else "top",
        )


def _draw_legend(figure: Figure, panels: Sequence[SuggestionPanel]) -> None:
    """Explain the lines that occur, on a dark ground like that of the images."""
    handles: list[Any] = [Patch(fill=False, edgecolor="white", linewidth=2, label="suggested")]
    for name, style in _STYLES.items():
        if any(getattr(panel, name) is not None for panel in panels):
            handles.append(Line2D([], [], label=_NAMES[name], **style))
    if any(panel.annotations is not None and (panel.annotations > 0).any() for panel in panels):
        handles.append(Patch(label="annotated", **_ANNOTATED))
    legend = figure.legend(
        handles=handles, loc="lower left", ncols=len(handles), fontsize=9, handlelength=2.6,
        facecolor="#303030", edgecolor="none", labelcolor="white", framealpha=1,
    )  # fmt: skip
    legend.set_in_layout(False)


def _shown(image: NDArray[Any]) -> NDArray[np.float32]:
    """Make grey (Y, X) of one or two channels, else RGB; dark crops are brightened."""
    shown = np.clip(image[..., :3] if image.shape[-1] >= 3 else image[..., 0], 0, 1)
    return np.asarray(shown**_GAMMA if np.median(shown) < 0.25 else shown, np.float32)


def _plain(text: str) -> str:
    """Keep matplotlib from reading a dollar sign as mathematics."""
    return text.replace("$", r"\$")
