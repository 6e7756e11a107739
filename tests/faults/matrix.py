"""Every fault on every command, many times; writes docs/faults.md. `make faults` runs it.

    python tests/faults/matrix.py [--kills 52] [--seed 0] [--only pseudo]

It takes about half an hour on two cores. The tests in test_faults.py try a few of these each time.
"""

import argparse
import platform
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from trials import FAULTS, Bench, Fault, NoDisk, draw_kills, try_kill
from zygote import Zygote

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"

KILLS = 52
"""In all."""

_KILL_SHARES = {
    "merge": 0.385, "predict": 0.31, "pseudo": 0.155, "finetune": 0.095, "experiment": 0.055,
}  # fmt: skip
"""More on what takes less time."""

_OTHERS = {"merge": 3, "predict": 3, "pseudo": 2, "finetune": 1, "experiment": 1}
"""Times that each other fault is tried on a command, where it does not say otherwise."""


@dataclass
class Row:
    """What came of one fault on one command."""

    fault: str
    command: str
    tried: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


def how_often(fault: Fault, command: str, kills: int) -> int:
    """Count the trials of a fault on a command, where there shall be so many kills in all."""
    if fault.attempt is None:
        return max(2, round(kills * _KILL_SHARES[command]))
    return fault.times.get(command, _OTHERS.get(command, 1))


def try_fault(bench: Bench, fault: Fault, command: str, kills: int, seed: int) -> Row:
    row = Row(fault.name, command)
    rng = np.random.default_rng([seed, *f"{fault.name} {command}".encode()])
    count = how_often(fault, command, kills)
    attempt: Any = fault.attempt or try_kill
    for plan in (
        draw_kills(count, rng)
        if fault.attempt is None
        else (np.arange(count) + rng.random(count)) / count
    ):
        started = time.monotonic()
        try:
            found = attempt(bench, command, plan)
        except NoDisk as error:
            print(f"{fault.name}, {command}: not tried: {error}", flush=True)
            break
        except Exception as error:
            traceback.print_exc()
            row.lost.append(f"{plan}: {error}")
            found = {"how": "LOST", "end": "lost"}
        row.tried += 1
        row.ends[f"{found['how']}, {found['end']}"] += 1
        seconds = time.monotonic() - started
        print(f"{fault.name}, {command}, {plan}: {found} ({seconds:.0f} s)", flush=True)
    return row


def as_page(rows: list[Row], *, kills: int, seed: int) -> str:
    """Write the table."""
    lost = sum(len(row.lost) for row in rows)
    tried = sum(row.tried for row in rows)
    n_kills = sum(row.tried for row in rows if row.fault == FAULTS[0].name)
    packages = ("torch", "tensorflow", "numpy", "distributed")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [
        "# Faults",
        "",
        "<!-- Written by `python tests/faults/matrix.py`; do not edit. -->",
        "",
        f"{tried} faults were tried, {n_kills} of them kills: {tried - lost} survived, {lost} "
        f"lost anything. `python tests/faults/matrix.py --kills {kills} --seed {seed}`, "
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {versions}.",
        "",
        *(["**Rows of 0 were not tried yet.**", ""] if not all(row.tried for row in rows) else []),
        "After each fault: every file under its own name is whole, inputs (annotations among "
        "them) have the same bytes and times, and the same command, given again, ends with the "
        "files of an undisturbed run, labels, weights and tables equal byte for byte (*same*), "
        "or says in one line why not (*refused*). Images are small and trainings short; torch "
        "and TensorFlow are real.",
        "",
        "| fault | command | tried | survived | lost | how it ended, what came of the same "
        "command |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        ends = "; ".join(f"{count} × {end}" for end, count in row.ends.most_common())
        survived = row.tried - len(row.lost)
        lines.append(
            f"| {row.fault} | {row.command} | {row.tried} | {survived} | {len(row.lost)} | {ends} |"
        )
    lines += ["", "## What is done", ""]
    lines += [f"- **{fault.name}**: {fault.what}" for fault in FAULTS]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one command; writes no page")
    given = parser.parse_args()
    zygote = Zygote()
    with tempfile.TemporaryDirectory(prefix="oce2stardist-faults-") as folder:
        bench = Bench(Path(folder), zygote)
        rows = [
            try_fault(bench, fault, command, given.kills, given.seed)
            for fault in FAULTS
            for command in fault.commands
            if given.only in (None, command)
        ]
    zygote.close()
    page = as_page(rows, kills=given.kills, seed=given.seed)
    print(page)
    if given.only is None:
        PAGE.write_text(page, encoding="utf-8")
    if any(row.lost for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
