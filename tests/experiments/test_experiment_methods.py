"""Other ways to labels: published models opened here, none downloaded."""

import io
import logging
import shutil
import sys
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from csbdeep.models import pretrained
from experiment_folders import labelled
from run_folders import gathering_run
from scenes import discs_scene
from stardist.models import StarDist2D

from oce2stardist.config import Config, StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import pool_scores, score_image
from oce2stardist.experiments import methods, weights
from oce2stardist.experiments.baseline import segment_classically
from oce2stardist.experiments.methods import (
    segment_all_classically,
    segment_with_cellpose,
    segment_with_stardist,
)
from oce2stardist.experiments.oracle import oracle_line_search, search_with_oracle
from oce2stardist.experiments.scoring import Border
from oce2stardist.experiments.weights import WeightsMissing, fetch_weights
from oce2stardist.files.digests import hash_file
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.pseudo_labels.inputs import SegmentationInputs
from oce2stardist.runners.pseudo import make_pseudo_labels
from oce2stardist.stardist_model.checkpoint import write_thresholds, write_weights
from oce2stardist.stardist_model.network import create_model, open_model
from oce2stardist.stardist_model.predict import predict_labels


def stardist_folder(folder, channels=1):
    """A model that was trained on nothing, with thresholds at which it finds something."""
    config = StarDistConfig(n_rays=8, width=4, features=8, batch_norm=False, patch_size=64)
    model = create_model(folder, config, channels=channels, seed=0)
    # Distances of 6 px everywhere, whatever the image.
    kernel, bias = model.keras_model.get_layer("dist").get_weights()
    model.keras_model.get_layer("dist").set_weights([0 * kernel, 0 * bias + 6])
    write_weights(folder / "weights_best.h5", model)
    write_thresholds(folder, prob=0.5, nms=0.2)
    return folder, open_model(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return stardist_folder(tmp_path_factory.mktemp("models") / "grey")


def scene(seed=0, shape=(96, 112)):
    image, labels = discs_scene(6, shape, 10, seed=seed)
    return image[..., None], labels


def segment(image, source, *, model_diameter=None):
    """Labels of one image, "a", of cells of 10 px, by a StarDist model."""
    options = {"diameter": 10, "model_diameter": model_diameter}
    return segment_with_stardist({"a": image}, source, **options)["a"]


def test_stardist_predicts_what_its_folder_predicts(model):
    folder, network = model
    images = {"a": scene(0)[0], "b": scene(1)[0]}
    found = segment_with_stardist(images, folder, diameter=10, model_diameter=None)
    assert list(found) == ["a", "b"]
    for stem, image in images.items():
        expected = predict_labels(network, normalise_percentiles(image))
        np.testing.assert_array_equal(found[stem], expected)
        assert found[stem].dtype == np.int32
    assert any(labels.any() for labels in found.values())


def test_stardist_sees_the_mean_of_channels_that_are_equally_bright(model):
    image = scene()[0]
    two = np.concatenate([image, 100 * image + 7], axis=-1)
    of_image, of_two = (segment(array, model[0]) for array in (image, two))
    assert score_image(of_two, of_image, iou_threshold=0.9).f1 > 0.9


def test_stardist_labels_come_back_from_the_scale_of_the_model(model):
    image = scene(shape=(97, 113))[0]
    found = segment(image, model[0], model_diameter=20)
    assert found.shape == (97, 113)
    sizes = np.bincount(found.ravel())[1:]
    # Polygons of 6 px at twice the scale measure 3 px here.
    assert np.median(sizes[sizes > 0]) < 0.5 * np.pi * 6**2


def test_a_grey_image_is_colour_for_a_model_of_three_channels(tmp_path):
    folder, _ = stardist_folder(tmp_path / "colour", channels=3)
    image = scene()[0]
    of_image, of_three = (segment(np.repeat(image, n, axis=-1), folder) for n in (1, 3))
    np.testing.assert_array_equal(of_image, of_three)
    with pytest.raises(InputError, match=r"the model's 3 channels, or one. Got 2 in a"):
        segment(np.repeat(image, 2, axis=-1), folder)


@pytest.mark.parametrize(
    "method",
    [
        partial(segment_with_stardist, source="nowhere", model_diameter=20),
        partial(segment_with_cellpose, model="cpsam"),
        segment_all_classically,
    ],
)
def test_a_diameter_of_nothing_is_refused(method):
    with pytest.raises(InputError, match=r"a diameter must be above 0. Got 0"):
        method({"a": scene()[0]}, diameter=0)


@pytest.fixture
def published(model, tmp_path, monkeypatch):
    """A published model whose address is a file; returns that file."""
    archive = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", model[0]))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(pretrained, "_MODELS", {})
    monkeypatch.setattr(pretrained, "_ALIASES", {})
    pretrained.register_model(StarDist2D, "tiny", archive.as_uri(), hash_file(archive))
    pretrained.register_aliases(StarDist2D, "tiny", "Tiny (discs)")
    return archive


def test_a_published_model_is_downloaded_once(published, model, tmp_path, capfd):
    image = scene()[0]
    first = segment(image, "tiny")
    np.testing.assert_array_equal(first, segment(image, model[0]))
    published.unlink()
    np.testing.assert_array_equal(first, segment(image, "Tiny (discs)"))
    assert (tmp_path / "keras/models/StarDist2D/tiny/tiny.zip").exists()
    out, err = capfd.readouterr()
    assert "Found" not in out and "ownload" not in out + err


def test_a_file_in_the_cache_that_is_not_whole_is_downloaded_again(published, tmp_path):
    kept = tmp_path / "keras/models/StarDist2D/tiny/tiny.zip"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(published.read_bytes()[:100])
    segment(scene()[0], "tiny")
    assert kept.read_bytes() == published.read_bytes()


def test_a_published_model_that_cannot_be_had_says_what_to_do(published, tmp_path):
    published.unlink()
    with pytest.raises(WeightsMissing) as refused:
        segment(scene()[0], "tiny")
    message = str(refused.value)
    assert "\n" not in message
    assert "weights of StarDist tiny" in message and published.as_uri() in message
    assert "unpack it and pass the folder" in message
    assert isinstance(refused.value, InputError)
    published.write_bytes(b"something else")
    with pytest.raises(WeightsMissing, match="not the file that was published"):
        segment(scene()[0], "tiny")
    assert not list((tmp_path / "keras").rglob("*zip*"))


def test_a_name_that_stardist_does_not_publish_is_refused():
    with pytest.raises(InputError, match=r"\(2D_versatile_fluo, .*Got nonesuch"):
        segment(scene()[0], "nonesuch")


def answer_downloads(monkeypatch, announced):
    """Answer every download with five bytes, after announcing so many."""

    class Answer(io.BytesIO):
        headers = {"Content-Length": announced}  # noqa: RUF012

    monkeypatch.setattr(weights, "urlopen", lambda url, timeout: Answer(b"12345"))


def test_half_a_download_is_none(tmp_path, monkeypatch):
    answer_downloads(monkeypatch, "10")
    with pytest.raises(WeightsMissing, match="Got from u: 5 bytes of 10; do this"):
        fetch_weights("x", "u", tmp_path / "w", advice="do this")
    assert not list(tmp_path.iterdir())


def test_a_download_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    answer_downloads(monkeypatch, "5")
    with pytest.raises(WeightsMissing, match="not done after -1 s"):
        fetch_weights("x", "u", tmp_path / "w", advice="do this", at_most=-1)
    assert fetch_weights("x", "u", tmp_path / "w", advice="").read_bytes() == b"12345"


def test_a_zip_file_without_a_model_is_refused(published, tmp_path):
    with zipfile.ZipFile(published, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    del pretrained._MODELS[StarDist2D]["tiny"]
    pretrained.register_model(StarDist2D, "tiny", published.as_uri(), hash_file(published))
    with pytest.raises(InputError, match=r"Got no config.json"):
        segment(scene()[0], "tiny")


class FakeCellpose:
    """Stands in for the class of cellpose 4.2.1; knows how it was called."""

    calls: list

    def __init__(self, gpu=False, pretrained_model="cpsam_v2", device=None, use_bfloat16=True):
        if "broken" in pretrained_model:
            raise ValueError("This model does not appear to be a CP4 model.")
        self.calls.append({"weights": pretrained_model, "device": device})

    def eval(self, x, *, channel_axis=None, diameter=None):
        self.calls.append({"shape": x.shape, "axis": channel_axis, "diameter": diameter})
        return np.ones(x.shape[:2], np.uint16), [], []


@pytest.fixture
def cellpose(tmp_path, monkeypatch):
    """A package of which version and cache can be changed, and the calls be looked at."""
    FakeCellpose.calls = []
    models = SimpleNamespace(
        CellposeModel=FakeCellpose, MODEL_NAMES=["cpsam_v2", "cpsam"], MODEL_DIR=tmp_path / "cache"
    )
    monkeypatch.setitem(sys.modules, "cellpose.models", models)
    versions = {"cellpose": "4.2.1.1"}
    monkeypatch.setattr(methods, "version", versions.get)
    return versions


def segment_empty(model="cpsam_v2"):
    return segment_with_cellpose({"a": np.zeros((20, 30, 1))}, str(model), diameter=24.0)


def test_cellpose_gets_images_weights_and_diameter(cellpose, tmp_path):
    (tmp_path / "mine").write_bytes(b"weights")
    images = {"a": np.zeros((20, 30, 2)), "b": np.zeros((20, 31, 1))}
    found = segment_with_cellpose(images, str(tmp_path / "mine"), diameter=24.0)
    assert {stem: labels.shape for stem, labels in found.items()} == {"a": (20, 30), "b": (20, 31)}
    assert all(labels.dtype == np.int32 for labels in found.values())
    assert FakeCellpose.calls == [
        {"weights": str(tmp_path / "mine"), "device": torch.device("cpu")},
        {"shape": (20, 30, 2), "axis": -1, "diameter": 24},
        {"shape": (20, 31, 1), "axis": -1, "diameter": 24},
    ]


def test_cellpose_finds_its_weights_in_its_cache(cellpose, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "cpsam_v2").write_bytes(b"weights")
    segment_empty()
    assert FakeCellpose.calls[0]["weights"] == str(tmp_path / "cache" / "cpsam_v2")


def test_cellpose_without_weights_says_what_to_do(cellpose, tmp_path, monkeypatch):
    def unreachable(url, timeout):
        raise OSError("Name or service not known")

    monkeypatch.setattr(weights, "urlopen", unreachable)
    with pytest.raises(WeightsMissing, match=r"Cellpose cpsam .*not known; download that file"):
        segment_empty("cpsam")
    with pytest.raises(InputError, match=r"one of cpsam_v2, cpsam. Got nuclei"):
        segment_empty("nuclei")
    (tmp_path / "broken").write_bytes(b"weights")
    with pytest.raises(InputError, match="broken must hold weights of Cellpose 4"):
        segment_empty(tmp_path / "broken")
    assert not FakeCellpose.calls


def test_cellpose_that_is_absent_or_of_another_version_says_what_to_do(cellpose, monkeypatch):
    cellpose["cellpose"] = "3.1.0"
    with pytest.raises(WeightsMissing, match=r"must be version 4.*Got 3.1.0; pip install 'oce2"):
        segment_empty()
    monkeypatch.setitem(sys.modules, "cellpose.models", None)
    with pytest.raises(WeightsMissing, match=r"must be installed.*'oce2stardist\[cellpose\]'"):
        segment_empty()
    assert logging.getLogger("cellpose").level == logging.NOTSET


def test_the_classical_method_treats_every_image_by_itself():
    images = {f"{seed}": scene(seed)[0] for seed in range(2)}
    found = segment_all_classically(images, diameter=20)
    for stem, image in images.items():
        np.testing.assert_array_equal(found[stem], segment_classically(image, 20))


def test_the_oracle_finds_what_the_arrows_of_a_run_point_to(tmp_path):
    config = Config()
    prepared, truth = gathering_run(tmp_path, config)
    scenes = SegmentationInputs(prepared, tmp_path, config)
    result = oracle_line_search(scenes, truth, settings=config.pseudo, border=Border())
    assert result.oracle_scores.f1 == 1
    assert score_image(result.oracle_labels[0], truth["a"]).f1 == 1
    assert len(result.oracle_table) == 6 * 9


LEARNS = {
    "embedding": {
        "feature_maps": 8, "steps": 60, "crop_size": 80, "batch_size": 2, "copies": 4,
        "learning_rate": 0.004,
    },
    "pseudo": {"working_diameter": 24.0, "witness": "none"},
}  # fmt: skip


def test_the_oracle_is_no_worse_than_the_run_that_it_searches(tmp_path):
    scenes = {f"{seed}": scene(seed) for seed in range(2)}
    images = ImageSet.from_arrays({stem: image for stem, (image, _) in scenes.items()})
    run = make_pseudo_labels(images, tmp_path / "run", config=Config(**LEARNS), diameter=16.0)
    labels, table = search_with_oracle(tmp_path / "run", labelled(scenes), Border())
    assert {stem: own.shape for stem, own in labels.items()} == {"0": (96, 112), "1": (96, 112)}

    def pooled(by_stem):
        scores = [score_image(by_stem[stem], truth) for stem, (_, truth) in scenes.items()]
        return pool_scores(scores).f1

    assert pooled(labels) == pytest.approx(table["f1"].max())
    assert pooled(labels) >= pooled(run.labels) - 0.1  # its bandwidths are not the run's
    with pytest.raises(InputError, match=r"must be those of the run. Got 'other'"):
        search_with_oracle(tmp_path / "run", labelled({"other": scene(0)}), Border())
