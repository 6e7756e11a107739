"""Compare a model with what went into it, on the annotated cells that judged it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oce2stardist.evaluation.held_back import (
    FEWEST_FOR_INTERVAL,
    Counts,
    count_matches,
    difference,
    mean_f1,
    standard_error,
)
from oce2stardist.labels import Labels
from oce2stardist.stardist_model.fit import TrainingJob
from oce2stardist.stardist_model.judge import Verdict, count_at_defaults
from oce2stardist.stardist_model.scale import zoom_labels

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D

MODEL, PSEUDO, START = "the model", "the pseudo labels", "the drawn start"

_CLEARLY = 2.0
"""Standard errors of a difference from which it is no chance."""


@dataclass(frozen=True)
class Comparison:
    """Mean F1 over IoU 0.5 to 0.9, and its standard error, by what found the cells."""

    scores: Mapping[str, tuple[float, float]]
    best: str
    is_clearly_worse: bool
    """Whether the model is worse than the best by more than chance."""
    n_cells: int

    def describe(self) -> dict[str, Any]:
        """Return an entry of parameters.yaml."""
        scores = {
            name.removeprefix("the "): {"mean_f1": round(score, 4), "error": round(error, 4)}
            for name, (score, error) in self.scores.items()
        }
        return {
            "value": self.best.removeprefix("the "),
            "reason": self.say(),
            "scores": scores,
            "clearly_worse": self.is_clearly_worse,
        }

    def say(self) -> str:
        """Say in one sentence which is best, and what to do if that is not the model."""
        scored = ", ".join(
            f"{name.removeprefix('the ')} {score:.2f} ± {error:.2f}"
            for name, (score, error) in self.scores.items()
        )
        cells = f"{self.n_cells} annotated {'cell' if self.n_cells == 1 else 'cells'}"
        said = f"mean F1 at IoU 0.5 to 0.9 on {cells}: {scored}"
        if self.n_cells < FEWEST_FOR_INTERVAL:
            return f"{said}; {self.best} did best, but on too few cells to tell"
        if self.best == MODEL:
            return f"{said}; the model is best"
        if not self.is_clearly_worse:
            return f"{said}; {self.best} did best, by no more than chance"
        what = "train longer (--steps), or annotate cells that it gets wrong"
        if self.best == PSEUDO:
            what += "; for these images the pseudo labels are the better answer"
        return f"{said}; the model is clearly worse than {self.best}: {what}"


def compare_with_sources(
    job: TrainingJob,
    verdict: Verdict,
    pseudo: Mapping[str, Labels],
    *,
    start: "SparseStarDist2D | None",
) -> Comparison | None:
    """Let what a model came from be judged by the cells that judged the model.

    `pseudo` are the pseudo labels at the images' own size, `start` the drawn start if the
    training began with it. None where no cell judged.
    """
    if verdict.counts is None:
        return None
    windows, seed = verdict.windows, job.config.seed
    counts: dict[str, Counts] = {MODEL: verdict.counts}
    stems = {window.stem for window in windows}
    if stems <= pseudo.keys():
        zoomed = {stem: zoom_labels(pseudo[stem], job.scale.of(stem)) for stem in stems}
        counts[PSEUDO] = count_matches(windows, [one.cut(zoomed[one.stem]) for one in windows])
    if start is not None:
        patches = [window.cut(job.zoomed_images[window.stem]) for window in windows]
        counts[START] = count_at_defaults(start, windows, patches)
    scores = {
        name: (mean_f1(found), standard_error(found, seed=seed)) for name, found in counts.items()
    }
    best = max(scores, key=lambda name: scores[name][0])
    ahead, error = difference(counts[best], counts[MODEL], seed=seed)
    clear = len(windows) >= FEWEST_FOR_INTERVAL and ahead > _CLEARLY * max(error, 1e-9)
    return Comparison(scores, best, clear, len(windows))
