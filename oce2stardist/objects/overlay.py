"""Labels drawn over their image."""

from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from skimage.color import hsv2rgb
from skimage.segmentation import find_boundaries

from oce2stardist.files.atomic import replacing
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import BACKGROUND


def write_overlay(path: str | Path, image: NDArray[Any], labels: NDArray[np.integer]) -> None:
    """Write a PNG of `draw_overlay`: the image with the objects outlined in colour."""
    canvas = draw_overlay(image, labels)
    with replacing(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(canvas, level=3))


def draw_overlay(
    image: NDArray[Any], labels: NDArray[np.integer], *, thickness: int = 1
) -> NDArray[np.uint8]:
    """Draw the image as `draw_image` does, with its objects outlined in colour.

    Outlines lie inside the objects; touching objects have different colours.
    """
    assert image.shape[:2] == labels.shape, (image.shape, labels.shape)
    canvas = draw_image(image)
    objects = np.maximum(labels, BACKGROUND)
    outline = find_outlines(objects, thickness=thickness)
    ids, drawn = np.unique(objects[outline], return_inverse=True)
    hues = _pick_hues(objects, ids)[drawn]
    hsv = np.stack([hues, np.full_like(hues, 0.8), np.ones_like(hues)], axis=-1)
    canvas[outline] = (hsv2rgb(hsv) * 255).round()
    return canvas


def draw_image(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Draw an image (Y, X, C) as uint8 RGB of shape (Y, X, 3).

    It is shown from its 1st to its 99.8th percentile, each channel for itself: in grey where
    there are one or two channels (the first), else the first three as red, green and blue.
    """
    shown = normalise_percentiles(image[..., : 3 if image.shape[2] >= 3 else 1])
    grey_or_rgb = np.rint(np.clip(shown, 0.0, 1.0) * 255).astype(np.uint8)
    return np.broadcast_to(grey_or_rgb, (*image.shape[:2], 3)).copy()


def find_outlines(labels: NDArray[np.integer], *, thickness: int = 1) -> NDArray[np.bool_]:
    """Find the outermost pixels, `thickness` layers of them, of every object of (Y, X)."""
    inside = np.maximum(labels, BACKGROUND)
    outline = np.zeros(labels.shape, bool)
    for _ in range(thickness):
        rim = find_boundaries(inside, mode="inner")
        outline |= rim
        inside = np.where(rim, BACKGROUND, inside)
    return outline


def _pick_hues(objects: NDArray[np.integer], ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Give every object a hue, 0 to 1, that no object touching it has."""
    touching = defaultdict(set)
    for here, there in ((objects[1:], objects[:-1]), (objects[:, 1:], objects[:, :-1])):
        meet = (here != there) & (here > BACKGROUND) & (there > BACKGROUND)
        for one, other in set(zip(here[meet].tolist(), there[meet].tolist(), strict=True)):
            touching[one].add(other)
            touching[other].add(one)
    tints: dict[int, int] = {}
    for object_id in ids.tolist():
        taken = {tints.get(other) for other in touching[object_id]}
        tints[object_id] = next(tint for tint in count(object_id % 6) if tint not in taken)
    # Small multiples of the golden ratio lie far apart on the circle of hues.
    return np.array([tints[object_id] * 0.618034 % 1.0 for object_id in ids.tolist()])
