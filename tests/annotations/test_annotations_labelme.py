"""Documents are built as LabelMe 5 writes them; pixels follow from geometry."""

import base64
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from oce2stardist.annotations.labelme import image_stem_of, is_labelme, read_labelme
from oce2stardist.annotations.rasterise import draw_shapes
from oce2stardist.errors import InputError

SHAPE = (30, 40)
FILE = Path("x.json")


def drawn(points, kind="polygon", label="cell", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def document(*shapes, **more):
    sizes = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    return {"version": "5.4.1", "shapes": list(shapes), "imagePath": "x.tif", **sizes, **more}


def draw(*shapes, **more):
    reading = read_labelme(document(*shapes, **more), shape=SHAPE, file=FILE)
    drawing = draw_shapes(reading.shapes, shape=SHAPE, ground=-1, file=FILE)
    return drawing.labels, reading.notes + drawing.notes


def box(top, bottom, left, right):
    expected = np.full(SHAPE, -1)
    expected[top:bottom, left:right] = 1
    return expected


def test_polygons_and_rectangles_hold_the_pixels_whose_centres_are_inside():
    corners = [[3, 4], [9, 4], [9, 10], [3, 10]]
    for shape in (drawn(corners), drawn(corners[::2], "rectangle"), drawn(corners, "rectangle"),
                  drawn([corners[2], corners[0]], "rectangle"), drawn(corners, None)):  # fmt: skip
        np.testing.assert_array_equal(draw(shape)[0], box(4, 10, 3, 9))


def test_a_circle_is_given_by_its_centre_and_a_point_on_it():
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(y + 0.5 - 14, x + 0.5 - 20)
    labels, _ = draw(drawn([[20, 14], [26, 22]], "circle"))
    assert (labels[distance < 9.98] == 1).all() and (labels[distance > 10] == -1).all()


def test_a_mask_lies_where_its_first_point_says():
    mask = np.zeros((7, 5), np.uint8)
    mask[1:5, 2:] = 1
    encoded = base64.b64encode(imagecodecs.png_encode(255 * mask)).decode()
    labels, _ = draw(drawn([[10, 3], [14, 9]], "mask", mask=encoded))
    np.testing.assert_array_equal(labels, box(4, 8, 12, 15))


def test_shapes_of_one_group_are_one_cell_and_labels_tell_what_is_marked():
    halves = [drawn([[x, 2], [x + 4, 6]], "rectangle", group_id=1) for x in (2, 8)]
    other = drawn([[2, 12], [6, 16]], "rectangle", label="Background")
    labels, _ = draw(*halves, other)
    assert (labels[2:6, 2:6] == 1).all() and (labels[2:6, 8:12] == 1).all()
    assert (labels[12:16, 2:6] == 0).all() and labels.max() == 1


def test_shapes_without_an_area_are_left_out_and_named():
    _, notes = draw(drawn([[3, 4], [9, 9]], label="axis"))
    assert notes == ["x.json: left out 1 shape (axis): it encloses no pixels"]


def test_the_image_is_named_by_the_document_whatever_its_folder():
    assert is_labelme(document()) and is_labelme({"shapes": [], "version": "5"})
    assert not is_labelme({"shapes": []}) and not is_labelme([])
    assert image_stem_of(document(imagePath=r"..\raw\y.ome.tif")) == "y"


def test_an_image_of_another_size_is_an_error():
    with pytest.raises(InputError, match=r"x.json must have the size .* Got \(31, 40\) and"):
        draw(imageHeight=31)
    for size in ({"imageHeight": None, "imageWidth": None}, {"imageHeight": "30"}):
        assert (draw(**size)[0] == -1).all()


def large_mask():
    return base64.b64encode(imagecodecs.png_encode(np.ones((99, 99), np.uint8))).decode()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"label": "cell"}, "points"),
        (drawn([[1, 2], [3]]), "inhomogeneous"),
        (drawn([["a", 2], [3, 4], [5, 6]]), "could not convert"),
        (drawn([[1, 2]], "circle"), "not enough values"),
        (drawn([[1, 2], [3, 4]], "mask", mask="!"), "."),
        (drawn([[1, 2], [3, 4]], "mask", mask=large_mask()), "99 x 99 pixels is larger than"),
        (5, "attribute"),
    ],
)
def test_a_broken_shape_is_an_error_that_names_it(shape, message):
    with pytest.raises(InputError, match=rf"shape 2 of x.json can't be read .*{message}"):
        draw(drawn([[1, 1], [5, 1], [5, 5]]), shape)


def test_a_broken_document_is_an_error_that_names_the_file():
    with pytest.raises(InputError, match=r"x.json can't be read as LabelMe's JSON"):
        read_labelme(document() | {"shapes": 5}, shape=SHAPE, file=FILE)
