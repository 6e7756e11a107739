"""Merge annotations into the pseudo labels of a run folder."""

import logging
from pathlib import Path

from oce2stardist.annotations import read_annotations
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.images.label_files import read_labels
from oce2stardist.pseudo_labels.files import PseudoLabels, pseudo_folder, read_confidences
from oce2stardist.pseudo_labels.sizes import warn_of_scales
from oce2stardist.runs.folder import lock_folder, refuse_inputs_in_output
from oce2stardist.training_labels.draw_cells import CellDraw
from oce2stardist.training_labels.files import write_training_labels
from oce2stardist.training_labels.hints import follow_hints, summarise
from oce2stardist.training_labels.make import TrainingLabels, make_training_labels

_log = logging.getLogger(__name__)


def merge_run(
    run: str | Path,
    annotations: str | Path,
    *,
    cells: CellDraw | None = None,
    config: Config | None = None,
) -> TrainingLabels:
    """Merge annotations into the pseudo labels of a run folder; writes RUN/training.

    Parameters
    ----------
    run : path
        A folder that `oce2stardist pseudo` wrote.
    annotations : path
        What `oce2stardist.annotations` reads, matched by stem to the images of the run.
    cells : CellDraw, optional
        Use only some of the annotated cells.
    config : Config, optional
        Default: the `fast` preset. Its ``merge`` and ``seed`` count.

    Raises
    ------
    InputError
        If either side is missing or they do not fit.
    """
    paths = {path.stem: path for path in sorted(pseudo_folder(run, finished=False).glob("*.tif"))}
    pseudo_labels = {stem: read_labels(path) for stem, path in paths.items()}
    for stem, labels in pseudo_labels.items():
        if labels.ndim == 3:
            raise InputError(
                f"merge takes images without planes. Got pseudo labels of the stack {stem}; "
                "`oce2stardist finetune --pseudo RUN --annotations A` merges them itself."
            )
    config, draw = config or Config(), cells or CellDraw()
    annotated = read_annotations(
        paths,
        {stem: (labels.shape[0], labels.shape[1]) for stem, labels in pseudo_labels.items()},
        annotations,
        zero_is_background=draw.zero_is_background,
        instances=config.instances,
    )
    for note in annotated.notes:
        _log.warning("%s", note)
    refuse_inputs_in_output(Path(run), ("training",), annotated.files)
    for warning in warn_of_scales(annotated.labels, pseudo_labels):
        _log.warning("%s", warning)
    hinted = follow_hints(pseudo_labels, annotated.hints)
    if hinted:
        _log.info("%s", summarise(hinted.values()))
    merged = make_training_labels(
        annotated.labels,
        PseudoLabels(pseudo_labels, read_confidences(run, pseudo_labels)).replaced(
            {stem: one.labels for stem, one in hinted.items()}
        ),
        draw.draw(annotated.labels, seed=config.seed, may_be_none=bool(hinted)),
        held_back={},
        complete=draw.simulates_few,
        background_distance=config.merge.background_distance,
        overlap=config.merge.overlap,
        hinted=hinted,
    )
    with lock_folder(Path(run)):
        write_training_labels(Path(run) / "training", merged)
    return merged
