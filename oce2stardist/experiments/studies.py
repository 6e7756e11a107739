"""List the grid cells that a study consists of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.experiments.cells import GridRun
from oce2stardist.experiments.config import (
    DataConfig,
    ExperimentConfig,
    FractionsConfig,
    ScalesConfig,
    UnsupervisedConfig,
)
from oce2stardist.experiments.data import hash_data, open_data
from oce2stardist.files.digests import digest
from oce2stardist.files.records import read_yaml_if_there

_TRAINING_ONLY = {"every", "diameter"}
"""Settings of a data set that do not change its test images."""


@dataclass(frozen=True)
class HashedData:
    """A data set with the hash of its files."""

    config: DataConfig
    sha256: str

    @property
    def where(self) -> dict[str, str]:
        """Where it is, for the cells that read it."""
        return {"data_path": str(Path(self.config.path).resolve())}

    def described(self, without: set[str]) -> dict[str, Any]:
        """Describe what cells read of it, independent of where it is and how it is called."""
        return self.config.model_dump(mode="json", exclude={"path", "name"} | without)

    def cell(
        self,
        kind: str,
        suffix: str,
        settings: Mapping[str, Any],
        *,
        needs: Mapping[str, GridRun] | None = None,
        where: Mapping[str, str] | None = None,
        test_only: bool = False,
        **row: Any,
    ) -> GridRun:
        """Make a grid cell that reads this data set."""
        data = self.described(_TRAINING_ONLY if test_only else set())
        return GridRun(
            name=f"{self.config.title}-{suffix}",
            kind=kind,
            settings={"data": data, "sha256": self.sha256, **settings},
            needs=needs or {},
            where=self.where | dict(where or {}),
            row={"data_set": self.config.title, **row},
        )


def hash_all(config: ExperimentConfig, known_file: Path) -> tuple[list[HashedData], dict[str, str]]:
    """Hash the data sets.

    Parameters
    ----------
    config : ExperimentConfig
    known_file : Path
        Where an earlier call's hashes of files were written to, if it exists.

    Returns
    -------
    data sets in the order of the config, and hashes by file, size and time

    Raises
    ------
    InputError
        If no data set is named, or one can't be opened.
    """
    if not config.data:
        raise InputError(
            "data must name at least one data set. Got none; name it in the config or pass --data."
        )
    known = read_yaml_if_there(known_file)
    hashed: list[HashedData] = []
    seen: dict[str, str] = {}
    for data in config.data:
        sha256, files = hash_data(data, known)
        seen |= files
        open_data(data)  # what is wrong with it is said before anything runs
        hashed.append(HashedData(data, sha256))
    return hashed, seen


def plan(config: ExperimentConfig, data: list[HashedData]) -> list[GridRun]:
    """List the grid cells that the tables of a study show."""
    planners = {
        FractionsConfig: _plan_fractions,
        UnsupervisedConfig: _plan_unsupervised,
        ScalesConfig: _plan_scales,
    }
    planner: Any = planners[type(config)]
    return [cell for one in data for cell in planner(config, one)]


def _plan_fractions(config: FractionsConfig, data: HashedData) -> Iterator[GridRun]:
    if data.config.kind == "pairs":
        raise InputError(
            "fractions needs a data set with a training and a test part. Got kind pairs for "
            f"{data.config.title}; what trains StarDist can't be scored."
        )
    embeddings = _embeddings(config, data)
    if config.pseudo_alone:
        yield _pseudo_labels(data, embeddings, fraction=0.0, cells=0, alpha=1.0, seed=config.seed)
    for repeat, fraction, alpha in product(range(config.repeats), config.fractions, config.alphas):
        seed = config.seed + repeat
        settings = config.settings.replace(**{"seed": seed, "stardist.alpha": alpha})
        yield data.cell(
            "finetune",
            f"finetune-{fraction:g}-alpha{alpha:g}-seed{seed}",
            {"fraction": fraction, "config": _part(settings, "merge", "stardist")},
            needs={"embeddings": embeddings} if alpha else {},
            method="finetune",
            fraction=fraction,
            alpha=alpha,
            seed=seed,
        )


def _plan_unsupervised(config: UnsupervisedConfig, data: HashedData) -> Iterator[GridRun]:
    embeddings = _embeddings(config, data)
    needs = {"embeddings": embeddings}
    labels = _pseudo_labels(data, embeddings, seed=config.seed)
    if config.pseudo:
        yield labels
    if config.oracle:
        yield data.cell(
            "oracle", "oracle", {}, needs=needs | {"labels": labels},
            method="oracle", oracle=True, seed=config.seed,
        )  # fmt: skip
    if config.classical:
        yield data.cell("classical", "classical", {}, needs=needs, test_only=True,
                        method="classical")  # fmt: skip
    for kind, models in (("stardist", config.stardist), ("cellpose", config.cellpose)):
        for name, source in models.items():
            settings: dict[str, Any] = {"source": _hash_source(source)}
            if kind == "stardist":
                settings["model_diameter"] = config.model_diameters.get(name)
            yield data.cell(
                kind, f"{kind}-{name}", settings, needs=needs, test_only=True,
                where={"source_path": _resolve(source)}, method=name,
            )  # fmt: skip


def _plan_scales(config: ScalesConfig, data: HashedData) -> Iterator[GridRun]:
    reference = _embeddings(config, data)
    for scale in config.scales:
        needs = {"reference": reference} if scale != 1 else {}
        embeddings = _embeddings(config, data, scale=scale, needs=needs)
        yield _pseudo_labels(data, embeddings, scale=scale, needs=needs, seed=config.seed)


def _embeddings(
    config: ExperimentConfig,
    data: HashedData,
    *,
    scale: float = 1.0,
    needs: Mapping[str, GridRun] | None = None,
) -> GridRun:
    settings = config.settings.replace(seed=config.seed)
    return data.cell(
        "train_embeddings",
        "embeddings" + ("" if scale == 1 else f"-scale{scale:g}"),
        {"scale": scale, "config": _part(settings, "embedding", "pseudo")},
        needs=needs,
        method="embeddings",
    )


def _pseudo_labels(
    data: HashedData,
    embeddings: GridRun,
    *,
    scale: float = 1.0,
    needs: Mapping[str, GridRun] | None = None,
    **row: Any,
) -> GridRun:
    return data.cell(
        "label_test_images",
        "pseudo" + ("" if scale == 1 else f"-scale{scale:g}"),
        {"scale": scale},
        needs={"embeddings": embeddings, **(needs or {})},
        method="pseudo",
        scale=scale,
        **row,
    )


def _part(config: Config, *sections: str) -> dict[str, Any]:
    """Take the settings that a kind of cell depends on: others must not change its key."""
    fixed = {"deterministic"} if config.deterministic else set()
    return config.model_dump(mode="json", include={"seed", "device", *fixed, *sections})


def _hash_source(source: str) -> str:
    """Hash the files of a model; of one that is downloaded, its name stands for it."""
    path = Path(source)
    if path.is_dir():
        return digest(sorted(path.glob("*.[hj]*")))
    return digest([path]) if path.is_file() else source


def _resolve(source: str) -> str:
    path = Path(source)
    return str(path.resolve()) if path.exists() else source
