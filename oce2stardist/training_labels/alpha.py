"""Choose how much the pseudo labels count: as asked, or judged on the annotated cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from oce2stardist.errors import plural
from oce2stardist.evaluation.held_back import (
    bootstrap_interval,
    count_matches,
    f1_by_iou,
    find_windows,
)
from oce2stardist.labels import Labels

_USEFUL = 0.5
"""Alpha where the pseudo labels are good: both halves of a batch weigh the same."""

_USELESS_F1, _GOOD_F1 = 0.3, 0.6
_MOST_CELLS = 2000
"""Annotated cells that are looked at; more would not make the share more certain."""


@dataclass(frozen=True)
class Alpha:
    """The weight of the pseudo half, why, and what the pseudo labels scored (None: not judged)."""

    value: float
    reason: str
    pseudo_f1: float | None = None
    interval: tuple[float, float] | None = None


def choose_alpha(
    asked: float | Literal["auto"],
    pseudo_labels: Mapping[str, Labels],
    known: Mapping[str, Labels],
    *,
    trusted: bool | None,
    seed: int,
) -> Alpha:
    """Take the alpha asked for, or judge the pseudo labels on the annotated cells.

    Parameters
    ----------
    pseudo_labels : mapping of image stem to int32 array of shape (Y, X)
        As stage one left them, before annotations replaced any; may be empty.
    known : mapping of image stem to int32 array of shape (Y, X)
        Annotated cells > 0, known background 0, unknown -1.
    trusted : bool, optional
        What stage one said about its labels; None if it said nothing.

    Notes
    -----
    Alpha is 0.5 where F1 at IoU 0.5 is 0.6 or more, 0 up to 0.3, and proportional between:
    below 0.3 most of what the pseudo half teaches is wrong. Both limits were reasoned, not
    measured. Labels that stage one itself did not trust count only if there are cells
    enough for an interval, and it lies above 0.3.
    """
    if asked != "auto":
        return Alpha(asked, "set in the config or on the command line")
    if not known:
        return Alpha(1.0, "nothing is annotated")
    if not pseudo_labels:
        return Alpha(0.0, "there are no pseudo labels")
    judged = {stem: labels for stem, labels in known.items() if stem in pseudo_labels}
    windows = find_windows(judged, multiple_of=1, at_most=_MOST_CELLS, seed=seed)
    nobody = "no annotated cell to judge the pseudo labels"
    if not windows and trusted is False:
        return Alpha(0.0, f"{nobody}; their run distrusts them")
    if not windows:
        return Alpha(_USEFUL, f"{nobody} on; the default")
    cut = (window.cut(pseudo_labels[window.stem]) for window in windows)
    counts = count_matches(windows, cut)
    f1 = float(f1_by_iou(counts)[0])
    interval = bootstrap_interval(counts, lambda by_iou: by_iou[:, 0], seed=seed)
    share = min(1.0, max(0.0, (f1 - _USELESS_F1) / (_GOOD_F1 - _USELESS_F1)))
    sure = "too few for an interval"
    if interval is not None:
        sure = f"90 % interval {interval[0]:.2f} to {interval[1]:.2f}"
    said = f"pseudo labels score F1 {f1:.2f} on {plural(len(windows), 'annotated cell')} ({sure})"
    if trusted is False and (interval is None or interval[0] <= _USELESS_F1):
        return Alpha(0.0, f"{said}, and their own run did not trust them", f1, interval)
    verdict = "as good as useless" if share == 0 else "good" if share == 1 else "of some use"
    return Alpha(round(_USEFUL * share, 3), f"{said}: {verdict}", f1, interval)
