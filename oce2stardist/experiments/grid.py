"""Run grid cells on a dask cluster: each once, in order of need, going on after a kill."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed import Client, Future, wait

from oce2stardist.errors import one_line
from oce2stardist.experiments.cells import GridRun, Outcome, in_order, read_outcome, write_cell
from oce2stardist.runs.cluster import limited_to
from oce2stardist.runs.interruption import Interrupted

_LOOK_EVERY = 1.0
"""Seconds between two looks at what has ended, and at whether to stop."""

_TIME_TO_STOP = 60.0
"""Seconds for cells to save what is under way."""

PROGRAM = (sys.executable, "-m", "oce2stardist.experiments.cell_process")
"""What runs a cell."""

Ended = Callable[[GridRun, Outcome], None]


def run_cells(
    cells: Sequence[GridRun],
    folder: Path,
    client: Client,
    *,
    threads: int,
    on_end: Ended,
    should_stop: Callable[[], bool],
    program: Sequence[str] = PROGRAM,
) -> dict[str, Outcome]:
    """Run cells and what they need; those finished before are not run again.

    Parameters
    ----------
    cells : sequence of GridRun
    folder : Path
        Where the cells' folders are; the workers must see it, too.
    client : distributed.Client
    threads : int
        Of each cell.
    on_end : callable
        Told of every cell that ends, with its outcome.
    should_stop : callable
        Looked at every second. Where it says yes, the cells save what they did and stop.
    program : sequence of str
        What runs a cell, given its folder.

    Returns
    -------
    dict of key to Outcome
        One failing cell stops none but those that need it.

    Raises
    ------
    Interrupted
        If `should_stop` said so.
    """
    # Absolute: a worker's working directory is its own.
    folder = folder.resolve()
    ordered = in_order(cells)
    stop_file = folder / f".stop-{secrets.token_hex(4)}"
    outcomes: dict[str, Outcome] = {}
    futures: dict[Future[Outcome], GridRun] = {}
    future_of: dict[str, Future[Outcome]] = {}
    for priority, cell in enumerate(ordered):
        path = write_cell(folder, cell)
        before = read_outcome(path)
        if before is not None and before.status == "finished":
            outcomes[cell.key] = before
            continue
        waits_for = {
            needed.name: future_of.get(needed.key, outcomes.get(needed.key))
            for needed in cell.needs.values()
        }
        future = client.submit(
            run_cell,
            str(path),
            waits_for,
            threads,
            str(stop_file),
            program,
            key=f"{cell.folder_name}-{stop_file.name}",
            priority=-priority,
            pure=False,
        )
        futures[future] = cell
        future_of[cell.key] = future
    try:
        outcomes |= _collect(futures, on_end, should_stop, stop_file)
    finally:
        stop_file.unlink(missing_ok=True)
    return outcomes


def _collect(
    futures: dict["Future[Outcome]", GridRun],
    on_end: Ended,
    should_stop: Callable[[], bool],
    stop_file: Path,
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    pending = set(futures)
    while pending:
        try:
            done, pending = wait(pending, timeout=_LOOK_EVERY, return_when="FIRST_COMPLETED")
        except TimeoutError:
            done = set()
        for future in done:
            outcome = _outcome_of(future)
            outcomes[futures[future].key] = outcome
            on_end(futures[future], outcome)
        if pending and should_stop():
            _stop(pending, stop_file)
            raise Interrupted(
                f"Stopped; {len(pending)} grid cells are left. The same command goes on from there."
            )
    return outcomes


def _outcome_of(future: "Future[Outcome]") -> Outcome:
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    error = future.exception()
    return Outcome("failed", f"{type(error).__name__}: {one_line(error)}")


def _stop(pending: set["Future[Outcome]"], stop_file: Path) -> None:
    """Ask running cells to save and stop, and wait until they have."""
    stop_file.touch()
    try:
        wait(pending, timeout=_TIME_TO_STOP)
    except TimeoutError:
        return


def run_cell(
    folder: str,
    waits_for: dict[str, Outcome],
    threads: int,
    stop_file: str,
    program: Sequence[str],
) -> Outcome:
    """Run one cell in a process of its own; called by a dask worker.

    Parameters
    ----------
    folder : str
        The cell's, with cell.yaml.
    waits_for : dict of name to Outcome
        How the cells it needs ended.
    threads : int
        That its libraries may use.
    stop_file : str
        Once this file exists, the cell is asked to stop.
    program : sequence of str
        What runs a cell, given its folder.
    """
    path, stop = Path(folder), Path(stop_file)
    if stop.exists():
        return Outcome("stopped", "not started")
    for name, outcome in waits_for.items():
        if outcome.status != "finished":
            return Outcome(outcome.status, f"needs {name}, which is {outcome.status}")
    # Of a session of its own: Ctrl-C on a terminal goes to the runner alone, which asks cells.
    with (path / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [*program, folder],
            env=os.environ | limited_to(threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        code = _wait(process, stop)
    ended = read_outcome(path)
    if code == 0 and ended is not None:
        return ended
    if stop.exists():
        return Outcome("stopped", "stopped; the same command goes on from there")
    return Outcome("failed", f"its process ended with {_say_code(code)}; see log.txt")


def _wait(process: "subprocess.Popen[bytes]", stop: Path) -> int:
    asked = False
    while True:
        try:
            return process.wait(timeout=_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            if not asked and stop.exists():
                process.send_signal(signal.SIGTERM)
                asked = True


def _say_code(code: int) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
