"""Run folders: a stage goes on only with its own settings, and starts again clean."""

import pytest

from oce2stardist.errors import InputError
from oce2stardist.files.digests import digest
from oce2stardist.runs.folder import Stage, Times
from oce2stardist.runs.processor import describe_processor

RESULTS = ("labels", "weights")


def start(folder, settings, *, overwrite=False):
    return Stage(folder, settings, overwrite=overwrite, results=RESULTS)


def test_the_same_settings_go_on_and_remember_the_end(tmp_path):
    first = start(tmp_path, {"seed": 1, "drop": (1, 2)})
    assert not first.resumes
    again = start(tmp_path, {"seed": 1, "drop": [1, 2]})
    assert again.resumes
    assert not again.finished
    again.finish()
    assert start(tmp_path, {"seed": 1, "drop": (1, 2)}).finished


def test_other_settings_are_refused_by_name(tmp_path):
    start(tmp_path, {"seed": 1, "net": {"width": 8}})
    with pytest.raises(InputError, match=r"Got net\.width: 9 where it has 8; .* --overwrite"):
        start(tmp_path, {"seed": 1, "net": {"width": 9}})


def test_overwriting_removes_the_old_results_and_nothing_else(tmp_path):
    start(tmp_path, {"seed": 1}).finish()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "old.tif").touch()
    (tmp_path / "weights").touch()
    (tmp_path / "mine.txt").touch()
    again = start(tmp_path, {"seed": 2}, overwrite=True)
    assert not again.resumes
    assert not again.finished
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "stage.yaml"]


def test_times_add_up_over_interruptions(tmp_path):
    times = Times(tmp_path / "times.yaml", keep=False)
    with pytest.raises(KeyError), times.measure("work"):
        raise KeyError
    times.seconds["work"] = 5.0
    with times.measure("work"):
        pass
    later = Times(tmp_path / "times.yaml", keep=True)
    with later.measure("work"):
        pass
    assert later.seconds["work"] == pytest.approx(5.0, abs=0.5)
    assert Times(tmp_path / "times.yaml", keep=False).seconds == {}


def test_a_digest_knows_names_and_contents_but_not_folders(tmp_path):
    digests = []
    for folder, name, content in ("ax1", "bx1", "ay1", "bx2"):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        digests.append(digest([path]))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_record_names_the_processor_and_what_limits_it(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: A Name: 2\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\n"
        "processor\t: 1\nmodel name\t: Another\nflags\t\t: amx_bf16\n"
    )
    for name in ("ATEN_CPU_CAPABILITY", "TF_ENABLE_ONEDNN_OPTS", "OCE2STARDIST_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert describe_processor(cpuinfo) == {
        "name": "A Name: 2",
        "instructions": ["avx2", "avx512f", "avx512_bf16"],
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }


def test_a_system_without_cpuinfo_has_a_processor_of_some_name(tmp_path):
    found = describe_processor(tmp_path / "none")
    assert found["name"]
    assert found["instructions"] == []
