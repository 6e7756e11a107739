"""What the user installs: every file of it, under our name only, and quick to start."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from scenes import discs_scene

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
FOLDERS = {  # package -> its folder in the checkout
    package: SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))
    for package in SETUPTOOLS["packages"]
}
SOURCES = ("oce2stardist", "cli", "configs")
EXTRAS_NAMED = re.compile(r"(?:oce2stardist\[|say_install\(\")([a-z,]+)")
DATA = (".yaml", ".j2", ".safetensors")
COMMANDS = (
    *("demo", "pseudo", "merge", "finetune", "suggest", "predict", "export", "evaluate"),
    *("experiment", "doctor"),
    *(f"experiment {study}" for study in ("fractions", "unsupervised", "scales", "compare")),
)

TINY_YAML = """\
seed: 1
device: cpu
embedding:
  {feature_maps: 8, crop_size: 76, batch_size: 4, steps: 20, displacements_per_step: 4, copies: 2}
pseudo: {working_diameter: 20, choose: false, variants: 0, witness: none}
stardist:
  {n_rays: 8, width: 8, features: 16, patch_size: 64, batch_size: 4, steps: 20, checks: 2, folds: 0}
"""


def source_files():
    """Paths, relative to the checkout, of the modules and data files we ship."""
    return [
        path.relative_to(ROOT)
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", *DATA)
    ]


def run(*command, cwd):
    """Run a command away from the checkout's modules; return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr}"
    return done.stdout


# --- the list in pyproject.toml


def test_every_folder_with_modules_or_data_is_a_listed_package():
    folders = {path.parent.as_posix() for path in source_files()}
    assert folders <= set(FOLDERS.values())


@pytest.mark.parametrize("package", FOLDERS)
def test_every_listed_package_is_a_folder(package):
    assert (ROOT / FOLDERS[package]).is_dir()


def test_every_data_file_is_named_by_package_data():
    package_of = {folder: package for package, folder in FOLDERS.items()}
    for path in source_files():
        if path.suffix in DATA:
            patterns = SETUPTOOLS["package-data"].get(package_of[path.parent.as_posix()], [])
            assert any(fnmatch(path.name, pattern) for pattern in patterns), path


# --- what is installed on the way


def installs_of(target):
    """The pip commands of a target of the Makefile, as if nothing was there yet."""
    printed = run("make", "--dry-run", "--always-make", target, cwd=ROOT)
    return [line for line in printed.splitlines() if " pip install " in line]


def test_make_demo_installs_what_a_user_needs_and_make_test_the_rest():
    demo, test = installs_of("demo"), installs_of("test")
    assert len(demo) == 2 and test[:2] == demo
    assert not any("[" in line for line in demo)
    assert [line.split("-e ")[1] for line in test[2:]] == ["'.[dev]'"]
    assert all("-c constraints.txt" in line for line in test)


def test_every_extra_that_is_named_exists():
    extras = set(PROJECT["optional-dependencies"])
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    texts += [path for folder in ("oce2stardist", "cli") for path in (ROOT / folder).rglob("*.py")]
    named = {
        (path.name, extra)
        for path in texts
        for given in EXTRAS_NAMED.findall(path.read_text(encoding="utf-8"))
        for extra in given.split(",")
    }
    assert {extra for _, extra in named} >= {"big", "export", "napari"}
    assert not {one for one in named if one[1] not in extras}


def test_the_address_of_the_source_is_the_same_everywhere():
    source = PROJECT["urls"]["Source"]
    assert f"git clone {source} &&" in (ROOT / "README.md").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == source
    assert citation["version"] == PROJECT["version"]


def test_the_forms_of_issues_ask_for_what_helps():
    forms = [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")
        if path.stem != "config"
    ]
    asked = [part["attributes"]["label"] for form in forms for part in form["body"] if "id" in part]
    assert all(form["name"] and form["description"] for form in forms)
    assert any("doctor --bug-report" in label for label in asked) and "A picture" in asked


def test_the_dockerfile_copies_what_the_build_needs():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert copied >= {"pyproject.toml", "setup.py", "README.md", "LICENSE", "constraints.txt"}
    assert copied >= set(SOURCES) and all((ROOT / name).exists() for name in copied)


# --- the built distributions


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the source distribution, and the wheel from it, of a copy of the checkout."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for name in SOURCES:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", checkout, cwd=checkout)
    (built,) = (checkout / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel alone; return the new environment's folder of programs.

    Nothing is downloaded: the dependencies are those of the running environment, whose
    site-packages a .pth file appends. A .pth file in there, such as that of an editable
    install, is not followed.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(run(python, "-c", ask, cwd=folder).strip())
    running = {sysconfig.get_path("purelib"): None, sysconfig.get_path("platlib"): None}
    (site_packages / "running_environment.pth").write_text("\n".join(running) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    return programs


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file_and_claims_one_name(wheel):
    package_of = {folder: package.replace(".", "/") for package, folder in FOLDERS.items()}
    expected = {f"{package_of[path.parent.as_posix()]}/{path.name}" for path in source_files()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {name.split("/")[0] for name in held} == {"oce2stardist"}


@pytest.mark.slow
def test_a_package_index_takes_both_distributions_and_shows_the_readme(wheel):
    both = sorted(wheel.parent.iterdir())
    assert [path.suffix for path in both] == [".whl", ".gz"]
    printed = run(sys.executable, "-m", "twine", "check", "--strict", *both, cwd=wheel.parent)
    assert printed.count("PASSED") == 2


@pytest.mark.slow
def test_links_of_the_readme_on_a_package_index_lead_into_the_repository(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        shown = archive.read(name).decode()
    source = PROJECT["urls"]["Source"]
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) > 20 and all(link.startswith("https://") for link in links)
    files = [link.partition("/main/")[2] for link in links if link.startswith(f"{source}/")]
    files = [file for file in files if file]
    assert len(files) > 15 and all((ROOT / file).exists() for file in files)
    assert "![" in shown and f"({source}/raw/main/docs/gallery.png)" in shown
    assert "<!--" not in shown


@pytest.mark.slow
def test_the_installed_wheel_is_what_python_imports(installed, tmp_path):
    ask = "import oce2stardist; print(oce2stardist.__file__)"
    imported = Path(run(installed / "python", "-c", ask, cwd=tmp_path).strip())
    assert imported.is_relative_to(installed.parent)
    assert "Usage: oce2stardist" in run(installed / "oce2stardist", "--help", cwd=tmp_path)


@pytest.mark.slow
def test_the_installed_wheel_runs_from_images_to_scores(installed, tmp_path):
    """Runs pseudo, finetune, predict and evaluate on one small scene."""
    image, truth = discs_scene(n=12, shape=(128, 128), radius=9, seed=0)
    annotations = np.where((truth > 0) & (truth <= 6), truth, -1).astype(np.int32)
    for name, pixels in {"images": image, "truth": truth, "annotations": annotations}.items():
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "scene.tif", pixels)
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    for command in (
        "pseudo images -o run --config tiny.yaml",
        "finetune images --pseudo run --annotations annotations -o model --config tiny.yaml",
        "predict images --model model -o predicted",
    ):
        run(installed / "oce2stardist", *command.split(), cwd=tmp_path)
    (predicted,) = (tmp_path / "predicted").rglob("scene*.tif")
    assert tifffile.imread(predicted).shape == image.shape
    evaluate = ("evaluate", predicted.parent, "truth", "--json")
    assert json.loads(run(installed / "oce2stardist", *evaluate, cwd=tmp_path))


def test_in_the_folder_of_the_source_code_an_installed_package_finds_its_commands():
    """As `oce2stardist demo` and the napari plugin start them: with `python -m`."""
    code = (
        "import sys, runpy;"
        "sys.meta_path = [one for one in sys.meta_path if '__editable__' not in repr(one)];"
        "sys.path.insert(0, ''); sys.argv = ['oce2stardist', '--version'];"
        "runpy.run_module('oce2stardist', run_name='__main__')"
    )
    assert "version 0" in run(sys.executable, "-c", code, cwd=ROOT)


# --- neither framework until it is needed

PRINT_FRAMEWORKS = "print('loaded:', *sorted({'torch', 'tensorflow'} & set(sys.modules)))"
RUN_COMMAND = f"""
import sys
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="oce2stardist")
main = command.load()
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
{PRINT_FRAMEWORKS}
"""


@pytest.mark.parametrize("module", ["oce2stardist", "oce2stardist.runners.finetune"])
def test_importing_the_package_imports_neither_torch_nor_tensorflow(module):
    script = f"""
import sys, {module}
assert oce2stardist.__all__ == sorted(oce2stardist.__all__)
{PRINT_FRAMEWORKS}
"""
    assert run(sys.executable, "-c", script, cwd=ROOT).strip() == "loaded:"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_neither_torch_nor_tensorflow(command, tmp_path):
    arguments = [*command.split(), "--help"]
    printed = run(sys.executable, "-c", RUN_COMMAND, *arguments, cwd=tmp_path)
    assert "Usage:" in printed
    assert printed.splitlines()[-1].strip() == "loaded:"
