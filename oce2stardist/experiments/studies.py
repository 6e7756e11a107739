"""List the grid of runs that a study consists of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.experiments.config import (
    DataConfig,
    ExperimentConfig,
    FractionsConfig,
    ScalesConfig,
    UnsupervisedConfig,
)
from oce2stardist.experiments.data import hash_data, open_data
from oce2stardist.experiments.grid_runs import GridRun
from oce2stardist.files.digests import digest
from oce2stardist.files.records import read_yaml_if_there

Needs = Mapping[str, GridRun]

_TRAINING_ONLY = {"every", "diameter"}
"""Settings of a data set that do not change its test images."""


@dataclass(frozen=True)
class HashedData:
    """A data set with the hash of its files."""

    config: DataConfig
    sha256: str

    def grid_run(
        self,
        kind: str,
        suffix: str,
        settings: Mapping[str, Any],
        *,
        needs: Needs,
        source: str | None = None,
        test_only: bool = False,
        **row: Any,
    ) -> GridRun:
        """Describe a run that reads this data set, and a model at `source`."""
        # The key must not depend on where the data set is and how it is called.
        without = {"path", "name"} | (_TRAINING_ONLY if test_only else set())
        data = self.config.model_dump(mode="json", exclude=without)
        where = {"data_path": str(Path(self.config.path).resolve())}
        if source is not None:
            where["source_path"] = str(Path(source).resolve()) if Path(source).exists() else source
        title = self.config.title
        settings = {"data": data, "sha256": self.sha256, **settings}
        return GridRun(f"{title}-{suffix}", kind, settings, needs, where, {"data_set": title} | row)


def hash_all(config: ExperimentConfig, kept: Path) -> tuple[list[HashedData], dict[str, str]]:
    """Hash the data sets of a config; return these, and hashes by file, size and time.

    `kept` is where the latter of an earlier call were written to, if it exists.
    """
    if not config.data:
        raise InputError(
            "data must name at least one data set. Got none; name it in the config or pass --data."
        )
    before = read_yaml_if_there(kept)
    hashed: list[HashedData] = []
    hashes: dict[str, str] = {}
    for data in config.data:
        sha256, files = hash_data(data, before)
        hashes |= files
        open_data(data)  # what is wrong with it is said before anything runs
        hashed.append(HashedData(data, sha256))
    return hashed, hashes


def plan(config: ExperimentConfig, data: list[HashedData]) -> list[GridRun]:
    """List the runs that the tables of a study show."""
    planners: dict[type, Any] = {
        FractionsConfig: _plan_fractions,
        UnsupervisedConfig: _plan_unsupervised,
        ScalesConfig: _plan_scales,
    }
    return [run for hashed in data for run in planners[type(config)](config, hashed)]


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
        yield data.grid_run(
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
    labels = _pseudo_labels(data, embeddings, seed=config.seed)
    if config.pseudo:
        yield labels
    if config.oracle:
        yield data.grid_run(
            "oracle", "oracle", {}, needs={"embeddings": embeddings, "labels": labels},
            method="oracle", oracle=True, seed=config.seed,
        )  # fmt: skip
    others: dict[str, Any] = {"needs": {"embeddings": embeddings}, "test_only": True}
    if config.classical:
        yield data.grid_run("classical", "classical", {}, method="classical", **others)
    for kind, models in (("stardist", config.stardist), ("cellpose", config.cellpose)):
        for name, source in models.items():
            settings: dict[str, Any] = {"source": _hash_source(source)}
            if kind == "stardist":
                settings["model_diameter"] = config.model_diameters.get(name)
            suffix = f"{kind}-{name}"
            yield data.grid_run(kind, suffix, settings, source=source, method=name, **others)


def _plan_scales(config: ScalesConfig, data: HashedData) -> Iterator[GridRun]:
    reference = _embeddings(config, data)
    for scale in config.scales:
        needs = {"reference": reference} if scale != 1 else {}
        embeddings = _embeddings(config, data, needs, scale)
        yield _pseudo_labels(data, embeddings, needs, scale, seed=config.seed)


def _embeddings(
    config: ExperimentConfig, data: HashedData, needs: Needs | None = None, scale: float = 1.0
) -> GridRun:
    part = _part(config.settings.replace(seed=config.seed), "embedding", "pseudo")
    return data.grid_run(
        "train_embeddings",
        "embeddings" + ("" if scale == 1 else f"-scale{scale:g}"),
        {"scale": scale, "config": part},
        needs=needs or {},
        method="embeddings",
    )


def _pseudo_labels(
    data: HashedData,
    embeddings: GridRun,
    needs: Needs | None = None,
    scale: float = 1.0,
    **row: Any,
) -> GridRun:
    return data.grid_run(
        "label_test_images",
        "pseudo" + ("" if scale == 1 else f"-scale{scale:g}"),
        {"scale": scale},
        needs={"embeddings": embeddings, **(needs or {})},
        method="pseudo",
        scale=scale,
        **row,
    )


def _part(config: Config, *sections: str) -> dict[str, Any]:
    """Take the settings that a kind of run depends on: others must not change its key."""
    fixed = {"deterministic"} if config.deterministic else set()
    return config.model_dump(mode="json", include={"seed", "device", *fixed, *sections})


def _hash_source(source: str) -> str:
    """Hash the files of a model; of one that is downloaded, its name stands for it."""
    path = Path(source)
    if path.is_dir():
        return digest(sorted(path.glob("*.[hj]*")))
    return digest([path]) if path.is_file() else source
