"""What grows while the demo pipeline runs again and again in one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[1] / "benchmarks" / "soak.py"
ROUNDS = 3
MOST_MB = 40
"""Of growth a round: TensorFlow keeps a part of the graph of each training."""


@pytest.mark.long
def test_a_process_that_runs_the_demo_again_keeps_no_handles_or_threads_and_little_memory(tmp_path):
    """A few small rounds; benchmarks/soak.py runs twenty."""
    command = [sys.executable, str(SOAK), str(tmp_path), "--rounds", str(ROUNDS), "--short"]
    done = subprocess.run(
        [*command, "--side", "96", "--steps", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["round"] for row in rows] == list(range(1, ROUNDS + 1))
    second, last = rows[1], rows[-1]  # the first loads libraries and starts their threads
    assert last["handles"] == second["handles"]
    assert last["threads"] == second["threads"]
    assert last["uss_mb"] - second["uss_mb"] < MOST_MB * (ROUNDS - 2)
