"""Stage one from Python: what is chosen, recorded, warned of, and used on other images."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from listener import Listener
from scenes import discs_scene

from oce2stardist import Config, make_pseudo_labels
from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import score_image
from oce2stardist.images.image_set import ImageSet, read_images
from oce2stardist.images.label_files import read_labels
from oce2stardist.reports import write_pseudo_report

pytestmark = pytest.mark.usefixtures("without_pages")

LEARNS = {
    "embedding.feature_maps": 8,
    "embedding.steps": 150,
    "embedding.crop_size": 80,
    "embedding.batch_size": 2,
    "embedding.learning_rate": 0.004,
    "embedding.copies": 4,
    "pseudo.working_diameter": 24.0,
    "pseudo.witness": "none",  # these tests look at what the embeddings alone find
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two images with cells of 24 px, their masks, and a run on them."""
    lab = tmp_path_factory.mktemp("lab")
    for index in range(2):
        image, truth = discs_scene(9, (128, 144), 12, seed=index)
        for name, array in (("images", image), ("masks", truth)):
            (lab / name).mkdir(exist_ok=True)
            tifffile.imwrite(lab / name / f"field{index}.tif", array)
    pseudo(lab, lab / "run")
    return lab


def pseudo(lab, run, *, diameter=24.0, reporter=None, annotations=None, **changes):
    config = Config().replace(**LEARNS | changes)
    return make_pseudo_labels(
        lab / "images",
        run,
        config=config,
        diameter=diameter,
        annotations=annotations,
        reporter=reporter,
    )


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, to go on from."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def parameters_of(run):
    return yaml.safe_load((run / "pseudo" / "parameters.yaml").read_text())


def test_every_object_has_a_row_with_its_confidence(trained):
    table = pd.read_csv(trained / "run" / "pseudo" / "objects.csv")
    assert len(table) > 5
    assert table["confidence"].between(0, 1).all()
    for stem, rows in table.groupby("image"):
        labels = read_labels(trained / "run" / "pseudo" / "labels" / f"{stem}.tif")
        assert rows["label"].tolist() == list(range(1, labels.max() + 1))
        np.testing.assert_array_equal(rows["area"], np.bincount(labels.ravel())[1:])


def test_without_variants_every_object_is_sure(trained, run):
    pseudo(trained, run, **{"pseudo.variants": 0})
    assert (pd.read_csv(run / "pseudo" / "objects.csv")["confidence"] == 1).all()


def test_annotations_choose_the_settings_of_a_trained_run(trained, run):
    weights = (run / "oce" / "weights.safetensors").stat().st_mtime_ns
    assert "next bandwidths" in parameters_of(run)["bandwidth"]["reason"]
    result = pseudo(trained, run, annotations=trained / "masks")
    parameters = parameters_of(run)
    assert parameters == yaml.safe_load(yaml.safe_dump(result.parameters))
    for name in ("bandwidth", "level", "min_size"):
        assert "on 18 annotated cells of 2 images" in parameters[name]["reason"]
    assert "F1 on annotated cells" in parameters["trust"]["measures"]
    assert (run / "oce" / "weights.safetensors").stat().st_mtime_ns == weights


def test_settings_given_in_the_config_are_not_chosen(trained, run):
    given = {"pseudo.bandwidth": 7.5, "pseudo.level": 0.3}
    pseudo(trained, run, annotations=trained / "masks", **given)
    parameters = parameters_of(run)
    assert parameters["bandwidth"] == {"value": 7.5, "reason": "set in the config"}
    assert parameters["level"] == {"value": 0.3, "reason": "set in the config"}
    pseudo(trained, run, annotations=trained / "masks", **{"pseudo.choose": False})
    assert parameters_of(run)["bandwidth"]["reason"] == "the default"


def test_labels_that_nothing_supports_are_warned_about(trained, tmp_path):
    listener = Listener()
    result = pseudo(trained, tmp_path / "run", reporter=listener, **{"embedding.steps": 1})
    assert not result.trust.trusted
    (warning,) = listener.warned
    assert warning.startswith("These pseudo labels can't be trusted: ")
    recorded = parameters_of(tmp_path / "run")["trust"]
    assert recorded["value"] is False
    assert recorded["reason"] == result.trust.verdict


def test_an_estimated_diameter_is_recorded_with_its_interval(trained, tmp_path):
    steps = {"embedding.steps": 1}
    pseudo(trained, tmp_path / "estimated", diameter=None, **steps)
    low, high = parameters_of(tmp_path / "estimated")["diameter"]["interval"]
    assert low <= 24 * 1.15
    assert high >= 24 / 1.15
    assert (tmp_path / "estimated" / "pseudo" / "diameter.png").exists()
    assert "interval" not in parameters_of(trained / "run")["diameter"]


def test_a_csv_file_of_diameters_gives_labels_at_the_original_scale(trained, tmp_path):
    (tmp_path / "sizes.csv").write_text("image,diameter\nfield0,12\nfield1.tif,48\n")
    result = pseudo(
        trained, tmp_path / "run", diameter=tmp_path / "sizes.csv", **{"embedding.steps": 1}
    )
    assert parameters_of(tmp_path / "run")["scale"]["images"] == {"field0": 2.0, "field1": 0.5}
    assert {labels.shape for labels in result.labels.values()} == {(128, 144)}


def test_annotations_that_do_not_fit_are_refused_before_anything_is_trained(trained, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        pseudo(trained, tmp_path / "run", annotations=tmp_path / "nowhere")
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "field0.tif", np.ones((5, 6), np.uint16))
    with pytest.raises(InputError, match=r"\(5, 6\)"):
        pseudo(trained, tmp_path / "run", annotations=tmp_path / "masks")
    assert not (tmp_path / "run").exists()


def apply(run, images, output, *, reporter=None, **options):
    return make_pseudo_labels(images, output, trained=run, reporter=reporter, **options)


def test_a_run_used_on_its_own_images_gives_its_own_labels(trained, tmp_path):
    apply(trained / "run", trained / "images", tmp_path / "again")
    for stem in ("field0", "field1"):
        own, again = (
            read_labels(run / "pseudo" / "labels" / f"{stem}.tif")
            for run in (trained / "run", tmp_path / "again")
        )
        np.testing.assert_array_equal(own, again)
    own, again = parameters_of(trained / "run"), parameters_of(tmp_path / "again")
    assert list(own) == list(again)
    for name, parameter in own.items():
        assert again[name]["value"] == pytest.approx(parameter["value"], abs=0.05), name


def test_a_run_used_on_other_images_trains_nothing_and_chooses_nothing(trained, tmp_path):
    other, truth = (array[::-1] for array in discs_scene(9, (128, 144), 12, seed=1))
    listener = Listener()
    images = ImageSet.from_arrays({"other": other})
    result = apply(trained / "run", images, tmp_path / "new", reporter=listener)
    assert score_image(result.labels["other"], truth).f1 > 0.2  # on its own images 0.46 and 0.67
    assert not (tmp_path / "new" / "oce" / "history.csv").exists()
    assert "embedding_training" not in result.seconds
    assert "Choosing settings." not in listener.said
    for name in ("diameter", "bandwidth", "level", "min_size"):
        own, new = (parameters_of(run)[name] for run in (trained / "run", tmp_path / "new"))
        assert own["value"] == pytest.approx(new["value"], abs=0.05)
        assert str(trained / "run") in new["reason"]
    record = yaml.safe_load((tmp_path / "new" / "run.yaml").read_text())
    assert record["inputs"]["trained"] == str(trained / "run")
    assert record["config"]["embedding"]["steps"] == LEARNS["embedding.steps"]
    assert parameters_of(tmp_path / "new")["trained_on"]["value"] == 2


def test_a_run_takes_its_choices_from_annotations_to_other_images(trained, run, tmp_path):
    pseudo(trained, run, annotations=trained / "masks")
    own = read_labels(run / "pseudo" / "labels" / "field0.tif")
    first = apply(run, trained / "images", tmp_path / "first")
    second = apply(tmp_path / "first", trained / "images", tmp_path / "second")
    np.testing.assert_array_equal(first.labels["field0"], own)
    np.testing.assert_array_equal(second.labels["field0"], own)


def test_a_diameter_given_for_other_images_stands_above_that_of_the_run(trained, tmp_path):
    result = apply(trained / "run", trained / "images", tmp_path / "new", diameter=48.0)
    assert result.parameters["scale"]["value"] == 0.5


def test_a_run_with_a_scale_for_each_image_looks_at_the_size_in_other_images(trained, tmp_path):
    (tmp_path / "sizes.csv").write_text("image,diameter\nfield0,12\nfield1,48\n")
    steps = {"embedding.steps": 1}
    pseudo(trained, tmp_path / "run", diameter=tmp_path / "sizes.csv", **steps)
    result = apply(tmp_path / "run", trained / "images", tmp_path / "new")
    assert result.parameters["diameter"]["value"] == pytest.approx(24, rel=0.2)


def test_the_page_of_a_run_that_trained_nothing_says_so(trained, tmp_path):
    apply(trained / "run", trained / "images", tmp_path / "new")
    page = write_pseudo_report(tmp_path / "new", read_images(trained / "images")).read_text()
    assert "Nothing was trained" in page
    assert "Loss of the embeddings" not in page


def test_settings_that_a_run_does_not_take_are_named(trained, tmp_path):
    listener = Listener()
    config = Config().replace(**{"pseudo.level": 0.3, "pseudo.working_diameter": 24.0})
    apply(trained / "run", trained / "images", tmp_path / "new", config=config, reporter=listener)
    assert listener.warned[0] == f"Settings are those of {trained / 'run'}, also pseudo.level."
    assert parameters_of(tmp_path / "new")["level"]["value"] != 0.3


def test_a_folder_without_a_finished_run_has_no_network_to_use(trained, run, tmp_path):
    with pytest.raises(InputError, match=r"must be a finished run.*Got no oce/stage.yaml"):
        apply(tmp_path, trained / "images", tmp_path / "new")
    stage = run / "oce" / "stage.yaml"
    stage.write_text(stage.read_text().replace("finished: true", "finished: false"))
    with pytest.raises(InputError, match="Got a run that is not finished"):
        apply(run, trained / "images", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_other_channels_and_the_own_folder_are_refused(trained, tmp_path):
    image, _ = discs_scene(6, (96, 110), 12, seed=0)
    two = ImageSet.from_arrays({"two": np.stack([image, image[::-1]], axis=-1)})
    with pytest.raises(InputError, match=r"must have the 1 channel\(s\).*Got 2"):
        apply(trained / "run", two, tmp_path / "new")
    with pytest.raises(InputError, match="the output must not be the run whose network is used"):
        apply(trained / "run", trained / "images", trained / "run")


@pytest.mark.slow
def test_under_torchrun_the_processes_write_one_run(trained, tmp_path):
    (tmp_path / "config.yaml").write_text(
        Config().replace(**LEARNS | {"embedding.steps": 10, "device": "cpu"}).to_yaml()
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "oce2stardist", "pseudo", trained / "images", "-o", tmp_path / "run"),
            *("--diameter", "24", "--config", tmp_path / "config.yaml"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if "objects in 2 images" in line]) == 1
    computation = yaml.safe_load((tmp_path / "run" / "oce" / "computation.yaml").read_text())
    assert computation["processes"] == 2
    assert len(pd.read_csv(tmp_path / "run" / "oce" / "history.csv")) == 10
    assert len(list((tmp_path / "run" / "pseudo" / "labels").glob("*.tif"))) == 2
