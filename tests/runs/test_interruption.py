"""Ctrl-C at any time: one line, exit code 130, and those who are to save are asked once."""

import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from oce2stardist.cli.main import main

from oce2stardist.errors import InputError
from oce2stardist.runners.demo import _run_until_stopped
from oce2stardist.runs.interruption import Interrupted, deaf_children, stop_on_signal, was_stopped
from oce2stardist.runs.log import logged


def system_error():
    """What Python makes of Ctrl-C in stardist's compiled suppression."""
    error = SystemError("<built-in function f> returned a result with an exception set")
    error.__cause__ = KeyboardInterrupt()
    return error


def refusal():
    """What a reader makes of that, as of any fault of a library."""
    try:
        try:
            raise system_error()
        except Exception as error:
            raise InputError("m must be a StarDist model folder") from error
    except InputError as error:
        return error


@pytest.fixture
def ctrl_c_acts():
    """Let Ctrl-C act: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), system_error(), refusal()])
def test_what_other_code_makes_of_ctrl_c_ends_in_one_line(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("oce2stardist.runners.predict.predict_images", fail)
    result = CliRunner().invoke(main, ["predict", "images", "--model", "m", "-o", "out"])
    assert (result.exit_code, result.output) == (130, "Stopped.\n")


def test_an_error_that_has_nothing_to_do_with_ctrl_c_is_none(monkeypatch):
    def fail(*_, **__):
        raise InputError("m must be a StarDist model folder")

    monkeypatch.setattr("oce2stardist.runners.predict.predict_images", fail)
    result = CliRunner().invoke(main, ["predict", "images", "--model", "m", "-o", "out"])
    assert (result.exit_code, result.output) == (2, "Error: m must be a StarDist model folder\n")
    assert not was_stopped(SystemError("returned NULL without setting an exception"))


def test_what_was_said_already_is_not_said_again(monkeypatch):
    def fail(*_, **__):
        raise Interrupted("")

    monkeypatch.setattr("oce2stardist.runners.demo.run_demo", fail)
    result = CliRunner().invoke(main, ["demo", "-o", "out"])
    assert (result.exit_code, result.output) == (130, "")


def test_a_log_says_that_a_run_was_stopped_and_has_no_traceback(tmp_path):
    def run():
        with logged(None, "predict") as log:
            log.open(tmp_path)
            raise system_error()

    with pytest.raises(SystemError):
        run()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[-1].endswith("Stopped.")
    assert "Traceback" not in "".join(lines)


PROGRAM = """
import atexit, os, signal
import oce2stardist.cli.main, oce2stardist.__main__
signal.signal(signal.SIGINT, signal.default_int_handler)
def command():
    {what}
oce2stardist.cli.main.main = command
atexit.register(os.kill, os.getpid(), signal.SIGINT)
oce2stardist.__main__.main()
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [("raise KeyboardInterrupt", 130, "Stopped.\n"), ("raise SystemExit(130)", 130, "")],
)
def test_ctrl_c_while_the_program_starts_or_ends_is_no_traceback(what, code, said):
    program = [sys.executable, "-c", PROGRAM.format(what=what)]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (code, said)


BLOCKED = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no masks of signals")
def test_ctrl_c_reaches_no_process_that_is_started_deaf():
    with deaf_children():
        deaf = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, check=True)
    hears = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, check=True)
    assert (deaf.stdout.strip(), hears.stdout.strip()) == (b"True", b"False")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no masks of signals")
def test_ctrl_c_while_children_start_is_not_lost(ctrl_c_acts):
    started = []

    def start():
        with stop_on_signal(), deaf_children():
            os.kill(os.getpid(), signal.SIGINT)
            started.append("child")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert started


SAVES = """
import os, signal, sys, time
def save(*_):
    print("saved", file=open({path!r}, "w"))
    sys.exit({code})
signal.signal(signal.SIGTERM, save)
os.kill(os.getppid(), signal.SIGINT)
time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows asks no process to end")
@pytest.mark.parametrize("code", [130, 0, 1])
def test_a_step_of_the_demo_saves_before_the_demo_stops(ctrl_c_acts, tmp_path, code):
    """The step sends the demo Ctrl-C once it can save."""
    program = [sys.executable, "-c", SAVES.format(path=str(tmp_path / "saved"), code=code)]
    if code == 130:  # it has said so
        assert _run_until_stopped(program) == 130
    else:
        with pytest.raises(Interrupted, match="goes on from there"):
            _run_until_stopped(program)
    assert (tmp_path / "saved").read_text() == "saved\n"
