"""Choose the images of a large set that a page shows."""

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from oce2stardist.errors import plural

AT_MOST = 6
"""Images shown on a page."""

AT_MOST_PSEUDO = 12
"""Images shown of a run of stage one: more would make the page too large to mail."""


def choose_evenly(names: Iterable[str], at_most: int = AT_MOST) -> list[str]:
    """Choose names at even distances over their sorted list, the first and last included."""
    return _at_even_distances(sorted(names), at_most)


def choose_by_count(counts: pd.Series, at_most: int = AT_MOST_PSEUDO) -> list[str]:
    """Choose stems at even quantiles of their number of objects, from fewest to most."""
    ordered = sorted(counts.index, key=lambda stem: (counts[stem], stem))
    return _at_even_distances(ordered, at_most)


def say_how_many(shown: Collection[str], of: Collection[str]) -> str:
    """Say how many images are shown, and of how many where that is not all."""
    every = plural(len(of), "image")
    return every if len(shown) == len(of) else f"{len(shown)} of {every}"


def _at_even_distances(ordered: list[str], at_most: int) -> list[str]:
    places = np.linspace(0, len(ordered) - 1, min(at_most, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]
