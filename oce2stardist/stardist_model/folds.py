"""Cross-validate: judge a training by more trainings, each on a part of the annotated cells."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from oce2stardist.config import StarDistConfig
from oce2stardist.stardist_model.fit import TrainingJob, train_network
from oce2stardist.stardist_model.judge import Verdict, judge_thresholds

if TYPE_CHECKING:
    from oce2stardist.training_labels.make import TrainingLabels

_FEW_HELD_BACK = 10
"""Below this many held-back cells a score says too little: cross-validation looks at all."""

_FOLDS = 3


def choose_folds(settings: StarDistConfig, n_cells: int) -> int:
    """Choose between holding cells back (0) and cross-validation."""
    if n_cells < 2:
        return 0
    if settings.folds != "auto":
        return min(settings.folds, n_cells)
    few = settings.held_back > 0 and settings.held_back * n_cells < _FEW_HELD_BACK
    return min(_FOLDS, n_cells) if few and settings.rounds == 1 else 0


def cross_validate(
    job: TrainingJob, folds: Iterable["TrainingLabels"], *, n_folds: int, alpha: float
) -> Verdict:
    """Train without each fold of the cells in turn, and judge on it.

    As long as the real training: probabilities rise with training, and thresholds with them.
    """
    windows: list[Any] = []
    raws: list[Any] = []
    grid = (1, 1)
    for number, labels in enumerate(folds, start=1):
        trained = train_network(
            job,
            labels,
            job.folder / "folds" / str(number),
            alpha=alpha,
            start_from=job.init,
            select=False,
            title=f"Cross-validation {number} of {n_folds}",
        )
        windows += trained.judge.windows
        raws += trained.judge.predict(trained.model)
        grid = trained.model.config.grid
    return judge_thresholds(
        windows, raws, grid=grid, usual=job.usual_thresholds, seed=job.config.seed
    )
