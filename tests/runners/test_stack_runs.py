"""Stage one on stacks, from files to a page."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import grid_of_discs
from scipy import ndimage as ndi

from oce2stardist import Config, make_pseudo_labels
from oce2stardist.errors import InputError
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.reports.verdicts import stack_verdict
from oce2stardist.runs.interruption import Interrupted

FEW = Config().replace(**{"embedding.steps": 3, "embedding.copies": 6, "embedding.batch_size": 2})
STEP = 2  # pixels between planes


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A stack of 27 balls of 18 px whose planes lie two pixels apart, and a run on it."""
    folder = tmp_path_factory.mktemp("stacks")
    truth, _ = grid_of_discs(3, per_side=3, radius=9, pitch=26)
    image = ndi.gaussian_filter((truth > 0).astype(np.float32), 1.0)
    image += np.random.default_rng(0).normal(0, 0.05, image.shape)
    (folder / "images").mkdir()
    stored = np.uint16(1000 + 5000 * image)[::STEP]
    tifffile.imwrite(
        folder / "images" / "balls.tif", stored, imagej=True, resolution=(2, 2),
        metadata={"axes": "ZYX", "spacing": STEP / 2, "unit": "um"},
    )  # fmt: skip
    np.save(folder / "truth.npy", truth[::STEP])
    make_pseudo_labels(folder / "images", folder / "run", config=FEW)
    return folder


def test_every_ball_is_one_object_in_the_shape_of_the_stack(lab):
    labels, truth = read_labels(lab / "run/pseudo/labels/balls.tif"), np.load(lab / "truth.npy")
    assert labels.shape == truth.shape
    pairs = {(int(ball), np.bincount(labels[truth == ball]).argmax()) for ball in range(1, 28)}
    assert len({found for _, found in pairs} - {0}) == 27 == labels.max()


def test_the_diameter_is_in_pixels_of_x(lab):
    parameters = yaml.safe_load((lab / "run/pseudo/parameters.yaml").read_text())
    assert parameters["diameter"]["value"] == pytest.approx(18, rel=0.1)
    assert parameters["voxel_size"]["value"] == [1.0, 0.5, 0.5]
    table = pd.read_csv(lab / "run/pseudo/objects.csv")
    assert {"volume", "z", "y", "x"} < set(table)
    assert table["diameter"].median() == pytest.approx(18, rel=0.15)


def test_the_page_shows_three_sections_and_a_projection(lab):
    page = (lab / "run/report/index.html").read_text()
    for caption in ("xy at z = ", "xz at y = ", "yz at x = ", "Largest value along z; pseudo"):
        assert caption in page


def test_the_page_names_no_command_that_refuses_stacks(lab):
    page = (lab / "run/report/index.html").read_text()
    assert "oce2stardist finetune" not in page and "oce2stardist suggest" not in page
    assert "stacks.html" in page


def test_labels_that_can_not_be_trusted_are_said_so_first(tmp_path):
    write_yaml = (tmp_path / "run.yaml").write_text
    write_yaml(yaml.safe_dump({"inputs": {"images_from": "my stacks"}}))
    trust = {"value": False, "reason": "objects change", "measures": {"agreement": 0.3}}
    verdict = stack_verdict(tmp_path, trust)
    assert verdict.light == "red" and "objects change" in verdict.text
    assert any("'my stacks' -o" in step.command for step in verdict.steps)


def test_a_finished_run_finds_objects_again_without_training(lab, tmp_path):
    run = shutil.copytree(lab / "run", tmp_path / "run")
    before = (run / "oce/weights.safetensors").stat().st_mtime_ns
    changed = FEW.replace(**{"pseudo.min_size": 0.1, "pseudo.choose": False})
    make_pseudo_labels(lab / "images", run, config=changed)
    assert (run / "oce/weights.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_labels(lab, tmp_path, monkeypatch):
    from oce2stardist.embeddings import train

    asked = iter([False, True])
    once = train.agree_on_any
    with monkeypatch.context() as patch:
        patch.setattr(train, "agree_on_any", lambda _: once(next(asked)))
        with pytest.raises(Interrupted, match="after step 1 of 3"):
            make_pseudo_labels(lab / "images", tmp_path / "run", config=FEW)
    make_pseudo_labels(lab / "images", tmp_path / "run", config=FEW)
    ends = [read_labels(one / "pseudo/labels/balls.tif") for one in (lab / "run", tmp_path / "run")]
    np.testing.assert_array_equal(*ends)


def test_another_voxel_size_is_another_run(lab, tmp_path):
    run = shutil.copytree(lab / "run", tmp_path / "run")
    with pytest.raises(InputError, match=r"to continue it\. Got inputs\.voxel_sizes\.balls"):
        make_pseudo_labels(lab / "images", run, config=FEW, voxel_size=VoxelSize(3, 1, 1))


@pytest.mark.parametrize("option", ["annotations", "trained", "overlay"])
def test_what_does_not_work_on_stacks_is_refused(lab, tmp_path, option):
    given = {option: True if option == "overlay" else lab / "run"}
    with pytest.raises(InputError, match=f"--{option} does not work on stacks yet"):
        make_pseudo_labels(lab / "images", tmp_path / "run", config=FEW, **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["2,0.5", "2,0.5,0", "a,b,c", "1,1,inf"])
def test_a_voxel_size_is_three_lengths(tmp_path, given):
    asked = ["pseudo", str(tmp_path), "-o", str(tmp_path / "run"), "--voxel-size", given]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 2 and "three lengths above 0" in result.output
