"""From a folder of images to a model: an old commit beside this checkout, in turn, on this machine.

    python benchmarks/whole_job.py OLD_COMMIT DATA OUT [--fraction 0.01 | --cells 20] [--every 1]
        [--turns 2] [--config FILE]

DATA holds train/images and train/masks and, if it has them, test/images and test/masks; or images
and masks. Both versions are built as packages into OUT. Each turn runs the old one and then the new
one: `pseudo` and `finetune` with their defaults on the (every Nth) training images, `predict` on
the test images, or on the training images where there are none. Prints seconds by phase, peak
memory, F1 at IoU 0.5 and SEG of pseudo labels and of the model, and the ratio of the times. Let
nothing else run. What is finished in OUT is not run again.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from oce2stardist.evaluation.scores import pool_scores, score_image
from oce2stardist.images.find import find_images
from oce2stardist.images.label_files import read_labels

HERE = Path(__file__).resolve().parents[1]


def build(commit: str | None, folder: Path) -> Path:
    """Build the package of a commit, or of the checkout as it is, into a folder of its own."""
    if folder.exists():
        return folder
    source = HERE
    if commit is not None:
        source = folder.with_name(f"{folder.name}-source")
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        packed = subprocess.run(
            ["git", "-C", HERE, "archive", commit], check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", source], input=packed, check=True)
    temporary = folder.with_suffix(".part")
    shutil.rmtree(temporary, ignore_errors=True)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*install, "--target", temporary, source], check=True)
    temporary.rename(folder)
    return folder


def run(package: Path, *arguments: object) -> tuple[float, float]:
    """Run a command of a built package; seconds, and peak memory in MB."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "oce2stardist", *map(str, arguments)],
        env=environment,
        cwd=package.parent,  # not a checkout, whose package would be taken
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{package.name}: {arguments[0]} failed with {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def score(found: Path, truth: Path) -> tuple[float, float]:
    """Score the label images of a folder that have a truth: F1 and SEG."""
    pairs = [(path, truth / path.name) for path in sorted(found.glob("*.tif"))]
    scores = [score_image(read_labels(one), read_labels(other)) for one, other in pairs]
    pooled = pool_scores(scores)
    return pooled.f1, pooled.seg


def times_of(folder: Path) -> dict[str, float]:
    """Read the seconds of each phase that a run wrote."""
    return dict(yaml.safe_load((folder / "times.yaml").read_text(encoding="utf-8")))


def run_job(
    package: Path, folder: Path, data: Path, images: Path, cells: list[str], options: list[str]
) -> Any:
    """Do the whole job once; what there is to say of it."""
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    train = data / "train" if (data / "train").is_dir() else data
    test = data / "test" if (data / "test").is_dir() else data
    pseudo, model, labels = folder / "run", folder / "model", folder / "labels"
    pseudo_s, pseudo_mb = run(package, "pseudo", images, *options, "-q", "-o", pseudo)
    finetune_s, finetune_mb = run(
        package, "finetune", images, "--pseudo", pseudo, "--annotations", train / "masks",
        *cells, *options, "-q", "-o", model,
    )  # fmt: skip
    seen = images if test == train else test / "images"
    predict_s, predict_mb = run(package, "predict", seen, "--model", model, "-q", "-o", labels)
    row = {
        "seconds": {"pseudo": pseudo_s, "finetune": finetune_s, "predict": predict_s},
        "memory": {"pseudo": pseudo_mb, "finetune": finetune_mb, "predict": predict_mb},
        "phases": {"pseudo": times_of(pseudo), "finetune": times_of(model)},
        "scores": {
            "pseudo labels": score(pseudo / "pseudo" / "labels", train / "masks"),
            "model": score(labels, test / "masks"),
        },
    }
    result.write_text(json.dumps(row), encoding="utf-8")
    return row


def say(name: str, row: Any) -> None:
    """Print one job."""
    seconds, memory = row["seconds"], row["memory"]
    both = seconds["pseudo"] + seconds["finetune"]
    (pseudo_f1, pseudo_seg), (f1, seg) = row["scores"].values()
    print(
        f"| {name} | {seconds['pseudo']:.0f} | {seconds['finetune']:.0f} | {both:.0f} "
        f"| {seconds['predict']:.1f} | {max(memory['pseudo'], memory['finetune']):.0f} "
        f"| {pseudo_f1:.3f} / {pseudo_seg:.3f} | {f1:.3f} / {seg:.3f} |"
    )
    for stage, phases in row["phases"].items():
        said = ", ".join(f"{phase} {value:.0f}" for phase, value in phases.items())
        print(f"    {stage}: {said}", file=sys.stderr)


def main() -> None:
    """Build both, run them in turn, print the table and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", metavar="OLD_COMMIT")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fraction", default="0.01")
    parser.add_argument("--cells", help="a number, in place of a fraction")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--config", type=Path, help="for pseudo and finetune of both")
    given = parser.parse_args()
    options = ["--config", str(given.config.resolve())] if given.config else []
    data, out = given.data.resolve(), given.out.resolve()
    packages = {"old": build(given.old, out / "old"), "new": build(None, out / "new")}
    images = out / "images"
    if not images.exists():
        images.mkdir()
        train = data / "train" if (data / "train").is_dir() else data
        for path in find_images(train / "images")[:: given.every]:
            (images / path.name).symlink_to(path)
    cells = ["--cells", given.cells] if given.cells else ["--fraction", given.fraction]
    print(
        "| version | pseudo, s | finetune, s | both, s | predict, s | peak MB "
        "| pseudo labels F1 / SEG | model F1 / SEG |\n|---|---:|---:|---:|---:|---:|---|---|"
    )
    both: dict[str, list[float]] = {name: [] for name in packages}
    for turn in range(1, given.turns + 1):
        for name, package in packages.items():
            row = run_job(package, out / f"{name}-{turn}", data, images, cells, options)
            say(f"{name}, turn {turn}", row)
            both[name].append(row["seconds"]["pseudo"] + row["seconds"]["finetune"])
    ratio = statistics.median(both["new"]) / statistics.median(both["old"])
    print(f"New over old, pseudo and finetune: {ratio:.2f}")


if __name__ == "__main__":
    main()
