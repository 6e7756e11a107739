"""From predictions to labels with their parameters: what is recorded belongs together."""

import numpy as np
import pytest
import yaml
from run_folders import gathering_run
from safetensors.numpy import save_file
from scenes import discs_scene
from scipy import ndimage as ndi

from oce2stardist.config import Config, PseudoConfig
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.prepare import prepare_images
from oce2stardist.labels import FoundObjects
from oce2stardist.pseudo_labels.choose import Choice, segmentation_settings
from oce2stardist.pseudo_labels.foreground import Foreground
from oce2stardist.pseudo_labels.label_images import label_images, write_parameters
from oce2stardist.pseudo_labels.parameters import list_parameters
from oce2stardist.runs.progress import SilentReporter


class Listener(SilentReporter):
    """Keeps what a runner says."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def labelled(folder, *, annotated=False, spread=None, witness=None, clicked=None, **settings):
    """Label a run that has eight discs of 28 px; also what was said meanwhile."""
    config = Config(seed=7, pseudo=PseudoConfig(**settings))
    prepared, labels = gathering_run(folder, config)
    if spread is not None:
        offsets = np.random.default_rng(0).uniform(-15, 15, (2, *spread.shape))
        arrays = {"offsets": offsets.astype(np.float16), "spread": spread.astype(np.float16)}
        save_file(arrays, folder / "oce" / "predicted" / "a.safetensors")
    listener = Listener()
    known = labels if annotated else {}
    found = label_images(
        prepared, config, folder, known, listener, copies=12, witness=witness, clicked=clicked
    )
    return found, listener


def test_scores_of_the_values_tried_are_recorded_as_data(tmp_path):
    result, _ = labelled(tmp_path, annotated=True)
    write_parameters(tmp_path, result)
    recorded = yaml.safe_load((tmp_path / "pseudo" / "parameters.yaml").read_text())
    assert recorded == result.parameters
    assert [choice.setting for choice in result.choices] == ["bandwidth", "level", "min_size"]
    for choice in result.choices:
        parameter = recorded[choice.setting]
        assert list(parameter["tried"].values()) == pytest.approx(
            list(choice.tried.values()), abs=1e-4
        )
        # In the unit of the value, so the score of what was taken can be looked up.
        assert parameter["tried"][parameter["value"]] == max(parameter["tried"].values())
    assert "tried" not in recorded["halo"]


def test_a_click_takes_the_witness_s_object_where_the_run_has_none(tmp_path):
    labels = gathering_run(tmp_path / "before", Config())[1]["a"]
    free = ndi.distance_transform_edt(labels == 0)
    inner = free[:-4, :-4]
    place = np.unravel_index(inner.argmax(), inner.shape)
    # all of it but a fifth lies on what the run finds, so that it is no new cell as it stands
    both = labels == labels[tuple(np.argwhere(labels)[0])]
    both[place[0] : place[0] + 4, place[1] : place[1] + 4] = True
    theirs = FoundObjects({"a": both.astype(np.int32)}, {"a": {1: 0.9}})
    for clicked, grown in ((None, 0), ({"a": np.array([place])}, 16)):
        result, _ = labelled(tmp_path / str(grown), witness=lambda: theirs, clicked=clicked)
        assert np.count_nonzero(result.labels["a"][both & (labels == 0)]) == grown
        written = read_labels(tmp_path / str(grown) / "pseudo" / "labels" / "a.tif")
        np.testing.assert_array_equal(written, result.labels["a"])


def test_without_annotations_the_bandwidths_compared_are_recorded(tmp_path):
    result, _ = labelled(tmp_path)
    assert list(result.parameters["bandwidth"]["tried"]) == [9.24, 10.64, 12.04]
    assert "tried" not in result.parameters["level"]


def test_what_the_labels_were_made_with_is_what_is_recorded(tmp_path):
    result, _ = labelled(tmp_path, bandwidth=12.0, level=0.3)
    assert (result.settings.bandwidth, result.settings.level) == (12.0, 0.3)
    for name in ("bandwidth", "level"):
        assert result.parameters[name]["value"] == getattr(result.settings, name)
        assert result.parameters[name]["reason"] == "set in the config"
    assert result.parameters["channels"]["mode"] == "as_is"


def parameters_of(images, *, diameter=None, choices=()):
    """List the parameters of a set of images, of which only the scale matters here."""
    config = Config()
    stems = {f"{index}": image[..., None] for index, image in enumerate(images)}
    prepared = prepare_images(ImageSet(dict.fromkeys(stems), stems), config, diameter=diameter)
    segmentation = segmentation_settings(config.pseudo, ndim=2)
    foreground = Foreground((0.0,), "spread", 1.0, 1.0, 0.0, "two modes")
    return list_parameters(prepared, config, foreground, segmentation, choices, copies=6)


def drawn(n, radius, *, count):
    return [discs_scene(n, (150, 150), radius, seed=seed)[0] for seed in range(count)]


def test_the_interval_of_a_diameter_holds_the_diameter():
    diameter = parameters_of(drawn(8, 9, count=3))["diameter"]
    low, high = diameter["interval"]
    assert low <= diameter["value"] <= high
    assert diameter["value"] == pytest.approx(18, rel=0.15)
    assert "rejected" not in diameter


def test_an_estimate_that_is_not_trusted_stands_apart_from_the_diameter_used():
    parameters = parameters_of(drawn(3, 9, count=1))  # too few cells to trust
    diameter = parameters["diameter"]
    assert diameter["value"] == PseudoConfig().working_diameter
    assert parameters["scale"]["value"] == 1.0
    assert "interval" not in diameter
    low, high = diameter["rejected"]["interval"]
    assert low <= diameter["rejected"]["value"] <= high
    assert diameter["rejected"]["value"] == pytest.approx(18, rel=0.15)
    assert "can't be trusted" in diameter["reason"]
    assert "28 px is assumed" in diameter["reason"]


@pytest.mark.parametrize("diameter", [None, 20.0])
def test_a_diameter_that_nobody_estimated_has_no_interval(diameter):
    parameter = parameters_of([np.zeros((60, 60), np.float32)], diameter=diameter)["diameter"]
    assert parameter["value"] == (diameter or PseudoConfig().working_diameter)
    assert set(parameter) == {"value", "reason"}


def test_sizes_tried_are_recorded_in_square_pixels():
    choice = Choice("min_size", 0.125, "F1", {0.0625: 0.5, 0.125: 0.75})
    area = np.pi / 4 * 28**2
    parameter = parameters_of([np.zeros((60, 60), np.float32)], choices=[choice])["min_size"]
    assert parameter["value"] == pytest.approx(area / 8, abs=1e-4)
    assert list(parameter["tried"]) == pytest.approx([area / 16, area / 8], abs=1e-4)
    assert parameter["tried"][parameter["value"]] == 0.75


@pytest.mark.parametrize(
    ("spread", "settings", "happened"),
    [
        (None, {"max_ratio": 1e-6}, "cell, but no group of them made an object of at least 38 px²"),
        (np.full((200, 260), 5.0), {}, "No pixel counts as cell"),
    ],
)
def test_a_run_that_finds_nothing_says_why_and_what_to_do(tmp_path, spread, settings, happened):
    result, listener = labelled(tmp_path, spread=spread, **settings)
    assert not any(labels.any() for labels in result.labels.values())
    message = listener.said[-1]
    assert message.startswith("No object was found in any image. ")
    assert happened in message
    for option in ("--diameter (28 px was used)", "--steps", "--annotations", "--overwrite"):
        assert option in message
    trust = result.parameters["trust"]
    assert message.endswith(trust["advice"])
    assert trust["value"] is False
    bandwidth = result.parameters["bandwidth"]
    assert bandwidth["value"] == pytest.approx(12.04)
    assert "nothing to compare" in bandwidth["reason"]
    assert "tried" not in bandwidth
