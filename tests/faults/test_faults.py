"""Commands that are killed or run out of something lose nothing; a few of `make faults`'s trials.

The trials share one laboratory: two tests, each of which says all that was lost.
"""

import re

import numpy as np
import pytest
from bench import Bench, NoDisk, check_whole, content, names
from matrix import PAGE
from trials import FAULTS, try_kill

KILLS = {"pseudo": 2, "merge": 3, "finetune": 1, "predict": 3}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_and_loses_nothing(bench):
    ends, lost = [], []
    for name, count in KILLS.items():
        for share in (np.arange(count) + 0.5) / count:
            try:
                ends.append(try_kill(bench, name, share)[0])
            except AssertionError as error:
                lost.append(f"{name}, {share}: {error}")
    assert lost == []
    assert "killed" in ends and len(ends) == sum(KILLS.values())


@pytest.mark.slow
def test_a_command_that_runs_out_of_something_says_so_and_goes_on(bench):
    lost, refused, without_disk = [], 0, ""
    for _, attempt, times, _ in FAULTS[1:]:
        for name in ("merge", "predict"):
            try:
                refused += name in times and attempt(bench, name, 0.5)[0] == "refused"
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
    outs = []
    for threads in (1, 3):
        trial = bench.trial("finetune")
        assert trial.give("--deterministic", threads=threads).code == 0, trial.done
        outs.append(trial.out)
    assert content(outs[0] / "weights_last.h5") == content(outs[1] / "weights_last.h5")
    assert "deterministic: true" in (outs[0] / "run.yaml").read_text()


def test_a_fault_that_harms_is_noticed(tmp_path):
    """The checks of this suite can fail: a torn file, a missing one."""
    (tmp_path / "a.csv").write_text("image,label\na,1")
    with pytest.raises(AssertionError, match=r"a\.csv is not whole"):
        check_whole(tmp_path)
    (tmp_path / "a.csv").write_text("image,label\na,1\n")
    check_whole(tmp_path)
    assert names(tmp_path) == {"a.csv"}


def test_the_page_of_faults_lists_those_of_the_suite_and_no_loss():
    """The numbers are of the last `make faults`; the faults and commands are today's."""
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    assert rows == [
        (fault.name, command, str(count), str(count), "0")
        for fault in FAULTS
        for command, count in fault.times.items()
    ]
    assert sum(FAULTS[0].times.values()) >= 50
    for fault in FAULTS:
        assert f"- **{fault.name}**: {fault.what}" in page
