"""Let a second witness, which knows cells but not this set, correct pseudo labels.

Embeddings outline what belongs together in these images, and know nothing of cells; a network that
has seen drawn cells knows what cells look like, and nothing of these images. So the second says
which cells there are, and the first, where both show nearly the same, what its outline is
(benchmarks/TRIALS.md, "The start says which cells there are").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.errors import plural
from oce2stardist.evaluation.scores import Overlap, overlap_matrix
from oce2stardist.labels import (
    BACKGROUND,
    UNLABELLED,
    FoundObjects,
    Labels,
    median_diameter,
    renumber,
)
from oce2stardist.pseudo_labels.confidence import best_overlaps

_FREE = 0.2
"""The witness has seen nothing of an object of which its own cover less than this share."""

_SURE = 0.8
"""How sure the embeddings must be of an object that the witness has not seen."""

_AGREED = 0.5
"""IoU from which two objects are the same."""

_SAME_OUTLINE = 0.7
"""IoU from which the embeddings' outline of an object is trusted: on `simplus`, where cells have a
texture, the start's is better where they differ by more, on five other sets hardly ever worse."""


EMBEDDINGS, START = "embeddings", "drawn start"
"""Who found an object."""


@dataclass(frozen=True)
class HeardLabels:
    """Labels after a second witness was heard; objects are 1..n.

    Attributes
    ----------
    labels : mapping of image stem to int32 array of shape (Y, X)
    confidence : mapping of image stem to float64 array of shape (n,)
        Mean of what its own finder says of an object and its largest IoU with the other's.
    found_by : mapping of image stem to array of shape (n,)
        `EMBEDDINGS` or `START`.
    by_start : int
        Number of objects that are the witness's.
    reason : str
        What the witness found, and what was made of it.
    """

    labels: dict[str, Labels]
    confidence: dict[str, NDArray[np.float64]]
    found_by: dict[str, NDArray[np.str_]]
    by_start: int
    reason: str


def hear_witness(
    own: Mapping[str, Labels],
    sure: Mapping[str, NDArray[np.float64]],
    witness: FoundObjects,
    *,
    trusted: bool,
    score: Callable[[Mapping[str, Labels]], float | None],
    clicked: Mapping[str, NDArray[np.int64]],
) -> HeardLabels:
    """Let a witness correct the labels of a run, or take its labels where the run's fail.

    Parameters
    ----------
    own : mapping of image stem to int32 array of shape (Y, X)
        The embeddings' objects, 1..n.
    sure : mapping of image stem to float64 array of shape (n,)
        Their confidence.
    witness : FoundObjects
        Of the same images; objects 1..n.
    trusted : bool
        Whether anything spoke against the embeddings' labels.
    score : callable
        Scores labels on annotated cells; None without any, then `trusted` decides.
    clicked : mapping of image stem to int64 array of shape (n, 2)
        Pixels (y, x) of different cells.
    """
    corrected = {
        stem: correct(labels, witness.labels[stem], sure[stem]) for stem, labels in own.items()
    }
    theirs, ours = score(witness.labels), score(corrected)
    if theirs is not None and ours is not None:
        takes_all = theirs > ours
        why = f"F1 on annotated cells {theirs:.2f}, that of the corrected labels {ours:.2f}"
    else:
        takes_all = not trusted
        why = "the embeddings can't be trusted" if takes_all else ""
    labels: dict[str, Labels] = {}
    confidence: dict[str, NDArray[np.float64]] = {}
    found_by: dict[str, NDArray[np.str_]] = {}
    for stem, mine in own.items():
        other = witness.labels[stem]
        is_mine = 0 if takes_all else int(mine.max(initial=0))
        chosen = other if takes_all else _select(corrected[stem], other, clicked.get(stem))
        labels[stem], ids = renumber(chosen)
        by_start = ids > is_mine
        found_by[stem] = np.where(by_start, START, EMBEDDINGS)
        agreed = np.where(
            by_start, best_overlaps(labels[stem], mine), best_overlaps(labels[stem], other)
        )
        said = np.zeros(len(ids))
        said[~by_start] = sure[stem][ids[~by_start] - 1]
        new = np.flatnonzero(by_start) + 1
        theirs_of = ndi.maximum(other, labels[stem], new) if len(new) else new
        said[by_start] = [witness.confidence[stem].get(int(label), 1.0) for label in theirs_of]
        confidence[stem] = (said + agreed) / 2
    count_by_start = sum(int((found == START).sum()) for found in found_by.values())
    count = sum(int(one.max(initial=0)) for one in witness.labels.values())
    diameter = median_diameter(witness.labels.values())
    size = "" if diameter is None else f" of {diameter:.1f} px"
    made = (
        f"its labels are taken: {why}"
        if takes_all
        else f"{count_by_start} of the pseudo objects are as it shows them"
        + (f" ({why})" if why else "")
    )
    reason = f"the drawn start alone finds {plural(count, 'cell')}{size}; {made}"
    return HeardLabels(labels, confidence, found_by, count_by_start, reason)


def correct(labels: Labels, witness: Labels, sure: NDArray[np.float64]) -> Labels:
    """Take a witness's objects, with the outlines of `labels` where these are nearly the same.

    What only `labels` show, but for specks, stays where they are sure of it.

    Parameters
    ----------
    labels, witness : int32 arrays of shape (Y, X)
        Objects > 0, background 0.
    sure : float64 array of shape (n,)
        How sure the objects 1..n of `labels` are, in [0, 1].

    Returns
    -------
    int32 array of shape (Y, X)
        Objects of `labels` keep their ids; those of the witness get the next ones.
    """
    overlap = overlap_matrix(labels, witness)
    mine, theirs = _find_same(overlap)
    covered = overlap.pixels.sum(axis=1) / np.maximum(overlap.predicted_sizes, 1)
    is_alone = (covered < _FREE) & (sure[overlap.predicted_ids - 1] >= _SURE)
    alone = overlap.predicted_ids[is_alone]
    specks = overlap.pixels[is_alone].sum(axis=0) > overlap.true_sizes / 2
    others = np.setdiff1d(overlap.true_ids[~specks], theirs)
    stays = np.isin(labels, np.union1d(mine, alone)) & ~np.isin(witness, others)
    first = int(labels.max(initial=0)) + 1
    return _draw(np.where(stays, labels, 0), witness, others, first=first)


def _find_same(overlap: Overlap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the objects, and those of the other, that have nearly the same outline."""
    pairs = overlap.pixels.tocoo()
    union = overlap.predicted_sizes[pairs.row] + overlap.true_sizes[pairs.col] - pairs.data
    same = pairs.data >= _SAME_OUTLINE * union
    return overlap.predicted_ids[pairs.row[same]], overlap.true_ids[pairs.col[same]]


def keep_agreed(own: Labels, other: Labels) -> Labels:
    """Keep the objects that another segmentation has, too.

    Parameters
    ----------
    own, other : int32 arrays of shape (Y, X)
        Objects > 0, background 0, unknown -1.

    Returns
    -------
    int32 array of shape (Y, X)
        Objects of `own` whose IoU with one of `other` is 0.5 or more, with their ids. What only
        one of the two takes for an object is unknown, and what `other` does not know.
    """
    ours, others = np.maximum(own, 0), np.maximum(other, 0)
    agreed = np.concatenate([[True], best_overlaps(ours, others) >= _AGREED])
    confirmed = np.concatenate([[True], best_overlaps(others, ours) >= _AGREED])
    kept = np.where(agreed[ours], own, UNLABELLED)
    doubtful = ~confirmed[others] | (other == UNLABELLED)
    return np.where((kept == BACKGROUND) & doubtful, UNLABELLED, kept).astype(np.int32)


def _select(labels: Labels, witness: Labels, clicked: NDArray[np.int64] | None) -> Labels:
    """Take the witness's objects that alone part clicks from each other, or have one at all."""
    if clicked is None:
        return labels
    ours, theirs = (image[tuple(clicked.T)] for image in (labels, witness))
    n_ours, n_theirs = (np.bincount(found) for found in (ours, theirs))
    is_better = (theirs > 0) & (n_theirs[theirs] == 1) & ((ours == 0) | (n_ours[ours] > 1))
    # an object gives way where the witness has one for each click in it
    is_better &= (ours == 0) | ~np.isin(ours, ours[~is_better])
    replaced = np.setdiff1d(ours[is_better], [0])
    cleared = np.where(np.isin(labels, replaced), 0, labels)
    first = int(labels.max(initial=0)) + 1
    return _draw(cleared, witness, np.unique(theirs[is_better]), first=first)


def _draw(labels: Labels, witness: Labels, ids: NDArray[np.int64], *, first: int) -> Labels:
    """Draw objects of the witness where nothing is; they are numbered from `first` on."""
    new = np.zeros(int(witness.max(initial=0)) + 1, np.int32)
    new[ids] = first + np.arange(len(ids))
    return np.where((labels == 0) & (new[witness] > 0), new[witness], labels).astype(np.int32)
