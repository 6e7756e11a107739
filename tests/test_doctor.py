"""`oce2stardist doctor`: says what is missing or broken, what fixes it, and hides nothing."""

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from oce2stardist.cli.main import main

from oce2stardist import doctor
from oce2stardist.doctor import Examination, Finding, Machine, ask, broken_modules
from oce2stardist.errors import kept_torch, say_install

REQUIRED = """\
Requires-Dist: torch>=2.4
Requires-Dist: tensorflow<2.22,>=2.16
Requires-Dist: click>=8.1
Provides-Extra: tensorboard
Requires-Dist: tensorboard>=2.16; extra == "tensorboard"
Provides-Extra: viewer
Requires-Dist: no-such-viewer[qt]<9,>=0.5; extra == "viewer"
Provides-Extra: all
Requires-Dist: oce2stardist[tensorboard,viewer]; extra == "all"
Provides-Extra: test
Requires-Dist: pytest; extra == "test"
"""


def put_package(folder, name, version, requires="", modules=()):
    """An installed package: metadata, and modules with the given source."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(head + requires)
    (info / "RECORD").write_text("".join(f"{module}.py,,\n" for module in modules))
    for module, source in dict(modules).items():
        (folder / f"{module}.py").write_text(source)
    return folder


def shadow(folder, *modules):
    """Modules that fail like those of a broken installation."""
    for module in modules:
        (folder / f"{module}.py").write_text(f"raise ImportError('lib{module}.so: no such file')\n")
    return folder


@pytest.fixture
def described(tmp_path, monkeypatch):
    """This package with the requirements above, before the real one on the path."""
    put_package(tmp_path, "oce2stardist", "9.9", REQUIRED)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


# --- what the metadata say


def names_of(needed):
    return [one.name for one in needed]


def test_extras_are_those_of_the_metadata_without_those_for_developers(described):
    assert {name: names_of(needed) for name, needed in doctor.extras().items()} == {
        "tensorboard": ["tensorboard"],
        "viewer": ["no-such-viewer"],
        "all": ["tensorboard", "no-such-viewer"],
    }
    assert names_of(doctor.requirements()) == ["torch", "tensorflow", "click"]


def test_every_extra_for_users_is_named():
    offered = set(metadata("oce2stardist").get_all("Provides-Extra"))
    assert set(doctor.extras()) == offered - {"test", "dev", "docs"}


def test_the_command_is_what_pip_takes(described):
    words = shlex.split(doctor.install_command(doctor.extras()["all"]))
    assert words[-2:] == ["no-such-viewer[qt]<9,>=0.5", "tensorboard>=2.16"]
    assert "--force-reinstall" not in words
    assert sys.executable in words
    again = doctor.install_command(doctor.extras()["tensorboard"], again=True)
    assert "install --force-reinstall --no-deps" in again


def test_no_command_replaces_a_cpu_build_of_torch(described):
    put_package(described, "torch", "2.9.0+cpu", modules={"torch": ""})
    torch = doctor.requirements()[0]
    for needed in doctor.extras().values():
        assert "torch==2.9.0+cpu" in shlex.split(doctor.install_command(needed))
        # What pip reinstalls with its dependencies brings the torch of the index with it.
        assert "--no-deps" in shlex.split(doctor.install_command(needed, again=True))
    assert shlex.split(doctor.install_command([torch], again=True))[-1] == "torch==2.9.0+cpu"


def test_what_a_message_proposes_keeps_a_cpu_build_of_torch(described):
    assert say_install("viewer").startswith("pip install 'oce2stardist[viewer]'")
    put_package(described, "torch", "2.9.0+cpu")
    assert say_install("viewer") == "pip install 'oce2stardist[viewer]' torch==2.9.0+cpu"


def test_torch_as_the_package_index_has_it_needs_no_word(described):
    put_package(described, "torch", "2.9.0")
    assert say_install("viewer") == "pip install 'oce2stardist[viewer]'"


def test_a_cpu_build_of_torch_that_is_too_old_is_left_to_the_user(described):
    put_package(described, "torch", "2.3.0+cpu", modules={"torch": ""})
    torch = doctor.requirements()[0]
    assert torch.trouble({}).startswith("has 2.3.0+cpu, made for >=2.4; https://pytorch.org")
    assert doctor.install_command([torch]) is None


def test_a_package_that_lacks_another_is_not_damaged(described):
    tensorboard = doctor.Needed(doctor.Requirement("tensorboard"), "2.20", ("tensorboard",))
    for reason, damaged in {
        "ModuleNotFoundError: No module named 'absl'": False,
        "ModuleNotFoundError: No module named 'tensorboard.main'": True,
        "ImportError: lib.so: no such file": True,
    }.items():
        assert tensorboard.is_damaged(reason) == damaged


@pytest.mark.parametrize(
    ("package", "module"),
    [("scikit-image", "skimage"), ("PyYAML", "yaml"), ("dask-jobqueue", "dask_jobqueue")],
)
def test_what_to_import_is_known_from_the_files_of_a_package(described, package, module):
    put_package(described / "more", "oce2stardist", "1", f"Requires-Dist: {package}\n")
    sys.path.insert(0, str(described / "more"))
    try:
        (found,) = doctor.requirements()
    finally:
        sys.path.remove(str(described / "more"))
    assert found.modules == (module,)


# --- processes of their own


@pytest.mark.slow
def test_a_module_that_ends_its_process_does_not_hide_another(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)\n")
    shadow(tmp_path, "broken")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = broken_modules(["json", "deadly", "broken"])
    assert found == {
        "deadly": "its process ended with signal SIGILL",
        "broken": "ImportError: libbroken.so: no such file",
    }
    assert "broken" not in sys.modules


def test_a_failure_names_the_missing_module(tmp_path, monkeypatch):
    (tmp_path / "needs.py").write_text("print('noise')\nimport not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    reason = "ModuleNotFoundError: No module named 'not_there'"
    assert ask("needs", "anything") == {"error": reason, "module": "not_there"}


# --- whole examinations


def examine_in(folder, *arguments):
    """Run the command where `folder` comes first on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "oce2stardist", "doctor", *arguments],
        env=os.environ | {"PYTHONPATH": str(folder)},
        cwd=folder,  # a checkout has metadata of its own
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done


@pytest.mark.slow
def test_each_gap_is_told_with_its_command_and_tensorflow_does_not_hide_torch(tmp_path):
    put_package(tmp_path, "oce2stardist", "9.9", REQUIRED)
    shadow(tmp_path, "tensorflow", "tensorboard")
    done = examine_in(tmp_path, "--json")
    assert done.returncode == 1
    content = json.loads(done.stdout)
    found = {(one["group"], one["name"]): one for one in content["findings"]}
    torch = found["main job", "pseudo labels (torch)"]
    assert torch["status"] == "ok"
    assert "sees cpu" in torch["detail"]
    assert content["torch"]["version"] in torch["detail"]
    tensorflow = found["main job", "StarDist (tensorflow)"]
    assert tensorflow["status"] == "broken"
    assert tensorflow["detail"] == "ImportError: libtensorflow.so: no such file"
    assert tensorflow["fix"].endswith(
        "install --force-reinstall --no-deps 'tensorflow<2.22,>=2.16'"
    )
    tensorboard = found["extras", "tensorboard"]
    assert tensorboard["status"] == "warning"
    assert "libtensorboard.so: no such file" in tensorboard["detail"]
    assert tensorboard["fix"].endswith("--force-reinstall --no-deps 'tensorboard>=2.16'")
    viewer = found["extras", "viewer"]
    assert (viewer["status"], viewer["detail"]) == ("optional", "no-such-viewer is not installed")
    assert viewer["fix"].endswith("'no-such-viewer[qt]<9,>=0.5'")
    assert all(f" {kept} " in viewer["fix"] for kept in kept_torch())
    assert content["can_run"] is False
    assert content["tensorflow"] is None


def answer(version="1.0", error=None):
    devices = [{"name": "cuda", "title": "Tesla T4", "error": error}]
    devices.append({"name": "cpu", "title": "cpu", "error": None})
    return {"version": version, "devices": devices, "chosen": "cuda", "precision": "bf16"}


@pytest.fixture
def asked(described, monkeypatch):
    """Answers of the processes, to be changed; all is well by default."""
    said = {"describe_torch": answer(), "describe_tensorflow": answer(), "broken": {}}
    monkeypatch.setattr("oce2stardist.doctor.ask", lambda _, name: said[name])
    monkeypatch.setattr(
        "oce2stardist.doctor.broken_modules",
        lambda modules: {one: why for one, why in said["broken"].items() if one in modules},
    )
    put_package(described, "torch", "2.9")
    put_package(described, "tensorflow", "2.21")
    put_package(described, "tensorboard", "2.20")
    return said


def finding(found, name):
    (one,) = (one for one in found.findings if one.name == name)
    return one


def test_where_all_is_well_the_main_job_can_run(asked):
    found = doctor.examine()
    assert found.can_run
    torch = finding(found, "pseudo labels (torch)")
    assert torch.detail == "1.0, sees cuda (Tesla T4), cpu; bf16 is fastest here"
    assert {one.status for one in found.findings if one.group == "main job"} == {"ok"}


def test_a_device_that_can_not_compute_is_told(asked):
    asked["describe_torch"] = answer(error="no kernel image is available")
    torch = finding(doctor.examine(), "pseudo labels (torch)")
    assert torch.status == "warning"
    assert torch.detail.endswith("cuda fails: no kernel image is available; pass --device cpu")


def test_a_missing_package_of_the_main_job_is_installed_and_not_the_framework(asked):
    reason = "ModuleNotFoundError: No module named 'click'"
    asked["describe_tensorflow"] = {"error": reason, "module": "click"}
    asked["broken"] = {"click": reason}
    found = doctor.examine()
    assert not found.can_run
    for name in ("StarDist (tensorflow)", "click"):
        assert finding(found, name).status == "broken"
        assert finding(found, name).fix.endswith("--force-reinstall --no-deps 'click>=8.1'")


def test_no_answer_in_time_is_no_reason_to_install_anything(asked):
    late = {"error": "no answer within 300 seconds", "module": None, "timed_out": True}
    asked["describe_torch"] = late
    torch = finding(doctor.examine(), "pseudo labels (torch)")
    assert (torch.status, torch.fix) == ("broken", None)


def test_a_version_that_was_not_tried_is_told(asked, described):
    (described / "tensorboard-2.20.dist-info").rename(described / "tensorboard-1.0.dist-info")
    file = described / "tensorboard-1.0.dist-info" / "METADATA"
    file.write_text(file.read_text().replace("2.20", "1.0"))
    found = finding(doctor.examine(), "tensorboard")
    assert found.status == "warning"
    assert found.detail.endswith("tensorboard has 1.0, made for >=2.16")


def test_a_folder_that_can_not_be_written_to_is_told(asked, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: False)
    found = doctor.examine()
    assert finding(found, "this folder").status == "warning"
    assert "pass an output elsewhere" in finding(found, "this folder").detail
    assert found.can_run


def test_the_machine_is_the_one_that_the_system_describes(tmp_path):
    found = doctor.look_at_machine(tmp_path)
    assert 1 <= found.processors <= os.cpu_count()
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        kilobytes = int(meminfo.read_text().split()[1])
        assert found.memory == pytest.approx(1024 * kilobytes / 1e9, abs=0.1)


# --- the command


@pytest.fixture
def examined(monkeypatch):
    """Let the command find what is given."""

    def give(*findings):
        machine = Machine("Linux-6.1", "3.11.7", 2, 8.0, 5.0, 50.0, True)
        found = Examination("9.9", machine, None, None, {"torch": "2.9"}, list(findings))
        monkeypatch.setattr(doctor, "examine", lambda: found)

    return give


GAP = Finding("main job", "StarDist (tensorflow)", "broken", "is not installed", "pip install x")


def test_the_exit_code_says_whether_the_main_job_can_run(examined):
    examined(GAP)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "broken    StarDist (tensorflow): is not installed" in result.output
    assert "fix: pip install x" in result.output
    assert result.output.splitlines()[-1].startswith("The main job can't run")
    examined(Finding("extras", "napari", "optional", "napari is not installed", "pip install y"))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "fix: pip install y" in result.output


def test_programs_read_the_findings(examined):
    examined(GAP)
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["can_run"] is False
    assert content["machine"]["python"] == "3.11.7"
    assert content["findings"][0]["fix"] == "pip install x"


def test_a_bug_report_names_no_home_no_user_and_no_host(examined, monkeypatch):
    monkeypatch.setattr(doctor.socket, "gethostname", lambda: "lab-pc-7")
    monkeypatch.setattr(doctor.socket, "getfqdn", lambda: "lab-pc-7.institute.example")
    monkeypatch.setattr(doctor, "getuser", lambda: "anna")
    monkeypatch.setattr(doctor.Path, "home", lambda: Path("/users/anna"))
    where = "no /users/anna/env/lib.so, nor /data/anna/lib.so on lab-pc-7.institute.example"
    examined(Finding("main job", "StarDist (tensorflow)", "broken", where, "/users/anna/python"))
    result = CliRunner().invoke(main, ["doctor", "--bug-report"])
    assert result.exit_code == 1
    for secret in ("anna", "lab-pc-7", "institute"):
        assert secret not in result.output
    assert "no ~/env/lib.so, nor /data/USER/lib.so on HOST" in result.output
    assert "oce2stardist 9.9" in result.output


# --- what each framework says of itself


@pytest.mark.slow
def test_torch_sees_a_processor_that_computes():
    import torch

    from oce2stardist.embeddings.device import resolve_precision, torch_device
    from oce2stardist.embeddings.probe import describe_torch

    found = describe_torch()
    assert found["version"] == torch.__version__
    assert {"name": "cpu", "title": "cpu", "error": None} in found["devices"]
    assert found["precision"] == resolve_precision(torch_device("auto"), "auto")


@pytest.mark.slow
def test_tensorflow_sees_a_processor_that_computes():
    found = ask("oce2stardist.stardist_model.probe", "describe_tensorflow")
    assert "error" not in found, found
    assert {"name": "cpu", "title": "cpu", "error": None} in found["devices"]
    assert found["precision"] in ("mixed", "fp32")
