"""Every bad input of the corpus, through the real commands: its outcome is the one written down."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from corpus import CORPUS, BadInput, as_page
from labs import make_lab, make_model, ordinary_user, run, snapshot

from oce2stardist.files.atomic import write_text
from oce2stardist.files.tables import read_objects

INPUTS = [
    pytest.param(one, group == "Models", id=f"{group}: {one.title}")
    for group, some in CORPUS.items()
    for one in some
]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    return make_lab(tmp_path_factory.mktemp("pristine"))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.mark.parametrize(("bad", "needs_model"), INPUTS)
def test_a_bad_input_has_the_outcome_written_down(
    bad: BadInput, needs_model, pristine, request, tmp_path, caplog
):
    lab = tmp_path / "lab"
    shutil.copytree(pristine, lab)
    if needs_model:
        shutil.copytree(request.getfixturevalue("model"), lab / "model")
    command = bad.prepare(lab)
    before = snapshot(lab)
    request.addfinalizer(lambda: open_again(lab))
    with ordinary_user():
        result = run(command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    open_again(lab)
    after = {name: content for name, content in snapshot(lab).items() if not is_lock(name)}
    # What could not be read before, by permissions, can't be compared.
    readable = {name for name, content in before.items() if content is not None}
    if bad.outcome == "refused":
        assert result.exit_code == 2, result.output
        *others, last = result.output.strip().splitlines()
        assert last.startswith("Error: ") and bad.says in last, result.output
        assert not [line for line in others if not line.startswith("WARNING:")]
        assert {name for name in after if not name.startswith("images")} <= set(before)
        assert {name: after[name] for name in readable} == {name: before[name] for name in readable}
    else:
        assert result.exit_code == 0, result.output
        assert (bad.outcome == "accepted") or bad.says in result.output + caplog.text
        assert not [name for name in after if Path(name).name.startswith(".")]
        inputs = {name for name in readable if name.startswith(("images", "masks"))}
        assert {name: after[name] for name in inputs} == {name: before[name] for name in inputs}


def is_lock(name: str) -> bool:
    return Path(name).name in (".lock", ".owner")


def open_again(lab: Path) -> None:
    for path in (lab / "images", lab / "locked", lab / "images" / "a.tif"):
        if path.exists() and not path.is_symlink():
            path.chmod(0o700)


@pytest.mark.parametrize("left", [300, 2000])
def test_a_process_says_one_line_of_a_broken_file_whatever_its_reader_remarks(pristine, left):
    """A TIFF cut in its tags or in its pixels, for which tifffile has remarks of its own."""
    broken = (pristine / "masks" / "a.tif").read_bytes()[:left]
    folder = pristine.parent / f"broken{left}"
    folder.mkdir()
    (folder / "a.tif").write_bytes(broken)
    command = ["evaluate", str(folder), str(pristine / "masks" / "a.tif")]
    done = subprocess.run(
        [sys.executable, "-m", "oce2stardist", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and "can't be read as an image" in line
    assert done.stdout == ""


def test_the_page_of_bad_inputs_is_that_of_the_corpus():
    page = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
    assert page.read_text(encoding="utf-8") == as_page()


@pytest.mark.parametrize("name", ["NA", "nan", "null", "007", "a,b", 'quo"te', "new\nline"])
def test_tables_give_back_the_names_of_images(tmp_path, name):
    objects = pd.DataFrame({"image": [name], "label": [1], "confidence": [1.0]})
    (tmp_path / "pseudo").mkdir()
    write_text(tmp_path / "pseudo" / "objects.csv", objects.to_csv(index=False))
    assert read_objects(tmp_path / "pseudo" / "objects.csv")["image"].tolist() == [name]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """No command opens a connection by itself."""

    def refuse(self, address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
