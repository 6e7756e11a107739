"""Runs are done once, in order of need, and whatever happens to one, the others go on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from dask import config as dask_config
from distributed import LocalCluster

from oce2stardist.errors import InputError
from oce2stardist.experiments.grid import run_grid
from oce2stardist.experiments.grid_runs import (
    GridRun,
    Outcome,
    in_order,
    read_outcome,
    write_outcome,
    write_run,
)
from oce2stardist.runs import cluster
from oce2stardist.runs.cluster import ClusterSettings, connected, slurm_cluster
from oce2stardist.runs.interruption import Interrupted

LOOPBACK = "127.0.0.1:0"
PROGRAM = (sys.executable, str(Path(__file__).parents[1] / "grid_program.py"))


def grid_run(name, kind="count", needs=(), **settings):
    settings = {"value": 1, **settings}
    return GridRun(name, kind, settings, needs={needed.name: needed for needed in needs})


@pytest.fixture(scope="module")
def client():
    with connected(ClusterSettings(workers=2)) as client:
        yield client


def finish(runs, folder, client, *, threads=1, should_stop=lambda: False):
    """Do the runs; returns outcomes by key, and by name those of what was not finished before."""
    ended = {}

    def tell(run, outcome):
        ended[run.name] = outcome

    options = {"threads": threads, "should_stop": should_stop, "program": PROGRAM}
    return run_grid(runs, folder, client, on_end=tell, **options), ended


def finish_all(runs, folder, client, **options):
    """Do the runs, which all succeed; returns their values, and by name what was done now."""
    outcomes, ended = finish(runs, folder, client, **options)
    assert {outcome.status for outcome in outcomes.values()} == {"finished"}
    assert {run.key for run in in_order(runs)} == set(outcomes)
    return [int((folder / run.folder_name / "value.txt").read_text()) for run in runs], set(ended)


def threads_of(folder, run):
    """How many threads each start of a run was given."""
    return (folder / run.folder_name / "runs.txt").read_text().split()


# --- keys


def test_a_key_depends_on_what_a_result_depends_on_and_nothing_else():
    first = grid_run("first", value=3)
    second = grid_run("second", needs=[first])
    renamed = replace(second, name="renamed", row={"a": 1}, where={"data_path": "/x"})
    assert renamed.key == second.key
    assert replace(second, settings={"value": 2}).key != second.key
    assert replace(second, kind="sleep").key != second.key
    other = grid_run("second", needs=[replace(first, settings={"value": 4})])
    assert other.key != second.key


def test_a_run_comes_once_and_after_what_it_needs():
    base = grid_run("base")
    left, right = grid_run("left", needs=[base], value=2), grid_run("right", needs=[base], value=3)
    top = grid_run("top", needs=[left, right])
    assert in_order([top, right]) == [base, left, right, top]


def test_a_folder_name_is_safe_and_tells_runs_apart():
    assert not set(grid_run("../a b/<c>").folder_name) & set("/ <>")
    assert grid_run("x", value=1).folder_name != grid_run("x", value=2).folder_name


def test_an_outcome_comes_back_from_its_file(tmp_path):
    assert read_outcome(tmp_path) is None
    write_outcome(tmp_path, Outcome("failed", "why: a 'colon'", 3.25))
    assert read_outcome(tmp_path) == Outcome("failed", "why: a 'colon'", 3.2)


# --- running


@pytest.mark.slow
def test_runs_get_what_they_need_and_are_never_run_twice(tmp_path, client):
    base = grid_run("base", value=5)
    tops = [grid_run(f"top{i}", needs=[base], value=i) for i in range(3)]
    values, ended = finish_all(tops, tmp_path, client, threads=3)
    assert values == [5, 6, 7]
    assert ended == {"base", "top0", "top1", "top2"}
    assert threads_of(tmp_path, base) == ["3"]
    values, ended = finish_all([*tops, grid_run("top9", needs=[base], value=9)], tmp_path, client)
    assert values == [5, 6, 7, 14]
    assert ended == {"top9"}
    assert threads_of(tmp_path, base) == ["3"]


@pytest.mark.slow
def test_a_failing_run_stops_only_what_needs_it_and_is_tried_again(tmp_path, client):
    bad = {kind: grid_run(kind, kind) for kind in ("refuse", "miss", "break_down", "die")}
    good, hopeless = grid_run("good"), grid_run("hopeless", needs=[bad["refuse"]])
    _, ended = finish([*bad.values(), good, hopeless], tmp_path, client)
    assert {name: (outcome.status, outcome.reason) for name, outcome in ended.items()} == {
        "refuse": ("failed", "value must be right. Got a wrong one."),
        "miss": ("missing", "no weights here"),
        "break_down": ("failed", "RuntimeError: it broke; see log.txt"),
        "die": ("failed", "its process ended with signal SIGKILL; see log.txt"),
        "hopeless": ("failed", "needs refuse, which is failed"),
        "good": ("finished", ""),
    }
    assert "Traceback" in (tmp_path / bad["break_down"].folder_name / "log.txt").read_text()
    _, ended = finish([bad["refuse"], good], tmp_path, client)
    assert set(ended) == {"refuse"}


@pytest.mark.slow
def test_a_run_of_a_killed_worker_runs_on_another(tmp_path, client):
    slow = grid_run("slow", "sleep", seconds=4)
    others = [grid_run(f"other{i}", value=i) for i in range(3)]
    started = tmp_path / slow.folder_name / "process.txt"

    def kill_worker():
        while not started.exists():
            time.sleep(0.05)
        psutil.Process(int(started.read_text())).parent().kill()

    killer = threading.Thread(target=kill_worker)
    killer.start()
    finish_all([slow, *others], tmp_path, client)
    killer.join()
    assert len(threads_of(tmp_path, slow)) == 1


@pytest.mark.slow
def test_a_stopped_grid_leaves_no_process_and_goes_on(tmp_path, client):
    slow = grid_run("slow", "sleep", seconds=60)
    started = tmp_path / slow.folder_name / "process.txt"
    after = grid_run("after", needs=[slow])
    with pytest.raises(Interrupted, match="2 grid cells are left"):
        finish([slow, after], tmp_path, client, should_stop=started.exists)
    assert not psutil.pid_exists(int(started.read_text()))
    assert read_outcome(started.parent).status == "stopped"
    assert not list(tmp_path.glob(".stop-*"))


def test_a_run_stops_when_what_started_it_dies(tmp_path):
    folder = write_run(tmp_path, grid_run("slow", "sleep", seconds=60))
    command = f"{PROGRAM[0]} {PROGRAM[1]} {folder} & wait"
    shell = psutil.Popen(
        ["sh", "-c", command], env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True
    )
    while not (folder / "process.txt").exists():
        time.sleep(0.1)
    process = psutil.Process(int((folder / "process.txt").read_text()))
    shell.send_signal(signal.SIGKILL)
    shell.wait()
    process.wait(timeout=20)
    assert read_outcome(folder).status == "stopped"


# --- where


def test_workers_share_the_processors(monkeypatch):
    monkeypatch.setattr(cluster, "n_processors", lambda: 8)
    assert (ClusterSettings().local_workers, ClusterSettings().cell_threads) == (8, 1)
    assert ClusterSettings(workers=3).cell_threads == 2
    assert ClusterSettings(workers=3, threads=5).cell_threads == 5


@pytest.fixture
def scheduler(tmp_path):
    """A dask scheduler and two workers, each started by hand; yields its address."""
    file = tmp_path / "scheduler.json"
    common = ("--scheduler-file", str(file), "--no-dashboard")
    where = ("--host", "127.0.0.1")
    started = [dask("scheduler", *common, *where, "--port", "0", "--dashboard-address", LOOPBACK)]
    while not file.exists():
        time.sleep(0.1)
    worker = (*common, *where, "--nthreads", "1", "--no-nanny", "--dashboard-address", LOOPBACK)
    started += [dask("worker", *worker, "--local-directory", str(tmp_path)) for _ in range(2)]
    yield json.loads(file.read_text())["address"]
    for process in reversed(started):
        process.terminate()
        process.wait(timeout=30)


def dask(command, *options):
    program = [sys.executable, "-m", f"distributed.cli.dask_{command}", *options]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_runs_are_done_on_the_workers_of_a_scheduler_started_by_hand(tmp_path, scheduler):
    runs = [grid_run(f"c{i}", value=i) for i in range(4)]
    with connected(ClusterSettings(scheduler=scheduler)) as client:
        client.wait_for_workers(2, timeout=60)
        assert finish_all(runs, tmp_path / "cells", client)[0] == [0, 1, 2, 3]


def test_a_cluster_leaves_the_environment_as_it_was():
    before = dict(os.environ)
    with connected(ClusterSettings(workers=1)):
        pass
    assert dict(os.environ) == before


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "_TO_CONNECT", 0.5)
    with (
        pytest.raises(InputError, match=r"running dask scheduler.*tcp://127.0.0.1:9"),
        connected(ClusterSettings(scheduler="tcp://127.0.0.1:9")),
    ):
        pass


def test_a_slurm_file_becomes_a_job_script(tmp_path):
    path = tmp_path / "slurm.yaml"
    path.write_text(
        "{jobs: 3, queue: gpu, account: lab, cores: 1, job_cpu: 8, memory: 32GB, "
        'walltime: "08:00:00", job_extra_directives: [--gres=gpu:1]}'
    )
    slurm, jobs = slurm_cluster(path)
    with slurm:
        script = slurm.job_script()
    assert jobs == 3
    for line in ("-p gpu", "-A lab", "--cpus-per-task=8", "-t 08:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}" in script
    assert "--nthreads 1" in script


# dask-jobqueue leaves a half-made cluster behind where it does not know a key.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must be a mapping with a number of jobs"),
        ("jobs: many", "must be a mapping with a number of jobs"),
        ("jobs: [1", "must be a YAML file"),
        ("{jobs: 2, cores: 1, memory: 1GB, quue: gpu}", "quue"),
        ("#" + "x" * 200_000, "must be smaller than 100000 bytes"),
    ],
)
def test_a_wrong_slurm_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "slurm.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        slurm_cluster(path)


@pytest.mark.parametrize("started_by", ["us", "others"])
def test_workers_do_not_profile_themselves(started_by):
    """Dask's profiler and TensorFlow's graphs can lock each other for ever."""
    options = {"n_workers": 1, "processes": False, "dashboard_address": LOOPBACK}
    with ExitStack() as stack:
        stack.enter_context(dask_config.set({"distributed.worker.profile.enabled": True}))
        where = ClusterSettings(workers=1)
        if started_by == "others":
            theirs = stack.enter_context(LocalCluster(**options))
            where = ClusterSettings(scheduler=theirs.scheduler_address)
        client = stack.enter_context(connected(where))

        def profiles(dask_worker):
            return [name for name in dask_worker.periodic_callbacks if "profile" in name]

        assert list(client.run(profiles).values()) == [[]]
        if started_by == "us":  # not even before our plugin reaches it
            setting = "distributed.worker.profile.enabled"
            assert list(client.run(dask_config.get, setting).values()) == [False]
