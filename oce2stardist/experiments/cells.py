"""Describe one run of an experiment: what it does, what it needs, and the folder it is kept in."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    """One run of an experiment, such as one training of StarDist.

    Attributes
    ----------
    name : str
        For people; the key tells cells apart.
    kind : str
        What is done, a name in `oce2stardist.experiments.work.KINDS`.
    settings : mapping
        Everything that the result depends on beside `needs`; plain YAML values. Files stand
        for themselves by the hash of their content.
    needs : mapping of role to GridRun
        Cells whose folders this one reads; they run first.
    where : mapping of name to absolute path
        Where those files are. Not part of the key.
    row : mapping
        What the tables say of it: data_set, method, fraction ... Not part of the key.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    needs: "Mapping[str, GridRun]" = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash kind, settings, the keys of needed cells and the version of this package."""
        content = {
            "kind": self.kind,
            "settings": self.settings,
            "needs": {role: cell.key for role, cell in self.needs.items()},
            "oce2stardist": version("oce2stardist"),
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of its folder among the cells of an experiment."""
        return f"{_NOT_IN_NAMES.sub('_', self.name)[:80]}-{self.key[:12]}"


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes
    ----------
    status : {"finished", "failed", "missing", "stopped"}
        missing: something that can't be had here, such as weights; stopped: by the user.
    reason : str
        One line; empty where it is finished.
    seconds : float
        Wall-clock, over interruptions.
    """

    status: Status
    reason: str = ""
    seconds: float = 0.0


def in_order(cells: Iterable[GridRun]) -> list[GridRun]:
    """List cells and all that they need, each once and after what it needs."""
    listed: dict[str, GridRun] = {}

    def add(cell: GridRun) -> None:
        for needed in cell.needs.values():
            add(needed)
        listed.setdefault(cell.key, cell)

    for cell in cells:
        add(cell)
    return list(listed.values())


def write_cell(cells_folder: Path, cell: GridRun) -> Path:
    """Write cell.yaml, from which a process of its own runs the cell; returns its folder."""
    folder = cells_folder / cell.folder_name
    content = {
        "name": cell.name,
        "kind": cell.kind,
        "key": cell.key,
        "needs": {role: needed.folder_name for role, needed in cell.needs.items()},
        "settings": dict(cell.settings),
        "where": dict(cell.where),
        "row": dict(cell.row),
    }
    text = yaml.safe_dump(content, sort_keys=False)
    path = folder / "cell.yaml"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return folder


def read_outcome(folder: Path) -> Outcome | None:
    """Read how a cell ended; None while it has not."""
    path = folder / "outcome.yaml"
    if not path.exists():
        return None
    return Outcome(**read_yaml(path))


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write how a cell ended, after everything else in its folder."""
    content = {
        "status": outcome.status,
        "reason": outcome.reason,
        "seconds": round(outcome.seconds, 1),
    }
    write_text(folder / "outcome.yaml", yaml.safe_dump(content, sort_keys=False))
