"""Draw label images of cells: star-convex outlines, alone, in clumps, crowded or packed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon
from skimage.measure import label
from skimage.segmentation import expand_labels

from oce2stardist.labels import Labels, renumber

_ANGLES = np.linspace(0, 2 * np.pi, 64, endpoint=False)

_SMALLEST = 40
"""Pixels from which on what is left of a cell between others counts: a quarter as wide as most."""

Crowding = Literal["sparse", "crowded", "packed"]


@dataclass(frozen=True)
class Population:
    """What the cells of one scene have in common.

    Attributes
    ----------
    diameter : float
        Median, pixels.
    spread : float
        Standard deviation of the logarithm of the diameter.
    small_share : float
        Share of the cells that have half the diameter of the others.
    elongation : float
        Largest ratio of a cell's axes.
    roughness : float
        Size of the waves of an outline, relative to the radius.
    arms : float
        Length of the largest pointed arm, relative to the radius; 0: cells without arms.
    bend : float
        Largest curvature of a cell's long axis: 0 straight, 0.5 a bean.
    direction : float, optional
        Common direction of the long axes, radians; without it each has its own.
    crowding : {"sparse", "crowded", "packed"}
        Packed cells grow until they meet.
    clumped : bool
        Most cells lie beside another one.
    hidden : float
        Largest share of a cell that may lie beneath those drawn before.
    """

    diameter: float
    spread: float
    small_share: float
    elongation: float
    roughness: float
    arms: float
    bend: float
    direction: float | None
    crowding: Crowding
    clumped: bool
    hidden: float


def draw_population(rng: np.random.Generator, diameter: float) -> Population:
    """Draw a population whose median diameter, pixels, is about `diameter`.

    In two of five it is up to half or twice as large: a network that has seen such cells as well
    can tell their size where an image does not have the working scale yet.
    """
    crowding: Crowding = rng.choice(["sparse", "crowded", "packed"], p=[0.3, 0.42, 0.28])
    return Population(
        diameter=diameter * np.exp(rng.normal(0, rng.choice([0.12, 0.4], p=[0.6, 0.4]))),
        spread=rng.uniform(0.05, 0.4),
        small_share=rng.choice([0.0, rng.uniform(0.1, 0.5)], p=[0.8, 0.2]),
        elongation=rng.choice([1.15, 1.4, 1.8, 2.6, 3.5], p=[0.34, 0.3, 0.2, 0.11, 0.05]),
        roughness=rng.choice([0.0, 0.04, 0.1, 0.2], p=[0.25, 0.4, 0.25, 0.1]),
        arms=rng.choice([0.0, rng.uniform(0.3, 1.8)], p=[0.85, 0.15]),
        bend=rng.choice([0.0, 0.25, 0.5], p=[0.5, 0.35, 0.15]),
        direction=rng.uniform(0, np.pi) if rng.random() < 0.3 else None,
        crowding=crowding,
        clumped=bool(rng.random() < 0.4),
        hidden=0.08 if crowding == "sparse" else rng.choice([0.1, 0.25, 0.4], p=[0.4, 0.45, 0.15]),
    )


def draw_outline(population: Population, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the outline of one cell around (0, 0); shape (2, 64), (y, x), pixels."""
    radius = population.diameter / 2 * np.exp(rng.normal(0, population.spread))
    if rng.random() < population.small_share:
        radius /= 2
    waves = np.ones_like(_ANGLES)
    for order in range(2, 7):  # the higher the order, the smaller the wave
        size = population.roughness * rng.normal() / np.sqrt(order)
        waves *= 1 + size * np.cos(order * _ANGLES + rng.uniform(0, 2 * np.pi))
    if population.arms:
        for _ in range(rng.integers(2, 6)):
            towards = np.maximum(np.cos(_ANGLES - rng.uniform(0, 2 * np.pi)), 0)
            waves += rng.uniform(0.2, 1) * population.arms * towards ** rng.uniform(6, 30)
    stretch = np.sqrt(1 + rng.random() * (population.elongation - 1))
    along = radius * stretch * waves * np.cos(_ANGLES)
    across = radius / stretch * waves * np.sin(_ANGLES)
    across += population.bend * rng.uniform(-1, 1) * (along**2 / (radius * stretch) - along.std())
    direction = rng.uniform(0, np.pi)
    if population.direction is not None:
        direction = population.direction + rng.normal(0, 0.2)
    cos, sin = np.cos(direction), np.sin(direction)
    return np.stack([along * sin + across * cos, along * cos - across * sin])


def place_cells(shape: tuple[int, int], population: Population, rng: np.random.Generator) -> Labels:
    """Draw cells of a population until the scene is as full as its crowding says.

    Later cells lie beneath earlier ones; one of which too much would be hidden is left out.
    """
    covered = {"sparse": (0.03, 0.25), "crowded": (0.25, 0.6), "packed": (0.5, 0.75)}
    wanted = rng.uniform(*covered[population.crowding]) * shape[0] * shape[1]
    labels = np.zeros(shape, np.int32)
    centres: list[NDArray[np.float64]] = []
    tries = int(4 * wanted / (np.pi / 4 * population.diameter**2)) + 4
    filled, next_id = 0, 1
    for _ in range(tries):
        centre = _draw_centre(shape, population, centres, rng)
        outline = draw_outline(population, rng) + centre[:, None]
        rows, columns = polygon(outline[0], outline[1], shape)
        free = labels[rows, columns] == 0
        if free.sum() < max(_SMALLEST, (1 - population.hidden) * len(free)):
            continue
        labels[rows[free], columns[free]] = next_id
        centres.append(centre)
        next_id += 1
        filled += int(free.sum())
        if filled >= wanted:
            break
    if population.crowding == "packed":
        labels = expand_labels(labels, rng.uniform(1, 9))
    return keep_largest_parts(labels)


def _draw_centre(
    shape: tuple[int, int],
    population: Population,
    centres: list[NDArray[np.float64]],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw where a cell lies, (y, x); its centre may lie half a cell outside of the scene."""
    if centres and population.clumped and rng.random() < 0.7:
        neighbour = centres[rng.integers(len(centres))]
        return neighbour + rng.normal(0, 0.9 * population.diameter, 2)
    half = population.diameter / 2
    return rng.uniform(-half, np.array(shape) + half)


def keep_largest_parts(labels: Labels) -> Labels:
    """Keep of each cell its largest connected part, if it is large enough; numbered 1..n."""
    parts = label(labels, background=0, connectivity=1)
    sizes = np.bincount(parts.ravel())
    owners = np.zeros(len(sizes), np.int64)
    owners[parts.ravel()] = labels.ravel()
    kept = np.zeros(len(sizes), bool)
    order = np.argsort(sizes, kind="stable")
    largest = {int(owners[part]): int(part) for part in order if owners[part] > 0}
    kept[[part for part in largest.values() if sizes[part] >= _SMALLEST]] = True
    return renumber(np.where(kept[parts], labels, 0))[0]
