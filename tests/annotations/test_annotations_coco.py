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


def test_what_a_brush_painted_is_a_cell_though_it_says_iscrowd():
    """CVAT writes so: run lengths with iscrowd 1, polygons with 0."""
    painted, drawn = disc(SHAPE, (12, 12), 6), polygon((30, 14), 6)
    marked = np.zeros(SHAPE, bool)
    marked[26:] = True
    drawing, notes = draw(
        annotation(uncompressed(painted), 1, iscrowd=1),
        annotation([drawn], 2, iscrowd=0),
        annotation(compressed(marked), 3, category=2, iscrowd=1),
    )
    assert drawing.names == {1: "1", 2: "2"} and (drawing.labels[26:] == 0).all()
    np.testing.assert_array_equal(drawing.labels == 1, painted)
    assert notes == [
        "all.json: 1 shape with iscrowd 1 taken as a cell each, being of one piece and of usual "
        "size: CVAT marks what its brush painted so"
    ]


@pytest.mark.parametrize("crowd", ["in pieces", "far larger"])
def test_a_crowd_of_several_cells_is_unknown(crowd):
    several = disc(SHAPE, (5, 10), 4) | disc(SHAPE, (20, 30), 4)
    mask = several if crowd == "in pieces" else disc(SHAPE, (15, 20), 12)
    cells = [np.roll(disc(SHAPE, (25, 5), 3), 6 * n, axis=1) & ~mask for n in range(3)]
    background = annotation(compressed(np.ones(SHAPE, bool)), 1, category=2)
    drawing, notes = draw(
        background,
        annotation(uncompressed(mask), 2, iscrowd=1),
        *[annotation(compressed(cell), 3 + n) for n, cell in enumerate(cells)],
    )
    np.testing.assert_array_equal(drawing.labels == -1, mask)
    assert notes == ["all.json: 1 shape with iscrowd 1 left unknown, being several cells (2)"]


def test_parts_that_enclose_nothing_are_passed_over():
    ring = polygon((20, 15), 6)
    expected = draw(annotation([ring]))[0].labels
    for segmentation in ([[], ring], [[3, 4, 9, 9], ring], [ring, [5, 5]], ring,
                         [np.reshape(ring, (-1, 2)).tolist()]):  # fmt: skip
        np.testing.assert_array_equal(draw(annotation(segmentation))[0].labels, expected)
    _, notes = draw(annotation([[3, 4, 9, 9]], 8))
    assert "left out 1 shape (8)" in notes[0]


def test_run_lengths_may_stand_in_a_list():
    mask = disc(SHAPE, (12, 20), 8)
    drawing, _ = draw(annotation([compressed(mask)]))
    np.testing.assert_array_equal(drawing.labels == 1, mask)


def test_a_polygon_over_the_border_has_the_pixels_that_pycocotools_decodes():
    ring = [-7.0, 4.0, 12.0, 4.0, 12.0, 15.0, -7.0, 15.0]
    (packed,) = coco_mask.frPyObjects([ring], *SHAPE)
    drawing, _ = draw(annotation([ring]))
    np.testing.assert_array_equal(drawing.labels == 1, decode(packed))
    assert drawing.notes == ["all.json: 1 shape cut at the border of the image"]


@pytest.mark.parametrize("said", [None, 0, "missing", 30.0, "30"])
def test_the_size_of_the_image_may_be_missing_or_of_any_type(said):
    told = document(annotation([polygon((20, 15), 6)]))
    told["images"][0]["height"] = said
    if said == "missing":
        del told["images"][0]["height"]
    (image,) = list_images(told, file=FILE)
    assert len(read_annotated(image, shape=SHAPE, file=FILE).shapes) == 1


def test_ids_may_be_numbers_or_text():
    told = document(annotation([polygon((20, 15), 6)], category="2"))
    told["images"][0]["id"], told["categories"][1]["id"] = "7", 2.0
    (image,) = list_images(told, file=FILE)
    assert read_annotated(image, shape=SHAPE, file=FILE).shapes[0].role == "background"


def test_two_images_of_one_id_are_an_error():
    told = document()
    told["images"] *= 2
    with pytest.raises(InputError, match=r"all.json can't be read .* two images have the id 7"):
        list_images(told, file=FILE)


def test_annotations_without_an_outline_are_left_out_and_named():
    _, notes = draw(annotation([], 4, bbox=[]), annotation(None, 5))
    assert notes == [
        "all.json: left out 2 shapes (4, 5): without a segmentation or a box no cell is marked"
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
        ([[1, 2, 3]], "3 or more pairs x, y, got 3 numbers"),
        ("polygon", "neither run lengths nor polygons: 'polygon'"),
        ([[1, 2, 3, 4, 5, 6, 7]], "got 7 numbers"),
        ([["a", 2, 3, 4, 5, 6]], "could not convert"),
    ],
)
def test_a_broken_segmentation_is_an_error_that_names_the_annotation(segmentation, message):
    with pytest.raises(InputError, match=message) as caught:
        draw(annotation(segmentation, 31))
    assert str(caught.value).startswith("annotation 31 of x.tif in all.json can't be read as")


@pytest.mark.parametrize("far", [85.0, 1e300, float("nan"), float("inf")])
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
    del broken["images"][0]["file_name"]
    with pytest.raises(InputError, match=r"all.json can't be read as COCO JSON: 'file_name'"):
        list_images(broken, file=FILE)
