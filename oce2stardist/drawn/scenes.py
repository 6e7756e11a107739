"""Draw whole scenes of cells, each from one seed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from oce2stardist.drawn import DIAMETER
from oce2stardist.drawn.camera import store
from oce2stardist.drawn.looks import (
    LOOKS,
    Cells,
    bright_field,
    draw_brightness,
    phase_contrast,
    relief,
    textured,
)
from oce2stardist.drawn.shapes import draw_population, place_cells
from oce2stardist.drawn.surroundings import SURROUNDINGS
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import Image, Labels

_EITHER_POLARITY = (phase_contrast, relief, bright_field, textured)
"""Looks in which cells are as often darker than the ground as brighter."""


@dataclass(frozen=True)
class Scene:
    """A drawn image, normalised, (Y, X, 1), its labels (Y, X), and the name of its look."""

    image: Image
    labels: Labels
    look: str


def draw_scene(rng: np.random.Generator, *, size: int = 192, diameter: float = DIAMETER) -> Scene:
    """Draw one scene of `size` x `size` pixels with cells of about `diameter` pixels."""
    labels = place_cells((size, size), draw_population(rng, diameter), rng)
    cells = Cells(labels, draw_brightness(labels, rng))
    look = list(LOOKS)[rng.choice(len(LOOKS), p=list(LOOKS.values()))]
    image = look(cells, rng)
    for paint, share in SURROUNDINGS.items():
        if rng.random() < share:
            image = image + paint(cells, rng)
    if rng.random() < (0.5 if look in _EITHER_POLARITY else 0.15):
        image = -image
    stored = store(image, rng).astype(np.float32)[..., None]
    return Scene(normalise_percentiles(stored), labels, look.__name__)


def draw_scenes(count: int, *, seed: int, size: int = 192) -> Iterator[Scene]:
    """Draw scenes one after another; scene i comes from a generator seeded by (seed, i)."""
    for number in range(count):
        yield draw_scene(np.random.default_rng([seed, number]), size=size)
