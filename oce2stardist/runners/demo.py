"""Run all stages on one real image that a dependency ships, in a few minutes."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import Scores
from oce2stardist.files.atomic import replacing, write_text
from oce2stardist.files.records import read_yaml_if_there
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.images.read import read_image
from oce2stardist.labels import UNLABELLED, ids_at_edge, object_sizes, remove_objects
from oce2stardist.reports import write_demo_report
from oce2stardist.runners.evaluate import evaluate_folders
from oce2stardist.runs.interruption import Interrupted, deaf_children, stop_on_signal
from oce2stardist.runs.progress import Reporter, SilentReporter
from oce2stardist.training_labels.draw_cells import draw_cells
from oce2stardist.training_labels.merge import keep_cells

_TRAIN_ROWS = 320
"""Rows of the 512 that may be annotated; what is scored lies below and was never annotated."""
_ANNOTATED = 0.1
"""Share of the cells of the training part that count as annotated."""
_BACKGROUND_DISTANCE = 30.0
_LOOK_EVERY = 0.2  # seconds between two looks at whether the user stopped it

STEPS = {"pseudo": 150, "finetune": 300}
"""Enough for one image; a set of images gets the preset's."""

MODELS = {
    "alpha-0": ("annotations alone (alpha 0)", 0.0),
    "alpha-0.5": ("annotations + pseudo labels (alpha 0.5)", 0.5),
}


@dataclass(frozen=True)
class DemoResult:
    """Scores on the part that was never annotated, by name, the report, and what it cost."""

    scores: dict[str, Scores]
    seconds: dict[str, float]
    n_annotated: int
    report: Path


def run_demo(
    output: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    steps: Mapping[str, int] = STEPS,
    reporter: Reporter | None = None,
) -> DemoResult:
    """Run pseudo, finetune (alpha 0 and 0.5), predict and evaluate on real nuclei.

    The 512x512 image of fluorescent nuclei that stardist ships is cut in two. A tenth of
    the cells of the upper part are the annotations; the lower part is only scored. The
    embeddings train on both parts, without any label; StarDist never sees the lower one.

    Data, runs, models, predictions and report go to `output`; the same call goes on where an
    interrupted one stopped. `steps` are those of training for "pseudo" and "finetune".
    """
    reporter = reporter or SilentReporter()
    folder = Path(output)
    n_annotated = _write_data(folder / "data", seed)
    images, annotations, truth = (
        folder / "data" / name for name in ("images", "annotations", "truth")
    )
    run = folder / "pseudo"
    shared = ["--seed", str(seed), "--device", device]
    wanted = {name: ["--steps", str(count)] for name, count in steps.items()}
    seconds = _Steps(folder / "times.yaml", reporter)
    seconds.run(
        "pseudo",
        ["pseudo", images, "-o", run, "--annotations", annotations] + shared + wanted["pseudo"],
    )
    predictions = {"pseudo labels alone": folder / "predicted" / "pseudo"}
    pseudo_labels = read_labels(run / "pseudo" / "labels" / "test.tif")
    write_labels(predictions["pseudo labels alone"] / "test.tif", pseudo_labels)
    for key, (name, alpha) in MODELS.items():
        model = folder / "models" / key
        seconds.run(
            f"finetune, alpha {alpha:g}",
            ["finetune", images / "train.tif", "--pseudo", run, "--annotations", annotations]
            + ["--zero", "background", "--alpha", str(alpha), "-o", model]
            + shared
            + wanted["finetune"],
        )
        predictions[name] = predicted = folder / "predicted" / key
        seconds.run(
            f"predict, alpha {alpha:g}",
            ["predict", images / "test.tif", "--model", model, "-o", predicted, "--device", device],
        )
    scores = {name: evaluate_folders(path, truth).pooled for name, path in predictions.items()}
    report = write_demo_report(
        folder,
        images={stem: read_image(images / f"{stem}.tif") for stem in ("train", "test")},
        annotations=read_labels(annotations / "train.tif"),
        pseudo=run,
        models={name: folder / "models" / key for key, (name, _) in MODELS.items()},
        predictions={name: read_labels(path / "test.tif") for name, path in predictions.items()},
        truth=read_labels(truth / "test.tif"),
        scores=[{"name": name, **score.to_dict()} for name, score in scores.items()],
        seconds=seconds.taken,
    )
    return DemoResult(scores, seconds.taken, n_annotated, report)


def _write_data(folder: Path, seed: int) -> int:
    """Cut the example image in two and draw the annotated cells; returns their number."""
    from stardist.data import test_image_nuclei_2d

    image, truth = test_image_nuclei_2d(return_mask=True)
    truth = truth.astype(np.int32)
    parts = {"train": slice(None, _TRAIN_ROWS), "test": slice(_TRAIN_ROWS, None)}
    for name, rows in parts.items():
        _write_image(folder / "images" / f"{name}.tif", image[rows])
    write_labels(folder / "truth" / "test.tif", truth[parts["test"]])
    upper = truth[parts["train"]]
    n_cells = len(object_sizes(upper)[0])
    # Nobody outlines half a cell; and a cell that the cut divides has a part in the scored image.
    whole = remove_objects(upper, ids_at_edge(upper))
    # Rounded down: at most this share.
    drawn = draw_cells({"train": whole}, count=int(_ANNOTATED * n_cells), seed=seed)["train"]
    annotations = keep_cells(upper, drawn, background_distance=_BACKGROUND_DISTANCE)
    write_labels(folder / "annotations" / "train.tif", annotations)
    assert (annotations == UNLABELLED).any()
    return len(drawn)


def _write_image(path: Path, image: NDArray[np.integer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, image, metadata={"axes": "YX"})


class _Steps:
    """Run commands as processes of their own: torch and TensorFlow never share one."""

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self._path = path
        self._reporter = reporter
        self.taken: dict[str, float] = read_yaml_if_there(path)

    def run(self, name: str, arguments: list[object]) -> None:
        command = [str(argument) for argument in arguments]
        self._reporter.say(f"$ oce2stardist {' '.join(command)}")
        started = time.monotonic()
        # What a step prints is progress of ours.
        program = [sys.executable, "-m", "oce2stardist", *command]
        code = _run_until_stopped(program)
        if code == 130:
            raise Interrupted("")  # the step has said so
        if code == 2:
            raise InputError(f"the demo stopped at {name}; the line above says why.")
        if code != 0:
            raise RuntimeError(
                f"`oce2stardist {' '.join(command)}` failed with exit code {code}; "
                "its message is above."
            )
        # A step that was finished before keeps the time that it took then.
        self.taken.setdefault(name, round(time.monotonic() - started, 1))
        write_text(self._path, yaml.safe_dump(self.taken, sort_keys=False))


def _run_until_stopped(program: list[str]) -> int:
    """Run a program and return its exit code; Ctrl-C asks it once to save what it did and to end.

    What it hears twice, from a terminal and from here, would keep it from saving.
    """
    with stop_on_signal() as should_stop:
        with deaf_children():
            process = subprocess.Popen(program, stdout=sys.__stderr__)
        told = False
        try:
            while process.poll() is None:
                if should_stop() and not told and os.name == "posix":
                    process.terminate()
                    told = True
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=_LOOK_EVERY)
        finally:
            process.kill()  # after a second Ctrl-C, which does not wait; else it has ended
    if told and process.returncode != 130:  # it had nothing to save
        raise Interrupted("Stopped; the same command goes on from there.")
    return process.returncode
