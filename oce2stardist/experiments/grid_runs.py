"""Describe one run of an experiment's grid: what it does, what it needs, how it ended."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import yaml

from oce2stardist.files.atomic import write_text
from oce2stardist.files.records import read_yaml

Status = Literal["finished", "failed", "missing", "stopped"]

_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class GridRun:
    """One run of an experiment's grid, such as one training of StarDist.

    Its key, which does not depend on name, `where` and `row`, tells it from others.
    """

    name: str
    kind: str
    """What is done, a name in `oce2stardist.experiments.work.KINDS`."""
    settings: Mapping[str, Any]
    """What the result depends on beside `needs`: plain YAML values, and the hashes of files."""
    needs: "Mapping[str, GridRun]" = field(default_factory=dict)
    """Runs whose folders this one reads, by role; they come first."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Absolute paths of those files."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """What the tables say of it: data_set, method, fraction ..."""

    @property
    def key(self) -> str:
        """Hash kind, settings, the keys of needed runs and the version of this package."""
        content = {
            "kind": self.kind,
            "settings": self.settings,
            "needs": {role: needed.key for role, needed in self.needs.items()},
            "oce2stardist": version("oce2stardist"),
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of its folder within ``cells``."""
        return f"{_NOT_IN_NAMES.sub('_', self.name)[:80]}-{self.key[:12]}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended; missing: something that can't be had here, such as weights."""

    status: Status
    reason: str = ""
    """One line; empty where it is finished."""
    seconds: float = 0.0
    """Wall-clock, over interruptions."""


def in_order(runs: Iterable[GridRun]) -> list[GridRun]:
    """List runs and all that they need, each once and after what it needs."""
    listed: dict[str, GridRun] = {}
    for run in runs:
        for own in (*in_order(run.needs.values()), run):
            listed.setdefault(own.key, own)
    return list(listed.values())


def write_run(parent: Path, run: GridRun) -> Path:
    """Write cell.yaml, from which a process of its own does the run; returns its folder."""
    content = {
        "name": run.name,
        "kind": run.kind,
        "key": run.key,
        "needs": {role: needed.folder_name for role, needed in run.needs.items()},
        "settings": dict(run.settings),
        "where": dict(run.where),
        "row": dict(run.row),
    }
    text = yaml.safe_dump(content, sort_keys=False)
    path = parent / run.folder_name / "cell.yaml"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path.parent


def read_outcome(folder: Path) -> Outcome | None:
    """Read how a run ended; None while it has not."""
    path = folder / "outcome.yaml"
    return Outcome(**read_yaml(path)) if path.exists() else None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write how a run ended, after everything else in its folder."""
    content = asdict(outcome) | {"seconds": round(outcome.seconds, 1)}
    write_text(folder / "outcome.yaml", yaml.safe_dump(content, sort_keys=False))
