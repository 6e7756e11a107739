"""Draw how many processor cores a command keeps busy, phase by phase.

    python benchmarks/cpu_use.py FIGURE.png pseudo IMAGES -o RUN [...]

Runs `oce2stardist` with what follows FIGURE, which must name its output with `-o`, and asks twice a
second how much processor time it has used. Phases are those that its log.txt names. Prints seconds
and busy cores of each. Let nothing else run.
"""

import re
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import psutil

_LINE = re.compile(r"(?P<at>\S+ \S+?)\+0000 INFO +(?P<phase>[^:]+): 1 of \d+")
"""What the log says when the first step of a phase is done."""

EVERY = 0.5
"""Seconds between two looks."""


def watch(arguments: list[str]) -> list[tuple[float, float]]:
    """Run the command; pairs of the time, seconds since 1970, and the processor time so far."""
    process = psutil.Popen([sys.executable, "-m", "oce2stardist", *arguments])
    seen = []
    while process.poll() is None:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            break
        seen.append((time.time(), used.user + used.system))
        time.sleep(EVERY)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return seen


def read_phases(log: Path, started: float) -> list[tuple[float, str]]:
    """Find when each phase began, by its first line since the command was started."""
    phases = []
    for line in log.read_text(encoding="utf-8").splitlines():
        if found := _LINE.match(line):
            at = datetime.fromisoformat(f"{found['at']}+00:00").timestamp()
            if at >= started:
                phases.append((at, found["phase"]))
    return phases


def main() -> None:
    """Watch one command."""
    figure, *arguments = sys.argv[1:]
    seen = np.array(watch(arguments))
    started, ended = seen[0, 0], seen[-1, 0]
    log = Path(arguments[arguments.index("-o") + 1]) / "log.txt"
    phases = [(started, "start"), *read_phases(log, started), (ended, "")]
    print("| phase | seconds | busy cores |\n|---|---:|---:|")
    for (begins, name), (ends, _) in pairwise(phases):
        used = np.interp([begins, ends], seen[:, 0], seen[:, 1])
        seconds = max(ends - begins, 1e-9)
        print(f"| {name} | {seconds:.0f} | {np.diff(used)[0] / seconds:.2f} |")
    busy = np.diff(seen[:, 1]) / np.diff(seen[:, 0])
    smooth = np.convolve(busy, np.full(4, 0.25), "same")  # over two seconds
    drawing, axes = plt.subplots(figsize=(9, 2.8), dpi=120)
    axes.fill_between(seen[1:, 0] - started, smooth, step="mid", color="#0072b2", alpha=0.6)
    for begins, name in phases[:-1]:
        axes.axvline(begins - started, color="0.5", lw=0.8)
        axes.text(begins - started + 1, 0.05, name, rotation=90, fontsize=7, va="bottom")
    axes.set_xlabel("seconds")
    axes.set_ylabel("busy cores")
    axes.set_ylim(0)
    drawing.tight_layout()
    drawing.savefig(figure)


if __name__ == "__main__":
    main()
