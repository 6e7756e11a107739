"""log.txt: what was said, warned and logged stands in it, in order, over several starts."""

import logging
import re
import warnings
from pathlib import Path

import pytest

from oce2stardist.errors import InputError
from oce2stardist.runs.interruption import Interrupted
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import SilentReporter

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} (INFO|WARNING|ERROR) +(.*)")


def lines(folder):
    """Level and text of every line; each must have a time."""
    return [LINE.fullmatch(line).groups() for line in (folder / "log.txt").read_text().splitlines()]


def fail_in(folder, error):
    """Let a run end with an error, after its folder is known."""

    def run():
        with logged(None, "x") as log:
            log.open(folder)
            raise error

    with pytest.raises(type(error)):
        run()


class Listener(SilentReporter):
    def __init__(self):
        self.heard = []

    def say(self, message):
        self.heard.append(("say", message))

    def warn(self, message):
        self.heard.append(("warn", message))


def test_what_a_reporter_is_told_is_in_the_log_with_its_time(tmp_path):
    listener = Listener()
    with logged(listener, "oce2stardist pseudo") as log:
        log.say("before the folder is known")
        log.open(tmp_path)
        log.warn("be careful, Müller")
    assert listener.heard == [("say", "before the folder is known"), ("warn", "be careful, Müller")]
    started, *others = lines(tmp_path)
    assert started[1].startswith("Started: oce2stardist pseudo, version ")
    told = [("INFO", "before the folder is known"), ("WARNING", "be careful, Müller")]
    assert others == [*told, ("INFO", "Finished.")]


def test_a_second_start_is_appended(tmp_path):
    for number in (1, 2):
        with logged(None, f"start {number}") as log:
            log.open(tmp_path)
    assert [text.split(",")[0] for _, text in lines(tmp_path)] == [
        *("Started: start 1", "Finished.", "Started: start 2", "Finished.")
    ]


def test_lines_are_on_disk_while_the_run_goes_on(tmp_path):
    with logged(None, "x") as log:
        log.open(tmp_path)
        log.say("halfway")
        assert lines(tmp_path)[-1] == ("INFO", "halfway")


def test_refused_input_leaves_no_file_and_what_is_found_later_is_in_the_log(tmp_path):
    with pytest.raises(InputError), logged(None, "x"):
        raise InputError("no images")
    assert not list(tmp_path.iterdir())
    fail_in(tmp_path, InputError("broken\n image"))
    assert lines(tmp_path)[-1] == ("ERROR", "broken image")


def test_an_interruption_is_told_and_an_unforeseen_error_comes_with_its_traceback(tmp_path):
    fail_in(tmp_path, Interrupted("Stopped after step 3 of 9."))
    assert lines(tmp_path)[-1] == ("INFO", "Stopped after step 3 of 9.")
    fail_in(tmp_path, ZeroDivisionError("division by zero"))
    text = (tmp_path / "log.txt").read_text()
    assert "ERROR   Ended by ZeroDivisionError." in text
    assert text.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_warnings_of_packages_are_logged_and_their_small_talk_is_not(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(str(message)))
    with logged(None, "x") as log, warnings.catch_warnings():
        warnings.simplefilter("always")
        log.open(tmp_path)
        logging.getLogger("oce2stardist.images.find").warning("dropped %s", "alpha")
        logging.getLogger("other").warning("deprecated soon")
        logging.getLogger("other").setLevel(logging.INFO)
        logging.getLogger("other").info("hello")
        warnings.warn("too many open figures", UserWarning, stacklevel=1)
    assert shown == ["too many open figures"]
    assert lines(tmp_path)[1:-1] == [
        ("WARNING", "dropped alpha"),
        ("WARNING", "other: deprecated soon"),
        ("WARNING", "warnings: UserWarning: too many open figures"),
    ]


def test_after_the_block_nothing_is_logged_any_more(tmp_path):
    shown, handlers = warnings.showwarning, list(logging.getLogger().handlers)
    with logged(None, "x") as log:
        log.open(tmp_path)
    assert warnings.showwarning is shown
    assert logging.getLogger().handlers == handlers


def test_lines_come_once_whatever_the_level_of_the_logger(tmp_path):
    logger = logging.getLogger("oce2stardist")
    for level in (logging.ERROR, logging.WARNING, logging.DEBUG):
        logger.setLevel(level)
        try:
            with logged(None, "x") as log:
                log.open(tmp_path)
                log.say(f"at level {level}")
        finally:
            logger.setLevel(logging.NOTSET)
        assert [text for _, text in lines(tmp_path)].count(f"at level {level}") == 1


def test_who_sets_up_logging_in_python_hears_the_run(tmp_path, caplog):
    caplog.set_level(logging.INFO, "oce2stardist")
    with logged(None, "x") as log:
        log.say("42 cells")
    assert ("oce2stardist.run", logging.INFO, "42 cells") in caplog.record_tuples


def test_who_sets_up_nothing_still_sees_warnings_of_packages(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with logged(None, "x") as log:
        log.open(tmp_path)
        log.warn("told by the result")
        logging.getLogger("oce2stardist.images.find").warning("dropped alpha")
    assert capsys.readouterr().err == "dropped alpha\n"
    assert logging.getLogger().handlers == []


def test_long_work_is_logged_at_every_tenth(tmp_path):
    with logged(None, "x") as log:
        log.open(tmp_path)
        with log.task("Training", 200) as advance:
            for step in range(1, 201):
                advance(step, f"loss {step}")
    told = [text for _, text in lines(tmp_path) if text.startswith("Training")]
    assert [int(text.split()[1]) for text in told] == [1, *range(20, 201, 20)]
    assert re.fullmatch(r"Training: 200 of 200, loss 200, after \d+\.\d s", told[-1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_log_on_a_full_disk_neither_ends_the_run_nor_talks(tmp_path, capfd):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with logged(None, "a command") as log:
        log.open(tmp_path)
        log.say("something")
    assert capfd.readouterr() == ("", "")
