"""Train a StarDist model on annotations and pseudo labels: stages two and three.

Where each step is: annotated files are read in `annotations.read`; pseudo objects that overlap
annotated cells are dropped in `training_labels.merge`; `runners.refine` chooses alpha, trains and
judges; `reports.finetune` writes the page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from oce2stardist.annotations.known import digest_annotations, read_known
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_text
from oce2stardist.files.digests import digest
from oce2stardist.files.records import read_yaml
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import VoxelSize, common_pixel_size
from oce2stardist.images.stacks import Reading as StackReading
from oce2stardist.images.stacks import read_images_or_stacks
from oce2stardist.labels import Image, Labels
from oce2stardist.pseudo_labels.files import PseudoLabels, read_pseudo_labels
from oce2stardist.pseudo_labels.sizes import warn_of_scales
from oce2stardist.reports import choose_evenly, write_finetune_report
from oce2stardist.reports.selection import AT_MOST
from oce2stardist.runners.refine import Sources, refine
from oce2stardist.runners.stacks import finetune_stacks
from oce2stardist.runs.determinism import (
    describe_determinism,
    fixed_threads,
    one_thread_for_sums,
)
from oce2stardist.runs.folder import (
    Stage,
    Times,
    lock_folder,
    refuse_inputs_in_output,
    write_run_file,
)
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter
from oce2stardist.stardist_model import drawn_start
from oce2stardist.stardist_model.fit import TrainingJob, check_tensorboard, choose_precision
from oce2stardist.stardist_model.judge import DEFAULT_THRESHOLDS
from oce2stardist.stardist_model.parameters import Parameters
from oce2stardist.stardist_model.scale import choose_scale, warn_of_large_cells, write_scale
from oce2stardist.training_labels.draw_cells import CellDraw
from oce2stardist.training_labels.files import read_held_back
from oce2stardist.training_labels.hints import follow_hints

_RESULTS = (
    *("training", "teacher", "folds", "rounds", "more_cells", "logs"),
    *("thresholds.json", "scale.json"),
    *("state.safetensors", "state-before.safetensors"),
    *("weights_best.h5", "weights_last.h5", "history.csv", "parameters.yaml"),
)
"""What a new start with other settings removes."""


@dataclass(frozen=True)
class FinetuneResult:
    """Where the model is, what was chosen and why, the course of the training, and the page."""

    model: Path
    parameters: Parameters
    history: pd.DataFrame
    report: Path | None  # of stacks there is none yet


def finetune_stardist(
    images: str | Path | ImageSet,
    output: str | Path,
    *,
    annotations: str | Path | Mapping[str, Labels] | None = None,
    pseudo: str | Path | None = None,
    cells: CellDraw | None = None,
    init: str | Path | None = None,
    tensorboard: bool = False,
    config: Config | None = None,
    axes: str | None = None,
    voxel_size: VoxelSize | None = None,
    overwrite: bool = False,
    command: str = "finetune_stardist",
    reporter: Reporter | None = None,
) -> FinetuneResult:
    """Merge annotations with pseudo labels and train a StarDist model on both.

    Parameters
    ----------
    images : path, glob or ImageSet
        The images that the annotations and the pseudo labels belong to.
    output : path
        The model folder, which also keeps the training labels, history and report. If it
        holds an unfinished run with the same settings, that run goes on.
    annotations : path or mapping of image stem to int32 array of shape (Y, X)
        Files as `oce2stardist.annotations.read_annotations` reads them, matched to the images
        by stem; or arrays with cells > 0 and unknown -1. Not every image needs one. Points, boxes
        and verdicts decide about pseudo objects: what they confirm trains, but judges nothing.
        Without any annotation the model learns from pseudo labels alone, and nothing judges it.
    pseudo : path, optional
        A run folder that `make_pseudo_labels` wrote. Needed if alpha is a number above 0, and
        where there are no annotations.
    cells : CellDraw, optional
        Use only some of the annotated cells: to simulate few annotations on a set that is
        completely annotated.
    init : path, "drawn" or "none", optional
        A StarDist folder, ours or stock, to start from; ``drawn`` is the network that was trained
        on drawn cells, ``none`` starts from nothing. Default: what ``config.stardist.start`` says.
    tensorboard : bool
        Also write the course of the training for TensorBoard.
    config : Config, optional
        Default: the `fast` preset. ``config.stardist.alpha`` weighs the pseudo half.
    axes, voxel_size, overwrite
        As in `make_pseudo_labels`. Of stacks a StarDist3D model is trained.

    Raises
    ------
    InputError
        If an input is missing, unreadable or of the wrong form.
    Interrupted
        If the user stopped the run; the same call goes on where it stopped.
    """
    config, draw, folder = config or Config(), cells or CellDraw(), Path(output)
    if tensorboard:
        check_tensorboard()
    image_set = images
    if not isinstance(image_set, ImageSet):
        image_set = read_images_or_stacks(image_set, StackReading(axes, voxel_size))
    if image_set.are_stacks:
        parameters, history = finetune_stacks(
            image_set,
            folder,
            annotations=annotations,
            pseudo=pseudo,
            cells=draw,
            init=init,
            tensorboard=tensorboard,
            config=config,
            overwrite=overwrite,
            results=_RESULTS,
            command=command,
            reporter=reporter,
        )
        return FinetuneResult(folder, parameters, history, None)
    with one_thread_for_sums(config.deterministic), logged(reporter, command) as log:
        if annotations is None and (pseudo is None or draw.is_sample):
            raise InputError(
                "a model must learn from annotations, pseudo labels or both. Got no --annotations "
                + (
                    "to draw cells from; leave out which cells to use."
                    if draw.is_sample
                    else "and no --pseudo; pass one."
                )
            )
        annotated = read_known(
            image_set,
            annotations or {},
            zero_is_background=draw.zero_is_background,
            instances=config.instances,
        )
        for note in annotated.notes:
            log.warn(note)
        if pseudo is None and config.stardist.alpha not in ("auto", 0.0):
            raise InputError(
                f"alpha {config.stardist.alpha:g} needs pseudo labels. Got no --pseudo; "
                "pass the run folder of `oce2stardist pseudo`, or --alpha 0."
            )
        if pseudo is None and annotated.hints:
            raise InputError(
                "points, boxes and verdicts need pseudo labels to say something about. Got some of "
                f"{next(iter(annotated.hints))} and no --pseudo; pass the run folder of "
                "`oce2stardist pseudo`."
            )
        given = PseudoLabels({}, {}) if pseudo is None else read_pseudo_labels(pseudo, image_set)
        hinted = follow_hints(given.labels, annotated.hints)
        start, init_files = _find_start(init, config, image_set)
        if start is None and config.stardist.start_share not in ("auto", 0.0):
            raise InputError(
                "stardist.start_share is a share of what training begins with. Got "
                f"{config.stardist.start_share:g} and a training from nothing; leave it out, or "
                "begin with drawn cells or a model."
            )
        begins_drawn = init_files == [drawn_start.WEIGHTS]
        if not begins_drawn:  # what a run does is recorded; how well the start knows, not yet known
            settings = config.stardist.filled(from_nothing=start is None)
            config = config.model_copy(update={"stardist": settings})
        inputs = {
            "images": len(image_set.images),
            "sha256": image_set.digest(),
            "annotations_sha256": digest_annotations(annotated),
            "pseudo_sha256": digest(given.files),
            "init_sha256": digest(init_files),
        }
        for warning in warn_of_scales(annotated.labels, given.labels):
            log.warn(f"{warning[0].upper()}{warning[1:]}.")
        drawn = {}
        if annotations is not None:
            drawn = draw.draw(annotated.labels, seed=config.seed, may_be_none=bool(hinted))
        normalised = {
            stem: normalise_percentiles(image) for stem, image in image_set.images.items()
        }
        refuse_inputs_in_output(folder, _RESULTS, image_set.files + annotated.files + init_files)
        with lock_folder(folder):
            stage = Stage(
                folder,
                {
                    "inputs": inputs,
                    "axes": axes,
                    "seed": config.seed,
                    "cells": {stem: ids for stem, ids in drawn.items() if ids},
                    "zero": draw.zero,
                    "merge": config.merge.model_dump(mode="json"),
                    "stardist": config.stardist.model_dump(mode="json"),
                    **describe_determinism(config),
                },
                overwrite=overwrite,
                results=_RESULTS,
            )
            log.open(folder)
            if stage.finished:
                log.say(f"The model in {folder} is finished.")
                parameters = read_yaml(folder / "parameters.yaml")
                history = pd.read_csv(folder / "history.csv")
            else:
                size = common_pixel_size(image_set.pixel_sizes)
                source = {
                    "images_from": image_set.source,
                    "pixel_size_um": None if size is None else list(size),
                }
                write_run_file(
                    folder,
                    command=command,
                    config=config,
                    inputs=inputs | source,
                    precision={"training": choose_precision(config)},
                )
                scale = choose_scale(
                    config.stardist, annotated.labels, drawn, given.labels, init=start
                )
                patch = config.stardist.patch_size
                for warning in warn_of_large_cells(
                    scale, annotated.labels, given.labels, patch_size=patch
                ):
                    log.warn(f"{warning[0].upper()}{warning[1:]}.")
                write_scale(folder, scale.model)
                usual = drawn_start.THRESHOLDS if begins_drawn else DEFAULT_THRESHOLDS
                parameters, history = refine(
                    TrainingJob(folder, normalised, config, log, start, tensorboard, scale, usual),
                    Sources(
                        annotated.labels, drawn, draw.simulates_few, given, begins_drawn, hinted
                    ),
                    times=Times(folder / "times.yaml", keep=stage.resumes),
                )
                write_text(folder / "parameters.yaml", yaml.safe_dump(parameters, sort_keys=False))
                stage.finish()
            predictions = _preview_predictions(folder, normalised)
            held_back = read_held_back(folder)
            report = write_finetune_report(folder, image_set, predictions, held_back=held_back)
            return FinetuneResult(folder, parameters, history, report)


def _find_start(
    init: str | Path | None, config: Config, images: ImageSet
) -> tuple[Path | None, list[Path]]:
    """Find the StarDist folder to start from, None for none, and the files that it consists of."""
    if init is None:
        init = config.stardist.start if drawn_start.fits(config.stardist) else "none"
    if str(init) == "none":
        return None, []
    if str(init) != drawn_start.NAME:
        return Path(init), sorted(Path(init).glob("*.[hj]*"))
    folder = drawn_start.folder_for(
        list(images.images.values()),
        device=config.device,
        threads=fixed_threads(config.deterministic),
    )
    return folder, [drawn_start.WEIGHTS]


def _preview_predictions(model: Path, images: Mapping[str, Image]) -> dict[str, Labels]:
    """Predict a few of the normalised images for the report, those with annotated cells first."""
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import predict_labels

    cells = set(pd.read_csv(model / "training" / "cells.csv", dtype={"image": str})["image"])
    stems = choose_evenly(cells.intersection(images))
    stems += choose_evenly(set(images).difference(cells), AT_MOST - len(stems))
    network = open_model(model)
    return {stem: predict_labels(network, images[stem]) for stem in stems}
