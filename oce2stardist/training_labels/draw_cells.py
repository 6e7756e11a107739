"""Draw which annotated cells a run uses, and which of these judge instead of train.

A draw maps image names to the ids of cells. Every draw depends on its seed, not on the order
of the images.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError, plural
from oce2stardist.labels import BACKGROUND, object_sizes
from oce2stardist.training_labels.files import read_cells

Draw = dict[str, list[int]]
Cell = TypeVar("Cell")

# Streams of random numbers beside that of the draw: which cells are drawn must not decide
# which of them are held back.
_HELD_BACK, _FOLDS, _NESTED = 1, 3, 5


@dataclass(frozen=True)
class CellDraw:
    """Which of the annotated cells to use, by default all, and what 0 means beside them.

    Attributes
    ----------
    fraction : float in (0, 1], optional
    count : int, optional
        Number of cells. At most one of these three is given.
    listed_in : path, optional
        A cells.csv that an earlier run wrote: the same cells again.
    per_image : bool
        Draw the share or number from every image instead of from the whole set.
    zero : {"auto", "unlabelled", "background"}
        What 0 means in annotation files; auto: background where only some of the annotated cells
        are used (the files are complete then, and few annotations are only simulated).
    """

    fraction: float | None = None
    count: int | None = None
    listed_in: str | Path | None = None
    per_image: bool = False
    zero: Literal["auto", "unlabelled", "background"] = "auto"

    @property
    def is_sample(self) -> bool:
        """Whether cells are left out, to simulate few annotations on complete ones."""
        return any(choice is not None for choice in (self.fraction, self.count, self.listed_in))

    @property
    def zero_is_background(self) -> bool:
        """Whether 0 in annotation files is background; if not, it is unlabelled."""
        return self.is_sample if self.zero == "auto" else self.zero == "background"

    @property
    def simulates_few(self) -> bool:
        """Whether the annotations are complete, and a draw shall look like few of them."""
        return self.is_sample and self.zero_is_background

    def draw(
        self,
        annotations: Mapping[str, NDArray[np.integer]],
        *,
        seed: int,
        may_be_none: bool = False,
    ) -> Draw:
        """Draw the ids of the cells, by image stem.

        Where there `may_be_none`, as something else is known, and all are wanted, no cell is no
        error.
        """
        has_cells = any((labels > BACKGROUND).any() for labels in annotations.values())
        if may_be_none and not self.is_sample and not has_cells:
            return {}
        if self.listed_in is not None:
            if self.fraction is not None or self.count is not None or self.per_image:
                raise InputError(
                    "cells must be either named or drawn. Got a list of cells and "
                    f"fraction={self.fraction}, count={self.count}, "
                    f"per_image={self.per_image}; leave one out."
                )
            return check_cells(annotations, read_cells(self.listed_in))
        if self.per_image and not self.is_sample:
            raise InputError(
                "a draw per image must know how many cells. Got neither fraction nor count; "
                "give one of them."
            )
        return draw_cells(
            annotations,
            fraction=self.fraction if self.is_sample else 1.0,
            count=self.count,
            per_image=self.per_image,
            seed=seed,
        )


def draw_cells(
    annotations: Mapping[str, NDArray[np.integer]],
    *,
    fraction: float | None = None,
    count: int | None = None,
    per_image: bool = False,
    seed: int,
) -> Draw:
    """Draw annotated cells at random, over a whole set of images or from each.

    At one seed draws are nested: each holds every smaller one of the same kind.

    Parameters
    ----------
    annotations : mapping of image name to integer array
        Its cells are > 0. The order of the mapping does not matter.
    fraction : float in (0, 1], optional
        Share of the cells, rounded to whole cells but at least one.
    count : int, >= 1, optional
        Number of cells. Give either this or `fraction`.
    per_image : bool
        `fraction` and `count` hold for every image that has cells, instead of for the set.
        An image with fewer than `count` gives all it has, and other images don't change
        what is drawn from it.

    Returns
    -------
    dict of image name to list of int
        Ascending ids; every image is there, if only with an empty list.
    """
    _check_amount(fraction, count)
    ids = {name: object_sizes(annotations[name])[0].tolist() for name in sorted(annotations)}
    _check_room(ids, count, per_image=per_image)
    drawn: Draw = {name: [] for name in ids}
    if per_image:
        for name, own in ids.items():
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            drawn[name] = sorted(_draw(own, fraction, count, rng))
        return drawn
    cells = _list_cells(ids)
    for name, label in sorted(_draw(cells, fraction, count, np.random.default_rng(seed))):
        drawn[name].append(label)
    return drawn


def check_cells(
    annotations: Mapping[str, NDArray[np.integer]], cells: Mapping[str, Sequence[int]]
) -> Draw:
    """Return cells named by hand or by file in the form of a draw."""
    drawn: Draw = {name: [] for name in sorted(annotations)}
    for name, ids in cells.items():
        if not ids:
            continue
        if name not in annotations:
            raise InputError(
                "cells must belong to annotated images. Got cells of "
                f"{name!r}, which has no annotations; pass the annotations they were drawn from."
            )
        missing = np.setdiff1d(ids, object_sizes(annotations[name])[0])
        if missing.size:
            raise InputError(
                f"cells must be annotated. Got {missing[0]} in {name!r}, which has no such "
                "label; pass the annotations they were drawn from."
            )
        drawn[name] = sorted({int(label) for label in ids})
    if not any(drawn.values()):
        raise InputError("cells must name at least one annotated cell. Got none; draw some.")
    return drawn


def draw_held_back(drawn: Mapping[str, Sequence[int]], *, share: float, seed: int) -> Draw:
    """Draw the cells that judge instead of train.

    `share`, in [0, 1), of the cells is rounded; at least one is held back where it is above 0, and
    at least one is left, which takes two cells: of one none is held back. Ids ascend; only images
    with such cells are named.
    """
    if not 0 <= share < 1:
        raise InputError(
            f"held_back must be at least 0 and below 1. Got {share}; 0.2 holds back every fifth."
        )
    cells = _list_cells(drawn)
    count = min(max(1, round(share * len(cells))), len(cells) - 1) if share > 0 else 0
    order = np.random.default_rng([seed, _HELD_BACK]).permutation(len(cells))
    return _by_image(cells[index] for index in order[: max(0, count)])


def split_folds(drawn: Mapping[str, Sequence[int]], n_folds: int, seed: int) -> list[Draw]:
    """Divide cells into 2 or more folds, each of which can be held back in turn.

    Every cell is in one fold. Folds differ by at most one cell, in all and within every image. Ids
    ascend; only images with cells in a fold are named.
    """
    cells = _list_cells(drawn)
    if not 2 <= n_folds <= len(cells):
        raise InputError(
            f"n_folds must be between 2 and the number of cells, {len(cells)}. Got {n_folds}; "
            "ask for fewer folds or annotate more cells."
        )
    rng = np.random.default_rng([seed, _FOLDS])
    names = rng.permutation(sorted({name for name, _ in cells})).tolist()
    dealt = [
        (name, label) for name in names for label in rng.permutation(sorted(drawn[name])).tolist()
    ]
    # The cells of an image are neighbours in this list: dealing them out in turn spreads them.
    return [_by_image(dealt[first::n_folds]) for first in range(n_folds)]


def nest_cells(
    drawn: Mapping[str, Sequence[int]], shares: Sequence[float], seed: int
) -> list[Draw]:
    """Draw parts of the cells, each within the next; shares ascend, in (0, 1].

    Shares are rounded, to at least one cell. Ids ascend; only images with cells in a part are
    named.
    """
    cells = _list_cells(drawn)
    order = np.random.default_rng([seed, _NESTED]).permutation(len(cells))
    return [
        _by_image(cells[index] for index in order[: max(1, round(share * len(cells)))])
        for share in shares
    ]


def _check_amount(fraction: float | None, count: int | None) -> None:
    if (fraction is None) == (count is None):
        raise InputError(
            "exactly one of fraction and count must be given. "
            f"Got fraction={fraction} and count={count}; leave one out."
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(
            f"fraction must be above 0 and at most 1. Got {fraction}; 0.01 keeps 1 % of the cells."
        )


def _check_room(ids: Mapping[str, Sequence[int]], count: int | None, *, per_image: bool) -> None:
    sizes = [len(own) for own in ids.values()]
    if not sum(sizes):
        raise InputError(
            f"annotations must hold at least one cell. Got none in {plural(len(sizes), 'image')}; "
            "annotate a cell (labels > 0) first."
        )
    most = max(sizes) if per_image else sum(sizes)
    where = "annotated cells of the fullest image" if per_image else "annotated cells"
    if count is not None and not 1 <= count <= most:
        raise InputError(
            f"count must be between 1 and the {most} {where}. Got {count}; "
            "ask for fewer cells or annotate more."
        )


def _draw(
    cells: Sequence[Cell], fraction: float | None, count: int | None, rng: np.random.Generator
) -> list[Cell]:
    """Draw from a list, nothing from an empty one."""
    n_drawn = max(1, round(fraction * len(cells))) if fraction is not None else count
    # One permutation cut at different lengths is what nests the draws.
    return [cells[index] for index in rng.permutation(len(cells))[:n_drawn]]


def _list_cells(drawn: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """List image and id of all cells, sorted."""
    return sorted((name, label) for name, ids in drawn.items() for label in ids)


def _by_image(cells: Iterable[tuple[str, int]]) -> Draw:
    grouped: Draw = {}
    for name, label in sorted(cells):
        grouped.setdefault(name, []).append(label)
    return grouped
