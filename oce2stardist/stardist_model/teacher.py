"""Teach a network the annotated cells first, and let it label the images for the training proper.

What the start gets wrong, it gets wrong in every image, and half of each batch would teach it. A
network that has learned the annotated cells makes fewer of these errors (self-training, as by Lee,
"Pseudo-Label", 2013). Measured in benchmarks/TRIALS.md, "A teacher".
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from oce2stardist.config import StarDistConfig
from oce2stardist.labels import FoundObjects
from oce2stardist.stardist_model.fit import TrainingJob, train_network
from oce2stardist.stardist_model.witness import label_images_of

if TYPE_CHECKING:
    from oce2stardist.training_labels.make import TrainingLabels

_FEWEST = 5
"""Annotated cells, and images that show some, to learn from; of fewer a network would learn their
look by heart. A third of all images is enough."""

_LEAST_ALPHA = 0.25
"""Pseudo labels that count for less are of little use: where they agree says little."""


def can_teach(
    settings: StarDistConfig, *, n_cells: int, n_annotated: int, n_images: int, alpha: float
) -> bool:
    """Tell whether there are cells enough to learn from, and pseudo labels worth judging.

    `n_cells` annotated cells train; they are in `n_annotated` of `n_images` images.
    """
    return (
        settings.teacher
        and n_cells >= _FEWEST
        and n_annotated >= min(_FEWEST, n_images / 3)
        and _LEAST_ALPHA <= alpha < 1
        and settings.folds == 0
        and (settings.steps or 0) > 1
    )


def teach(
    job: TrainingJob, labels: "TrainingLabels", *, stems: Sequence[str]
) -> tuple[TrainingJob, FoundObjects]:
    """Learn the annotated cells for half of the steps, and label the images of these stems.

    Returns
    -------
    job : TrainingJob
        The training proper: it begins with the teacher, and has the other half of the steps.
    found : FoundObjects
        What the teacher finds in these images, at their own size.
    """
    settings = job.config.stardist
    steps = settings.steps or 2

    def for_steps(count: int) -> TrainingJob:
        shorter = settings.model_copy(update={"steps": count})
        return replace(job, config=job.config.model_copy(update={"stardist": shorter}))

    folder = job.folder / "teacher"
    trained = train_network(
        for_steps(steps // 2),
        labels,
        folder,
        alpha=0.0,
        start_from=job.init,
        select=True,
        title="Learning the annotated cells",
    )
    prob, nms = job.usual_thresholds
    trained.model.thresholds = {"prob": prob, "nms": nms}
    found = label_images_of(job, trained.model, stems, "Labelling with what was learned")
    return replace(for_steps(steps - steps // 2), init=folder), found
