"""Ask what more annotated cells would bring, by trainings on parts of those there are.

The trainings are in `stardist_model.more_cells`, the curve in `evaluation.learning_curve`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oce2stardist.stardist_model.fit import TrainingJob
from oce2stardist.stardist_model.more_cells import (
    FEWEST,
    Part,
    ask_how_many_more,
    describe_curve,
)
from oce2stardist.training_labels.draw_cells import Draw, draw_held_back, nest_cells
from oce2stardist.training_labels.make import TrainingLabels

_PARTS = (0.25, 0.5, 1.0)
_HELD_BACK = 0.2
"""Of the cells, to judge what more of them would bring, where the run itself holds none back."""


def tell_how_many_more(
    job: TrainingJob,
    cells: Draw,
    merge: Callable[..., TrainingLabels],
    held_back: Draw,
    *,
    alpha: float,
) -> dict[str, Any]:
    """Tell what as many cells again would bring, as an entry of parameters.yaml.

    Parameters
    ----------
    job : TrainingJob
        Of the run.
    cells : Draw
        The annotated cells that it uses, `held_back` those of them that judge; may be none.
    merge : callable
        Makes training labels of ``cells``, some ``held_back``; without ``cells`` of all.
    alpha : float
        Weight of the pseudo half, that of the run.
    """
    seed = job.config.seed
    n_cells = sum(map(len, cells.values()))
    if n_cells < FEWEST:
        said = f"{FEWEST} annotated cells or more can tell what more would bring; there are"
        return {"value": None, "reason": f"{said} {n_cells}"}
    if job.init is None:
        said = "what more cells would bring is told by short trainings, and from nothing, as here"
        return {"value": None, "reason": f"{said}, these learn too little to tell"}
    held_back = held_back or draw_held_back(cells, share=_HELD_BACK, seed=seed)
    train = _without(cells, held_back)
    parts, judged = nest_cells(train, _PARTS, seed), held_back
    made = []
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None:  # what the part leaves out judges, too
            judged = _without(cells, part)
        labels = merge(cells=_with(part, held_back), held_back=held_back)
        known = merge(held_back=judged).held_back
        made.append(Part(sum(map(len, part.values())), labels, known))
    return describe_curve(ask_how_many_more(job, made, alpha=alpha), n_cells=n_cells)


def _without(cells: Mapping[str, Sequence[int]], others: Draw) -> Draw:
    kept = {stem: sorted(set(ids).difference(others.get(stem, []))) for stem, ids in cells.items()}
    return {stem: ids for stem, ids in kept.items() if ids}


def _with(one: Draw, other: Draw) -> Draw:
    stems = sorted({*one, *other})
    return {stem: sorted({*one.get(stem, []), *other.get(stem, [])}) for stem in stems}
