"""--json: one object on standard output, with the keys that the help names, and nothing else."""

import json
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from oce2stardist.cli import results
from oce2stardist.cli.main import main
from run_folders import image_set, pseudo_run, two_annotated

from oce2stardist.evaluation.scores import Scores
from oce2stardist.experiments import compare, experiment
from oce2stardist.images import sources
from oce2stardist.images.label_files import write_labels
from oce2stardist.runners import demo, finetune, predict, pseudo
from oce2stardist.suggestion import run as suggest

SCORES = Scores(0.5, float("nan"), 0.5, 0.5, 1, 1, 1, 2, 2, 0.5)


def run_json(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def labels(n):
    return np.arange(n + 1, dtype=np.int32)[None]


def test_predict(monkeypatch):
    predicted = predict.PredictedLabels()
    predicted.counts |= {"a": 3, "b": 0}
    monkeypatch.setattr(predict, "predict_images", lambda *_, **__: predicted)
    content = {"output": "out", "n_images": 2, "n_cells": 3, "cells": {"a": 3, "b": 0}}
    assert run_json("predict", "images", "--model", "m", "-o", "out") == content


def test_a_prediction_is_logged_only_where_that_is_asked_for(monkeypatch, tmp_path):
    def at_once(*arguments):
        arguments[-1].warn("image a is blurred")
        yield "a", labels(3)

    found = sources.Sources([Path("a.tif")], [])
    monkeypatch.setattr(predict, "find_sources", lambda *_, **__: found)
    monkeypatch.setattr(predict, "_predict_at_once", at_once)
    command = ["predict", "images", "--model", "m", "-o", tmp_path / "out"]
    run_json(*command)
    assert not list(tmp_path.iterdir())
    run_json(*command, "--log", tmp_path / "logs" / "plate1.txt")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["plate1.txt"]
    said = (tmp_path / "logs" / "plate1.txt").read_text()
    assert "WARNING image a is blurred" in said


def test_pseudo(monkeypatch, tmp_path):
    chosen = {"diameter": {"value": np.float64(21.5), "reason": "measured"}}

    def make(*_, reporter, **__):
        reporter.say("a line of progress")
        return pseudo.PseudoResult({"a": labels(4)}, chosen, {}, report=tmp_path / "index.html")

    monkeypatch.setattr(pseudo, "make_pseudo_labels", make)
    content = run_json("pseudo", "images", "-o", "run")
    assert content["labels"] == "run/pseudo/labels"
    assert (content["n_objects"], content["objects"]) == (4, {"a": 4})
    assert (content["whole_objects"], content["report"]) == ({}, str(tmp_path / "index.html"))
    assert content["parameters"]["diameter"]["value"] == 21.5


def test_finetune(monkeypatch, tmp_path):
    score = {"value": None, "reason": "no cell is left to judge by"}
    result = finetune.FinetuneResult(tmp_path, {"f1": score}, pd.DataFrame(), tmp_path / "x.html")
    monkeypatch.setattr(finetune, "finetune_stardist", lambda *_, **__: result)
    content = run_json("finetune", "images", "--annotations", "masks", "-o", "model")
    assert content.pop("parameters") == {"f1": score}
    assert content == {"model": "model", "f1": score, "report": str(tmp_path / "x.html")}


def test_merge(tmp_path):
    _, cells = image_set(tmp_path, ["a"])
    run = pseudo_run(tmp_path / "run", cells)
    (run / "pseudo" / "stage.yaml").write_text("{finished: true, settings: {}}")
    write_labels(tmp_path / "masks" / "a.tif", two_annotated(cells["a"]))
    content = run_json("merge", run, "--annotations", tmp_path / "masks")
    training = str(run / "training")
    counts = {"n_annotated": 2, "n_confirmed": 0, "n_pseudo": 4, "n_images": 1}
    assert content == {"training": training} | counts


def test_suggest(monkeypatch):
    region = {"rank": 1, "image": "a", "y0": 3, "x0": 5, "score": np.nan, "reason": "unlike"}
    monkeypatch.setattr(suggest, "suggest_regions", lambda *_, **__: pd.DataFrame([region]))
    content = run_json("suggest", "model")
    assert content == {"output": "model/suggestions", "regions": [region | {"score": None}]}


def test_evaluate(tmp_path):
    for side in ("labels", "truth"):
        write_labels(tmp_path / side / "a.tif", np.zeros((9, 9), np.int32))
    content = run_json("evaluate", tmp_path / "labels", tmp_path / "truth")
    assert content["seg"] is None  # no true cell
    assert content["images"]["a"]["seg"] is None
    text = " ".join(CliRunner().invoke(main, ["evaluate", "--help"]).output.split())
    assert all(f"{key} (" in text.split("Keys: ")[1] for key in content)


def test_demo(monkeypatch, tmp_path):
    result = demo.DemoResult({"pseudo labels": SCORES}, {"pseudo": 1.5}, 7, tmp_path / "x.html")
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: result)
    content = run_json("demo")
    assert (content["scores"]["pseudo labels"]["f1"], content["n_annotated"]) == (0.5, 7)


def test_what_is_not_documented_is_a_defect_of_ours():
    @click.command()
    @results.prints_json(a="the first")
    def command():
        results.tell({"b": 1}, "b is 1")

    with pytest.raises(AssertionError, match=r"documents \['a'\], prints \['b'\]"):
        CliRunner().invoke(command, ["--json"], catch_exceptions=False)


def test_an_experiment_to_come_and_one_that_has_run(monkeypatch, tmp_path):
    cell = SimpleNamespace(name="bbbc039-embeddings")
    planned = [experiment.PlannedRun(cell, is_finished=False)]
    monkeypatch.setattr(experiment, "plan_experiment", lambda *_, **__: planned)
    command = ("experiment", "scales", "scales-quick", "--data", tmp_path, "-o", tmp_path)
    content = run_json(*command, "--dry-run")
    assert content["planned"] == [{"cell": "bbbc039-embeddings", "is_finished": False}]
    summary = pd.DataFrame({"study": ["scales"], "scale": [1.0], "f1": [np.nan]})
    result = experiment.ExperimentResult(tmp_path, summary, ["It matters."], {}, tmp_path / "x")
    monkeypatch.setattr(experiment, "run_experiment", lambda *_, **__: result)
    content = run_json(*command)
    assert content["summary"] == [{"study": "scales", "scale": 1.0, "f1": None}]
    assert (content["answers"], content["planned"]) == (["It matters."], None)


def test_a_comparison(monkeypatch):
    empty = pd.DataFrame({"side": []})
    rows = pd.DataFrame({"f1_a": [0.5], "f1_low": [np.nan]})
    comparison = SimpleNamespace(rows=rows, only_a=empty, only_b=empty, unscored=empty)
    comparison.as_text = lambda: "B is better"
    monkeypatch.setattr(compare, "compare_results", lambda *_: comparison)
    content = run_json("experiment", "compare", "A", "B")
    assert content.pop("rows") == [{"f1_a": 0.5, "f1_low": None}]
    assert content == {"only_a": [], "only_b": [], "unscored": []}
