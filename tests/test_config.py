"""Configs: checked, frozen, and the same after a round trip through YAML."""

from pathlib import Path

import pytest
import yaml

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.presets import find_config

FILES = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))
# Those of experiments name their study; tests/experiments/test_experiment_config.py has them.
CONFIGS = [path for path in FILES if "study" not in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_preset_loads_and_comes_back_from_yaml(path, tmp_path):
    config = Config.from_yaml(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(config.to_yaml())
    assert Config.from_yaml(copy) == config
    assert Config.from_yaml(copy).to_yaml() == config.to_yaml()


def test_the_fast_preset_lists_every_default():
    path = next(path for path in CONFIGS if path.name == "fast.yaml")
    assert yaml.safe_load(path.read_text()) == Config().model_dump(mode="json")


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert Config.from_yaml(path) == Config()


def test_configs_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("embedding: {kapa: 3}", r"bad.yaml: embedding.kapa must be a known setting"),
        ("embedding: {kappa: 0}", r"bad.yaml: embedding.kappa must be greater .* Got 0 instead"),
        ("stardist: {patch_size: 100}", r"multiple of 8 \* grid = 16\. Got 100 instead"),
        ("stardist: {grid: 3}", r"grid must be 1, 2, 4 or 8\. Got 3 instead"),
        ("stardist: {alpha: often}", r"stardist.alpha must be a valid number.*Got 'often'"),
        ("pseudo: {halo: trim}", r"halo must be 'none', 'shrink', 'otsu' or 'contrast'.*'trim'"),
        ("a: [1", r"bad.yaml: the config is not YAML"),
    ],
)
def test_a_bad_config_names_file_key_and_value(tmp_path, text, message):
    """More of them are in tests/faults/corpus.py."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        Config.from_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_config_is_refused(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        Config.from_yaml(tmp_path / "none.yaml")


def test_a_word_that_is_no_preset_is_answered_with_the_presets():
    with pytest.raises(InputError, match=r"preset \(.*fast, .*quick.*\)\. Got 'nope'; name"):
        find_config("nope")
    assert find_config("quick").name == "quick.yaml"


def test_replacing_a_setting_checks_it_again():
    assert Config().replace(**{"stardist.alpha": 0.25}).stardist.alpha == 0.25
    with pytest.raises(InputError, match=r"stardist.alpha must be less .* Got 2 instead"):
        Config().replace(**{"stardist.alpha": 2})
