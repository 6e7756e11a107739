"""Do one run of the grid: ``python -m oce2stardist.experiments.run_process FOLDER``.

A process of its own, so that torch and TensorFlow never share one, threads can be limited
before either is loaded, and what goes wrong ends one run and not the experiment. It ends with
exit code 0 whatever becomes of the run; outcome.yaml says that. Where the process that started
it dies, it stops itself: the next start goes on from what it had written.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from oce2stardist.errors import InputError, one_line
from oce2stardist.experiments.grid_runs import Outcome, Status, read_outcome, write_outcome
from oce2stardist.experiments.weights import WeightsMissing
from oce2stardist.experiments.work import KINDS
from oce2stardist.files.records import read_yaml
from oce2stardist.runs.interruption import was_stopped

_LOOK_EVERY = 1.0  # seconds between two looks at whether the parent is alive
_TIME_TO_STOP = 30.0  # seconds to save what is under way


def main(folder: Path) -> None:
    """Do the run whose cell.yaml is in `folder`, unless it is finished."""
    threading.Thread(target=_stop_with, args=(os.getppid(),), daemon=True).start()
    # The operating system takes the lock away with its process.
    with FileLock(folder / "lock"):
        before = read_outcome(folder) or Outcome("stopped")
        if before.status == "finished":
            return
        (folder / "outcome.yaml").unlink(missing_ok=True)
        started = time.monotonic()
        status, reason = _run(folder)
        seconds = before.seconds + time.monotonic() - started
        write_outcome(folder, Outcome(status, reason, seconds))


def _run(folder: Path) -> tuple[Status, str]:
    run = read_yaml(folder / "cell.yaml")
    needs = {role: folder.parent / name for role, name in run["needs"].items()}
    try:
        KINDS[run["kind"]](run["settings"] | run["where"], needs, folder)
    except (Exception, KeyboardInterrupt) as error:  # whatever it is, it ends this run alone
        if was_stopped(error):
            return "stopped", "stopped; the same command goes on from there"
        if isinstance(error, WeightsMissing):
            return "missing", one_line(error)
        if isinstance(error, InputError):
            return "failed", one_line(error)
        traceback.print_exc()
        return "failed", f"{type(error).__name__}: {one_line(error)}; see log.txt"
    return "finished", ""


def _stop_with(parent: int) -> None:
    """Stop this process once `parent`, which started it, has died."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    with suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_TIME_TO_STOP)
    os._exit(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # outside of the loops that catch it
    main(Path(sys.argv[1]))
