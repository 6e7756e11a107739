"""The commands from outside: results, one line and exit code 2 for bad input, Ctrl-C."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import discs_scene

from oce2stardist import stardist_model
from oce2stardist.images.label_files import read_labels

TINY = {
    "embedding": {
        "feature_maps": 8, "steps": 30, "crop_size": 80, "batch_size": 2, "copies": 2,
        "learning_rate": 0.004,
    },
    "pseudo": {"working_diameter": 24, "witness": "none"},  # which loads TensorFlow, too
    "stardist": {
        "width": 4, "features": 8, "n_rays": 8, "patch_size": 64, "batch_size": 4, "steps": 12,
        "checks": 2, "folds": 0,
    },
}  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def lab(tmp_path):
    """A folder of images, complete masks, and a config that takes seconds."""
    for index in range(2):
        image, labels = discs_scene(9, (128, 144), 12, seed=index)
        for folder, array in (("images", (1000 * image).astype(np.uint16)), ("masks", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"field {index}.tif", array.astype(np.uint16))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def pseudo(lab, output="run", *more):
    return run("pseudo", lab / "images", "-o", lab / output, "--config", lab / "tiny.yaml", *more)


def finetune(lab, output="model", *more):
    return run(
        "finetune", lab / "images", "--pseudo", lab / "run", "--annotations", lab / "masks",
        "-o", lab / output, "--config", lab / "tiny.yaml", "--fraction", "0.4", *more,
    )  # fmt: skip


@pytest.mark.slow
def test_three_commands_lead_from_images_to_scores(lab):
    assert (result := pseudo(lab)).exit_code == 0, result.output
    assert (lab / "run" / "report" / "index.html").exists()
    recorded = yaml.safe_load((lab / "run" / "run.yaml").read_text())
    assert (recorded["seed"], recorded["config"]["embedding"]["steps"]) == (0, 30)
    assert recorded["versions"]["torch"].startswith("2.")
    assert set(recorded["precision"]) == {"training", "prediction"}
    assert recorded["processor"]["name"]
    log = (lab / "run" / "log.txt").read_text()
    assert "Started: oce2stardist pseudo, version" in log.splitlines()[0]
    assert "INFO    Training embeddings: 30 of 30, loss" in log
    assert log.endswith("INFO    Finished.\n")
    assert (result := finetune(lab)).exit_code == 0, result.output
    model = lab / "model"
    written = {path.name for path in model.iterdir()}
    assert {"config.json", "weights_best.h5", "weights_last.h5", "thresholds.json"} <= written
    assert "training" in yaml.safe_load((model / "run.yaml").read_text())["precision"]
    assert "annotated cells in 2 of 2 images" in (model / "log.txt").read_text()
    assert len((model / "training" / "cells.csv").read_text().splitlines()) == 1 + 7
    result = run(
        "predict", lab / "images", "--model", model, "-o", lab / "out", "--overlay",
        "--write", "labels,rois,geojson,csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert read_labels(lab / "out" / "field 0.tif").shape == (128, 144)
    assert (lab / "out" / "field 0_overlay.png").exists()
    assert not (lab / "out" / "log.txt").exists()
    table = pd.read_csv(lab / "out" / "objects.csv")
    for stem in ("field 0", "field 1"):
        ids = set(np.unique(read_labels(lab / "out" / f"{stem}.tif"))) - {0}
        assert set(table["label"][table["image"] == stem]) == ids
        assert all((lab / "out" / f"{stem}{end}").exists() for end in ("_rois.zip", ".geojson"))
    scores = json.loads(run("evaluate", lab / "out", lab / "masks", "--json").output)
    assert {"f1", "seg", "n_predicted"} <= set(scores) and scores["n_true"] == 18


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_pseudo_labels(lab):
    pseudo(lab, "one"), pseudo(lab, "two")
    pseudo(lab, "other", "--seed", 7)
    for file in ("oce/weights.safetensors", "oce/predicted/field 0.safetensors"):
        one, two, other = ((lab / name / file).read_bytes() for name in ("one", "two", "other"))
        assert one == two != other
    one, two = (read_labels(lab / name / "pseudo/labels/field 1.tif") for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_a_finished_run_is_kept_and_other_settings_are_refused(lab):
    pseudo(lab)
    weights = lab / "run" / "oce" / "weights.safetensors"
    written = weights.stat().st_mtime_ns
    assert pseudo(lab).exit_code == 0
    assert weights.stat().st_mtime_ns == written
    refused = pseudo(lab, "run", "--steps", 31)
    assert refused.exit_code == 2 and "embedding.steps: 31 where it has 30" in refused.output
    assert weights.stat().st_mtime_ns == written
    predicted = lab / "run" / "oce" / "predicted" / "field 0.safetensors"
    before = predicted.read_bytes()
    assert pseudo(lab, "run", "--steps", 31, "--overwrite").exit_code == 0
    assert predicted.read_bytes() != before


def assert_interrupted(command, *, during):
    """Start a command as a process and send Ctrl-C once it speaks of `during`."""
    program = [sys.executable, "-m", "oce2stardist", *map(str, command)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    assert any(during in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=480)[1]
    assert process.returncode == 130, said
    assert "the same command goes on from there" in said


@pytest.mark.slow
def test_ctrl_c_in_either_training_loses_nothing(lab):
    long = {part: settings | {"steps": 100} for part, settings in TINY.items() if part != "pseudo"}
    few = {"pseudo": TINY["pseudo"] | {"choose": False, "variants": 0}}
    (lab / "tiny.yaml").write_text(yaml.safe_dump(long | few))
    config, images = ["--config", lab / "tiny.yaml"], lab / "images"

    command = ["pseudo", images, "-o", lab / "stopped", *config]
    assert_interrupted(command, during="Training embeddings")
    assert not (lab / "stopped" / "oce" / "weights.safetensors").exists()
    assert run(*command).exit_code == 0
    log = (lab / "stopped" / "log.txt").read_text()
    told = [log.index(text) for text in ("Stopped after step", "Going on after step", "Finished.")]
    assert told == sorted(told)
    assert log.count("Started: ") == 2
    assert pseudo(lab).exit_code == 0
    for file in ("oce/weights.safetensors", *(f"pseudo/labels/field {n}.tif" for n in (0, 1))):
        assert (lab / "stopped" / file).read_bytes() == (lab / "run" / file).read_bytes()

    command = [
        "finetune", images, "--pseudo", lab / "run", "--annotations", lab / "masks",
        "-o", lab / "model-stopped", "--fraction", "0.4", *config,
    ]  # fmt: skip
    assert_interrupted(command, during="Training StarDist")
    assert run(*command).exit_code == 0
    assert finetune(lab).exit_code == 0
    stopped, whole = (
        pd.read_csv(lab / name / "history.csv")["loss"] for name in ("model-stopped", "model")
    )
    np.testing.assert_array_equal(stopped, whole)
    for model in ("model", "model-stopped"):
        run("predict", images, "--model", lab / model, "-o", lab / f"out-{model}")
    for name in ("field 0.tif", "field 1.tif"):
        stopped = read_labels(lab / "out-model-stopped" / name)
        np.testing.assert_array_equal(stopped, read_labels(lab / "out-model" / name))


FINETUNE = "finetune {0}/images -o {0}/new --annotations"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("pseudo {0} -o {0}/new", "holds no images (.tif"),
        (f"{FINETUNE} {{0}}/small --alpha 0", "must have the shape of their image. Got (5, 6) in "),
        (f"{FINETUNE} {{0}}/masks --pseudo {{0}}/run", "run `oce2stardist pseudo IMAGES -o RUN`"),
        (f"{FINETUNE} {{0}}/masks --alpha 0.5", "alpha 0.5 needs pseudo labels"),
        (f"{FINETUNE} {{0}}/masks --alpha 0 --fraction 1.5", "and at most 1. Got 1.5"),
        ("pseudo {0}/images -o {0}/new --trained {0}/masks", "masks must be a finished run of"),
        ("pseudo {0}/images -o {0}/new --diameter {0}/sizes.csv", "Got none for field 1."),
    ],
)
def test_what_the_other_commands_were_not_given_is_one_line(lab, command, said):
    """Broken files are in tests/faults/corpus.py."""
    (lab / "sizes.csv").write_text("image,diameter\nfield 0,24\n")
    (lab / "small").mkdir()
    tifffile.imwrite(lab / "small" / "field 1.tif", np.ones((5, 6), np.uint16))
    result = run(*(word.format(lab) for word in command.split()))
    assert result.exit_code == 2, result.output
    (line,) = result.output.strip().splitlines()
    assert line.startswith("Error: ") and said in line
    assert not (lab / "new").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--diameter", "wide"), "must be a number of pixels or a CSV file. Got 'wide'."),
        (("--trained", ".", "--steps", "3"), "so --steps has no meaning; drop one."),
    ],
)
def test_options_that_mean_nothing_are_refused(lab, options, said):
    result = run("pseudo", lab / "images", "-o", lab / "new", *options)
    assert result.exit_code == 2 and said in result.output
    assert not (lab / "new").exists()


def test_evaluating_a_perfect_prediction_prints_a_table(lab):
    shutil.copytree(lab / "masks", lab / "same")
    lines = run("evaluate", lab / "same", lab / "masks").output.splitlines()
    assert lines[-1].split() == ["all", "1.000", "1.000", "18", "18"]


def test_a_demo_folder_of_another_seed_is_refused_without_a_traceback(tmp_path):
    (tmp_path / "pseudo" / "oce").mkdir(parents=True)
    (tmp_path / "pseudo" / "oce" / "stage.yaml").write_text("{finished: true, settings: {seed: 1}}")
    command = [sys.executable, "-m", "oce2stardist", "demo", "-o", str(tmp_path), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    reason, stopped = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert "must hold a run with the same settings" in reason
    assert stopped == "Error: the demo stopped at pseudo; the line above says why."


def test_tensorflow_starts_in_silence_whichever_module_needs_it_first():
    """Each takes it from `backend`: one process shows what that says, and the others nothing."""
    folder = Path(stardist_model.__file__).parent
    modules = sorted({path.stem for path in folder.glob("*.py")} - {"backend", "__init__"})
    loud = re.compile(r"^(from|import) (tensorflow|keras|stardist|csbdeep)\b", re.MULTILINE)
    for module in modules:
        assert not loud.search((folder / f"{module}.py").read_text(encoding="utf-8")), module
    assert {"checkpoint", "network", "patches", "predict", "train"} <= set(modules)
    program = "".join(f"import oce2stardist.stardist_model.{module}\n" for module in modules)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
