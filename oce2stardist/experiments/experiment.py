"""Plan and run the grid cells of an experiment, and write its tables and report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml
from distributed import Client

from oce2stardist.experiments.answers import answer
from oce2stardist.experiments.cells import GridRun, Outcome, in_order, read_outcome
from oce2stardist.experiments.config import ExperimentConfig, study_of
from oce2stardist.experiments.data import open_data
from oce2stardist.experiments.grid import run_cells
from oce2stardist.experiments.results import write_tables
from oce2stardist.experiments.studies import HashedData, hash_all, plan
from oce2stardist.files.atomic import write_text
from oce2stardist.reports.experiment import write_experiment_report
from oce2stardist.reports.wording import say_duration
from oce2stardist.runs.cluster import ClusterSettings, connected
from oce2stardist.runs.folder import write_run_file
from oce2stardist.runs.interruption import stop_on_signal
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter

_HASHES = "hashes.yaml"
"""Hashes of the data sets' files, by name, size and time, so that they are read once."""

_TITLES = {
    "fractions": "How many cells must be annotated",
    "unsupervised": "Segmentation without annotations",
    "scales": "How much the scale of the images matters",
}

_LEADS = {
    "fractions": "StarDist trained on rising shares of the annotated cells, with and without "
    "pseudo labels (the paper's Fig. 5),",
    "unsupervised": "Pseudo labels beside published networks and a classical baseline (the "
    "paper's Table 1),",
    "scales": "Pseudo labels of images that were resized first (the paper's Table 2),",
}


@dataclass(frozen=True)
class PlannedRun:
    """A grid cell, and whether it is finished."""

    cell: GridRun
    is_finished: bool


@dataclass(frozen=True)
class ExperimentResult:
    """Where an experiment is, its summary, what that says, and unfinished cells by name."""

    folder: Path
    summary: pd.DataFrame
    answers: list[str]
    unfinished: dict[str, Outcome]
    report: Path


def plan_experiment(config: ExperimentConfig, output: str | Path) -> list[PlannedRun]:
    """List what would run, in order; writes nothing.

    Parameters
    ----------
    config : ExperimentConfig
    output : path
        The experiment's folder; what is finished there is said so.

    Raises
    ------
    InputError
        If a data set is missing or not as its kind should be.
    """
    folder = Path(output)
    data, _ = hash_all(config, folder / _HASHES)
    return _planned(plan(config, data), folder / "cells")


def run_experiment(
    config: ExperimentConfig,
    output: str | Path,
    *,
    where: ClusterSettings | None = None,
    command: str = "run_experiment",
    reporter: Reporter | None = None,
) -> ExperimentResult:
    """Run every grid cell that is not finished yet, and write tables and report.

    Parameters
    ----------
    config : ExperimentConfig
        Of any study.
    output : path
        The experiment's folder. Cells that it holds already are used again, whichever config
        they were run for; tables and report show those of `config`.
    where : ClusterSettings, optional
        Default: this machine, a cell for each processor.

    Returns
    -------
    ExperimentResult
        One failing cell does not stop the others; it is named here and in the report.

    Raises
    ------
    InputError
        If a data set, the scheduler or the SLURM file can't be used.
    Interrupted
        If the user stopped it; the same call goes on where it stopped.
    """
    folder, where = Path(output), where or ClusterSettings()
    with logged(reporter, command) as log:
        data, hashes = hash_all(config, folder / _HASHES)
        shown = plan(config, data)
        planned = _planned(shown, folder / "cells")
        write_text(folder / _HASHES, yaml.safe_dump(hashes, sort_keys=True))
        log.open(folder)
        write_run_file(
            folder,
            command=command,
            config=config,
            inputs={one.config.title: one.sha256 for one in data},
        )
        outcomes = _run(planned, folder / "cells", where, log)
        study = study_of(config)
        summary = write_tables(folder, study, shown, outcomes)[1]
        answers = answer(study, summary)
        report = write_experiment_report(
            folder,
            title=_TITLES[study],
            lead=_lead(config, data),
            answers=answers,
            test_images={one.config.title: open_data(one.config).test for one in data},
        )
        names = {one.cell.key: one.cell.name for one in planned}
        unfinished = {
            names[key]: outcome for key, outcome in outcomes.items() if outcome.status != "finished"
        }
        return ExperimentResult(folder, summary, answers, unfinished, report)


def _run(
    planned: Sequence[PlannedRun], folder: Path, where: ClusterSettings, reporter: Reporter
) -> dict[str, Outcome]:
    """Run the cells, and say what ended and how many are left."""
    total, n_done = len(planned), sum(one.is_finished for one in planned)

    def tell(cell: GridRun, outcome: Outcome) -> None:
        nonlocal n_done
        n_done += 1
        how = f"{outcome.status} in {say_duration(outcome.seconds)}"
        if outcome.status != "finished":
            reporter.warn(f"{cell.name} is {outcome.status}: {outcome.reason}")
            how = outcome.status
        reporter.say(f"{n_done} of {total}: {cell.name} {how}.")

    with connected(where) as client, stop_on_signal() as should_stop:
        again = f", {n_done} are finished and used again" if n_done else ""
        reporter.say(f"{total} grid cells{again}; {_n_workers(client)} at a time.")
        return run_cells(
            [one.cell for one in planned],
            folder,
            client,
            threads=where.cell_threads,
            on_end=tell,
            should_stop=should_stop,
        )


def _n_workers(client: Client) -> int:
    return max(1, len(client.scheduler_info(n_workers=-1)["workers"]))


def _planned(shown: Sequence[GridRun], folder: Path) -> list[PlannedRun]:
    return [PlannedRun(cell, _is_finished(folder, cell)) for cell in in_order(shown)]


def _lead(config: ExperimentConfig, data: Sequence[HashedData]) -> str:
    names = ", ".join(one.config.title for one in data)
    return f"{_LEADS[study_of(config)]} on {names}."


def _is_finished(folder: Path, cell: GridRun) -> bool:
    outcome = read_outcome(folder / cell.folder_name)
    return outcome is not None and outcome.status == "finished"
