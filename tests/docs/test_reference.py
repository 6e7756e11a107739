"""docs/reference/: what is committed is what the code says."""

import runpy
from pathlib import Path

import pytest

from oce2stardist.config import Config

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(DOCS / "make_reference.py"))["make_reference"]()


def test_the_committed_reference_is_what_the_script_writes(made):
    committed = {path.name: path.read_text("utf-8") for path in (DOCS / "reference").iterdir()}
    stale = [name for name, text in made.items() if committed.get(name) != text]
    assert not stale, f"{stale}: run python docs/make_reference.py"
    assert set(committed) == set(made)


def test_every_setting_is_described_with_its_default(made):
    text = made["configuration.md"]
    for section, settings in Config().model_dump(mode="json").items():
        if isinstance(settings, dict):
            part = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
            rows = [row.split(" | ") for row in part.splitlines() if row.startswith("| `")]
            assert [row[0] for row in rows] == [f"| `{name}`" for name in settings]
            assert all(row[-1].removesuffix(" |") for row in rows)  # what it means
    assert "| `n_rays` | integer, ≥ 4, ≤ 256, multiple of 4 | `32` |" in text
    assert "| `alpha` | number, ≥ 0, ≤ 1 or `auto` | `auto` |  | `0.5` |" in text


def test_every_command_is_described_with_its_examples(made):
    text = made["commands.md"]
    for command in ("pseudo", "experiment compare", "doctor"):
        part = text.split(f"\n## oce2stardist {command}\n")[1].split("\n## ")[0]
        assert f"\noce2stardist {command} " in part.split("Example")[1]
        assert "| `--json` |" in part
