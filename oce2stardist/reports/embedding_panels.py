"""Draw what the embeddings learned: arrows, and their spread under noise."""

import numpy as np
from numpy.typing import NDArray

from oce2stardist.labels import BACKGROUND, Labels, resize_labels
from oce2stardist.reports.drawing.pictures import (
    LARGEST_SIDE,
    RGB,
    colour_bar,
    colour_wheel,
    picture_of_offsets,
    picture_of_spread,
)

ABOUT_EMBEDDINGS = (
    "The network has seen images only, no outlines. At every pixel it predicts an arrow, and it "
    "learned to let the arrows of one cell end at one point. Where that worked, every cell shows "
    "all colours of the square below around a dark middle, where arrows are short.\n\n"
    "To tell cells from background, each image is predicted several times with a little noise "
    "added. Inside cells the arrows hardly change; in the background they scatter."
)


def embedding_panels(
    offsets: NDArray[np.float32],
    spread: NDArray[np.float32],
    labels: Labels,
    limits: tuple[float, float],
    *,
    at_most: int = LARGEST_SIDE,
) -> list[tuple[str, RGB]]:
    """Draw offsets (2, Y, X) and spread (Y, X), pixels at working scale, with their captions.

    Arrows outside the pseudo labels, at the original scale, are dimmed. `limits` are the spread
    shown darkest and brightest, `at_most` is the largest side of the pictures, in pixels.
    """
    foreground = resize_labels(labels, spread.shape) > BACKGROUND
    return [
        ("Embeddings", picture_of_offsets(offsets, foreground, at_most=at_most)),
        ("Spread under noise", picture_of_spread(spread, limits, at_most=at_most)),
    ]


def embedding_legends(limits: tuple[float, float]) -> list[tuple[str, RGB]]:
    """Explain the colours of `embedding_panels`."""
    low, high = limits
    return [
        (
            "Embeddings: colour is the direction of the arrow, brightness its length. "
            "Outside the pseudo labels they are dimmed.",
            colour_wheel(),
        ),
        (
            f"Spread: from {low:.2g} px (dark: cells) to {high:.2g} px (yellow: background), "
            "on a logarithmic scale.",
            colour_bar(),
        ),
    ]
