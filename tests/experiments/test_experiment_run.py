"""Experiments from the command line: planned, run, killed and resumed, on drawn scenes."""

import shutil
import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import discs_scene

SETTINGS = {
    "device": "cpu",
    "embedding": {
        "feature_maps": 8, "steps": 300, "crop_size": 80, "batch_size": 2, "copies": 4,
        "learning_rate": 0.004,
    },
    "pseudo": {"working_diameter": 24.0, "choose": False, "variants": 0, "witness": "none"},
    "stardist": {
        "n_rays": 8, "width": 8, "features": 16, "patch_size": 64, "batch_size": 4, "steps": 300,
        "checks": 2, "learning_rate": 0.004,
    },
}  # fmt: skip
# Where no score is asked for, half of the steps will do.
BRIEF = SETTINGS | {"embedding": SETTINGS["embedding"] | {"steps": 150}}

STUDIES = {
    "fractions": {"fractions": [0.25, 1.0], "repeats": 1},
    "unsupervised": {
        "stardist": {"none": "no/such"},
        "cellpose": {},
        "oracle": True,
        "settings": BRIEF,
    },
    "scales": {"scales": [0.8, 1.0], "settings": BRIEF},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A data set of two training images and one test image, and a config of each study."""
    lab = tmp_path_factory.mktemp("lab")
    for part, n_images in (("train", 2), ("test", 1)):
        for index in range(n_images):
            image, truth = discs_scene(9, (128, 144), 12, seed=index + len(part))
            for name, array in (("images", image), ("masks", truth)):
                folder = lab / "discs" / part / name
                folder.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / f"{part}{index}.tif", array)
    data = [{"path": str(lab / "discs"), "diameter": 24.0}]
    for study, content in STUDIES.items():
        config = {"study": study, "data": data, "settings": SETTINGS, **content}
        (lab / f"{study}.yaml").write_text(yaml.safe_dump(config))
    return lab


def start(lab, study, output):
    command = [sys.executable, "-m", "oce2stardist", "experiment", study, f"{lab / study}.yaml"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "-o", str(lab / output)], **pipes)


def finish(process, code=0):
    """Wait for the end of a process; returns what it printed."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == code, err
    return out


@pytest.fixture(scope="module")
def fractions(lab):
    return lab / "whole", finish(start(lab, "fractions", "whole"))


@pytest.mark.slow
def test_a_study_leaves_tables_answers_and_a_page(fractions):
    folder, out = fractions
    summary = pd.read_csv(folder / "summary.csv")
    trained = summary[summary["method"] == "finetune"]
    trainings = sorted(zip(trained["fraction"], trained["alpha"], strict=True))
    assert trainings == [(0.25, 0.0), (0.25, 0.5), (1.0, 0.0), (1.0, 0.5)]
    by_fraction = trained.groupby("fraction")["cells"].first()
    assert by_fraction[1.0] == 18
    assert by_fraction[0.25] in (4, 5)
    # Clear discs: every network learned what it should, or nothing here says much.
    assert trained["f1_mean"].min() > 0.6
    assert "Alpha 0: " in out
    assert "With pseudo labels (alpha 0.5)" in out
    page = (folder / "report" / "index.html").read_text()
    assert "How many cells must be annotated" in page
    assert list((folder / "report" / "figures").glob("fractions*.svg"))
    recorded = yaml.safe_load((folder / "run.yaml").read_text())
    assert recorded["config"]["study"] == "fractions"


@pytest.mark.slow
def test_embeddings_are_trained_once_for_all_fractions(fractions):
    folder, _ = fractions
    kinds = [yaml.safe_load(path.read_text())["kind"] for path in folder.glob("cells/*/cell.yaml")]
    assert kinds.count("train_embeddings") == 1
    assert kinds.count("finetune") == 4


@pytest.mark.slow
def test_a_killed_experiment_ends_with_the_same_tables(lab, fractions):
    whole, _ = fractions
    folder = lab / "killed"
    leave_undone(shutil.copytree(whole, folder), "finetune-0.25")
    first = start(lab, "fractions", "killed")
    wait_for(lambda: list(folder.glob("cells/*finetune-0.25*/lock")))
    below = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive

    second = start(lab, "fractions", "killed")
    wait_for(lambda: runs_below(second))
    runs_below(second)[0].parent().kill()  # one worker
    finish(second)
    for name in ("results.csv", "summary.csv", "curves.csv"):
        assert (folder / name).read_text() == (whole / name).read_text()


def leave_undone(folder, name):
    """Make an experiment one that has not come to the runs of this name."""
    undone = list(folder.glob(f"cells/*{name}*"))
    assert len(undone) == 2
    for path in undone:
        shutil.rmtree(path)
    for table in folder.glob("*.csv"):
        table.unlink()


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited in vain")


def runs_below(process):
    """Processes of the runs that a command has started."""
    runs = []
    for below in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if any("run_process" in word for word in below.cmdline()):
                runs.append(below)
    return runs


@pytest.mark.slow
def test_weights_that_cannot_be_had_are_said_and_the_rest_is_scored(lab):
    # Such a model does not exist: that is no missing download but a mistake.
    out = finish(start(lab, "unsupervised", "unsupervised"), code=1)
    results = pd.read_csv(lab / "unsupervised" / "results.csv")
    pooled = results[results["image"] == "(all)"].set_index("method")
    assert set(pooled.index) == {"pseudo", "oracle", "classical", "none"}
    assert pooled.loc["oracle", "f1"] >= pooled.loc["pseudo", "f1"]
    assert pooled.loc["classical", "f1"] > 0.8
    assert pd.isna(pooled.loc["none", "f1"])
    assert "discs-stardist-none" in out


@pytest.mark.slow
def test_scales_are_scored_at_the_size_of_the_truth(lab):
    out = finish(start(lab, "scales", "scales"))
    summary = pd.read_csv(lab / "scales" / "summary.csv")
    assert summary["scale"].tolist() == [0.8, 1.0]
    truth = tifffile.imread(lab / "discs" / "test" / "masks" / "test0.tif")
    for path in (lab / "scales").glob("cells/*pseudo*/labels/test0.tif"):
        assert tifffile.imread(path).shape == truth.shape
    assert "scale" in out


# --- planning, and what is refused


def test_a_dry_run_lists_the_cells_and_writes_nothing(lab):
    folder = lab / "dry"
    arguments = ["experiment", "fractions", str(lab / "fractions.yaml"), "-o", str(folder)]
    result = CliRunner().invoke(main, [*arguments, "--dry-run", "--workers", "2"])
    assert result.exit_code == 0
    assert "discs-finetune-0.25-alpha0.5-seed0" in result.output
    assert "6 of 6 grid cells would run" in result.output
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fractions", "fractions-quick"], "data must name at least one data set"),
        (["fractions", "fractions-quick", "--data", "nowhere"], "nowhere must be a folder"),
        (["fractions", "scales-quick"], "study must be 'fractions'. Got 'scales'"),
        (["scales", "no.yaml"], "no.yaml: the config can't be read"),
        (["scales", "scales-quick", "--scheduler", "a", "--slurm", "b"], "leave one out"),
        (["fractions", "fractions-quick", "--data", "{discs}/train"], "needs a data set with a"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(lab, arguments, message):
    words = [word.format(discs=lab / "discs") for word in arguments]
    result = CliRunner().invoke(main, ["experiment", *words, "-o", str(lab / "refused")])
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (lab / "refused").exists()
