"""Every bad input of the corpus, through the real commands: its outcome is the one written down."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from corpus import CORPUS, as_page
from labs import make_lab, make_model, ordinary_user, run, snapshot

from oce2stardist.files.atomic import write_text
from oce2stardist.files.tables import read_objects

INPUTS = {f"{group}: {bad.title}": bad for group, inputs in CORPUS.items() for bad in inputs}


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    return make_lab(tmp_path_factory.mktemp("pristine"))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.mark.parametrize("name", INPUTS)
def test_a_bad_input_has_the_outcome_written_down(name, pristine, request, tmp_path, caplog):
    bad, lab = INPUTS[name], tmp_path / "lab"
    shutil.copytree(pristine, lab)
    if "{0}/model" in bad.given.command:
        shutil.copytree(request.getfixturevalue("model"), lab / "model")
    command = bad.given.prepare(lab)
    # What can't be read before, by permissions, can't be compared.
    before = {name: file for name, file in snapshot(lab).items() if file[0] is not None}
    request.addfinalizer(lambda: open_again(lab))
    with ordinary_user():
        result = run(command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    open_again(lab)
    locks = (".lock", ".owner")
    after = {name: file for name, file in snapshot(lab).items() if Path(name).name not in locks}
    if bad.outcome == "refused":
        assert result.exit_code == 2, result.output
        *others, last = result.output.strip().splitlines()
        assert last.startswith("Error: ") and bad.says in last, result.output
        assert not [line for line in others if not line.startswith("WARNING:")]
        assert {name for name in after if not name.startswith("images")} <= set(before)
        kept = before
    else:
        assert result.exit_code == 0, result.output
        assert (bad.outcome == "accepted") or bad.says in result.output + caplog.text
        assert not [name for name in after if Path(name).name.startswith(".")]
        kept = {name: before[name] for name in before if name.startswith(("images", "masks"))}
    assert {name: after.get(name) for name in kept} == kept


def open_again(lab: Path) -> None:
    for path in (lab / "images", lab / "locked", lab / "images" / "a.tif"):
        if path.exists() and not path.is_symlink():
            path.chmod(0o700)


@pytest.mark.parametrize("left", [300, 2000])
def test_a_process_says_one_line_of_a_broken_file_whatever_its_reader_remarks(
    pristine, left, tmp_path
):
    """A TIFF cut in its tags or in its pixels, for which tifffile has remarks of its own."""
    sound, broken = pristine / "masks" / "a.tif", tmp_path / "a.tif"
    broken.write_bytes(sound.read_bytes()[:left])
    command = [sys.executable, "-m", "oce2stardist", "evaluate", tmp_path, sound]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
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
