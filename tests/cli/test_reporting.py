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
    now = iter([100.0, 101.0, 104.0, 110.0])
    monkeypatch.setattr("oce2stardist.cli.reporting.time.monotonic", lambda: next(now))
    with reporter.task("Training", 10) as advance:
        advance(1, "loss 0.5")  # 1 s a unit, 9 units to go
        advance(2, "loss 0.4")  # 2 s a unit, 8 units to go
        advance(10, "loss 0.1")
    told = objects(capsys)
    start = {"task": "Training", "done": 0, "total": 10, "note": "", "seconds_left": None}
    assert told[:2] == [start, start | {"done": 1, "note": "loss 0.5", "seconds_left": 9.0}]
    assert [task["seconds_left"] for task in told[2:]] == [16.0, 0.0]


def test_fast_units_are_not_all_told_but_the_last_is(reporter, capsys, monkeypatch):
    monkeypatch.setattr("oce2stardist.cli.reporting.time.monotonic", lambda: 5.0)
    with reporter.task("Training", 1000) as advance:
        for done in range(1, 1001):
            advance(done, "")
    assert [task["done"] for task in objects(capsys)] == [0, 1, 1000]
