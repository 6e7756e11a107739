"""How often the true gain of twice the cells lies in what `finetune --how-many-more` says of it.

    python benchmarks/more_cells.py DATA OUT [--draws 10] [--cells 40] [--every 1]
        [--run RUN | --alone] [--config NAME]

DATA holds train/images and train/masks, complete truth, and test/images and test/masks; without
test, every other image of train is scored and the others train. With `--every N` only every Nth
image of each is there. `oce2stardist pseudo` runs once (OUT/run, or --run); with --alone there are
no pseudo labels. A draw is a seed: `finetune --how-many-more` on so many cells drawn over the set,
then `finetune` on these and as many more, both scored on the same images. Prints a row each draw;
what is finished in OUT is not run again.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

OCE2STARDIST = [sys.executable, "-m", "oce2stardist"]


def call(*arguments: object) -> str:
    """Run a command of the product; returns what it prints."""
    command = [*OCE2STARDIST, *map(str, arguments)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def copy_files(files: list[Path], folder: Path) -> None:
    """Make a folder of these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)


def copy_set(data: Path, out: Path, every: int) -> None:
    """Copy images and masks to OUT/train and OUT/test."""
    train = sorted((data / "train" / "images").glob("*.tif"))[::every]
    has_test = (data / "test").is_dir()
    test = sorted((data / "test" / "images").glob("*.tif"))[::every] if has_test else train[1::2]
    for name, files in (("train", train if has_test else train[::2]), ("test", test)):
        for kind in ("images", "masks"):
            copy_files([file.parents[1] / kind / file.name for file in files], out / name / kind)


def train_and_score(out: Path, folder: Path, options: list[object]) -> float:
    """Return F1 of a model on the images to score."""
    result = folder / "scores.json"
    if not result.exists():
        call("finetune", out / "train" / "images", "--annotations", out / "train" / "masks",
             *options, "-q", "-o", folder / "model")  # fmt: skip
        call("predict", out / "test" / "images", "--model", folder / "model", "-q",
             "-o", folder / "labels")  # fmt: skip
        result.write_text(call("evaluate", folder / "labels", out / "test" / "masks", "--json"))
    return float(json.loads(result.read_text(encoding="utf-8"))["f1"])


def main() -> None:
    """Run all draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--config")
    arguments = parser.parse_args()
    out, cells = arguments.out, arguments.cells
    copy_set(arguments.data, out, arguments.every)
    common: list[object] = ["--config", arguments.config] if arguments.config else []
    run = arguments.run
    if run is None and not arguments.alone:
        run = out / "run"
        call("pseudo", out / "train" / "images", "-o", run, "-q", *common)
    given = [] if run is None else ["--pseudo", run]
    rows = []
    print("| draw | F1 | says | 90 % interval | F1, twice the cells | truly | inside |", flush=True)
    print("|---:|---:|---:|---|---:|---:|---|", flush=True)
    for draw in range(arguments.draws):
        options = [*given, *common, "--seed", draw, "--cells"]
        few, more = out / f"{draw}-few", out / f"{draw}-more"
        before = train_and_score(out, few, [*options, cells, "--how-many-more"])
        after = train_and_score(out, more, [*options, 2 * cells])
        parameters = yaml.safe_load((few / "model" / "parameters.yaml").read_text("utf-8"))
        said = parameters["how_many_more"]
        (low, high), gain = said["interval"], after - before
        inside = low <= gain <= high
        rows.append((draw, before, said["value"], low, high, after, gain, inside))
        print(
            f"| {draw} | {before:.3f} | {said['value']:+.3f} | {low:+.3f} to {high:+.3f} "
            f"| {after:.3f} | {gain:+.3f} | {'yes' if inside else 'no'} |",
            flush=True,
        )
    names = ["draw", "before", "says", "low", "high", "after", "gain", "inside"]
    table = pd.DataFrame(rows, columns=names)
    table.to_csv(out / "results.csv", index=False)
    width = (table["high"] - table["low"]).median()
    print(f"\n{table['inside'].sum()} of {len(table)} inside; median width {width:.3f}")


if __name__ == "__main__":
    main()
