"""Checksums of what the commands make, to compare two commits: nothing else may have changed.

    python benchmarks/same_bits.py OUT [--quick] > sums.txt

With --deterministic, each command a process of its own: the demo's steps (pseudo, finetune with
alpha 0 and 0.5, predict); `predict` and `pseudo` of the demo's image as OME-Zarr, in blocks; and
`experiment fractions` on drawn discs. Prints a line for every label image, every array of weights
and every table: run it with the code of each commit and compare the two files with `diff`.
`--quick` trains for a tenth of the steps.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile
import yaml
from safetensors.numpy import load_file
from skimage.draw import disk
from stardist.data import test_image_nuclei_2d

OCE2STARDIST = [sys.executable, "-m", "oce2stardist"]
FIXED = ["--deterministic", "-q", "--device", "cpu"]


def call(*arguments: object) -> None:
    """Run one command of oce2stardist; what it prints goes to standard error."""
    command = [*OCE2STARDIST, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def write_nuclei(folder: Path) -> None:
    """Write the example image in two parts, ten annotated cells, and the lower part as OME-Zarr."""
    import zarr

    image, truth = test_image_nuclei_2d(return_mask=True)
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    for name, rows in (("train", slice(0, 320)), ("test", slice(320, 512))):
        tifffile.imwrite(folder / "images" / f"{name}.tif", image[rows], metadata={"axes": "YX"})
    drawn = np.unique(truth[40:280, 40:470])[1:11]
    cells = np.where(np.isin(truth[:320], drawn), truth[:320], 0).astype(np.int32)
    tifffile.imwrite(folder / "annotations" / "train.tif", cells)
    root = zarr.open_group(str(folder / "image.ome.zarr"), mode="w", zarr_format=3)
    array = root.create_array("0", shape=image.shape, chunks=(128, 128), dtype=image.dtype)
    array[:] = image
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    root.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": axis, "type": "space"} for axis in "yx"],
                "datasets": [{"path": "0", "coordinateTransformations": scale}],
            }
        ],
    }


def write_discs(folder: Path, steps: int) -> Path:
    """Write a data set of bright discs and a study of it."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 1)):
        for number in range(count):
            image, truth = rng.normal(10, 1, (128, 144)), np.zeros((128, 144), np.int32)
            for label, (y, x) in enumerate(np.ndindex(4, 4), start=1):
                rows, columns = disk((18 + 30 * y, 20 + 34 * x), rng.uniform(9, 13))
                truth[rows, columns] = label
                image[rows, columns] += rng.uniform(10, 20)
            for name, array in (("images", image.astype(np.float32)), ("masks", truth)):
                (folder / part / name).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / part / name / f"{part}{number}.tif", array)
    study = {
        "study": "fractions",
        "data": [{"path": str(folder), "diameter": 22.0}],
        "fractions": [0.25, 1.0],
        "repeats": 1,
        "settings": {
            "device": "cpu",
            "deterministic": True,
            "embedding": {"feature_maps": 8, "steps": steps, "crop_size": 80, "batch_size": 2},
            "stardist": {"n_rays": 8, "width": 8, "features": 16, "patch_size": 64, "steps": steps},
        },
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def run_all(out: Path, steps: tuple[int, int]) -> None:
    """Run every command into OUT."""
    data, run = out / "data", out / "pseudo"
    write_nuclei(data)
    call("pseudo", data / "images", "-o", run, "--annotations", data / "annotations",
         "--steps", steps[0], *FIXED)  # fmt: skip
    for alpha in ("0", "0.5"):
        model = out / f"model-{alpha}"
        call("finetune", data / "images" / "train.tif", "--pseudo", run, "--annotations",
             data / "annotations", "--alpha", alpha, "--steps", steps[1], "-o", model,
             *FIXED)  # fmt: skip
        call("predict", data / "images", "--model", model, "-o", out / f"labels-{alpha}", *FIXED)
    store = data / "image.ome.zarr"
    call("predict", store, "--model", out / "model-0.5", "-o", out / "blocks", "--block", 256,
         *FIXED)  # fmt: skip
    call("pseudo", store, "-o", out / "slide", "--steps", steps[0] // 4, "--block", 256,
         *FIXED)  # fmt: skip
    study = write_discs(out / "discs", steps[1])
    call("experiment", "fractions", study, "-o", out / "study", "-q")


def arrays_of(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """List the arrays in a file of weights, a label image or a Zarr array."""
    if path.suffix == ".safetensors":
        yield from sorted(load_file(path).items())
    elif path.suffix == ".h5":
        found: dict[str, np.ndarray] = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: (
                    found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
                )
            )
        # Names of layers count up in a process, their order does not.
        yield from ((str(number), array) for number, array in enumerate(found.values()))
    elif path.suffix == ".tif":
        yield "", tifffile.imread(path)


def checksums(out: Path) -> Iterator[str]:
    """Print one line for every array and table below a folder."""
    import zarr

    folders = ("pseudo", "model-0", "model-0.5", "labels-0", "labels-0.5", "blocks", "slide")
    for path in sorted(one for name in folders for one in (out / name).rglob("*")):
        for name, array in arrays_of(path):
            content = np.ascontiguousarray(array)
            kind = f"{content.dtype} {content.shape}".encode()
            digest = hashlib.sha256(kind + content.tobytes()).hexdigest()[:16]
            yield f"{digest} {path.relative_to(out)} {name}"
        if path.name in ("0",) and path.is_dir() and "labels" in path.parts[-4:]:
            pixels = zarr.open_array(str(path), mode="r")[:]
            yield f"{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]} {path.relative_to(out)}"
    for table in (out / "study" / "results.csv", out / "pseudo" / "pseudo" / "objects.csv"):
        # The name of a run holds a hash of all settings: it changes where one comes or goes.
        content = pd.read_csv(table).drop(columns="run", errors="ignore").to_csv().encode()
        yield f"{hashlib.sha256(content).hexdigest()[:16]} {table.relative_to(out)}"


def main() -> None:
    """Run the commands, unless OUT holds them, and print the checksums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    out = given.out.resolve()
    if not (out / "done").exists():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        run_all(out, (60, 50) if given.quick else (600, 500))
        (out / "done").touch()
    print("\n".join(checksums(out)))


if __name__ == "__main__":
    main()
