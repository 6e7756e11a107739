"""The process of a run, of kinds that count how often they run, sleep, or fail."""

import os
import signal
import sys
import time
from pathlib import Path

from oce2stardist.errors import InputError
from oce2stardist.experiments.run_process import main
from oce2stardist.experiments.weights import WeightsMissing
from oce2stardist.experiments.work import KINDS


def count(settings, needs, folder):
    """Add the values of what is needed to the own one; a line for each run."""
    with (folder / "runs.txt").open("a") as file:
        file.write(f"{os.environ['OMP_NUM_THREADS']}\n")
    given = [int((path / "value.txt").read_text()) for path in needs.values()]
    (folder / "value.txt").write_text(str(settings["value"] + sum(given)))


def sleep(settings, needs, folder):
    (folder / "process.txt").write_text(str(os.getpid()))
    time.sleep(settings["seconds"])
    count(settings, needs, folder)


def refuse(settings, needs, folder):
    raise InputError("value must be right.\nGot a wrong one.")


def miss(settings, needs, folder):
    raise WeightsMissing("no weights here")


def break_down(settings, needs, folder):
    raise RuntimeError("it broke")


def die(settings, needs, folder):
    os.kill(os.getpid(), signal.SIGKILL)


KINDS.update(count=count, sleep=sleep, refuse=refuse, miss=miss, break_down=break_down, die=die)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main(Path(sys.argv[1]))
