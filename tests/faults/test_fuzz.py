"""Drawn inputs: files are read or refused; merging keeps its promises.

Whatever comes of a changed file, it must be a result or an `InputError` of one line. Some are
drawn, the same each time; more, by hand, for one kind of file or all:

    FUZZ=1000:60000 pytest tests/faults/test_fuzz.py [-k roi]

So far: 33 minutes and 161,000 inputs, 17 minutes under atheris and 203,000. What they found has a
test below.
"""

import json
import os
import warnings
from pathlib import Path

import contents
import numpy as np
import pytest
from labs import SHAPE
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from oce2stardist.annotations import read_annotations
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.read import read_image, read_pixel_size
from oce2stardist.training_labels.merge import merge_annotations

SEEDS = range(*map(int, os.environ.get("FUZZ", "0:40").split(":")))


def read_any_annotations(path):
    return read_annotations({"a": Path("a.tif")}, {"a": SHAPE}, path)


def read_any_image(path):
    image = read_image(path)
    assert image.dtype == np.float32 and image.ndim == 3 and np.isfinite(image).all()


def read_any_labels(path):
    read_pixel_size(path)
    labels = read_labels(path)
    assert labels.dtype == np.int32 and labels.ndim == 2 and labels.min() >= -1


def read_any_config(path):
    """A config that is valid comes back from YAML; JSON is YAML."""
    config = Config.from_yaml(path)
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert Config.from_yaml(path) == config


RING = contents.geojson(contents.square(5, 35), contents.square(10, 20)).encode()
POLYGON = contents.coco([[5, 5, 25, 5, 25, 25]]).encode()
# Five rows of three columns: numbers go down the columns.
RUNS = contents.runs(
    [100, 5, SHAPE[0] - 5, 5, SHAPE[0] - 5, 5, SHAPE[0] * SHAPE[1] - 105 - 2 * SHAPE[0]]
).encode()
BRUSH = RUNS.replace(b'"segmentation"', b'"iscrowd": 1, "segmentation"')
ZLIB_LABELS = contents.tiff(contents.INT_LABELS, compression="zlib")

SOUND = {  # by name: file name, what reads it, a valid file
    "tiff": ("a.tif", read_any_image, contents.tiff(contents.IMAGE)),
    "tiff, zlib": ("a.tif", read_any_image, contents.tiff(contents.IMAGE, compression="zlib")),
    "tiff, ome": ("a.ome.tif", read_any_image, contents.tiff(contents.IMAGE, ome=True)),
    "tiff, imagej": ("a.tif", read_any_image, contents.tiff(contents.IMAGE, imagej=True)),
    "labels": ("a.tif", read_any_labels, ZLIB_LABELS),
    "png": ("a.png", read_any_image, contents.png(contents.GREY)),
    "png, palette": ("a.png", read_any_image, contents.palette_png()),
    "roi": ("a.roi", read_any_annotations, contents.roi()),
    "roi zip": ("a.zip", read_any_annotations, contents.roi_zip("1.roi", "2.roi")),
    "geojson": ("a.geojson", read_any_annotations, RING),
    "coco": ("c.json", read_any_annotations, POLYGON),
    "coco, run lengths": ("c.json", read_any_annotations, RUNS),
    "coco, brush": ("c.json", read_any_annotations, BRUSH),
    "labelme": ("a.json", read_any_annotations, contents.labelme().encode()),
    "napari": ("a.csv", read_any_annotations, contents.NAPARI.encode()),
    "labels, palette": ("a.png", read_any_labels, contents.palette_png()),
    "config": ("c.yaml", read_any_config, Config().to_yaml().encode()),
    "config, other values": ("config.json", read_any_config, Config().model_dump_json().encode()),
}

INTERESTING = (b"\0", b"\1", b"\x7f", b"\x80", b"\xff")
WORDS = (b"null", b"-1", b"1e999", b"[]", b"{}", b'""', b"true", b"99999999999999999999", b"\xff")
ODD_VALUES = [None, True, -1, 10**30, 1e308, "", "x", [], {}, [[]], [None], {"type": 3}, -0.5]


def pick(choices, rng):
    return choices[int(rng.integers(0, len(choices)))]


def change_bytes(data, rng):
    """Change some bytes, cut, double or drop pieces, or put in values that are often wrong."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, max(1, len(changed))))
        early = int(rng.integers(0, max(1, min(len(changed), 256))))  # in headers
        end = at + int(rng.integers(1, 17))
        cut = at if rng.random() < 0.2 else len(changed)
        edits = (
            (at, at + 1, rng.bytes(1)),
            (at, at + 1, pick(INTERESTING, rng)),
            (at, at + 4, rng.bytes(4)),
            (at, end, pick(WORDS, rng)),
            (at, end, b""),
            (at, at, changed[at:end]),
            (cut, len(changed), b""),
            (early, early + 2, rng.bytes(2)),
        )
        first, last, new = pick(edits, rng)
        changed[first:last] = new
    return bytes(changed)


def change_json(data, rng):
    """Replace a value somewhere in a JSON document by another kind of value."""
    holder = {"all": json.loads(data)}
    places = [(holder, "all")]
    for parent, key in places:
        value = parent[key]
        if isinstance(value, dict | list):
            keys = value if isinstance(value, dict) else range(len(value))
            places += [(value, inner) for inner in keys]
    parent, key = pick(places, rng)
    parent[key] = pick(ODD_VALUES, rng)
    return json.dumps(holder["all"]).encode()


def outcome(name, data, folder):
    """Give a file to its reader: "read" or "refused"; anything else is raised."""
    file, read, _ = SOUND[name]
    path = folder / file
    path.write_bytes(data)
    refusal = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decoders that go on with what they have
            read(path)
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal and len(refusal) < 1000
    return "refused" if refusal else "read"


@pytest.mark.parametrize("name", SOUND)
def test_a_changed_file_is_read_or_refused(name, tmp_path):
    file, _, sound = SOUND[name]
    assert outcome(name, sound, tmp_path) == "read"
    outcomes = []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, *name.encode()])
        in_json = file.endswith("json") and rng.random() < 0.6
        data = (change_json if in_json else change_bytes)(sound, rng)
        try:
            outcomes.append(outcome(name, data, tmp_path))
        except Exception as error:
            raise AssertionError(f"seed {seed} of {name} is neither read nor refused") from error
    assert "refused" in outcomes  # the changes are no mere cosmetics


def test_a_category_that_is_no_number_is_refused(tmp_path):
    """Found by the test above: a list can't be looked up among categories."""
    document = json.loads(POLYGON)
    document["annotations"][0]["category_id"] = []
    assert outcome("coco", json.dumps(document).encode(), tmp_path) == "refused"


def test_a_png_with_a_wrong_checksum_is_refused(tmp_path):
    """Found by the longer run: the decoder remarks it on its own and goes on with what it has."""
    sound = contents.png(contents.GREY)
    data, path = bytearray(sound), tmp_path / "a.png"
    data[data.index(b"IDAT") + 400] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="the checksum of its IDAT is wrong"):
        read_image(path)
    path.write_bytes(sound[:-12])
    with pytest.raises(InputError, match="ends before its last chunk"):
        read_image(path)


def test_a_smooth_outline_with_a_point_that_is_no_number_is_refused(tmp_path):
    """Found by atheris: a curve can't be drawn through it."""
    roi = ImagejRoi.frompoints(np.array([[5, 5], [30, 5], [28, 25], [5, 30]], np.float32))
    roi.roitype, roi.options = ROI_TYPE.POLYGON, roi.options | ROI_OPTIONS.SPLINE_FIT
    roi.subpixel_coordinates[2, 0] = np.nan
    path = tmp_path / "a.roi"
    path.write_bytes(roi.tobytes())
    with pytest.raises(InputError, match="must have finite coordinates"):
        read_any_annotations(path)


@pytest.mark.parametrize("overlap", [0.0, 0.3])
@pytest.mark.parametrize("distance", [0.0, 3.0])
def test_merging_keeps_every_annotated_pixel(overlap, distance):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 13, 2)
        pseudo, annotations = rng.integers(0, 6, shape), rng.integers(-1, 5, shape)
        merged = merge_annotations(
            pseudo.astype(np.int32),
            annotations.astype(np.int32),
            background_distance=distance,
            overlap=overlap,
        )
        cells = annotations > 0
        for labels in (merged.pseudo, merged.sparse):
            np.testing.assert_array_equal(labels[cells], annotations[cells])
        assert (merged.pseudo[annotations == 0] <= 0).all()
        assert not np.intersect1d(annotations[cells], merged.pseudo[~cells]).size
