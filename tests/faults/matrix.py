"""Every fault on every command, many times; writes docs/faults.md. `make faults` runs it.

    python tests/faults/matrix.py [--seed 0] [--only pseudo]

It takes about half an hour on two cores. The tests in test_faults.py try a few of these each time.
"""

import argparse
import platform
import sys
import tempfile
import time
import traceback
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from bench import Bench, NoDisk
from trials import FAULTS, Fault

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
LOST = "lost"

HEAD = """\
# Faults

<!-- Written by `python tests/faults/matrix.py`; do not edit. -->

{tried} faults were tried, {kills} of them kills: {survived} survived, {lost} lost anything. \
`python tests/faults/matrix.py --seed {seed}`, {today}, Python {python}, {versions}.

After each fault: every file under its own name is whole, inputs (annotations among them) have \
the same bytes and times, and the same command, given again, ends with the files of an undisturbed \
run, labels, weights and tables equal byte for byte (*same*), or says in one line why not \
(*refused*). Images are small and trainings short; torch and TensorFlow are real.

| fault | command | tried | survived | lost | how it ended, what came of the same command |
|---|---|---:|---:|---:|---|
"""


def try_fault(bench: Bench, fault: Fault, command: str, seed: int) -> Counter[str]:
    """Try a fault at shares spread over the whole of a command; count how it ended."""
    rng = np.random.default_rng([seed, *f"{fault.name} {command}".encode()])
    count, ends = fault.times[command], Counter[str]()
    for share in rng.permutation((np.arange(count) + rng.random(count)) / count):
        started = time.monotonic()
        try:
            end = ", ".join(fault.attempt(bench, command, share))
        except NoDisk as error:
            print(f"{fault.name}, {command}: not tried: {error}", flush=True)
            break
        except Exception:
            traceback.print_exc()
            end = LOST
        ends[end] += 1
        seconds = time.monotonic() - started
        print(f"{fault.name}, {command}, {share:.3f}: {end} ({seconds:.0f} s)", flush=True)
    return ends


def as_page(rows: dict[tuple[str, str], Counter[str]], *, seed: int) -> str:
    """Write the table of how each fault ended on each command."""
    tried = sum(ends.total() for ends in rows.values())
    lost = sum(ends[LOST] for ends in rows.values())
    kills = sum(ends.total() for (fault, _), ends in rows.items() if fault == FAULTS[0].name)
    packages = ("torch", "tensorflow", "numpy", "distributed")
    page = HEAD.format(
        tried=tried, kills=kills, survived=tried - lost, lost=lost, seed=seed,
        today=time.strftime("%Y-%m-%d"), python=platform.python_version(),
        versions=", ".join(f"{name} {version(name)}" for name in packages),
    )  # fmt: skip
    for (fault, command), ends in rows.items():
        tried, lost = ends.total(), ends[LOST]
        told = "; ".join(f"{count} × {end}" for end, count in ends.most_common())
        page += f"| {fault} | {command} | {tried} | {tried - lost} | {lost} | {told} |\n"
    return page + "\n## What is done\n\n" + "".join(f"- **{f.name}**: {f.what}\n" for f in FAULTS)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one command; writes no page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oce2stardist-faults-") as folder:
        bench = Bench(Path(folder))
        rows = {
            (fault.name, command): try_fault(bench, fault, command, given.seed)
            for fault in FAULTS
            for command in fault.times
            if given.only in (None, command)
        }
    page = as_page(rows, seed=given.seed)
    print(page)
    if given.only is None:
        PAGE.write_text(page, encoding="utf-8")
    if any(ends[LOST] for ends in rows.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
