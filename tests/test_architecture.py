"""Who may import whom: the contracts in pyproject.toml hold, and they notice what breaks them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(checkout):
    """Run lint-imports on a checkout, in a process that imports nothing of the other."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=checkout,
        env=os.environ | {"COLUMNS": "200"},  # else it breaks lines
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_room_keeps_the_contracts():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("objects.table", "oce2stardist.reports.drawing.page"),  # a stage, a report
        ("objects.table", "oce2stardist.annotations.shapes"),  # a stage, another stage
        ("reports.strip", "torch"),
    ],
)
def test_an_import_against_the_contracts_is_named(tmp_path, module, imported):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("oce2stardist", "cli"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    with (tmp_path / "oce2stardist" / f"{module.replace('.', '/')}.py").open("a") as file:
        file.write(f"import {imported}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert f"oce2stardist.{module} -> {imported}" in done.stdout
