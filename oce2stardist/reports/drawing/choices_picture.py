"""Draw a contact sheet of settings: outlines under the value chosen, and under others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from oce2stardist.reports.drawing.figure_files import small_png
from oce2stardist.reports.drawing.pictures import picture_of_labels
from oce2stardist.reports.drawing.series import plain

_PANEL = 1.9  # inches; at _DPI this shows a window of a few cells without loss
_DPI = 110
_CAPTION, _TITLE = 0.36, 0.3  # inches above each panel, and above each row
_GAP = 0.12
_FINEST = 280  # pixels to which small windows are enlarged, so that outlines are thin
_FRAME = "#D55E00"


@dataclass(frozen=True)
class ChoicePanel:
    """One value of a setting, as it is written, and the labels (Y, X) that come out under it.

    `chosen` is the value that the run took; `score` is there where values were compared.
    """

    value: str
    labels: NDArray[np.integer]
    chosen: bool = False
    score: float | None = None

    @property
    def caption(self) -> str:
        """Value, score, and whether it was chosen, on up to two lines."""
        below = [] if self.score is None else [f"score {self.score:.3f}"]
        below += ["chosen"] * self.chosen
        return "\n".join(filter(None, [self.value, ", ".join(below)]))


@dataclass(frozen=True)
class ChoiceRow:
    """One setting, with the image (Y, X, C) that lies under the outlines of every panel."""

    setting: str
    image: NDArray[Any]
    panels: Sequence[ChoicePanel]


def choices_picture(rows: Sequence[ChoiceRow]) -> bytes:
    """Draw one row of small pictures for each setting, the chosen value framed, as a PNG.

    There must be a row, each with a panel, and labels of the shape of their image; else
    ValueError. Colours of outlines only tell neighbours apart.
    """
    _check(rows)
    width = max(len(row.panels) for row in rows) * (_PANEL + _GAP) + _GAP
    heights = [_TITLE + _CAPTION + _panel_height(row) + _GAP for row in rows]
    top = sum(heights)
    figure = Figure(figsize=(width, top), dpi=_DPI, facecolor="white")
    for row, height in zip(rows, heights, strict=True):
        _draw_row(figure, row, top)
        top -= height
    return small_png(figure)


def _check(rows: Sequence[ChoiceRow]) -> None:
    if not rows or not all(row.panels for row in rows):
        counts = [len(row.panels) for row in rows]
        raise ValueError(f"rows must each hold a panel. Got rows of {counts} panels.")
    for row in rows:
        for panel in row.panels:
            if panel.labels.shape != row.image.shape[:2]:
                raise ValueError(
                    f"labels must have the shape of their image. Got {panel.labels.shape} and "
                    f"{row.image.shape[:2]} for {row.setting} {panel.value}."
                )


def _panel_height(row: ChoiceRow) -> float:
    return _PANEL * row.image.shape[0] / row.image.shape[1]


def _draw_row(figure: Figure, row: ChoiceRow, top: float) -> None:
    """Draw a row whose upper edge lies `top` inches above the foot of the figure."""
    width, height = figure.get_size_inches()
    tall = _panel_height(row)
    bottom = top - _TITLE - _CAPTION - tall
    figure.text(
        _GAP / width, (top - _GAP / 2) / height, plain(row.setting), fontsize=10, weight="bold",
        verticalalignment="top",
    )  # fmt: skip
    for column, panel in enumerate(row.panels):
        left = _GAP + column * (_PANEL + _GAP)
        axes = figure.add_axes((left / width, bottom / height, _PANEL / width, tall / height))
        _draw_panel(axes, row.image, panel)


def _draw_panel(axes: Axes, image: NDArray[Any], panel: ChoicePanel) -> None:
    times = max(1, _FINEST // max(image.shape[:2]))
    larger = image.repeat(times, axis=0).repeat(times, axis=1)
    axes.imshow(picture_of_labels(larger, panel.labels.repeat(times, 0).repeat(times, 1)))
    axes.set(xticks=[], yticks=[])
    axes.set_title(
        plain(panel.caption), loc="left", fontsize=8.5, linespacing=1.15, pad=4,
        weight="bold" if panel.chosen else "normal",
    )  # fmt: skip
    for spine in axes.spines.values():
        spine.set(visible=panel.chosen, color=_FRAME, linewidth=3.5)
