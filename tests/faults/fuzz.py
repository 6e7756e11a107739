"""Mutated files and drawn values for readers, merge, metrics and configs.

`pytest tests/faults/test_fuzz.py` draws a few, the same each time. By hand, longer:

    python tests/faults/fuzz.py --minutes 10 [--only roi] [--seed 1]

Whatever comes of an input, it must be a result or an `InputError`. What raises anything else is
written to fuzz-findings/ and becomes a test in test_fuzz.py.

So far: 33 minutes here and 161,000 inputs, 17 minutes under atheris and 203,000. Found and mended,
each with a test in test_fuzz.py: a COCO category that is no number, a PNG with a wrong checksum
(drawn), a smooth ImageJ outline with a point that is no number (atheris).
"""

import argparse
import itertools
import json
import logging
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import corpus
import numpy as np
from labs import SHAPE

from oce2stardist.annotations import read_annotations
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.pixel_size import read_pixel_size
from oce2stardist.images.read import read_image

Target = Callable[[Path], object]


def _annotations(path: Path) -> object:
    return read_annotations({"a": Path("a.tif")}, {"a": SHAPE}, path)


def _image(path: Path) -> object:
    image = read_image(path)
    assert image.dtype == np.float32 and image.ndim == 3 and np.isfinite(image).all()
    return image


def _labels(path: Path) -> object:
    read_pixel_size(path)
    labels = read_labels(path)
    assert labels.dtype == np.int32 and labels.ndim == 2 and labels.min() >= -1
    return labels


def _png() -> bytes:
    return corpus.png_bytes((corpus.IMAGE // 8).astype(np.uint8))


def _coco() -> bytes:
    return corpus.coco([[5, 5, 25, 5, 25, 25]]).encode()


def _coco_runs() -> bytes:
    n = SHAPE[0] * SHAPE[1]
    return corpus.coco({"size": list(SHAPE), "counts": [100, 50, n - 150]}).encode()


def _geojson() -> bytes:
    return corpus.geojson(corpus.square(5, 35), corpus.square(10, 20)).encode()


SEEDS: dict[str, tuple[str, Target, Callable[[], bytes]]] = {
    "tiff": ("a.tif", _image, lambda: corpus.tiff_bytes(corpus.IMAGE)),
    "tiff, zlib": ("a.tif", _image, lambda: corpus.tiff_bytes(corpus.IMAGE, compression="zlib")),
    "tiff, ome": ("a.ome.tif", _image, lambda: corpus.tiff_bytes(corpus.IMAGE, ome=True)),
    "tiff, imagej": ("a.tif", _image, lambda: corpus.tiff_bytes(corpus.IMAGE, imagej=True)),
    "labels": ("a.tif", _labels, lambda: corpus.tiff_bytes(corpus.INT_LABELS, compression="zlib")),
    "png": ("a.png", _image, _png),
    "png, palette": ("a.png", _image, corpus.palette_png),
    "roi": ("a.roi", _annotations, corpus.roi_bytes),
    "roi zip": ("a.zip", _annotations, lambda: corpus.roi_zip("1.roi", "2.roi")),
    "geojson": ("a.geojson", _annotations, _geojson),
    "coco": ("c.json", _annotations, _coco),
    "coco, run lengths": ("c.json", _annotations, _coco_runs),
    "config": ("c.yaml", Config.from_yaml, lambda: Config().to_yaml().encode()),
}
"""By name: file name, what reads it, a valid file."""

_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
_WORDS = (b"null", b"-1", b"1e999", b"[]", b"{}", b'""', b"true", b"99999999999999999999", b"\xff")


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes, cut, double or drop pieces, or put in values that are often wrong."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(0, max(1, len(changed))))
        length = int(rng.integers(1, 17))
        match int(rng.integers(0, 8)):
            case 0:
                changed[at : at + 1] = bytes([int(rng.integers(0, 256))])
            case 1:
                changed[at : at + 1] = bytes([int(rng.choice(_INTERESTING))])
            case 2:
                changed[at : at + length] = b""
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4:
                changed[at : at + 4] = int(rng.integers(0, 2**32)).to_bytes(4, "little")
            case 5:
                changed[at : at + length] = _WORDS[int(rng.integers(0, len(_WORDS)))]
            case 6:
                changed = changed[:at] if rng.random() < 0.2 else changed
            case _:  # early bytes are headers: change them more often
                at = int(rng.integers(0, max(1, min(len(changed), 256))))
                changed[at : at + 2] = bytes(rng.integers(0, 256, 2, dtype=np.uint8))
    return bytes(changed)


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace a value somewhere in a JSON document by another kind of value."""
    document = json.loads(data)
    odd = [None, True, -1, 10**30, 1e308, "", "x", [], {}, [[]], [None], {"type": 3}, -0.5]
    holder: dict[str, object] = {"all": document}
    places: list[tuple[object, object]] = [(holder, "all")]
    for parent, key in places:
        value = parent[key]  # type: ignore[index]
        if isinstance(value, dict | list):
            keys = value if isinstance(value, dict) else range(len(value))
            places += [(value, one) for one in keys]
    parent, key = places[int(rng.integers(0, len(places)))]
    parent[key] = odd[int(rng.integers(0, len(odd)))]  # type: ignore[index]
    return json.dumps(holder["all"]).encode()


def draw(name: str, seed: int) -> bytes:
    """The input of a target that belongs to a seed."""
    rng = np.random.default_rng([seed, *name.encode()])
    data = SEEDS[name][2]()
    if SEEDS[name][0].endswith("json") and rng.random() < 0.6:
        return mutate_json(data, rng)
    return mutate(data, rng)


def check(name: str, data: bytes, folder: Path) -> str:
    """Give an input to its reader; "read" or "refused", anything else is raised."""
    path = folder / SEEDS[name][0]
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decoders that go on with what they have
            SEEDS[name][1](path)
    except InputError:
        return "refused"
    return "read"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--only", choices=SEEDS)
    parser.add_argument("--seed", type=int, default=1_000)
    given = parser.parse_args()
    logging.disable()  # what tifffile and roifile remark of every file
    until, counts = time.monotonic() + 60 * given.minutes, Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in itertools.count(given.seed):
            for name in [given.only] if given.only else SEEDS:
                data = draw(name, seed)
                try:
                    counts[name, check(name, data, Path(folder))] += 1
                except Exception:
                    counts[name, "neither"] += 1
                    found = Path("fuzz-findings")
                    found.mkdir(exist_ok=True)
                    (found / f"{name.replace(', ', '-')}-{seed}").write_bytes(data)
                    print(f"{name} {seed}: {traceback.format_exc()}", flush=True)
            if time.monotonic() > until:
                break
    for (name, end), count in sorted(counts.items()):
        print(f"{name:<20} {count:6d} {end}")


if __name__ == "__main__":
    main()
