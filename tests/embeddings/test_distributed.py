"""One training in two processes is the training of one process."""

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_worker import main as work

from oce2stardist.embeddings import distributed
from oce2stardist.embeddings.distributed import (
    agree_on_any,
    init_from_env,
    is_main_process,
    main_process_first,
    rank_and_size,
    share_of,
)
from oce2stardist.errors import InputError

WORKER = Path(__file__).parents[1] / "distributed_worker.py"

SETTINGS = {
    "feature_maps": 6,
    "crop_size": 60,
    "batch_size": 3,  # not a multiple of the processes: shares of one and two crops
    "learning_rate": 4e-3,
    "displacements_per_step": 8,
    "kappa": 8.0,
    "precision": "fp32",
}


def train_both(folder, *, stop_after=None, **changes):
    """Run the worker in two processes; returns what each found.

    They are told of each other as torchrun would, without the process of torchrun itself, which
    tests/runners/test_pipeline.py has.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(WORKER), str(folder), json.dumps(SETTINGS | changes), json.dumps(stop_after)]
    folder.mkdir(exist_ok=True)
    env = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            [sys.executable, *words],
            env=env | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0, said
        assert "Warning" not in said
    return [json.loads((folder / f"found{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process, this one, finds with a reduction; each trains once."""

    @functools.cache
    def train_alone(reduction):
        folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
        try:
            work(folder, SETTINGS | {"reduction": reduction}, None)
        finally:
            torch.set_num_threads(threads)
        return json.loads((folder / "found0.json").read_text())

    return train_alone


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_two_processes_train_like_one(alone, tmp_path, reduction):
    first, second = train_both(tmp_path / "both", reduction=reduction)
    assert first["processes"] == 2
    assert len(alone(reduction)["losses"]) == 20
    np.testing.assert_allclose(first["losses"], alone(reduction)["losses"], rtol=1e-4)
    assert first["losses"] == second["losses"]
    weights = pytest.approx(alone(reduction)["weights"], rel=1e-4)
    assert first["weights"] == second["weights"] == weights
    assert first["saved"] > 0 == second["saved"]


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_from_one_state(alone, tmp_path):
    stopped = train_both(tmp_path / "both", stop_after=7)
    assert [one["finished"] for one in stopped] == [False, False]
    assert [len(one["losses"]) for one in stopped] == [7, 7]
    ended = train_both(tmp_path / "both")
    assert [one["finished"] for one in ended] == [True, True]
    np.testing.assert_allclose(ended[0]["losses"], alone("mean")["losses"], rtol=1e-4)
    assert ended[0]["losses"][:7] == stopped[0]["losses"]


def test_a_single_process_needs_no_partner(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with init_from_env("auto"), main_process_first():
        assert rank_and_size() == (0, 1)
        assert is_main_process()
        assert share_of(5) == slice(0, 5)
        assert [agree_on_any(flag) for flag in (False, True)] == [False, True]


def test_the_rank_tells_the_main_process_before_the_others_are_met(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, main in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert is_main_process() is main


@pytest.mark.parametrize(("count", "size"), [(8, 3), (3, 3), (7, 2)])
def test_shares_cover_every_item_once(monkeypatch, count, size):
    shares = []
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank_and_size", lambda rank=rank: (rank, size))
        shares.append(list(range(count))[share_of(count)])
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_several_processes_on_mps_are_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="Got mps instead"), init_from_env("mps"):
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match="Got 1 and local rank 3"), init_from_env("cuda"):
        pass
