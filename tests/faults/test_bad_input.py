"""Every bad input of the corpus, through the real commands: its outcome is the one written down."""

import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest
from corpus import CORPUS, BadInput, as_page
from labs import make_lab, make_model, ordinary_user, run, snapshot

from oce2stardist.io import write_text
from oce2stardist.runners.reports.run_files import read_pseudo_objects

INPUTS = [
    pytest.param(one, id=f"{group}: {one.title}") for group, some in CORPUS.items() for one in some
]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    return make_lab(tmp_path_factory.mktemp("pristine"))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.mark.parametrize("bad", INPUTS)
def test_a_bad_input_has_the_outcome_written_down(
    bad: BadInput, pristine, request, tmp_path, caplog
):
    lab = tmp_path / "lab"
    shutil.copytree(pristine, lab)
    if bad.needs == "model":
        shutil.copytree(request.getfixturevalue("model"), lab / "model")
    command = bad.prepare(lab)
    before = snapshot(lab)
    request.addfinalizer(lambda: open_again(lab))
    with ordinary_user():
        result = run(command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    open_again(lab)
    if bad.outcome == "refused":
        assert result.exit_code == 2, result.output
        *others, last = result.output.strip().splitlines()
        assert last.startswith("Error: ") and bad.says in last, result.output
        assert not [line for line in others if not line.startswith(("WARNING:", "Error:"))]
        changed = {name: content for name, content in snapshot(lab).items() if name not in before}
        assert not {name for name in changed if not Path(name).name.startswith((".lock", ".owner"))}
    else:
        assert result.exit_code == 0, result.output
        assert (bad.outcome == "accepted") or bad.says in result.output + caplog.text
        assert not [name for name in snapshot(lab) if is_temporary(name)]
    after = snapshot(lab)
    inputs = [name for name in before if name.startswith(("images", "masks"))]
    assert {name: after[name] for name in inputs} == {name: before[name] for name in inputs} or (
        None in before.values()
    )


def is_temporary(name: str) -> bool:
    return Path(name).name.startswith(".") and Path(name).name not in (".lock", ".owner")


def open_again(lab: Path) -> None:
    for path in (lab / "images", lab / "locked", lab / "images" / "a.tif"):
        if path.exists() and not path.is_symlink():
            path.chmod(0o700)


def test_the_page_of_bad_inputs_is_that_of_the_corpus():
    page = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
    assert page.read_text(encoding="utf-8") == as_page()


@pytest.mark.parametrize("name", ["NA", "nan", "null", "007", "a,b", 'quo"te', "new\nline"])
def test_tables_give_back_the_names_of_images(tmp_path, name):
    objects = pd.DataFrame({"image": [name], "label": [1], "confidence": [1.0]})
    (tmp_path / "pseudo").mkdir()
    write_text(tmp_path / "pseudo" / "objects.csv", objects.to_csv(index=False))
    assert read_pseudo_objects(tmp_path)["image"].tolist() == [name]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """No command opens a connection by itself."""

    def refuse(self, address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
