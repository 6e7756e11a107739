"""Read what an experiment runs on and over: one frozen model per study, with a YAML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from oce2stardist.config import Config, Document, Settings
from oce2stardist.errors import InputError
from oce2stardist.presets import find_config

Kind = Literal["folders", "pairs", "tissuenet", "cell_tracking"]


class DataConfig(Settings):
    """A labelled data set; its training images are never scored."""

    path: str
    """Folder (TissueNet: folder of the .npz files), relative to where the command runs."""
    kind: Kind = "folders"
    """folders: train/images, train/masks, test/images, test/masks; pairs: images and masks, with
    no training part: what needs no annotations trains and is scored on the same images."""
    name: str | None = Field(None, pattern=r"^[\w.+-]+$")
    """In tables and folder names; empty takes the folder's name."""
    options: dict[str, Any] = Field({})
    """Of the reader, such as `tissues: immune` (oce2stardist.datasets has them)."""
    every: int = Field(1, ge=1)
    """Train on every n-th image only."""
    test_every: int = Field(1, ge=1)
    """Score every n-th image only."""
    diameter: float | None = Field(None, gt=2, le=2000)
    """Median cell diameter, pixels; empty estimates it from the training images."""
    border: float = Field(0.0, ge=0)
    """Leave out objects, predicted or true, with a centroid so close to the edge, pixels."""

    @property
    def title(self) -> str:
        """The name in tables."""
        return self.name or Path(self.path).resolve().name


class ExperimentConfig(Document):
    """What every study has."""

    data: tuple[DataConfig, ...] = ()
    """The data sets."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of the embeddings, and of the first repeat; the n-th repeat takes seed + n - 1."""
    repeats: int = Field(1, ge=1, le=100)
    """Trainings with other seeds, where a study repeats them."""
    preset: Literal["fast", "quick", "paper"] = "fast"
    """Where `settings` starts from."""
    settings: Config = Config()
    """Of both trainings, where they differ from the preset; its seed and alpha are not used."""

    @model_validator(mode="before")
    @classmethod
    def _put_settings_over_preset(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("preset") not in ("quick", "paper"):
            return content
        preset = yaml.safe_load(find_config(content["preset"]).read_text(encoding="utf-8"))
        return content | {"settings": _put_over(preset, content.get("settings") or {})}

    @model_validator(mode="after")
    def _names_differ(self) -> "ExperimentConfig":
        names = [data.title for data in self.data]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of data sets must differ. Got {twice[0]!r} twice; name them.")
        return self

    def with_data_at(self, places: Sequence[str]) -> Self:
        """Say where data sets are, by "PATH" or "NAME=PATH".

        Where the config names data sets, it is the path of that name, or of its only one. Where
        it names none, a new data set: pairs if it has a folder ``images``, else folders.
        """
        if not places:
            return self
        described = {data.title: data.model_dump() for data in self.data}
        new = []
        for place in places:
            before, equals, after = place.partition("=")
            name, path = (before, after) if equals else (None, place)
            if not described:
                kind = "pairs" if (Path(path) / "images").is_dir() else "folders"
                new.append({"name": name, "path": path, "kind": kind})
                continue
            if name is None and len(described) == 1:
                name = next(iter(described))
            if name not in described:
                raise InputError(
                    f"--data must name a data set of the config ({', '.join(described)}). Got "
                    f"{name or path!r}; pass NAME=PATH."
                )
            described[name] |= {"path": path, "name": name}
        return self.replace(data=new or list(described.values()))


class FractionsConfig(ExperimentConfig):
    """How many cells must be annotated: StarDist over annotation fractions and alpha (Fig. 5)."""

    example: ClassVar[str] = "configs/fractions.yaml"

    study: Literal["fractions"] = "fractions"
    """The kind of this file."""
    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Shares of the annotated training cells; draws of one repeat are nested."""
    alphas: tuple[float, ...] = (0.0, 0.5)
    """Weights of the pseudo half."""
    repeats: int = Field(3, ge=1, le=100)
    """Draws of cells and first weights for each fraction and alpha."""
    pseudo_alone: bool = True
    """Also score the pseudo labels of the test images: nothing annotated."""

    @field_validator("fractions")
    @classmethod
    def _are_shares(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        fit = all(0 < value <= 1 for value in values)
        return _ascending(values, fit, "fractions must be above 0 and at most 1", "0.01 is 1 %")

    @field_validator("alphas")
    @classmethod
    def _are_weights(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        fit = all(0 <= value <= 1 for value in values)
        return _ascending(values, fit, "alphas must be from 0 to 1", "0.5 is usual")


class UnsupervisedConfig(ExperimentConfig):
    """Pseudo labels beside networks trained by others and a classical baseline (Table 1)."""

    example: ClassVar[str] = "configs/unsupervised.yaml"

    study: Literal["unsupervised"] = "unsupervised"
    """The kind of this file."""
    pseudo: bool = True
    """Pseudo labels."""
    classical: bool = True
    """Gaussian, Otsu, watershed of the distance transform."""
    stardist: dict[str, str] = Field({"StarDist": "2D_versatile_fluo"})
    """Names for the table, and pretrained StarDist models or folders."""
    cellpose: dict[str, str] = Field({"Cellpose": "cpsam_v2"})
    """Names for the table, and pretrained Cellpose models or files."""
    model_diameters: dict[str, float] = Field({})
    """Cell diameters that StarDist models were trained on, pixels, by name for the table; images
    are rescaled to it. A model not named here sees the images as they are."""
    oracle: bool = False
    """Add the paper's line search, which looks at the truth."""


class ScalesConfig(ExperimentConfig):
    """How much the scale of the images matters to pseudo labels (Table 2)."""

    example: ClassVar[str] = "configs/scales.yaml"

    study: Literal["scales"] = "scales"
    """The kind of this file."""
    scales: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
    """Factors beside the scale that a run chooses by itself; labels are scored at scale 1."""

    @field_validator("scales")
    @classmethod
    def _are_factors(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        fit = all(0.1 <= value <= 10 for value in values)
        return _ascending(values, fit, "scales must be from 0.1 to 10", "1 is usual")


STUDIES: dict[str, type[ExperimentConfig]] = {
    "fractions": FractionsConfig,
    "unsupervised": UnsupervisedConfig,
    "scales": ScalesConfig,
}


def _put_over(base: Any, changes: Any) -> Any:
    """Merge nested mappings; `changes` win."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {key: _put_over(base.get(key), value) for key, value in changes.items()}


def _ascending(values: tuple[float, ...], fit: bool, must: str, example: str) -> tuple[float, ...]:
    """Sort values that fit, each once; there must be one."""
    if not values or not fit:
        raise ValueError(f"{must}. Got {list(values)}; {example}.")
    return tuple(sorted(set(values)))


def study_of(config: ExperimentConfig) -> str:
    """Name the study that a config is for."""
    return next(name for name, kind in STUDIES.items() if isinstance(config, kind))
