"""Files are complete or absent, checkpoints come in pairs, a folder has one owner."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from bench import NoDisk, h5_arrays, mounted
from contents import INT_LABELS, geojson, roi_zip, square, tiff
from labs import find_in_package, make_lab, make_model, ordinary_user, run, snapshot
from safetensors.numpy import load_file, save

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import _machine, _remove_leftovers, write_text
from oce2stardist.files.checkpoints import list_checkpoints, read_checkpoint, write_checkpoint
from oce2stardist.runs.folder import Stage, lock_folder, refuse_inputs_in_output
from oce2stardist.runs.interruption import stop_on_signal

WRITES = (
    r"\.write_text\(|\.write_bytes\(|\.to_csv\((?!index)|imwrite\(|save_file\(|save_weights\(|"
    r"savefig\(|torch\.save\(|copyfile\(|open\([^)]*[\"'][wax]"
)
SQUARE = geojson(square(5, 25))
ALLOWED = {  # what a line holds -> the file that it may stand in
    "temporary": "",
    "torch.save(state, content)": "",  # into memory
    "savefig(buffer, ": "",
    "write_csv(": "",  # of our own class, which uses io
    # The path of these three stands in the next line.
    "tifffile.imwrite(": ("images/label_files.py", "blockwise/job.py", "images/crops.py"),
    'target.open("wb")': "experiments/weights.py",  # called with a temporary path
    'log.txt").open("ab")': "experiments/grid.py",  # a log grows line by line
    "writerows(rows)": "datasets/tissuenet.py",  # a docstring
}


def test_every_file_is_written_under_another_name_first():
    """What writes must be handed the path that `replacing` yields, called `temporary`."""
    suspects = find_in_package(WRITES)
    for text, files in ALLOWED.items():
        suspects = [line for line in suspects if text not in line or not line.startswith(files)]
    assert suspects == []


def test_a_file_with_the_longest_name_can_be_replaced(tmp_path):
    path = tmp_path / f"{'ü' * 125}.tif1"  # 255 bytes
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_half_written_is_removed_by_the_next_one(tmp_path):
    program = (
        "import os, sys; from oce2stardist.files.atomic import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.txt"], check=False)
    (left,) = tmp_path.iterdir()
    _remove_leftovers.cache_clear()
    dead_pid = left.name.split("-")[2]
    of_a_living_one = left.with_name(left.name.replace(f"-{dead_pid}-", f"-{os.getpid()}-"))
    of_another_machine = left.with_name(left.name.replace(_machine(), "0" * 8))
    kept = {of_a_living_one, of_another_machine, tmp_path / ".oce2stardist-mine"}
    for path in kept:
        path.touch()
    write_text(tmp_path / "b.txt", "whole")
    assert set(tmp_path.iterdir()) == kept | {tmp_path / "b.txt"}


# Checkpoints


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def state(step):
    return save({"step": np.array([step])})


def read(path):
    return int(load_file(path)["step"][0])


def write(path, *steps):
    for step in steps:
        write_checkpoint(path, state(step), read=read)


def test_the_checkpoint_before_is_kept_beside_the_new_one(path):
    assert read_checkpoint(path, read=read) is None
    write(path, 1, 2, 3)
    assert [read(checkpoint) for checkpoint in list_checkpoints(path)] == [3, 2]
    assert read_checkpoint(path, read=read) == 3


@pytest.mark.parametrize("left", [0, 1, 9, 40])
def test_a_checkpoint_cut_off_gives_way_to_the_one_before(path, left, caplog):
    write(path, 1, 2)
    path.write_bytes(path.read_bytes()[:left])
    assert read_checkpoint(path, read=read) == 1
    assert "state.safetensors can't be read" in caplog.text


def test_a_kill_between_the_two_renames_leaves_the_one_before(path, monkeypatch):
    write(path, 1)
    replace = os.replace

    def killed(source, target):
        if Path(target) == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, 2)
    assert not path.exists()
    assert read_checkpoint(path, read=read) == 1


def test_a_checkpoint_that_cannot_be_read_back_replaces_nothing(path):
    write(path, 1, 2)
    with pytest.raises(Exception, match="header"):
        write_checkpoint(path, state(3)[:20], read=read)
    assert [read(checkpoint) for checkpoint in list_checkpoints(path)] == [2, 1]
    assert len(list(path.parent.iterdir())) == 2


def test_two_broken_checkpoints_are_one_line(path):
    write(path, 1, 2)
    for checkpoint in list_checkpoints(path):
        checkpoint.write_bytes(b"")
    both = "Got state.safetensors and state-before.safetensors, which can't be read"
    with pytest.raises(InputError, match=both):
        read_checkpoint(path, read=read)


def test_the_state_of_an_embedding_training_gives_way_to_the_one_before(tmp_path):
    from oce2stardist.embeddings.checkpoint import read_state, write_state

    path = tmp_path / "state.pt"
    assert read_state(path) is None
    write_state(path, {"step": 1}), write_state(path, {"step": 2})
    assert read_state(path) == {"step": 2}
    path.write_bytes(path.read_bytes()[:-30])
    assert read_state(path) == {"step": 1}


@pytest.mark.slow
def test_the_state_of_a_stardist_training_gives_way_to_the_one_before(path):
    from oce2stardist.stardist_model.checkpoint import read_state, write_state

    for step in (1, 2):
        write_state(path, ({"0000": np.array(step)}, {"step": step}))
    assert read_state(path)[1] == {"step": 2}
    path.write_bytes(path.read_bytes()[:-4])
    arrays, facts = read_state(path)
    assert facts == {"step": 1}
    assert arrays["0000"].shape == () and arrays["0000"] == 1


def test_a_training_stopped_before_its_first_step_leaves_a_history_that_can_be_read(
    tmp_path, monkeypatch
):
    @contextlib.contextmanager
    def stopped_already():
        yield lambda: True

    lab = make_lab(tmp_path)
    monkeypatch.setattr("oce2stardist.runners.embed.stop_on_signal", stopped_already)
    result = run(["pseudo", lab / "images", "-o", lab / "out", "--config", lab / "tiny.yaml",
                  "--diameter", 18])  # fmt: skip
    assert result.exit_code == 130
    assert "Stopped after step 0 of 1" in result.output
    history = pd.read_csv(lab / "out" / "oce" / "history.csv")
    assert list(history) == ["step", "loss", "learning_rate", "seconds"]
    assert history.empty


@pytest.fixture
def sigint_acts():
    """Let Ctrl-C act: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_after_the_last_look_is_not_lost(sigint_acts):
    """Where nobody looks again, it acts as the loop ends; where somebody did, that is enough."""
    with stop_on_signal() as should_stop:
        signal.raise_signal(signal.SIGINT)
        assert should_stop()
    with pytest.raises(KeyboardInterrupt), stop_on_signal():
        signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_weights_on_a_full_disk_are_an_error_and_no_crash(tmp_path):
    """HDF5 ended the process there, without a line."""
    from oce2stardist.stardist_model.checkpoint import write_weights
    from oce2stardist.stardist_model.network import open_model

    model, disk = open_model(make_model(tmp_path / "model")), tmp_path / "disk"
    try:
        with mounted(disk, size=8192):
            with pytest.raises(OSError, match="No space left on device"):
                write_weights(disk / "weights.h5", model)
            assert list(disk.iterdir()) == []
    except NoDisk as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_model_s_weights_are_those_that_keras_would_write(tmp_path):
    from oce2stardist.stardist_model.checkpoint import write_weights
    from oce2stardist.stardist_model.network import open_model

    model = open_model(make_model(tmp_path / "model"))
    write_weights(tmp_path / "ours.h5", model)
    model.keras_model.save_weights(str(tmp_path / "keras.h5"))
    assert h5_arrays(tmp_path / "ours.h5") == h5_arrays(tmp_path / "keras.h5")
    with h5py.File(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "keras.h5") as keras:
        attributes, theirs = ({key: str(f.attrs[key]) for key in f.attrs} for f in (ours, keras))
    assert attributes == theirs and "layer_names" in attributes


# One owner


HOLD = """
import sys
from pathlib import Path
from oce2stardist.runs.folder import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_dead_one_gives_way(tmp_path):
    lab = make_lab(tmp_path)
    hold = [sys.executable, "-c", HOLD, str(lab / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    holder = subprocess.Popen(hold, **pipes)
    command = ["merge", lab / "run", "--annotations", lab / "masks"]
    try:
        assert holder.stdout.readline() == "held\n"
        result = run(command)
        assert result.exit_code == 2
        assert f"Got process {holder.pid} on " in result.output
        assert len(result.output.strip().splitlines()) == 1
        assert not (lab / "run" / "training").exists()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert (lab / "run" / ".owner").exists()  # what the dead process left
    assert run(command).exit_code == 0
    assert (lab / "run" / "training" / "cells.csv").exists()
    assert not (lab / "run" / ".owner").exists()


def test_a_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        raise ZeroDivisionError
    with lock_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".owner").read_text()


# Inputs are left alone


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.tif", tiff(INT_LABELS)), ("a.zip", roi_zip("1.roi")), ("a.geojson", SQUARE.encode())],
)
def test_annotations_that_cannot_be_written_are_read_and_not_changed(tmp_path, name, content):
    lab = make_lab(tmp_path)
    folder = lab / "annotations"
    folder.mkdir()
    (folder / name).write_bytes(content)
    before = snapshot(folder)
    (folder / name).chmod(0o444)
    folder.chmod(0o555)
    try:
        with ordinary_user():
            result = run(["merge", lab / "run", "--annotations", folder])
        assert result.exit_code == 0, result.output
        assert snapshot(folder) == before
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("folder", ["run/training/sparse", "a link there"])
def test_inputs_below_what_a_run_replaces_are_refused(tmp_path, folder):
    (tmp_path / "run" / "training").mkdir(parents=True)
    (tmp_path / "a link there").symlink_to(tmp_path / "run" / "training")
    run, beside = tmp_path / "run", tmp_path / "run" / "trainings" / "a.tif"
    with pytest.raises(InputError, match=r"must lie outside of what a run writes. Got .*a\.tif"):
        refuse_inputs_in_output(run, ["training"], [tmp_path / folder / "a.tif"])
    refuse_inputs_in_output(run, ["training"], [beside])


def test_a_kill_while_old_results_are_removed_leaves_no_run_to_go_on_with(tmp_path, monkeypatch):
    old, new = {"seed": 1}, {"seed": 2}
    Stage(tmp_path, old, overwrite=False, results=["labels"]).finish()
    (tmp_path / "labels").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Stage(tmp_path, new, overwrite=True, results=["labels"])
    for settings in (old, new):
        with pytest.raises(InputError, match="must hold a run with the same settings"):
            Stage(tmp_path, settings, overwrite=False, results=["labels"])
    assert not Stage(tmp_path, new, overwrite=True, results=["labels"]).resumes
    assert not (tmp_path / "labels").exists()


def test_outlines_that_are_no_suggestions_are_not_removed(tmp_path):
    lab = make_lab(tmp_path)
    mine = lab / "mine" / "geojson" / "a.geojson"
    mine.parent.mkdir(parents=True)
    mine.write_text(SQUARE)
    result = run(["suggest", lab / "run", "--images", lab / "images", "-o", lab / "mine"])
    assert result.exit_code == 2
    assert "must replace earlier suggestions only" in result.output
    assert mine.exists()
