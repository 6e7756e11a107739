"""Can the pseudo labels of a run be trusted? Judged without truth, and with it where there is some.

The method rests on assumptions: pixels of one cell embed together, their spread over noisy copies
is low, and objects come out alike under slightly other settings. Where they fail, labels still
come out, and nobody sees from the files that they mean nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_SEPARATION = 0.72
"""See `cue_agreement`. Measured: benchmarks/RESULTS.md, "Trust"."""

LEAST_AGREEMENT = 0.85
"""Mean confidence of the objects."""

LEAST_ALIKE = 0.5
"""Share of objects whose diameter is within a factor of 1.5 of their median."""

LEAST_F1 = 0.5
"""On annotated cells."""


@dataclass(frozen=True)
class Trust:
    """What was measured, and the verdict.

    Attributes
    ----------
    measures : dict
        Name to value in [0, 1], high where labels are good.
    complaints : tuple of str
        What is wrong, each a clause; empty where nothing is.
    """

    measures: dict[str, float]
    complaints: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the labels."""
        return not self.complaints

    @property
    def verdict(self) -> str:
        """One sentence for the user."""
        if self.trusted:
            said = ", ".join(f"{name} {value:.2f}" for name, value in self.measures.items())
            return f"nothing speaks against these labels ({said})"
        return (
            "these pseudo labels can't be trusted: "
            + "; ".join(self.complaints)
            + ". Look at the report before you train on them"
        )


def judge_trust(
    *,
    separation: float | None,
    confidences: NDArray[np.floating],
    diameters: NDArray[np.floating],
    annotated_f1: float | None = None,
) -> Trust:
    """Judge the labels of a whole run.

    Parameters
    ----------
    separation : float in [0, 1], optional
        How well the spread tells pixels that gather from those that do not, see
        `oce2stardist.pseudo_labels.foreground.cue_agreement`. None where nearly nothing is cell, so
        that the spread has one mode by nature.
    confidences, diameters : arrays of shape (objects,)
        Agreement with other settings in [0, 1], and equivalent diameter in pixels.
    annotated_f1 : float, optional
        F1 at IoU 0.5 on annotated cells, where there are any.

    Returns
    -------
    Trust
    """
    measures = {} if separation is None else {"separation": separation}
    complaints = []
    if separation is not None and separation < LEAST_SEPARATION:
        complaints.append(
            "the spread of noisy predictions does not part cells from background "
            f"(separation {separation:.2f}, below {LEAST_SEPARATION:g})"
        )
    if len(diameters) == 0:
        complaints.append("no object was found")
    else:
        complaints += _object_complaints(measures, confidences, diameters)
    if annotated_f1 is not None:
        measures["F1 on annotated cells"] = annotated_f1
        if annotated_f1 < LEAST_F1:
            complaints.append(
                f"F1 on the annotated cells is {annotated_f1:.2f}, below {LEAST_F1:g}"
            )
    return Trust(measures, tuple(complaints))


def _object_complaints(
    measures: dict[str, float], confidences: NDArray[np.floating], diameters: NDArray[np.floating]
) -> Sequence[str]:
    """Add what the objects tell to the measures; return what is wrong."""
    agreed = measures["agreement"] = float(np.mean(confidences))
    ratio = diameters / np.median(diameters)
    alike = measures["alike"] = float(np.mean((ratio > 1 / 1.5) & (ratio < 1.5)))
    complaints = []
    if agreed < LEAST_AGREEMENT:
        complaints.append(
            "objects change with the settings "
            f"(mean agreement {agreed:.2f}, below {LEAST_AGREEMENT:g})"
        )
    if alike < LEAST_ALIKE:
        complaints.append(
            "objects have no common size "
            f"({alike:.0%} are within a factor of 1.5 of the median, below {LEAST_ALIKE:.0%})"
        )
    return complaints
