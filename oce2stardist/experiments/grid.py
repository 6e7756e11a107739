"""Do the runs of a grid on a dask cluster: each once, in order of need, going on after a kill."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client, Future, wait

from oce2stardist.errors import one_line
from oce2stardist.experiments.grid_runs import GridRun, Outcome, in_order, read_outcome, write_run
from oce2stardist.runs.cluster import limited_to
from oce2stardist.runs.interruption import Interrupted

Program = Sequence[str]
PROGRAM: Program = (sys.executable, "-m", "oce2stardist.experiments.run_process")
"""What does a run, given its folder."""

_LOOK_EVERY = 1.0  # seconds between two looks at what has ended, and at whether to stop
_TIME_TO_STOP = 60.0  # seconds for runs to save what is under way


def run_grid(
    runs: Sequence[GridRun],
    folder: Path,
    client: Client,
    *,
    threads: int,
    on_end: Callable[[GridRun, Outcome], None],
    should_stop: Callable[[], bool],
    program: Program = PROGRAM,
) -> dict[str, Outcome]:
    """Do runs and what they need, but for those finished before; return outcomes by key.

    One that fails stops none but those that need it. The workers must see `folder`, too; each run
    uses so many threads. `should_stop` is asked every second: once it says yes, the runs save
    what they did and stop, and this ends in Interrupted.
    """
    folder = folder.resolve()  # a worker's working directory is its own
    stop_file = folder / f".stop-{secrets.token_hex(4)}"
    futures: dict[Future[Outcome], GridRun] = {}
    outcomes: dict[str, Any] = {}  # or, of what is still to be done, the future of an outcome
    for priority, run in enumerate(in_order(runs)):
        own_folder = write_run(folder, run)
        before = read_outcome(own_folder)
        if before is not None and before.status == "finished":
            outcomes[run.key] = before
            continue
        waits_for = {needed.name: outcomes[needed.key] for needed in run.needs.values()}
        arguments = (own_folder, waits_for, threads, stop_file, program)
        key = f"{run.folder_name}-{stop_file.name}"
        future = client.submit(do_run, *arguments, key=key, priority=-priority)
        futures[future] = run
        outcomes[run.key] = future
    try:
        return outcomes | _collect(futures, on_end, should_stop, stop_file)
    finally:
        stop_file.unlink(missing_ok=True)


def _collect(
    futures: Mapping["Future[Outcome]", GridRun],
    on_end: Callable[[GridRun, Outcome], None],
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
            if future.status == "finished":
                outcome: Outcome = future.result()
            else:  # the worker failed, not the run
                error = future.exception()
                outcome = Outcome("failed", f"{type(error).__name__}: {one_line(error)}")
            outcomes[futures[future].key] = outcome
            on_end(futures[future], outcome)
        if pending and should_stop():
            stop_file.touch()  # asks runs to save and stop
            with suppress(TimeoutError):
                wait(pending, timeout=_TIME_TO_STOP)
            raise Interrupted(
                f"Stopped; {len(pending)} grid cells are left. The same command goes on from there."
            )
    return outcomes


def do_run(
    folder: Path, waits_for: Mapping[str, Outcome], threads: int, stop_file: Path, program: Program
) -> Outcome:
    """Do the run of `folder` in a process of its own; called by a dask worker.

    `waits_for` says how the runs that it needs ended. Once `stop_file` exists, it is asked to stop.
    """
    if stop_file.exists():
        return Outcome("stopped", "not started")
    for name, outcome in waits_for.items():
        if outcome.status != "finished":
            return Outcome(outcome.status, f"needs {name}, which is {outcome.status}")
    # Of a session of its own: Ctrl-C on a terminal goes to the runner alone, which asks runs.
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [*program, str(folder)],
            env=os.environ | limited_to(threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        code = _wait(process, stop_file)
    ended = read_outcome(folder)
    if code == 0 and ended is not None:
        return ended
    if stop_file.exists():
        return Outcome("stopped", "stopped; the same command goes on from there")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Outcome("failed", f"its process ended with {how}; see log.txt")


def _wait(process: "subprocess.Popen[bytes]", stop_file: Path) -> int:
    """Wait for the end of a process; once the file exists, ask it to stop."""
    asked = False
    while True:
        try:
            return process.wait(timeout=_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            if not asked and stop_file.exists():
                process.send_signal(signal.SIGTERM)
                asked = True
