"""Draw figures of images, embeddings and labels: a row for each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from oce2stardist.labels import BACKGROUND, resize_labels
from oce2stardist.reports.drawing.pictures import (
    RGB,
    picture_of_image,
    picture_of_labels,
    picture_of_offsets,
    picture_of_spread,
    shrink_image,
    shrink_labels,
)
from oce2stardist.reports.drawing.series import plain

_PANEL = 2.1  # inches
_TALLEST = 1.3  # heights of taller panels are cut to so many widths
_GAP, _HEADER, _CAPTION = 0.12, 0.26, 0.3  # inches
_LETTERS = 62  # of a title, so that it and the scores fit above three panels
_LARGEST = 460
"""Pixels a side of every picture: what a panel shows in print, with outlines two pixels wide."""


@dataclass(frozen=True)
class ScoredImage:
    """One image (Y, X, C) with the labels found, the true ones, and how well they agree.

    `title` stands above its pictures, before the scores, which are NaN where there are none.
    `offsets` (2, y, x) are the embeddings, pixels at working scale, which may be another than
    that of the image.
    """

    title: str
    image: NDArray[Any]
    labels: NDArray[np.int32]
    truth: NDArray[np.int32]
    f1: float
    seg: float
    offsets: NDArray[np.floating] | None = None

    @property
    def caption(self) -> str:
        """The title, cut where it is very long, and the scores."""
        scores = (("F1", self.f1), ("SEG", self.seg))
        said = (
            f"{name} {score:.3f}" if np.isfinite(score) else f"{name} –" for name, score in scores
        )
        is_long = len(self.title) > _LETTERS
        title = f"{self.title[: _LETTERS - 1]}…" if is_long else self.title
        return "   ".join([title, *said])


def strip_figure(
    image: NDArray[Any],
    offsets: NDArray[np.floating],
    spread: NDArray[np.floating],
    labels: NDArray[np.int32],
    steps: tuple[NDArray[np.bool_], NDArray[np.int32]] | None,
) -> Figure:
    """Show how an image (Y, X, C) becomes labels (Y, X), step by step, in one row.

    Offsets (2, y, x) and spread (y, x) are pixels at working scale; `steps`, which may be
    missing, are foreground and clusters (y, x).
    """
    inside = resize_labels(labels, spread.shape) > BACKGROUND if steps is None else steps[0]
    panels = [
        ("Image", _draw_image(image)),
        ("Embeddings", picture_of_offsets(offsets, inside, at_most=_LARGEST)),
        ("Spread under noise", picture_of_spread(spread, at_most=_LARGEST)),
    ]
    if steps is not None:
        white = np.where(shrink_labels(inside, _LARGEST), 255, 40).astype(np.uint8)
        clusters = resize_labels(steps[1], image.shape[:2])
        panels.append(("Foreground", np.repeat(white[..., None], 3, axis=-1)))
        panels.append(("Clusters", _draw_labels(image, clusters)))
    panels.append(("Labels", _draw_labels(image, labels)))
    numbered = [f"{at}  {name}" for at, (name, _) in enumerate(panels, start=1)]
    return _draw_table(numbered, [("", [picture for _, picture in panels])])


def scored_figure(rows: Sequence[ScoredImage]) -> Figure:
    """Show a row for each image: the image, embeddings if there are any, labels and truth.

    There must be a row, and labels of the shape of their image; else ValueError.
    """
    _check(rows)
    with_embeddings = any(row.offsets is not None for row in rows)
    headers = ["Image", *["Embeddings"] * with_embeddings, "Labels", "Truth"]
    drawn = []
    for row in rows:
        pictures: list[RGB | None] = [_draw_image(row.image)]
        pictures += [_draw_offsets(row)] * with_embeddings
        pictures += [_draw_labels(row.image, row.labels), _draw_labels(row.image, row.truth)]
        drawn.append((row.caption, pictures))
    return _draw_table(headers, drawn)


def _check(rows: Sequence[ScoredImage]) -> None:
    if not rows:
        raise ValueError("rows must hold at least one image. Got none; finish a run first.")
    for row in rows:
        for labels in (row.labels, row.truth):
            if labels.shape != row.image.shape[:2]:
                raise ValueError(
                    f"labels must have the shape of their image. Got {labels.shape} and "
                    f"{row.image.shape[:2]} for {row.title}; score at the scale of the image."
                )


def _draw_image(image: NDArray[Any]) -> RGB:
    return picture_of_image(shrink_image(image, _LARGEST))


def _draw_labels(image: NDArray[Any], labels: NDArray[np.integer]) -> RGB:
    return picture_of_labels(shrink_image(image, _LARGEST), shrink_labels(labels, _LARGEST))


def _draw_offsets(row: ScoredImage) -> RGB | None:
    if row.offsets is None:
        return None
    inside = resize_labels(row.labels, row.offsets.shape[1:]) > BACKGROUND
    return picture_of_offsets(row.offsets, inside, at_most=_LARGEST)


def _draw_table(headers: Sequence[str], rows: Sequence[tuple[str, Sequence[RGB | None]]]) -> Figure:
    """Draw rows of pictures of one width, each row under its caption if it has one."""
    tall = [_height(pictures) for _, pictures in rows]
    above = [_CAPTION * bool(caption) for caption, _ in rows]
    width = len(headers) * (_PANEL + _GAP) + _GAP
    height = _HEADER + sum(tall) + sum(above) + _GAP * (len(rows) + 1)
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    for column, name in enumerate(headers):
        left = _GAP + column * (_PANEL + _GAP)
        _write(figure, name, left, height - 0.08, weight="bold")
    top = height - _HEADER - _GAP / 2
    for (caption, pictures), own, space in zip(rows, tall, above, strict=True):
        if caption:
            _write(figure, caption, _GAP, top - 0.06)
        bottom = top - space - own
        for column, picture in enumerate(pictures):
            left = _GAP + column * (_PANEL + _GAP)
            _place(figure, picture, (left, bottom, _PANEL, own))
        top = bottom - _GAP
    return figure


def _height(pictures: Sequence[RGB | None]) -> float:
    """Find the height, inches, of pictures of one shape; a very tall one is made narrower."""
    first = next(picture for picture in pictures if picture is not None)
    return _PANEL * min(first.shape[0] / first.shape[1], _TALLEST)


def _write(figure: Figure, text: str, left: float, top: float, *, weight: str = "normal") -> None:
    width, height = figure.get_size_inches()
    figure.text(
        left / width, top / height, plain(text), fontsize=9, weight=weight,
        verticalalignment="top",
    )  # fmt: skip


def _place(figure: Figure, picture: RGB | None, place: tuple[float, float, float, float]) -> None:
    """Show a picture in (left, bottom, width, height), inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, tall = place
    axes = figure.add_axes((left / width, bottom / height, wide / width, tall / height))
    axes.set_axis_off()
    if picture is None:
        axes.text(0.5, 0.5, "not kept", ha="center", va="center", fontsize=9, color="#5a6067")
        return
    axes.imshow(picture)
    axes.set_anchor("NW")
