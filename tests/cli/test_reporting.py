"""Progress for programs: one JSON object a line on standard error."""

import json

import pytest
from oce2stardist.cli.reporting import PROGRESS, TerminalReporter, open_reporter


@pytest.fixture
def reporter(monkeypatch):
    monkeypatch.setenv(PROGRESS, "json")
    return open_reporter(quiet=True)


def objects(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_people_are_told_unless_a_program_asks(monkeypatch):
    monkeypatch.delenv(PROGRESS, raising=False)
    assert isinstance(open_reporter(quiet=True), TerminalReporter)


def test_each_line_is_one_object_whatever_the_message_holds(reporter, capsys):
    reporter.say('two\nlines and "quotes"')
    reporter.warn("careful")
    assert objects(capsys) == [{"say": 'two\nlines and "quotes"'}, {"warn": "careful"}]


def test_progress_tells_the_seconds_left(reporter, capsys, monkeypatch):
    now = iter([100.0, 101.0, 107.0, 110.0])
    monkeypatch.setattr("oce2stardist.cli.reporting.time.monotonic", lambda: next(now))
    with reporter.task("Training", 10) as advance:
        advance(1, "loss 0.5")  # loads what the others find ready: it tells nothing of them
        advance(2, "loss 0.4")
        advance(3, "loss 0.3")  # 3.5 s a unit since the first, 7 units to go
        advance(10, "loss 0.1")
    told = objects(capsys)
    start = {"task": "Training", "done": 0, "total": 10, "note": "", "seconds_left": None}
    assert told[:2] == [start, start | {"done": 1, "note": "loss 0.5"}]
    assert [task["seconds_left"] for task in told[2:]] == [None, 24.5, 0.0]


def test_people_are_told_the_time_left_once_it_means_something(monkeypatch, capsys):
    monkeypatch.setattr("oce2stardist.cli.reporting._SECONDS_BETWEEN_LINES", 0)
    now = iter([0.0, 60.0, 120.0, 121.0])
    monkeypatch.setattr("oce2stardist.cli.reporting.time.monotonic", lambda: next(now))
    with TerminalReporter(quiet=False).task("Training", 12) as advance:
        for done in (1, 2, 3, 12):
            advance(done, "loss")
    assert capsys.readouterr().err.splitlines() == [
        "Training: 1 of 12, loss",
        "Training: 2 of 12, loss",
        "Training: 3 of 12, loss, about 9 min left",
        "Training: 12 of 12, loss",
    ]


def test_fast_units_are_not_all_told_but_the_last_is(reporter, capsys, monkeypatch):
    monkeypatch.setattr("oce2stardist.cli.reporting.time.monotonic", lambda: 5.0)
    with reporter.task("Training", 1000) as advance:
        for done in range(1, 1001):
            advance(done, "")
    assert [task["done"] for task in objects(capsys)] == [0, 1, 1000]
