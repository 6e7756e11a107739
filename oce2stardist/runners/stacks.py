"""Train a StarDist3D model on annotated planes and pseudo labels of stacks, and predict stacks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from oce2stardist.annotations import AnnotationSet
from oce2stardist.annotations.known import digest_annotations, read_known
from oce2stardist.config import Config
from oce2stardist.errors import InputError, plural
from oce2stardist.files.atomic import write_text
from oce2stardist.files.digests import digest
from oce2stardist.files.records import read_yaml
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import is_ours, write_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.images.stacks import refuse_for_stacks
from oce2stardist.labels import Image, Labels, cut_cells, object_sizes
from oce2stardist.pseudo_labels.files import PseudoLabels, read_pseudo_labels
from oce2stardist.runs.determinism import (
    describe_determinism,
    fixed_threads,
    one_thread_for_sums,
)
from oce2stardist.runs.folder import Stage, lock_folder, refuse_inputs_in_output, write_run_file
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.log import RunLog, logged
from oce2stardist.runs.progress import Reporter
from oce2stardist.stardist_model.facts import trained_voxel_size
from oce2stardist.stardist_model.fit import choose_precision
from oce2stardist.stardist_model.judge import DEFAULT_THRESHOLDS, judge_thresholds
from oce2stardist.stardist_model.parameters import Parameters, describe_model, describe_use
from oce2stardist.stardist_model.volume_fit import VolumeJob, train_volume_network
from oce2stardist.stardist_model.volume_scale import (
    choose_volume_scale,
    measure_cells,
    read_volume_scale,
    write_volume_scale,
)
from oce2stardist.training_labels.alpha import choose_alpha
from oce2stardist.training_labels.draw_cells import CellDraw, Draw, draw_held_back
from oce2stardist.training_labels.files import write_training_labels
from oce2stardist.training_labels.make import TrainingLabels, make_training_labels

_FEWEST_RAYS = 16


def finetune_stacks(
    stacks: ImageSet,
    folder: Path,
    *,
    annotations: str | Path | Mapping[str, Labels] | None,
    pseudo: str | Path | None,
    cells: CellDraw,
    init: str | Path | None,
    tensorboard: bool,
    config: Config,
    overwrite: bool,
    results: tuple[str, ...],
    command: str,
    reporter: Reporter | None,
) -> tuple[Parameters, pd.DataFrame]:
    """Merge annotated planes with pseudo labels and train a StarDist3D model on both.

    The parameters are those of `finetune_stardist`; `results` are the files that a new start
    removes. Returns what was chosen, and the history of the training.
    """
    config = config.for_stacks()
    _refuse(config, init)
    with one_thread_for_sums(config.deterministic), logged(reporter, command) as log:
        known = read_known(
            stacks,
            annotations or {},
            zero_is_background=cells.zero_is_background,
            instances=config.instances,
        )
        for note in known.notes:
            log.warn(note)
        given = PseudoLabels({}, {}) if pseudo is None else read_pseudo_labels(pseudo, stacks)
        _check_depth(known, given, config)
        drawn = {}
        if annotations is not None:
            drawn = cells.draw(known.labels, seed=config.seed)
        inputs = {
            "images": len(stacks.images),
            "sha256": stacks.digest(),
            "annotations_sha256": digest_annotations(known),
            "pseudo_sha256": digest(given.files),
        }
        refuse_inputs_in_output(folder, results, stacks.files + known.files)
        with lock_folder(folder):
            stage = Stage(
                folder,
                {
                    "inputs": inputs,
                    "voxel_sizes": {stem: list(size) for stem, size in stacks.voxel_sizes.items()},
                    "seed": config.seed,
                    "cells": {stem: ids for stem, ids in drawn.items() if ids},
                    "zero": cells.zero,
                    "merge": config.merge.model_dump(mode="json"),
                    "stardist": config.stardist.model_dump(mode="json"),
                    **describe_determinism(config),
                },
                overwrite=overwrite,
                results=results,
            )
            log.open(folder)
            if stage.finished:
                log.say(f"The model in {folder} is finished.")
                return read_yaml(folder / "parameters.yaml"), pd.read_csv(folder / "history.csv")
            size = _common_voxel_size(stacks)
            source = {
                "images_from": stacks.source,
                "voxel_size_um": None if size is None else list(size),
            }
            write_run_file(
                folder,
                command=command,
                config=config,
                inputs=inputs | source,
                precision={"training": choose_precision(config)},
            )
            labels = _merge(stacks, known, given, drawn, cells, config)
            parameters, history = _train(
                stacks, folder, labels, given, drawn, config, log, tensorboard=tensorboard
            )
            write_text(folder / "parameters.yaml", yaml.safe_dump(parameters, sort_keys=False))
            stage.finish()
            return parameters, history


def _refuse(config: Config, init: str | Path | None) -> None:
    """Refuse what does not work on stacks yet."""
    settings = config.stardist
    if init is not None and str(init) != "none":
        refuse_for_stacks(init=init)
    for name, is_asked in (
        ("rounds", settings.rounds > 1),
        ("folds", settings.folds not in (0, "auto")),
        ("blocks", settings.blocks != "stock"),
        ("start_share", settings.start_share not in ("auto", 0.0)),
        ("how_many_more", settings.how_many_more),
    ):
        if is_asked:
            raise InputError(
                f"stardist.{name} does not work on stacks yet. Got {getattr(settings, name)}; "
                "leave it at its default."
            )
    if settings.n_rays < _FEWEST_RAYS:
        raise InputError(
            f"stardist.n_rays must be at least {_FEWEST_RAYS} for stacks. Got {settings.n_rays}; "
            "64 is usual."
        )


def _check_depth(known: AnnotationSet, given: PseudoLabels, config: Config) -> None:
    """Refuse to learn from cuts alone: nothing would tell how far cells reach along z."""
    if not known.labels and not given.labels:
        raise InputError(
            "a model must learn from annotations, pseudo labels or both. Got no --annotations "
            "and no --pseudo; pass one."
        )
    alpha = config.stardist.alpha
    if not given.labels and alpha not in ("auto", 0.0):
        raise InputError(
            f"alpha {alpha:g} needs pseudo labels. Got no --pseudo; "
            "pass the run folder of `oce2stardist pseudo`, or --alpha 0."
        )
    n_whole = sum(
        len(object_sizes(labels)[0]) - len(cut_cells(labels)) for labels in known.labels.values()
    )
    if not n_whole and (not given.labels or alpha == 0.0):
        got = "no --pseudo" if not given.labels else "--alpha 0"
        raise InputError(
            "outlines on single planes don't tell how far cells reach along z; pseudo labels do. "
            f"Got {got}; pass the run folder of `oce2stardist pseudo`, or outline some cells on "
            "every plane."
        )


def _merge(
    stacks: ImageSet,
    known: AnnotationSet,
    given: PseudoLabels,
    drawn: Draw,
    cells: CellDraw,
    config: Config,
) -> TrainingLabels:
    return make_training_labels(
        known.labels,
        given,
        drawn,
        held_back=draw_held_back(drawn, share=config.stardist.held_back, seed=config.seed),
        complete=cells.simulates_few,
        background_distance=config.merge.background_distance,
        overlap=config.merge.overlap,
        voxel_size={stem: size.in_pixels for stem, size in stacks.voxel_sizes.items()},
    )


def _train(
    stacks: ImageSet,
    folder: Path,
    labels: TrainingLabels,
    given: PseudoLabels,
    drawn: Draw,
    config: Config,
    log: RunLog,
    *,
    tensorboard: bool,
) -> tuple[Parameters, pd.DataFrame]:
    """Choose alpha and scale, train, and choose thresholds on the held-back cells."""
    from oce2stardist.stardist_model.checkpoint import write_thresholds

    n_cells = sum(map(len, drawn.values()))
    n_held_back = int((labels.cells["role"] == "held_back").sum())
    if n_cells:
        use = describe_use(n_cells, n_held_back=n_held_back, n_folds=0)
        log.say(
            f"{plural(n_cells, 'annotated cell')} in {plural(len(stacks.images), 'stack')}: {use}."
        )
    alpha = choose_alpha(
        config.stardist.alpha, given.labels, labels.known, trusted=given.trusted, seed=config.seed
    )
    n_cuts = sum(len(cut_cells(one)) for one in labels.sparse.values())
    value = alpha.value
    if value == 0 and n_cuts and given.labels and config.stardist.alpha == "auto":
        value = 0.5  # nothing else tells how far the cells reach along z
        log.say("alpha 0.5: outlines on single planes don't tell how far cells reach along z.")
    else:
        log.say(f"alpha {value:g}: {alpha.reason}.")
    if not (folder / "training" / "cells.csv").exists():
        write_training_labels(folder / "training", labels)
    cell = measure_cells(labels.pseudo.values()) or measure_cells(labels.sparse.values())
    if cell is None:
        raise InputError(
            "there must be a cell to learn from. Got none in annotations and pseudo labels; "
            "outline some."
        )
    scale = choose_volume_scale(cell, config.stardist.working_diameter)
    write_volume_scale(folder, scale)
    log.say(f"scale {', '.join(f'{by:g}' for by in scale.factors)} (z, y, x): {scale.reason}.")
    job = VolumeJob(folder, normalised_stacks(stacks), config, log, tensorboard, scale, cell)
    trained = train_volume_network(job, labels, folder, alpha=value, title="Training")
    verdict = judge_thresholds(
        trained.judge.windows,
        trained.judge.predict(trained.model),
        grid=trained.model.config.grid,
        usual=DEFAULT_THRESHOLDS,
        seed=config.seed,
    )
    write_thresholds(folder, prob=verdict.prob_thresh, nms=verdict.nms_thresh)
    parameters = describe_model(
        alpha, trained.history, verdict,
        n_cells=n_cells, n_held_back=n_held_back, n_folds=0, rounds=(), seed=config.seed,
    )  # fmt: skip
    parameters["alpha"]["value"] = value
    parameters["scale"] = {"value": list(scale.factors), "reason": scale.reason}
    return parameters, trained.history


def normalised_stacks(stacks: ImageSet) -> dict[str, Image]:
    """Normalise every stack and channel by its percentiles."""
    return {stem: normalise_percentiles(stack) for stem, stack in stacks.images.items()}


def _common_voxel_size(stacks: ImageSet) -> VoxelSize | None:
    sizes = set(stacks.voxel_sizes.values())
    return sizes.pop() if len(sizes) == 1 else None


def predict_stacks(
    stacks: ImageSet,
    output: Path | None,
    *,
    model: Path,
    kinds: set[str],
    device: str,
    deterministic: bool,
    reporter: Reporter,
) -> dict[str, Labels]:
    """Predict the labels of stacks, (Z, Y, X), by stem, and write them where there is an output.

    They are those of plain stardist's ``predict_instances(stack, scale=(z, y, x, 1))`` with the
    factors of the model's scale.json. Stacks whose voxels have another size than those that the
    model was trained on are brought to that.
    """
    others = kinds - {"labels"}
    if others:
        raise InputError(
            f"of stacks labels can be written. Got {', '.join(sorted(others))}, too; leave out "
            "--write."
        )
    if output is not None:
        for path in (output / f"{stem}.tif" for stem in stacks.images):
            if path.exists() and not is_ours(path):
                raise InputError(
                    f"labels must not replace a file of something else. Got {path}, which "
                    "oce2stardist did not write; choose another output."
                )

    from oce2stardist.stardist_model.network import prepare_tensorflow
    from oce2stardist.stardist_model.volume_network import open_volume_model
    from oce2stardist.stardist_model.volume_predict import predict_volume

    prepare_tensorflow(device, threads=fixed_threads(deterministic))
    network = open_volume_model(model)
    channels = network.config.n_channel_in
    if stacks.channels != channels:
        raise InputError(
            f"stacks must have the model's {channels} channels. Got {stacks.channels}; pass "
            "stacks like those it was trained on."
        )
    own, trained_on = read_volume_scale(model), trained_voxel_size(model)
    predicted = {}
    with (
        stop_on_signal() as should_stop,
        reporter.task("Predicting", len(stacks.images)) as advance,
    ):
        for done, (stem, stack) in enumerate(stacks.images.items(), start=1):
            if should_stop():
                n_all = plural(len(stacks.images), "stack")
                raise Interrupted(f"Stopped after {done - 1} of {n_all}.")
            network.scale = own.for_voxels(stacks.voxel_sizes[stem], trained_on)
            labels, _ = predict_volume(network, normalise_percentiles(stack))
            if output is not None and kinds:
                write_labels(output / f"{stem}.tif", labels, image=stacks.paths.get(stem))
            predicted[stem] = labels
            advance(done, f"{plural(int(np.max(labels, initial=0)), 'cell')} in {stem}")
    return predicted
