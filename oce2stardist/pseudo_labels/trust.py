"""Judge whether the pseudo labels of a run can be trusted, without truth or with some.

The method rests on assumptions: pixels of one cell embed together, their spread over noisy copies
is low, and objects come out alike under slightly other settings. Where they fail, labels still
come out, and nobody sees from the files that they mean nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_SEPARATION = 0.72
"""See `cue_agreement`. Measured: benchmarks/TRIALS.md, "Trust"."""

LEAST_AGREEMENT = 0.85
"""Mean confidence of the objects."""

LEAST_ALIKE = 0.5
"""Share of objects whose diameter is within a factor of 1.5 of their median."""

LEAST_F1 = 0.5
"""On annotated cells."""

CONVINCING_F1, CONVINCING_CELLS = 0.7, 10
"""From so many annotated cells and this F1 on they are believed, whatever other measures say: those
only guess at what annotated cells show."""


@dataclass(frozen=True)
class Trust:
    """What was measured, and the verdict."""

    measures: dict[str, float]  # in [0, 1], high where labels are good
    complaints: tuple[str, ...]  # what is wrong, each a clause
    overruled: tuple[str, ...] = ()  # what would be wrong, had annotated cells not shown otherwise

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the labels."""
        return not self.complaints

    @property
    def verdict(self) -> str:
        """One sentence for the user."""
        if self.trusted:
            said = ", ".join(f"{name} {value:.2f}" for name, value in self.measures.items())
            if self.overruled:
                return f"annotated cells speak for these labels ({said}), and overrule that " + (
                    "; ".join(self.overruled)
                )
            return f"nothing speaks against these labels ({said})"
        return (
            f"these pseudo labels can't be trusted: {'; '.join(self.complaints)}. "
            "Look at the report before you train on them"
        )


def judge_trust(
    *,
    separation: float | None,
    confidences: NDArray[np.floating],
    diameters: NDArray[np.floating],
    annotated_f1: float | None = None,
    annotated_cells: int = 0,
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
    annotated_cells : int
        How many these are.
    """
    measures: dict[str, float] = {}
    complaints = []

    def judge(name: str, value: float, least: float, complaint: str) -> None:
        measures[name] = value
        if value < least:
            complaints.append(complaint.format(value=value, least=least))

    if separation is not None:
        complaint = (
            "the spread of noisy predictions does not part cells from background "
            "(separation {value:.2f}, below {least:g})"
        )
        judge("separation", separation, LEAST_SEPARATION, complaint)
    if len(diameters):
        complaint = "objects change with the settings (mean agreement {value:.2f}, below {least:g})"
        judge("agreement", float(np.mean(confidences)), LEAST_AGREEMENT, complaint)
        complaint = (
            "objects have no common size "
            "({value:.0%} are within a factor of 1.5 of the median, below {least:.0%})"
        )
        ratio = diameters / np.median(diameters)
        alike = float(np.mean((ratio > 1 / 1.5) & (ratio < 1.5)))
        judge("alike", alike, LEAST_ALIKE, complaint)
    else:
        complaints.append("no object was found")
    if annotated_f1 is not None:
        convincing = annotated_f1 >= CONVINCING_F1 and annotated_cells >= CONVINCING_CELLS
        if convincing and len(diameters):
            measures["F1 on annotated cells"] = annotated_f1
            return Trust(measures, (), tuple(complaints))
        complaint = "F1 on the annotated cells is {value:.2f}, below {least:g}"
        judge("F1 on annotated cells", annotated_f1, LEAST_F1, complaint)
    return Trust(measures, tuple(complaints))
