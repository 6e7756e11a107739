"""Score folders of predicted labels against true ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import Scores, leave_out_border, pool_scores, score_sparse
from oce2stardist.images.find import find_images, image_stem, label_paths
from oce2stardist.images.formats import LABEL_SUFFIXES
from oce2stardist.images.instances import as_instances
from oce2stardist.images.label_files import is_ours, read_labels
from oce2stardist.labels import Instances, Labels

F1_CURVE = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class Evaluation:
    """Scores at one IoU threshold, pooled and per image, and pooled F1 over thresholds."""

    pooled: Scores
    images: dict[str, Scores]
    f1_by_iou: dict[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the pooled scores as top-level keys, ready for JSON."""
        return {
            **self.pooled.to_dict(),
            "f1_by_iou": {f"{iou:g}": f1 for iou, f1 in self.f1_by_iou.items()},
            "images": {stem: scores.to_dict() for stem, scores in self.images.items()},
        }


def evaluate_folders(
    predicted: str | Path,
    truth: str | Path,
    *,
    iou: float = 0.5,
    border: float = 0,
    instances: Instances = "auto",
    curve: Sequence[float] = F1_CURVE,
) -> Evaluation:
    """Score predicted label files against true ones of the same name.

    Parameters
    ----------
    predicted, truth : path
        Folders (or one file each) of label images or stacks, matched by stem; ``x_masks.tif`` is
        the truth of ``x.tif`` too.
    iou : float, in (0, 1]
        Least IoU of a match.
    border : float, >= 0
        Leave out objects, predicted or true, whose centroid lies closer to the image's
        edge than this, pixels.
    instances : {"auto", "labels", "components"}
        How labels are taken that we did not write: see `oce2stardist.images.instances`. Those of
        stacks are taken as they are.
    curve : sequence of float
        IoU thresholds at which pooled F1 is given as well.

    Returns
    -------
    Evaluation
        Counts are pooled over images before F1 is taken; SEG is the mean over all true
        cells.

    Raises
    ------
    InputError
        If either side is missing, unreadable or not one number for each cell, a true image has
        no prediction, or the two have different shapes.
    """
    predictions = [
        path
        for path in find_images(predicted, suffixes=LABEL_SUFFIXES)
        if not path.stem.endswith("_overlay")
    ]
    matched = label_paths(predictions, Path(truth))
    n_true = len(find_images(truth, suffixes=LABEL_SUFFIXES)) if Path(truth).is_dir() else 1
    if len(matched) < n_true:
        raise InputError(
            f"every true label image must have a prediction. Got {len(matched)} predictions for "
            f"the {n_true} files in {truth}; predict the missing images or move the others away."
        )
    scores: dict[str, list[Scores]] = {}
    for path, true_path in matched.items():
        labels = read_labels(path)
        if labels.ndim == 3 and instances == "components":
            raise InputError(
                f"--instances components is for images without planes. Got the stack {path}; "
                "number the cells."
            )
        true_labels = read_labels(true_path, shape=labels.shape, image=path)
        pair = [
            as_instances(side, instances=_taken_as(side, file, instances), what=file)
            for side, file in ((labels, path), (true_labels, true_path))
        ]
        inner = [leave_out_border(side, border) if border else side for side in pair]
        scores[image_stem(path)] = score_sparse(*inner, iou_thresholds=[iou, *curve])
    pooled = [pool_scores(of_level) for of_level in zip(*scores.values(), strict=True)]
    f1_by_iou = {level: at.f1 for level, at in zip(curve, pooled[1:], strict=True)}
    images = {stem: of_image[0] for stem, of_image in scores.items()}
    return Evaluation(pooled[0], images, f1_by_iou)


def _taken_as(labels: Labels, file: Path, instances: Instances) -> Instances:
    """Take our own labels, and those of stacks, as they are."""
    return "labels" if labels.ndim == 3 or is_ours(file) else instances
