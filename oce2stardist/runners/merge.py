"""Merge annotations into the pseudo labels of a run folder."""

import logging
from pathlib import Path

from oce2stardist.annotations.known import Zero, zero_is_background
from oce2stardist.images.label_files import read_labels
from oce2stardist.pseudo_labels.files import pseudo_folder, read_confidences
from oce2stardist.pseudo_labels.sizes import warn_of_scales
from oce2stardist.runs.folder import check_apart, owned
from oce2stardist.training_labels.files import read_cells, write_training_labels
from oce2stardist.training_labels.make import TrainingLabels, make_training_labels

_log = logging.getLogger(__name__)


def merge_run(
    run: str | Path,
    annotations: str | Path,
    *,
    fraction: float | None = None,
    count: int | None = None,
    per_image: bool = False,
    use_cells: str | Path | None = None,
    zero: Zero = "auto",
    background_distance: float = 30.0,
    overlap: float = 0.0,
    seed: int = 0,
) -> TrainingLabels:
    """Merge annotations into the pseudo labels of a run folder; writes RUN/training.

    Parameters
    ----------
    run : path
        A folder that `oce2stardist pseudo` wrote.
    annotations : path
        What `oce2stardist.annotations` reads, matched by stem to the images of the run.
    fraction, count, per_image, background_distance, overlap, seed
        See `make_training_labels`.
    use_cells : path, optional
        Use the annotated cells that this file lists; see `read_cells`.
    zero : {"auto", "unlabelled", "background"}
        What 0 means in the annotations; see `zero_is_background`.

    Raises
    ------
    InputError
        If either side is missing or they do not fit.
    """
    from oce2stardist.annotations import read_annotations

    paths = {path.stem: path for path in sorted(pseudo_folder(run, finished=False).glob("*.tif"))}
    pseudo_gt = {stem: read_labels(path) for stem, path in paths.items()}
    sampled = not (fraction is None and count is None and use_cells is None)
    is_background = zero_is_background(zero, sampled=sampled)
    annotated = read_annotations(
        paths,
        {stem: (labels.shape[0], labels.shape[1]) for stem, labels in pseudo_gt.items()},
        annotations,
        zero_is_background=is_background,
    )
    for note in annotated.notes:
        _log.warning("%s", note)
    check_apart(Path(run), ("training",), annotated.files)
    for warning in warn_of_scales(annotated.labels, pseudo_gt):
        _log.warning("%s", warning)
    merged = make_training_labels(
        annotated.labels,
        pseudo_gt,
        fraction=fraction,
        count=count,
        per_image=per_image,
        drawn=read_cells(use_cells) if use_cells is not None else None,
        complete=is_background and sampled,
        background_distance=background_distance,
        overlap=overlap,
        confidence=read_confidences(run, pseudo_gt),
        seed=seed,
    )
    with owned(Path(run)):
        write_training_labels(Path(run) / "training", merged)
    return merged
