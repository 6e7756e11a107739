"""Commands that are killed or run out of something lose nothing; a few of `make faults`'s trials.

The trials share one zygote and one laboratory: two tests, each of which says all that was lost.
"""

import re

import numpy as np
import pytest
from matrix import KILLS as N_KILLS
from matrix import PAGE, how_often
from trials import (
    COMMANDS,
    FAULTS,
    Bench,
    NoDisk,
    check_whole,
    content,
    draw_kills,
    names,
    try_full_disk,
    try_kill,
    try_little_memory,
    try_read_only,
    try_vanishing,
    try_wrong_clock,
)
from zygote import Zygote

KILLS = {"pseudo": 2, "merge": 3, "finetune": 1, "predict": 3}
OTHERS = [
    (try_full_disk, "merge", 0.5),
    (try_full_disk, "predict", 0.7),
    (try_read_only, "merge", 0.6),
    (try_vanishing, "merge", 0.5),
    (try_vanishing, "predict", 0.5),
    (try_vanishing, "pseudo", 0.5),
    (try_little_memory, "merge", 0.1),
    (try_little_memory, "predict", 0.3),
    (try_wrong_clock, "merge", 0.6),
    (try_wrong_clock, "predict", 0.3),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    zygote = Zygote()
    yield Bench(tmp_path_factory.mktemp("faults"), zygote)
    zygote.close()


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_and_loses_nothing(bench):
    ends, lost = [], []
    for name, count in KILLS.items():
        for kill in draw_kills(count, np.random.default_rng([1, count])):
            try:
                ends.append(try_kill(bench, name, kill)["how"])
            except AssertionError as error:
                lost.append(f"{name}, {kill}: {error}")
    assert lost == []
    assert "killed" in ends and len(ends) == sum(KILLS.values())


@pytest.mark.slow
def test_a_command_that_runs_out_of_something_says_so_and_goes_on(bench):
    lost, refused, without_disk = [], 0, ""
    for attempt, name, share in OTHERS:
        try:
            refused += attempt(bench, name, share)["how"] == "refused"
        except NoDisk as error:
            without_disk = str(error)
        except AssertionError as error:
            lost.append(f"{attempt.__name__}, {name}: {error}")
    assert lost == []
    assert refused >= 2
    if without_disk:
        pytest.skip(f"the others were tried: {without_disk}")


@pytest.mark.slow
def test_deterministic_training_does_not_depend_on_the_number_of_threads(bench):
    """The networks to the bit; without the flag two threads round sums in another order."""
    command = COMMANDS["finetune"]
    outs = {}
    for threads in (1, 3):
        out = bench.new_output(command)
        arguments = [*command.arguments(bench.lab, out), "--deterministic"]
        done = bench.zygote.run(
            arguments, bench.folder / "said.txt", watched=out, threads=threads, fast_saves=False
        )
        assert done["code"] == 0, done["text"]
        outs[threads] = out
    assert content(outs[1] / "weights_last.h5") == content(outs[3] / "weights_last.h5")
    assert "deterministic: true" in (outs[1] / "run.yaml").read_text()


def test_a_fault_that_harms_is_noticed(tmp_path):
    """The checks of this suite can fail: a torn file, a missing one."""
    (tmp_path / "a.csv").write_text("image,label\na,1")
    with pytest.raises(AssertionError, match=r"a\.csv is not whole"):
        check_whole(tmp_path)
    (tmp_path / "a.csv").write_text("image,label\na,1\n")
    check_whole(tmp_path)
    assert names(tmp_path) == {"a.csv"}


def test_make_faults_kills_at_least_fifty_times():
    kills, *others = FAULTS
    assert sum(how_often(kills, command, N_KILLS) for command in kills.commands) >= 50
    assert all(how_often(one, command, N_KILLS) for one in others for command in one.commands)


def test_the_page_of_faults_lists_those_of_the_suite_and_no_loss():
    """The numbers are of the last `make faults`; the faults and commands are today's."""
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    assert [row[:2] for row in rows] == [
        (fault.name, command) for fault in FAULTS for command in fault.commands
    ]
    assert all(tried == survived and lost == "0" for _, _, tried, survived, lost in rows)
    for fault in FAULTS:
        assert f"- **{fault.name}**: {fault.what}" in page
    if "not tried yet" in page:
        pytest.skip("make faults was not run to its end: the page has rows of 0")
