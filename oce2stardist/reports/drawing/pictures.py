"""Draw arrays as pictures: uint8 RGB of shape (Y, X, 3), none larger than a page needs.

Colours that carry meaning are those of Okabe and Ito, which people with any kind of
colour vision tell apart, and never carry it alone: fill or hatching goes with them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from oce2stardist.evaluation.scores import overlap_matrix
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import BACKGROUND, UNLABELLED, remove_objects
from oce2stardist.objects.overlay import draw_image, draw_overlay, find_outlines

RGB = NDArray[np.uint8]  # (Y, X, 3)

LARGEST_SIDE = 700
"""Pixels; larger arrays are shrunk."""

_GAMMA = 0.6
_ORANGE, _SKY, _BLUE = (230, 159, 0), (86, 180, 233), (0, 114, 178)
_VERMILLION, _YELLOW, _WHITE = (213, 94, 0), (240, 228, 66), (255, 255, 255)

# Bright throughout, unlike cividis, whose lower end can't be seen on dark images.
CONFIDENCE = LinearSegmentedColormap.from_list(
    "confidence", np.array([_VERMILLION, _YELLOW, _SKY]) / 255
)

UNSURE = 0.5
"""Objects of a confidence below this are hatched."""


def shrink_image(array: NDArray[Any], at_most: int = LARGEST_SIDE) -> NDArray[np.float32]:
    """Average blocks of pixels so that no side of (Y, X) or (Y, X, C) is above `at_most`."""
    shrunk = array.astype(np.float32)
    for axis, starts in enumerate(_block_starts(array.shape, at_most)):
        size = array.shape[axis]
        if len(starts) < size:
            blocks = np.diff(starts, append=size)
            shrunk = np.add.reduceat(shrunk, starts, axis=axis)
            shrunk /= blocks.reshape([-1 if axis == i else 1 for i in range(array.ndim)])
    return shrunk


def shrink_labels(labels: NDArray[Any], at_most: int = LARGEST_SIDE) -> NDArray[Any]:
    """Take the middle pixel of each block that `shrink_image` averages."""
    blocks = zip(_block_starts(labels.shape, at_most), labels.shape, strict=True)
    middles = [(starts + np.append(starts[1:], size) - 1) // 2 for starts, size in blocks]
    return labels[np.ix_(*middles)]


def picture_of_image(image: NDArray[Any]) -> RGB:
    """Draw an image (Y, X, C): grey, or its first three channels as red, green and blue.

    Images that are mostly dark are brightened: one dividing nucleus would otherwise leave
    the others all but black.
    """
    return draw_image(_brighten(shrink_image(image)))


def picture_of_labels(image: NDArray[Any], labels: NDArray[np.integer]) -> RGB:
    """Outline objects (Y, X) over the image (Y, X, C); colours only tell neighbours apart."""
    small = shrink_labels(labels)
    return draw_overlay(_brighten(shrink_image(image)), small, thickness=_thickness(small.shape))


def picture_of_confidence(
    image: NDArray[Any], labels: NDArray[np.integer], confidence: NDArray[np.floating]
) -> RGB:
    """Outline objects (Y, X) over the image (Y, X, C) in the colour of their confidence.

    `confidence`, of shape (largest label + 1,), is by label, in [0, 1]; that of 0 is not used.
    0 is vermillion, 0.5 yellow, 1 sky blue. Objects below `UNSURE` are hatched, too.
    """
    small = np.maximum(shrink_labels(labels), BACKGROUND)
    colours = 255 * CONFIDENCE(np.clip(confidence, 0, 1))[:, :3]  # (labels, 3)
    thickness = _thickness(small.shape)
    canvas = picture_of_image(image).astype(np.float32)
    unsure = (small > BACKGROUND) & (confidence[small] < UNSURE)
    drawn = find_outlines(small, thickness=thickness)
    drawn |= unsure & _hatching(small.shape, thickness)
    canvas[drawn] = colours[small[drawn]]
    return _to_bytes(canvas)


def picture_of_offsets(
    offsets: NDArray[Any],
    foreground: NDArray[np.bool_] | None = None,
    *,
    at_most: int = LARGEST_SIDE,
) -> RGB:
    """Draw offsets (2, Y, X), (y, x) in pixels: hue is their direction, brightness their length.

    Only differences between offsets mean anything: they are centred on their median in the
    foreground (Y, X), outside of which they are dimmed. Full brightness is the 95th percentile
    of the lengths in the foreground. Opposite directions have colours that differ in yellow
    against blue or in lightness, whichever cones work. Larger arrays are shrunk to `at_most`
    pixels a side.
    """
    if foreground is None or not foreground.any():
        foreground = np.ones(offsets.shape[1:], bool)
    centred = offsets - np.median(offsets[:, foreground], axis=1)[:, None, None]
    unit = np.percentile(np.hypot(*centred[:, foreground]), 95)
    small = shrink_image(np.moveaxis(centred, 0, -1), at_most) / max(float(unit), 1e-6)
    colours = _colours_of_directions(small)  # (Y, X, 3)
    dimmed = np.where(shrink_labels(foreground, at_most)[..., None], colours, 0.35 * colours)
    return np.rint(dimmed).astype(np.uint8)


def picture_of_spread(
    spread: NDArray[Any],
    limits: tuple[float, float] | None = None,
    *,
    at_most: int = LARGEST_SIDE,
) -> RGB:
    """Draw the spread (Y, X) on a logarithmic scale, from dark blue to yellow.

    `limits` are the values, in pixels, of the two ends; default: `spread_limits`.
    Larger arrays are shrunk to `at_most` pixels a side.
    """
    low, high = np.log(limits or spread_limits([spread]))
    above_low = np.log(np.maximum(shrink_image(spread, at_most), np.exp(low))) - low
    level = above_low / max(high - low, 1e-6)
    coloured: RGB = colormaps["viridis"](level, bytes=True)[..., :3]
    return coloured


def spread_limits(spreads: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Find the 1st and 99th percentile of the positive values of all maps, pixels."""
    pooled = np.concatenate(
        [(shrink_image(spread) if spread.ndim == 2 else spread).ravel() for spread in spreads]
    )
    positive = pooled[pooled > 0]
    if positive.size == 0:
        return 1.0, 1.0
    low, high = np.percentile(positive, (1, 99))
    return float(low), float(high)


def picture_of_training_labels(
    image: NDArray[Any],
    labels: NDArray[np.integer],
    held_back: NDArray[np.integer] | None = None,
) -> RGB:
    """Show what a network may learn from, over the image (Y, X, C) in grey.

    Cells of `labels` (Y, X) are outlined in orange, background is tinted blue, -1 is dark and
    hatched. The cells of `held_back` (Y, X), kept from training, are filled white.
    """
    small = shrink_labels(labels)
    thickness = _thickness(small.shape)
    canvas = _grey(image)
    unknown = small == UNLABELLED
    canvas[unknown] *= 0.35
    _blend(canvas, unknown & _hatching(small.shape, thickness), (110, 110, 110), 0.8)
    _blend(canvas, small == BACKGROUND, _BLUE, 0.45)
    canvas[find_outlines(small, thickness=thickness)] = _ORANGE
    if held_back is not None:
        judges = shrink_labels(held_back)
        _blend(canvas, judges > BACKGROUND, _WHITE, 0.55)
        canvas[find_outlines(judges, thickness=thickness)] = _WHITE
    return _to_bytes(canvas)


def picture_of_errors(
    image: NDArray[Any], predicted: NDArray[np.integer], truth: NDArray[np.integer]
) -> RGB:
    """Show which objects (Y, X) were found, missed, and not there, over the image (Y, X, C).

    Predicted objects that match a true one (IoU of 0.5 or more, one to one) are outlined in sky
    blue, missed true ones filled with vermillion, and predicted ones without a match hatched in
    yellow. As in `oce2stardist.evaluation.scores.score_sparse`, an unmatched prediction that
    lies mostly on unlabelled pixels of `truth` is no error; it is not drawn.
    """
    matched, missed, extra = (shrink_labels(part) for part in _sort_objects(predicted, truth))
    thickness = _thickness(missed.shape)
    canvas = 0.7 * _grey(image)
    _blend(canvas, missed > BACKGROUND, _VERMILLION, 0.6)
    canvas[find_outlines(missed, thickness=thickness)] = _VERMILLION
    _blend(canvas, (extra > BACKGROUND) & _hatching(extra.shape, thickness), _YELLOW, 0.8)
    canvas[find_outlines(extra, thickness=thickness)] = _YELLOW
    canvas[find_outlines(matched, thickness=thickness)] = _SKY
    return _to_bytes(canvas)


def colour_wheel(side: int = 72) -> RGB:
    """Draw the legend of `picture_of_offsets`: each place has the colour of its direction."""
    steps = np.linspace(-1, 1, side, dtype=np.float32)
    arrows = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1)
    return np.rint(_colours_of_directions(arrows)).astype(np.uint8)


def colour_bar(width: int = 160, height: int = 24) -> RGB:
    """Draw the legend of `picture_of_spread`, lowest value left."""
    return picture_of_spread(np.tile(np.geomspace(1, 100, width), (height, 1)), (1, 100))


def confidence_bar(width: int = 160, height: int = 24) -> RGB:
    """Draw the colours of `picture_of_confidence`, 0 left and 1 right."""
    coloured: RGB = CONFIDENCE(np.linspace(0, 1, width), bytes=True)[:, :3]
    return np.tile(coloured, (height, 1, 1))


def _block_starts(shape: tuple[int, ...], at_most: int) -> list[NDArray[np.int64]]:
    """Divide both sides of (Y, X, ...) into blocks of nearly one size; returns their starts."""
    factor = max(1.0, max(shape[:2]) / at_most)
    counts = [max(1, round(size / factor)) for size in shape[:2]]
    return [
        np.arange(count, dtype=np.int64) * size // count
        for count, size in zip(counts, shape[:2], strict=True)
    ]


def _brighten(image: NDArray[np.float32]) -> NDArray[np.float32]:
    shown = np.clip(normalise_percentiles(image), 0, 1)
    return shown**_GAMMA if np.median(shown) < 0.25 else shown


def _thickness(shape: tuple[int, ...]) -> int:
    """Choose a line that can be seen when the whole picture is a few centimetres wide."""
    return max(1, round(max(shape) / 300))


def _hatching(shape: tuple[int, ...], thickness: int) -> NDArray[np.bool_]:
    """Draw diagonal lines."""
    rows, columns = np.indices(shape)
    return np.asarray((rows + columns) % (5 * thickness) < thickness)


def _grey(image: NDArray[Any]) -> NDArray[np.float32]:
    grey = picture_of_image(image).mean(axis=-1, keepdims=True, dtype=np.float32)
    return np.repeat(grey, 3, axis=-1)


def _blend(
    canvas: NDArray[np.float32], part: NDArray[np.bool_], colour: tuple[int, int, int], share: float
) -> None:
    """Mix a share of a colour into a part of the canvas, in place."""
    canvas[part] = (1 - share) * canvas[part] + share * np.array(colour, np.float32)


def _to_bytes(canvas: NDArray[np.float32]) -> RGB:
    return np.rint(canvas).astype(np.uint8)


def _colours_of_directions(arrows: NDArray[Any]) -> NDArray[np.float64]:
    """Colour arrows (Y, X, 2) of length 0 to 1; returns 0 to 255, shape (Y, X, 3)."""
    down, right = arrows[..., 0], arrows[..., 1]
    hue = np.arctan2(-down, right) / (2 * np.pi) % 1.0
    length = np.clip(np.hypot(down, right), 0, 1)
    return 255 * hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.85), length], axis=-1))


def _sort_objects(
    predicted: NDArray[np.integer], truth: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]:
    """Split into label images of the matched predictions, the missed and the extra objects."""
    overlap = overlap_matrix(predicted, truth)
    pairs = overlap.pixels.tocoo()
    union = overlap.predicted_sizes[pairs.row] + overlap.true_sizes[pairs.col] - pairs.data
    close = 2 * pairs.data >= union  # an IoU of 0.5
    partner = np.full(len(overlap.predicted_ids), -1)
    if close.any():
        edges = np.ones(close.sum(), np.int8), (pairs.row[close], pairs.col[close])
        graph = csr_array(edges, shape=overlap.pixels.shape)
        partner = maximum_bipartite_matching(graph, perm_type="column")
    is_matched = partner >= 0
    is_ignored = ~is_matched & (2 * overlap.predicted_known <= overlap.predicted_sizes)
    return (
        remove_objects(predicted, overlap.predicted_ids[~is_matched]),
        remove_objects(truth, overlap.true_ids[partner[is_matched]]),
        remove_objects(predicted, overlap.predicted_ids[is_matched | is_ignored]),
    )
