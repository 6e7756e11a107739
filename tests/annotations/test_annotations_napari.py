"""Tables are those that napari 0.6 saves of a Shapes layer; pixels follow from geometry."""

import numpy as np
import pytest

from oce2stardist.annotations.napari_csv import is_points, is_shapes, read_shapes
from oce2stardist.annotations.rasterise import draw_shapes
from oce2stardist.annotations.tables import columns_of
from oce2stardist.errors import InputError

SHAPE = (30, 40)
CORNERS = [(3.5, 2.5), (3.5, 8.5), (9.5, 8.5), (9.5, 2.5)]  # (y, x): pixels 4 to 9 and 3 to 8


def table(*shapes, plane=None, mark=""):
    planes = "" if plane is None else "axis-0,"
    first = len(planes) // 7
    lines = [f"{mark}index,shape-type,vertex-index,{planes}axis-{first},axis-{first + 1}"]
    for index, (kind, corners) in enumerate(shapes):
        for vertex, (y, x) in enumerate(corners):
            place = "" if plane is None else f"{plane[index]},"
            lines.append(f"{index}.0,{kind},{vertex}.0,{place}{y},{x}")
    return "\n".join(lines)


def draw(path, *shapes, **told):
    path.write_text(table(*shapes, **told), encoding="utf-8")
    assert is_shapes(columns_of(path))
    reading = read_shapes(path, shape=SHAPE)
    drawing = draw_shapes(reading.shapes, shape=SHAPE, ground=-1, file=path)
    return drawing, reading.notes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.csv"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("kind", ["polygon", "rectangle"])
def test_outlines_have_whole_numbers_at_centres_of_pixels(path, kind, mark):
    expected = np.full(SHAPE, -1)
    expected[4:10, 3:9] = 1
    drawing, _ = draw(path, (kind, CORNERS), mark=mark)
    np.testing.assert_array_equal(drawing.labels, expected)
    assert drawing.names == {1: "0"}


def test_an_ellipse_fits_into_its_corners_turned_or_not(path):
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    straight = [(5, 10), (5, 30), (25, 30), (25, 10)]
    turned = [(15 - 14.142, 20), (15, 20 + 14.142), (15 + 14.142, 20), (15, 20 - 14.142)]
    for corners in (straight, turned):  # both of a circle of 10 px around (15, 20)
        labels = draw(path, ("ellipse", corners))[0].labels
        distance = np.hypot(y - 15, x - 20)
        assert (labels[distance < 9.98] == 1).all() and (labels[distance > 10.01] == -1).all()


def test_shapes_of_two_corners_are_left_out_and_named(path):
    drawing, notes = draw(
        path,
        ("path", CORNERS),
        ("polygon", CORNERS),
        ("line", CORNERS[:2]),
        ("polygon", CORNERS[:2]),
    )
    assert drawing.names == {1: "1"}
    assert notes == ["x.csv: left out 1 shape (3): shapes of two corners enclose no pixels"]


def test_shapes_of_one_plane_are_read_and_of_several_refused(path):
    shapes = [("polygon", CORNERS), ("rectangle", [(y + 12, x) for y, x in CORNERS])]
    assert draw(path, *shapes, plane=[3, 3])[0].labels.max() == 2
    with pytest.raises(InputError, match=r"x.csv can't be read .* lie on 2 planes"):
        draw(path, *shapes, plane=[3, 4])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3.5", "high", "could not convert"),
        ("2.0,", "", "NoneType|float"),
        ("ellipse,3.0,9.5,2.5", "ellipse,3.0,9.5", "NoneType"),
        ("\n0.0,ellipse,1.0,3.5,8.5", "", "4 corners, got 3"),
    ],
)
def test_a_broken_table_is_an_error_that_names_it(path, old, new, message):
    path.write_text(table(("ellipse", CORNERS)).replace(old, new, 1))
    with pytest.raises(
        InputError, match=rf"x.csv can't be read as shapes of napari: .*({message})"
    ):
        read_shapes(path, shape=SHAPE)


def test_other_tables_are_told_from_shapes(path):
    for text in ("", "index,axis-0,axis-1\n0,1,1\n", "image,label\n", "\x00\xff"):
        path.write_text(text, encoding="latin-1")
        assert not is_shapes(columns_of(path))
        assert is_points(columns_of(path)) is text.startswith("index")
