"""A small laboratory: images, masks, a run, a model; and the real command line."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import yaml
from click.testing import CliRunner, Result
from oce2stardist.cli.main import main

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where a script here is run by hand
from scenes import discs_scene
from small_models import write_model

import oce2stardist
from oce2stardist.images.label_files import write_labels

SOURCE = Path(oce2stardist.__file__).parent
SHAPE = (64, 80)
TINY = {
    "embedding": {"feature_maps": 2, "steps": 1, "crop_size": 40, "batch_size": 1, "copies": 2},
    "pseudo": {"choose": False, "variants": 1, "working_diameter": 18, "witness": "none"},
    "stardist": {
        "width": 2, "features": 2, "n_rays": 4, "patch_size": 32, "batch_size": 2, "steps": 1,
        "checks": 1, "folds": 0,
    },
}  # fmt: skip


def run(arguments: list[object]) -> Result:
    """Run a command in this process, as a user would type it."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def find_in_package(pattern: str) -> list[str]:
    """List the lines of the package with a match, each after its file."""
    return [
        f"{path.relative_to(SOURCE)}: {line.strip()}"
        for path in sorted(SOURCE.rglob("*"))
        if path.suffix in (".py", ".j2")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line)
    ]


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image of four discs, uint16, and their labels."""
    image, labels = discs_scene(4, SHAPE, 8, seed=seed)
    return (1000 * np.clip(image, 0, 2)).astype(np.uint16), labels.astype(np.uint16)


def make_lab(folder: Path) -> Path:
    """Write images/a.tif and b.tif, masks of both, a run with pseudo labels, and tiny.yaml."""
    for seed, stem in enumerate("ab"):
        image, labels = scene(seed)
        for name, array in (("images", image), ("masks", labels)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / name / f"{stem}.tif", array)
        write_labels(folder / "run" / "pseudo" / "labels" / f"{stem}.tif", labels)
    (folder / "run" / "pseudo" / "stage.yaml").write_text("{finished: true, settings: {}}")
    table = pd.DataFrame({"image": list("aaaabbbb"), "label": [1, 2, 3, 4] * 2, "confidence": 1.0})
    table.to_csv(folder / "run" / "pseudo" / "objects.csv", index=False)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder


def make_model(folder: Path, *, finds: bool = False) -> Path:
    """Write an untrained StarDist model that finds nothing, fast; or discs here and there."""
    network = {"n_rays": 4, "width": 2, "features": 2, "batch_norm": False, "patch_size": 32}
    if finds:
        return write_model(folder, prob=0.5, nms=0.4, longer=6, **network)
    return write_model(folder, prob=0.9, nms=0.4, **network)


def snapshot(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Contents and times of all files below a folder; None for what can't be read."""
    files: dict[str, tuple[bytes | None, int]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            readable = os.access(path, os.R_OK)
            content = path.read_bytes() if readable else None
            files[str(path.relative_to(folder))] = (content, path.stat().st_mtime_ns)
    return files


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Give up, for the block, root's right to read and write what permissions forbid."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    old = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert libc.capget(header, old) == 0
    new = (ctypes.c_uint32 * 6)(*old)
    new[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, new) == 0
    try:
        yield
    finally:
        assert libc.capset(header, old) == 0
