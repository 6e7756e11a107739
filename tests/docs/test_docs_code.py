"""Every block of code in README.md and docs/: run as it stands, or marked with the reason why not.

A page is read from top to bottom in a folder of its own, which holds two small fields of the
nuclei that stardist ships and what else its commands name (`prepare`). Blocks of bash and Python
run in this process; those with ``title="FILE"`` are written to FILE. What
differs from what a user types is listed here and nowhere else:

- trainings are as short as `FEW_STEPS`, whatever a config or an option says; one that another page
  has already done on the same input is copied, and the command finds it finished;
- workers that go through images in blocks are threads, not processes that import everything anew;
- of `STUDIES` the plan is printed;
- examples of a command in docs/reference/ are alternatives: what one writes, the next finds gone;
- `pip install` is not run: its extras and files must exist;
- `oce2stardist doctor` examines the machine once;
- where the extra `bioimageio` is not installed, exporting to it must say so.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from click.testing import CliRunner
from distributed import LocalCluster
from documents import DOCS, PAGES, ROOT, Session, commands_of, find_blocks, messages_of, quotes
from experiment_folders import RESULTS

from oce2stardist import doctor
from oce2stardist.config import Config
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.objects import pack_rois, to_features, to_roi, trace_objects
from oce2stardist.runners import finetune, pseudo
from oce2stardist.runs import cluster

FEW_STEPS = {
    "embedding.steps": 40, "embedding.crop_size": 76, "embedding.feature_maps": 8,
    "embedding.batch_size": 4, "embedding.copies": 2, "pseudo.choose": False,
    "pseudo.variants": 0, "pseudo.witness": "none", "stardist.steps": 4, "stardist.patch_size": 64,
    "stardist.batch_size": 2, "stardist.width": 4, "stardist.features": 8,
    "stardist.checks": 1, "stardist.folds": 0,
}  # fmt: skip

# They take hours; the plan, with --dry-run, reads config and data.
STUDIES = ("fractions", "unsupervised", "scales")
ANNOTATED = 4  # cells outlined in each field

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# --- the folder that a reader works in


@functools.cache
def nuclei():
    from stardist.data import test_image_nuclei_2d

    image, truth = test_image_nuclei_2d(return_mask=True)
    return image, truth.astype(np.int32)


def field(top, left, side=160):
    image, truth = nuclei()
    window = np.s_[top : top + side, left : left + side]
    return image[window], truth[window]


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array)


def outlined(truth):
    """Some whole cells of a field; 0 elsewhere, which means: not annotated."""
    inner = np.setdiff1d(truth, np.r_[truth[0], truth[-1], truth[:, 0], truth[:, -1], 0])
    return np.where(np.isin(truth, inner[:ANNOTATED]), truth, 0).astype(np.int32)


def write_masks(page, masks, stem, labels):
    """Outline cells as the page says: with Fiji, with QuPath, else in label images."""
    masks.mkdir(exist_ok=True)
    objects = trace_objects(labels)
    if page.name == "fiji.md":
        rois = [to_roi(outline, name=str(label)) for label, outline in objects.items()]
        (masks / f"{stem}.zip").write_bytes(pack_rois(rois))
    elif page.name == "qupath.md":
        (masks / f"{stem}.geojson").write_text(json.dumps(to_features(stem, objects, {})))
    else:
        write(masks / f"{stem}.tif", labels)


def prepare(folder, page):
    for stem, corner in {"field1": (0, 0), "field2": (0, 160)}.items():
        image, truth = field(*corner)
        write(folder / "images" / f"{stem}.tif", image)
        write_masks(page, folder / "masks", stem, outlined(truth))
    image, truth = field(340, 0)
    for name in ("new_images", "more_images", "a"):
        write(folder / name / "well1.tif", image)
    write(folder / "truth" / "well1.tif", truth)
    for part, corner in {"train": (0, 320), "test": (160, 320)}.items():
        for kind, array in zip(("images", "masks"), field(*corner), strict=True):
            write(folder / "bbbc039" / part / kind / f"{part}1.tif", array)
    if page.name in ("commands.md", "scale.md", "experiments.md"):
        write_for_reference(folder)


def write_for_reference(folder):
    """Files that only the examples of the commands and of large images name."""
    pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
    from ngff import write_ome_zarr

    for name in ("image", "slide"):
        write_ome_zarr(folder / f"{name}.ome.zarr", field(340, 0)[0], "yx", version="0.4")
    (folder / "my.yaml").write_text("preset: quick\ndata: [{path: bbbc039}]\n")
    y, x = (int(axis.min()) for axis in np.nonzero(outlined(field(0, 0)[1])))
    ring = [x, y, x + 12, y, x + 12, y + 12, x, y + 12]
    coco = {
        "images": [{"id": 1, "file_name": "field1.tif", "height": 160, "width": 160}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [ring]}],
    }
    (folder / "cells.json").write_text(json.dumps(coco))
    results = {  # of six images, as an experiment leaves them
        "study": "fractions", "data_set": "set", "method": "pseudo", "alpha": 1.0, "seed": 0,
        "scale": 1.0, "oracle": False, "group": "(all)", "f1": 0.8, "seg": 0.7, "precision": 0.8,
        "recall": 0.8, "fp": 2, "fn": 2, "run": "cells/one", "image": list("abcdef"),
        "tp": range(8, 14), "n_true": range(10, 16), "n_predicted": range(10, 16),
    }  # fmt: skip
    for name in ("OUT", "OTHER", "out", "other"):
        (folder / name).mkdir(exist_ok=True)
        table = pd.DataFrame(results, columns=RESULTS)
        table.to_csv(folder / name / "results.csv", index=False)


# --- the programs of a page


def run_ours(words, *, afresh=False):
    """Run a command; afresh: without what an earlier one wrote to the same place."""
    from oce2stardist.cli.main import main

    if afresh and words[1] in ("pseudo", "finetune"):
        shutil.rmtree(words[words.index("-o") + 1], ignore_errors=True)
    is_study = words[1:2] == ["experiment"] and words[2] in STUDIES
    result = CliRunner().invoke(main, words[1:] + ["--dry-run"] * is_study)
    if "bioimageio" in words and not importlib.util.find_spec("bioimageio"):
        # Its packages can't stand beside the tested pydantic; test_export.py has it where they can.
        assert result.exit_code == 2, result.output
        assert "pip install 'oce2stardist[bioimageio]'" in result.output
        return result.stdout
    if result.exit_code != 0:
        raise AssertionError(f"{' '.join(words)}: {result.output}") from result.exception
    return result.stdout


def check_pip(words):
    """See that what is installed exists: extras of this package, and files."""
    assert words[1] == "install", words
    extras = re.compile(r"(?:oce2stardist|\.)\[(.+)\]")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for word in words[2:]:
        if named := extras.fullmatch(word):
            for extra in named[1].split(","):
                assert re.search(rf"^{extra} = \[", text, re.M), word
        if word.endswith(".txt"):
            assert (ROOT / word).exists(), word
    assert words[2:4] == ["-c", "constraints.txt"], f"{words}: other versions are not tested"
    return ""


PROGRAMS = {"oce2stardist": run_ours, "pip": check_pip}


# --- short trainings, each done once


def described(value):
    """Describe an argument by what a training reads there: images, pseudo labels, a model ..."""
    if isinstance(value, (str, Path)) and Path(value).exists():
        inner = Path(value, "pseudo") if Path(value, "pseudo").is_dir() else Path(value)
        kinds = (".tif", ".png", ".zip", ".geojson", ".json", ".csv", ".h5")
        files = [path for path in sorted(inner.rglob("*")) or [inner] if path.suffix in kinds]
        return [(str(path.relative_to(inner)), path.read_bytes()) for path in files]
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return value.digest() if hasattr(value, "digest") else value


def keep(folder, kept):
    """Copy a folder in one step: other workers may look."""
    if not kept.exists():
        copied = Path(tempfile.mkdtemp(dir=kept.parent)) / kept.name
        shutil.copytree(folder, copied)
        with contextlib.suppress(OSError):  # another worker was faster
            copied.rename(kept)


def short_and_once(train, store):
    """Let a training be short, and start from what the same one left on another page."""

    @functools.wraps(train)
    def wrapped(images, output, *, config=None, **options):
        config = (config or Config()).replace(**FEW_STEPS)
        matters = {
            name: described(value)
            for name, value in options.items()
            if value and name not in ("reporter", "command", "overwrite")
        }
        key = (train.__name__, config.to_yaml(), described(images), matters)
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        if (store / name).exists() and not Path(output).exists():
            shutil.copytree(store / name, output)
        result = train(images, output, config=config, **options)
        keep(Path(output), store / name)
        return result

    return wrapped


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder for finished trainings, the same for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "docs-trainings"
    folder.mkdir(exist_ok=True)
    return folder


examine_once = functools.cache(doctor.examine)


def cluster_of_threads(*, host, env, **options):
    return LocalCluster(processes=False, **options)


@pytest.fixture
def reader(tmp_path, monkeypatch, store):
    for module, name in ((pseudo, "make_pseudo_labels"), (finetune, "finetune_stardist")):
        monkeypatch.setattr(module, name, short_and_once(getattr(module, name), store))
    monkeypatch.setattr(doctor, "examine", examine_once)
    monkeypatch.setattr(cluster, "LocalCluster", cluster_of_threads)
    monkeypatch.chdir(tmp_path)
    return Session(dict(PROGRAMS))


# --- tests


def title(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_block_is_run_or_says_why_not(page):
    for block in find_blocks(page):
        runs = block.language in ("bash", "python") or block.file
        assert runs or block.reason, f"{block}: run it, or say above it why it is not run"
        assert not block.reason or len(block.reason) > 8, f"{block}: {block.reason!r} is no reason"


def readings():
    """Pages with something to run."""
    for page in PAGES:
        # The examples of all commands take minutes.
        marks = [pytest.mark.long] if page.name == "commands.md" else []
        if not all(block.reason for block in find_blocks(page)):
            yield pytest.param(page, marks=marks, id=title(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", list(readings()))
def test_the_blocks_of_a_page_run_in_order(page, reader, tmp_path):
    prepare(tmp_path, page)
    if page.parent.name == "reference":
        reader.programs["oce2stardist"] = functools.partial(run_ours, afresh=True)
    for block in find_blocks(page):
        if not block.reason:
            reader.run(block)


def test_ten_lines_of_python_lead_from_images_to_labels():
    example = next(
        block.text
        for block in find_blocks(DOCS / "tutorials" / "python.md")
        if block.language == "python"
    )
    assert "read_images" in example and "labels = o2s.predict_images" in example
    assert len([line for line in example.splitlines() if line.strip()]) <= 10


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 800
    first_screen = text.splitlines()[:60]
    for said in ("make demo", "make test", "pip install -c constraints.txt .", "oce2stardist demo"):
        assert any(said in line for line in first_screen), said


# --- the harness itself


def blocks_of(*lines):
    return find_blocks(Path("page.md"), "\n".join(lines))


def test_blocks_are_found_with_their_marks():
    shell, python, file = blocks_of(
        "```bash", "a b", "```", "", "<!-- not run: no GPU here -->", "", "  ```python", "  x = 1",
        "  ```", '```yaml title="my.yaml"', "seed: 1", "```",
    )  # fmt: skip
    assert (shell.language, shell.text, shell.reason) == ("bash", "a b\n", "")
    assert (python.text, python.reason, python.line) == ("x = 1\n", "no GPU here", 7)
    assert (file.file, file.text) == ("my.yaml", "seed: 1\n")


def test_a_block_that_nothing_closes_is_an_error():
    with pytest.raises(ValueError, match="line 1 opens a block that nothing closes"):
        blocks_of("```bash", "ls")


def test_continued_lines_are_one_command():
    assert commands_of("a \\\n  b  # why\n\n# nothing\nc 'd e'") == [["a", "b"], ["c", "d e"]]


@pytest.mark.parametrize(
    ("language", "text", "error", "said"),
    [
        ("bash", "oce2stardist evaluate nowhere/ x/", AssertionError, "nowhere must exist"),
        ("bash", "pip install 'oce2stardist[gold]'", AssertionError, "gold"),
        ("bash", "pip install numpy", AssertionError, "other versions are not tested"),
        ("bash", "sudo reboot", ValueError, "one of oce2stardist, pip. Got 'sudo'"),
        ("", "oce2stardist doctor", ValueError, "page.md:1 must be bash or python"),
        ("python", "1 / 0", ZeroDivisionError, "division"),
    ],
)
def test_what_fails_or_can_not_be_run_fails_its_page(
    tmp_path, monkeypatch, language, text, error, said
):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks_of(f"```{language}", text, "```")
    with pytest.raises(error, match=said):
        Session(PROGRAMS).run(block)


# --- troubleshooting


@pytest.fixture(scope="module")
def messages():
    return [*messages_of(ROOT / "oce2stardist"), *messages_of(ROOT / "cli")]


def test_every_quoted_message_is_in_the_code(messages):
    """Of troubleshooting.md: headings that are code."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^#+ `(.+)`$", text, re.MULTILINE)
    assert len(quoted) >= 20
    assert not [text for text in quoted if not any(quotes(text, message) for message in messages)]


def test_messages_that_do_not_exist_are_noticed(messages):
    for invented in ("… must hold pictures (…)", "images must … have been blessed", "Got … none!"):
        assert not any(quotes(invented, message) for message in messages)
    # The parts of a message in the wrong order are none of it either.
    assert quotes("… must hold images (…). Got …", "\0 must hold images (\0). Got \0; name")
    assert not quotes("Got … must hold images", "\0 must hold images (\0). Got \0; name")


def test_normalisation_in_the_docs_is_ours():
    """`normalize(image, 1, 99.8)` of the Python page is what `predict` does."""
    from csbdeep.utils import normalize

    image = field(0, 0)[0].astype(np.float32)
    np.testing.assert_allclose(
        normalize(image, 1, 99.8), normalise_percentiles(image[..., None])[..., 0], atol=1e-5
    )
