"""Run lengths and pixels come from pycocotools itself."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scenes import disc

from oce2stardist.annotations.coco import is_coco, list_images, read_annotated, unpack
from oce2stardist.annotations.rasterise import draw_shapes
from oce2stardist.errors import InputError

SHAPE = (30, 40)
FILE = Path("all.json")


def annotation(segmentation, number=1, category=1, **more):
    told = {"id": number, "image_id": 7, "category_id": category, "segmentation": segmentation}
    return told | more


def document(*annotations, file_name="x.tif", shape=SHAPE):
    names = enumerate(("nucleus", "background", "Ignore"), start=1)
    return {
        "images": [{"id": 7, "file_name": file_name, "height": shape[0], "width": shape[1]}],
        "categories": [{"id": number, "name": name} for number, name in names],
        "annotations": list(annotations),
    }


def decode(packed):
    """Have pycocotools decode; it warns where NumPy 2 asks for a copy keyword."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return coco_mask.decode(packed).astype(bool)


def draw(*annotations):
    (image,) = list_images(document(*annotations), file=FILE)
    reading = read_annotated(image, shape=SHAPE, file=FILE)
    drawing = draw_shapes(reading.shapes, shape=SHAPE, ground=-1, file=FILE)
    return drawing, reading.notes


def compressed(mask):
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": packed["counts"].decode()}


def uncompressed(mask):
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": list(mask.shape), "counts": runs.tolist()}


def polygon(centre, radius, points=11):
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    ring = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)])
    return ring.T.ravel().tolist()


@pytest.mark.parametrize("encode", [compressed, uncompressed])
def test_run_lengths_give_back_the_mask(encode):
    rng = np.random.default_rng(0)
    corner = np.zeros(SHAPE, bool)
    corner[0, 0] = corner[-1, -1] = True
    for mask in (disc(SHAPE, (12, 20), 8), rng.random(SHAPE) < 0.4, np.ones(SHAPE, bool), corner):
        np.testing.assert_array_equal(draw(annotation(encode(mask)))[0].labels == 1, mask)


def test_compressed_runs_of_any_length_are_unpacked():
    """The runs are those that pycocotools packs, among them long and shrinking ones."""
    shape = (5000, 30)
    runs = [3, 1, 2, 40_000, 7, 1, 60_000, 900, 2, 30]
    runs.append(shape[0] * shape[1] - sum(runs))
    packed = coco_mask.frPyObjects({"size": list(shape), "counts": runs}, *shape)
    assert unpack(packed["counts"].decode()) == runs


def test_polygons_have_the_pixels_that_pycocotools_decodes():
    rng = np.random.default_rng(1)
    to_the_edge = [-0.8, -0.5, 40.6, -0.2, 40.0, 30.9, 0.0, 30.0]
    inside = [polygon(rng.uniform(12, 18, 2), rng.uniform(1, 10)) for _ in range(30)]
    for ring in (to_the_edge, *inside):
        (packed,) = coco_mask.frPyObjects([ring], *SHAPE)
        np.testing.assert_array_equal(draw(annotation([ring]))[0].labels == 1, decode(packed))


def test_several_polygons_are_one_cell():
    rings = [polygon((8, 8), 5), polygon((25, 20), 6)]
    merged = decode(coco_mask.merge(coco_mask.frPyObjects(rings, *SHAPE)))
    np.testing.assert_array_equal(draw(annotation(rings))[0].labels == 1, merged)


def test_categories_tell_cells_background_and_unknown():
    masks = [np.zeros(SHAPE, bool) for _ in range(4)]
    for column, mask in enumerate(masks):
        mask[2:8, 10 * column : 10 * column + 9] = True
    drawing, _ = draw(
        annotation(compressed(masks[0]), 11, category=1),
        annotation(compressed(masks[1]), 12, category=2),
        annotation(compressed(masks[2]), 13, category=3),
        annotation(compressed(masks[3]), 14, category=99),
    )
    assert drawing.labels[4, [0, 10, 20, 30]].tolist() == [1, 0, -1, 2]
    assert drawing.names == {1: "11", 2: "14"}


def test_a_crowd_is_unknown_not_one_cell():
    mask = disc(SHAPE, (12, 20), 8)
    background = annotation(compressed(np.ones(SHAPE, bool)), 1, category=2)
    drawing, _ = draw(background, annotation(uncompressed(mask), 2, iscrowd=1))
    np.testing.assert_array_equal(drawing.labels, np.where(mask, -1, 0))


def test_annotations_without_an_outline_are_left_out_and_named():
    _, notes = draw(annotation([], 4, bbox=[1, 1, 5, 5]), annotation(None, 5))
    assert notes == [
        "all.json: left out 2 shapes (4, 5): a box alone or no segmentation at all outlines no cell"
    ]


def test_file_names_match_by_stem_whatever_their_folder():
    for name in ("x.tif", "train/x.png", r"C:\data\x.ome.tif"):
        (image,) = list_images(document(file_name=name), file=FILE)
        assert image.stem == "x"


def test_coco_is_told_from_other_json():
    assert is_coco(document())
    assert not is_coco([]) and not is_coco({"type": "FeatureCollection"})


# --- broken and hostile files


def test_an_image_of_another_size_is_an_error():
    (image,) = list_images(document(shape=(30, 41)), file=FILE)
    with pytest.raises(InputError, match=r"x.tif in all.json .* Got \(30, 41\) and \(30, 40\)"):
        read_annotated(image, shape=SHAPE, file=FILE)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [40, 30], "counts": [1200]}, r"of size \[40, 30\], the image of \[30, 40\]"),
        ({"size": [30, 40], "counts": [5, 5]}, "add up to 10, not 1200"),
        ({"size": [30, 40], "counts": [1300, -100]}, "must be numbers from 0"),
        ({"size": [30, 40], "counts": [2**70]}, "too large|too big"),
        ({"size": [30, 40], "counts": "zz"}, "z' occurs in its compressed"),
        ({"size": [30, 40], "counts": "P"}, "end in the middle of a number"),
        ({"size": [30, 40]}, "counts"),
        ([[1, 2, 3, 4]], "3 or more pairs x, y, got 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "got 7 numbers"),
        ([["a", 2, 3, 4, 5, 6]], "could not convert"),
    ],
)
def test_a_broken_segmentation_is_an_error_that_names_the_annotation(segmentation, message):
    with pytest.raises(InputError, match=message) as caught:
        draw(annotation(segmentation, 31))
    assert str(caught.value).startswith("annotation 31 of x.tif in all.json can't be read as")


@pytest.mark.parametrize("far", [45.0, 1e300, float("nan"), float("inf")])
def test_a_polygon_outside_the_image_is_an_error(far):
    """Checked before pycocotools sees it."""
    with pytest.raises(InputError, match=r"annotation 31 of x.tif in all.json must"):
        draw(annotation([[1, 1, far, 1, 5, 9]], 31))


def test_an_annotation_of_no_image_is_an_error():
    lost = {**annotation([[1, 1, 5, 1, 5, 9]]), "image_id": 8}
    with pytest.raises(InputError, match=r"all.json can't be read as COCO JSON: .*image_id 8"):
        draw(lost)


def test_a_missing_key_is_an_error_that_names_the_file():
    broken = document()
    del broken["images"][0]["height"]
    with pytest.raises(InputError, match=r"all.json can't be read as COCO JSON: 'height'"):
        list_images(broken, file=FILE)
