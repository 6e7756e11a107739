"""Plan and do the runs of an experiment, and write its tables and report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from oce2stardist.experiments.answers import answer
from oce2stardist.experiments.config import ExperimentConfig, study_of
from oce2stardist.experiments.data import open_data
from oce2stardist.experiments.grid import run_grid
from oce2stardist.experiments.grid_runs import GridRun, Outcome, in_order, read_outcome
from oce2stardist.experiments.results import write_tables
from oce2stardist.experiments.studies import hash_all, plan
from oce2stardist.files.atomic import write_text
from oce2stardist.reports.experiment import write_experiment_report
from oce2stardist.reports.wording import say_duration
from oce2stardist.runs.cluster import ClusterSettings, connected
from oce2stardist.runs.folder import write_run_file
from oce2stardist.runs.interruption import stop_on_signal
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter

_HASHES = "hashes.yaml"  # of the data sets' files, by name, size and time: they are read once

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
    """A run of the grid, and whether it is finished."""

    run: GridRun
    is_finished: bool


@dataclass(frozen=True)
class ExperimentResult:
    """Where an experiment is, its summary, what that says, and unfinished runs by name."""

    folder: Path
    summary: pd.DataFrame
    answers: list[str]
    unfinished: dict[str, Outcome]
    report: Path


def plan_experiment(config: ExperimentConfig, output: str | Path) -> list[PlannedRun]:
    """List what would run in the experiment's folder, in order; writes nothing."""
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
    """Do every run of the grid that is not finished yet, and write tables and report.

    One that fails does not stop the others; it is named in the result and in the report.

    Parameters
    ----------
    config : ExperimentConfig
        Of any study.
    output : path
        The experiment's folder. Runs that it holds already are used again, whichever config
        they were made for; tables and report show those of `config`.
    where : ClusterSettings, optional
        Default: this machine, a run for each processor.

    Raises
    ------
    InputError
        If a data set, the scheduler or the SLURM file can't be used.
    Interrupted
        If the user stopped it; the same call goes on where it stopped.
    """
    folder = Path(output)
    study = study_of(config)
    with logged(reporter, command) as log:
        data, hashes = hash_all(config, folder / _HASHES)
        shown = plan(config, data)
        planned = _planned(shown, folder / "cells")
        write_text(folder / _HASHES, yaml.safe_dump(hashes, sort_keys=True))
        log.open(folder)
        inputs = {hashed.config.title: hashed.sha256 for hashed in data}
        write_run_file(folder, command=command, config=config, inputs=inputs)
        outcomes = _run(planned, folder / "cells", where or ClusterSettings(), log)
        _, summary = write_tables(folder, study, shown, outcomes)
        answers = answer(study, summary)
        report = write_experiment_report(
            folder,
            title=_TITLES[study],
            lead=f"{_LEADS[study]} on {', '.join(inputs)}.",
            answers=answers,
            test_images={hashed.config.title: open_data(hashed.config).test for hashed in data},
        )
        ended = {one.run.name: outcomes[one.run.key] for one in planned}
        unfinished = {name: how for name, how in ended.items() if how.status != "finished"}
        return ExperimentResult(folder, summary, answers, unfinished, report)


def _run(
    planned: Sequence[PlannedRun], folder: Path, where: ClusterSettings, reporter: Reporter
) -> dict[str, Outcome]:
    """Do the runs, and say what ended and how many are left."""
    total, n_done = len(planned), sum(one.is_finished for one in planned)

    def tell(run: GridRun, outcome: Outcome) -> None:
        nonlocal n_done
        n_done += 1
        how: str = outcome.status
        if outcome.status == "finished":
            how += f" in {say_duration(outcome.seconds)}"
        else:
            reporter.warn(f"{run.name} is {outcome.status}: {outcome.reason}")
        reporter.say(f"{n_done} of {total}: {run.name} {how}.")

    with connected(where) as client, stop_on_signal() as should_stop:
        again = f", {n_done} are finished and used again" if n_done else ""
        n_workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        reporter.say(f"{total} grid cells{again}; {n_workers} at a time.")
        runs, threads = [one.run for one in planned], where.cell_threads
        return run_grid(runs, folder, client, threads=threads, on_end=tell, should_stop=should_stop)


def _planned(shown: Sequence[GridRun], folder: Path) -> list[PlannedRun]:
    planned = []
    for run in in_order(shown):
        outcome = read_outcome(folder / run.folder_name)
        planned.append(PlannedRun(run, outcome is not None and outcome.status == "finished"))
    return planned
