"""All tests under every set of instructions that this processor has, and in both precisions.

    python benchmarks/processors.py OUT [--repeats 10] [--only avx2 bf16 ...]

Clones the last commit into OUT, runs `make test` there once for each setting, and then the two
tests that once passed on some processors only, so many times each. Prints a Markdown row a setting;
what pytest said is kept in OUT. A setting that the processor lacks instructions for is named.
"""

import argparse
import os
import re
import subprocess
import time
from pathlib import Path

from oce2stardist.runs.processor import describe_processor

SETTINGS = {
    "default": ({}, "avx2"),
    "avx2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, "avx2"),
    "avx512": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "avx512f"),
    "avx512-bf16": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "avx512_bf16"),
    "amx": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "amx_bf16"),
    "fp32": ({"OCE2STARDIST_PRECISION": "fp32"}, "avx2"),
    "bf16": ({"OCE2STARDIST_PRECISION": "bf16"}, "avx512_bf16"),
    "avx512-bf16, bf16": (
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "OCE2STARDIST_PRECISION": "bf16"},
        "avx512_bf16",
    ),
}
"""Variables of each setting, and the instructions that it needs."""

REPEATED = [
    *("tests/blockwise/test_pseudo_in_blocks.py", "tests/experiments/test_experiment_run.py"),
    *("-k", "blocks_of_any_size_give_the_pseudo or leaves_tables"),
]
"""Tests of what small differences of rounding decided before."""


def run(command: list[str], folder: Path, log: Path, variables: dict[str, str]) -> tuple[str, int]:
    """Run a command; returns pytest's last line of counts, and the seconds."""
    started = time.monotonic()
    with log.open("a") as file:
        subprocess.run(
            command, cwd=folder, env=os.environ | variables, stdout=file, stderr=file, check=False
        )
    counts = re.findall(r"^=*\s*(\d+ (?:passed|failed|error).*?) in [\d.]+s", log.read_text(), re.M)
    return counts[-1] if counts else "no test ran", round(time.monotonic() - started)


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    given = parser.parse_args()
    clone = given.out.resolve() / "clone"
    if not clone.exists():
        subprocess.run(["git", "clone", "-q", ".", str(clone)], check=True)
    processor = describe_processor()
    print(f"{processor['name']}: {', '.join(processor['instructions'])}\n")
    print("| setting | `make test` | s | the two tests, again |\n|---|---|---:|---|")
    for name in given.only:
        variables, needed = SETTINGS[name]
        if needed not in processor["instructions"]:
            print(f"| {name} | not run: no {needed} here | | |", flush=True)
            continue
        log = given.out / f"{name}.log"
        counts, seconds = run(["make", "test"], clone, log, variables)
        again = [".venv/bin/python", "-m", "pytest", "-q", "-n", "2", *REPEATED]
        results = [
            run(again, clone, given.out / f"{name}-{number}.log", variables)[0]
            for number in range(given.repeats)
        ]
        passed = sum(result.startswith("2 passed") for result in results)
        print(f"| {name} | {counts} | {seconds} | {passed} of {given.repeats} passed |", flush=True)


if __name__ == "__main__":
    main()
