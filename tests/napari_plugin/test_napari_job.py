"""A command at work, as the widget sees it: real processes."""

import signal
import sys

import napari_import  # noqa: F401  # skips these tests where there is no napari
import pytest
from qtpy.QtCore import QProcess
from scenes import two_touching_discs

from oce2stardist.images.label_files import write_labels
from oce2stardist.napari_plugin.job import Job, Outcome, Progress, _read_outcome

START = 30_000  # milliseconds


@pytest.fixture
def job(qtbot):
    job = Job()
    yield job
    job.close()


def outcome_of(qtbot, job, arguments):
    with qtbot.waitSignal(job.ended, timeout=START) as ended:
        job.start(arguments)
    return ended.args[0]


def test_a_command_that_ends_hands_over_its_result(qtbot, job, tmp_path):
    for folder in ("a", "b"):
        write_labels(tmp_path / folder / "x.tif", two_touching_discs())
    outcome = outcome_of(
        qtbot, job, ["evaluate", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]
    )
    assert outcome.result["f1"] == 1.0
    assert not job.is_running


def test_bad_input_ends_in_the_one_line_of_the_command(qtbot, job, tmp_path):
    outcome = outcome_of(qtbot, job, ["evaluate", str(tmp_path / "none"), str(tmp_path), "--json"])
    assert outcome.result is None and not outcome.stopped
    assert "none must exist. Got no such file or folder" in outcome.message
    assert "\n" not in outcome.message and "Traceback" not in outcome.message


def test_a_wrong_option_ends_in_one_line(qtbot, job):
    outcome = outcome_of(qtbot, job, ["finetune", "x", "--alpha", "much"])
    assert outcome.message.startswith("Invalid value for '--alpha': must be auto or a number")


def test_what_comes_in_pieces_is_told_line_by_line(qtbot, job):
    told = []
    job.said.connect(lambda line: told.append(("say", line)))
    job.warned.connect(lambda line: told.append(("warn", line)))
    job.progressed.connect(lambda progress: told.append(("task", progress)))
    for chunk in (b'{"say": "one"}\n{"wa', b'rn": "two"}\nplain\n', b'{"task": "T", "done": 1, '):
        job._listen(chunk)
    job._listen(b'"total": 2, "note": "n", "seconds_left": 100.0}\n')
    progress = Progress("T", 1, 2, "n", 100.0)
    assert told == [("say", "one"), ("warn", "two"), ("say", "plain"), ("task", progress)]
    assert progress.in_words() == "T: 1 of 2, n, about 2 min left"


def test_a_command_that_breaks_off_is_told_with_its_last_line():
    outcome = _read_outcome(-signal.SIGSEGV, "", ["so far so good"], is_stopped=False)
    assert outcome == Outcome(message="the command broke off with exit code -11: so far so good")


STOPPABLE = """
import threading, time
from oce2stardist.napari_plugin.job_process import main
def command():
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("saved")
import oce2stardist.cli.main
oce2stardist.cli.main.main = command
main()
"""


def test_the_end_of_its_input_as_when_napari_dies_is_ctrl_c_to_a_command(qtbot):
    process = QProcess()
    process.start(sys.executable, ["-c", STOPPABLE])
    assert process.waitForStarted()
    assert not process.waitForFinished(1500)
    with qtbot.waitSignal(process.finished, timeout=START):
        process.closeWriteChannel()
    assert bytes(process.readAllStandardOutput()) == b"saved\n"
