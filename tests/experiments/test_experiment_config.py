"""Configs of experiments: checked, the same after a round trip, and told where the data are."""

from pathlib import Path

import pytest

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.experiments.config import (
    STUDIES,
    DataConfig,
    FractionsConfig,
    ScalesConfig,
    UnsupervisedConfig,
    study_of,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = [CONFIGS / f"{study}{kind}.yaml" for study in STUDIES for kind in ("", "-quick")]


def read(path):
    return STUDIES[path.stem.split("-")[0]].from_yaml(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_preset_loads_and_comes_back_from_yaml(path, tmp_path):
    config = read(path)
    assert study_of(config) == path.stem.split("-")[0]
    copy = tmp_path / "copy.yaml"
    copy.write_text(config.to_yaml())
    assert type(config).from_yaml(copy) == config


def test_settings_are_put_over_those_of_the_preset():
    paper = Config.from_yaml(CONFIGS / "paper.yaml")
    config = FractionsConfig(preset="paper", settings={"stardist": {"width": 8}})
    assert config.settings == paper.replace(**{"stardist.width": 8})
    assert FractionsConfig().settings == Config()
    quick = read(CONFIGS / "fractions-quick.yaml").settings
    assert quick.embedding == Config.from_yaml(CONFIGS / "quick.yaml").embedding
    assert quick.stardist.steps < Config().stardist.filled(from_nothing=False).steps


def test_fractions_and_scales_are_sorted_and_named_once():
    assert FractionsConfig(fractions=(0.1, 0.01, 0.1)).fractions == (0.01, 0.1)
    assert ScalesConfig(scales=(1.5, 0.5)).scales == (0.5, 1.5)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (FractionsConfig, "fractions: [0, 0.1]", r"fractions must be above 0.*Got \[0.0, 0.1\]"),
        (FractionsConfig, "alphas: [2]", r"alphas must be from 0 to 1. Got \[2.0\]"),
        (FractionsConfig, "alphas: []", r"alphas must be from 0 to 1. Got \[\]"),
        (FractionsConfig, "study: scales", "study must be 'fractions'. Got 'scales' instead"),
        (ScalesConfig, "scales: [0]", r"scales must be from 0.1 to 10. Got \[0.0\]"),
        (UnsupervisedConfig, "repeat: 3", "repeat must be a known setting; see configs/unsup"),
        (ScalesConfig, "data: [{path: a}, {path: b/a}]", "names of data sets must differ.*'a'"),
        (ScalesConfig, "data: [{path: a, kind: zip}]", "data.0.kind must be 'folders'.*'zip'"),
        (ScalesConfig, "preset: slow", "preset must be 'fast'.*'slow'"),
        (ScalesConfig, "{preset: quick, settings: {pseudo: 3}}", "settings.pseudo must be"),
    ],
)
def test_a_bad_config_is_refused_in_one_line(tmp_path, kind, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        kind.from_yaml(path)
    assert "\n" not in str(caught.value)


def test_data_are_found_where_the_command_line_says(tmp_path):
    (tmp_path / "flat" / "images").mkdir(parents=True)
    config = ScalesConfig().with_data_at([str(tmp_path / "split"), f"x={tmp_path / 'flat'}"])
    assert [(one.title, one.kind) for one in config.data] == [("split", "folders"), ("x", "pairs")]
    two = ScalesConfig(data=(DataConfig(path="a", every=2), DataConfig(path="b", name="B")))
    moved = two.with_data_at(["a=/data/x", "B=/data/y"])
    titles = [(one.title, one.path, one.every) for one in moved.data]
    assert titles == [("a", "/data/x", 2), ("B", "/data/y", 1)]
    alone = ScalesConfig(data=(DataConfig(path="a"),)).with_data_at(["/data/x"])
    assert (alone.data[0].title, alone.data[0].path) == ("a", "/data/x")
    assert two.with_data_at([]) is two


def test_a_place_that_belongs_to_no_data_set_is_refused():
    two = ScalesConfig(data=(DataConfig(path="a"), DataConfig(path="b")))
    with pytest.raises(InputError, match=r"of the config \(a, b\). Got 'c'"):
        two.with_data_at(["c=/data"])
    with pytest.raises(InputError, match="Got '/data'; pass NAME=PATH"):
        two.with_data_at(["/data"])
