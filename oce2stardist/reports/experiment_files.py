"""Read the folder of an experiment for its page: tables, cells, and what cells left."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from oce2stardist.files.records import read_yaml_if_there
from oce2stardist.pseudo_labels.inputs import predicted_file
from oce2stardist.reports.run_files import refuse_unfinished

_TEXT = ("study", "data_set", "method", "image", "group", "run")
_NOT_A_NUMBER = ["", "nan", "NaN"]


@dataclass(frozen=True)
class CellOutcome:
    """How a cell of the grid ended: finished, failed, missing, stopped or not at all."""

    run: str
    name: str
    kind: str
    status: str
    reason: str


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of an experiment; an image may be named "NA" or "007"."""
    refuse_unfinished(path)
    header = pd.read_csv(path, nrows=0).columns
    numbers = {name: _NOT_A_NUMBER for name in header if name not in (*_TEXT, "oracle")}
    types = {name: str for name in header if name in _TEXT}
    table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=numbers)
    table["oracle"] = table["oracle"].astype(str) == "True"
    return table


def read_outcomes(folder: Path, runs: Iterable[str]) -> list[CellOutcome]:
    """List cells that the tables name and all that they need, by name, with how they ended.

    A folder may hold the cells of other experiments, too.
    """
    cells = {cell for run in runs for cell in _with_needs(folder / run)}
    return [_read_outcome(folder, cell) for cell in sorted(cells)]


def _read_outcome(folder: Path, cell: Path) -> CellOutcome:
    about = {"name": cell.name, "kind": ""} | read_yaml_if_there(cell / "cell.yaml")
    outcome = {"status": "not finished", "reason": "it has not ended; run the same command again"}
    outcome = read_yaml_if_there(cell / "outcome.yaml") or outcome
    return CellOutcome(
        run=cell.relative_to(folder).as_posix(),
        name=str(about["name"]),
        kind=str(about["kind"]),
        status=str(outcome["status"]),
        reason=str(outcome.get("reason") or ""),
    )


def find_predicted_run(folder: Path, runs: Sequence[str], stem: str) -> Path | None:
    """Find a run of stage one, among cells and all that they need, that kept an embedding."""
    for run in runs:
        for cell in _with_needs(folder / run):
            if predicted_file(cell / "run", stem).exists():
                return cell / "run"
    return None


def _with_needs(cell: Path) -> Iterator[Path]:
    """Go through a cell and all that it needs, nearest first."""
    seen, waiting = {cell}, deque([cell])
    while waiting:
        here = waiting.popleft()
        yield here
        needs = read_yaml_if_there(here / "cell.yaml").get("needs") or {}
        for needed in (here.parent / str(name) for name in needs.values()):
            if needed not in seen:
                seen.add(needed)
                waiting.append(needed)


def link_to(relative: str) -> str:
    """Write the link from the page, which lies in a folder of its own, to a file or folder."""
    return f"../{quote(relative)}"
