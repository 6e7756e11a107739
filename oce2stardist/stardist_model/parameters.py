"""Say what a finetune run chose and why, for parameters.yaml and the report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.evaluation.held_back import FEWEST_FOR_INTERVAL, bootstrap_interval, f1_by_iou
from oce2stardist.stardist_model.fit import is_judged, kept_step
from oce2stardist.stardist_model.judge import Verdict
from oce2stardist.training_labels.alpha import Alpha

Parameters = dict[str, dict[str, Any]]
"""By name: value, reason, and what else there is to know."""


_MEASURES: dict[str, tuple[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "f1": ("F1 at IoU 0.5", lambda by_iou: by_iou[..., 0]),
    "held_back_score": ("mean F1 at IoU 0.5 to 0.9", lambda by_iou: by_iou.mean(-1)),
}
"""What they are called, and how they come from F1 by IoU; 90 % intervals where cells suffice."""


def describe_model(
    alpha: Alpha,
    history: pd.DataFrame,
    verdict: Verdict,
    *,
    n_cells: int,
    n_held_back: int,
    n_folds: int,
    rounds: Sequence[Mapping[str, Any]],
    seed: int,
) -> Parameters:
    """Say what was chosen and why.

    `history` is that of the training whose weights are kept, `verdict` that of its network or of
    the cross-validation over `n_folds`, if there was one. Of `n_cells` annotated cells
    `n_held_back` judged. `rounds` are those tried after the first; see `train_rounds`.
    """
    nobody = "no annotated cell could be held back to judge"
    judges, few = "", ""
    reason = f"default: {nobody}"
    if verdict.counts is not None:
        judges = f"{n_held_back} held-back annotated {'cell' if n_held_back == 1 else 'cells'}"
        if n_folds:
            judges = f"{n_folds}-fold cross-validation over {n_cells} annotated cells"
        few = ", too few to be sure" if len(verdict.counts) < FEWEST_FOR_INTERVAL else ""
        reason = f"nearest to the default of those that {judges} can't tell from the best"
    parameters: Parameters = {"alpha": _describe_alpha(alpha)}
    parameters["kept_step"] = {
        "value": kept_step(history),
        "reason": f"latest of the checks that {judges} can't tell from the best"
        if is_judged(history)
        else "the last weights: no check had cells to judge by",
    }
    for name, (what, measure) in _MEASURES.items():
        parameters[name] = {"value": None, "reason": nobody}
        if verdict.counts is not None:
            score = round(float(measure(f1_by_iou(verdict.counts))), 4)
            parameters[name] = {"value": score}
            interval = bootstrap_interval(verdict.counts, measure, seed=seed)
            if interval is not None:
                parameters[name]["interval"] = [round(bound, 4) for bound in interval]
            parameters[name]["reason"] = f"{what} on {judges}{few}"
    parameters["prob_thresh"] = {"value": verdict.prob_thresh, "reason": reason}
    parameters["nms_thresh"] = {"value": verdict.nms_thresh, "reason": reason}
    if rounds:
        parameters["rounds"] = {
            "value": 1 + sum(tried["kept"] for tried in rounds),
            "tried": list(rounds),
            "reason": "a round is kept if its held-back score does not drop",
        }
    return parameters


def describe_use(n_cells: int, *, n_held_back: int, n_folds: int) -> str:
    """Say which of the annotated cells train, and which judge."""
    if n_folds:
        return f"all train; {n_folds} more trainings on parts of them judge how well that works"
    if n_held_back:
        return f"{n_cells - n_held_back} train, {n_held_back} are held back to judge"
    return "all train; no cell is left to judge by"


def _describe_alpha(alpha: Alpha) -> dict[str, Any]:
    described: dict[str, Any] = {"value": alpha.value, "reason": alpha.reason}
    if alpha.pseudo_f1 is not None and alpha.interval is not None:
        described["pseudo_f1"] = round(alpha.pseudo_f1, 4)
        described["pseudo_f1_interval"] = [round(bound, 4) for bound in alpha.interval]
    return described
