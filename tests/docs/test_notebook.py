"""docs/tutorial.ipynb: runs from top to bottom, and what is stored in it is what it shows."""

import importlib
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs oce2stardist[test]")
nbclient = pytest.importorskip("nbclient", reason="needs oce2stardist[test]")

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("run_notebook")


def pictures_in(notebook):
    """Number of pictures below each cell of code."""
    return [
        sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_notebook_leads_from_a_folder_to_a_model(script, tmp_path):
    executed = script.run_notebook(tmp_path)
    stored = nbformat.read(script.NOTEBOOK, as_version=4)
    assert pictures_in(executed) == pictures_in(stored)
    assert (tmp_path / "model" / "weights_best.h5").exists()
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if "stderr" in str(output)]


@pytest.mark.slow
def test_a_cell_that_fails_fails_the_notebook(script, tmp_path, monkeypatch):
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(broken, tmp_path / "broken.ipynb")
    monkeypatch.setattr(script, "NOTEBOOK", tmp_path / "broken.ipynb")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        script.run_notebook(tmp_path)


def test_the_stored_notebook_is_small_and_has_its_pictures():
    path = DOCS / "tutorial.ipynb"
    assert path.stat().st_size < 500_000
    notebook = nbformat.read(path, as_version=4)
    assert sum(pictures_in(notebook)) >= 5
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
