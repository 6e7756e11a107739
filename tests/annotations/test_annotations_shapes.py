"""Pixels follow from geometry; on the very edge, from masks that ImageJ 1.53t made."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from oce2stardist.annotations import Outline, Patch, Shape
from oce2stardist.annotations.rasterise import draw_shapes, fill_rings
from oce2stardist.annotations.shapes import role_of
from oce2stardist.errors import InputError

FILE = Path("drawn.zip")


def ring(*points):
    return np.array(points, np.float64)


def box(left, top, right, bottom):
    return Outline((ring((left, top), (right, top), (right, bottom), (left, bottom)),))


def draw(*shapes, shape=(20, 20), ground=-1):
    return draw_shapes(shapes, shape=shape, ground=ground, file=FILE)


def cell(*parts, name="", number=1, role="cell"):
    return Shape(parts, role, name, number)


def filled(outline, shape=(20, 20)):
    return draw(cell(outline), shape=shape).labels == 1


def rows(mask):
    return ["".join(".#"[int(pixel)] for pixel in row) for row in mask]


# --- filling


def test_a_box_with_integer_corners_holds_exactly_its_pixels():
    expected = np.zeros((20, 20), bool)
    expected[3:9, 2:7] = True
    np.testing.assert_array_equal(filled(box(2, 3, 7, 9)), expected)


def test_a_pixel_belongs_if_its_centre_is_inside_any_polygon():
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), axis=-1)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(3, 14, 9)
        points = np.stack([20 + radii * np.cos(angles), 15 + radii * np.sin(angles)], axis=1)
        inside = Polygon(points).contains_points(centres.reshape(-1, 2)).reshape(30, 40)
        np.testing.assert_array_equal(filled(Outline((points,)), (30, 40)), inside)


def test_centres_on_a_slanted_edge_go_to_the_area_whose_right_edge_it_is():
    """The masks are those of ImageJ 1.53t for these two triangles."""
    lower = filled(Outline((ring((0, 0), (4, 4), (0, 4)),)), (4, 4))
    upper = filled(Outline((ring((0, 0), (4, 0), (4, 4)),)), (4, 4))
    assert rows(lower) == ["#...", "##..", "###.", "####"]
    assert rows(upper) == [".###", "..##", "...#", "...."]


def test_centres_on_edges_of_a_box_belong_at_its_right_and_bottom():
    """The mask is that of ImageJ 1.53t for a box with edges through pixel centres."""
    mask = filled(box(1.5, 1.5, 3.5, 3.5), (5, 5))
    assert rows(mask) == [".....", ".....", "..##.", "..##.", "....."]


def test_areas_with_a_common_edge_share_no_pixel_and_leave_none():
    """Four triangles that fill a square, with corners and apex often on pixel centres."""
    corners, rng = box(0, 0, 20, 20).rings[0], np.random.default_rng(1)
    for _ in range(20):
        apex = np.round(2 * rng.uniform(2, 18, 2)) / 2
        triangles = [np.array([corners[i - 1], corners[i], apex]) for i in range(4)]
        claims = sum(filled(Outline((points,))).astype(int) for points in triangles)
        assert (claims == 1).all(), apex


def test_the_second_ring_of_an_outline_is_a_hole():
    outline = Outline((*box(2, 2, 12, 12).rings, *box(5, 5, 8, 8).rings))
    expected = np.zeros((20, 20), bool)
    expected[2:12, 2:12] = True
    expected[5:8, 5:8] = False
    np.testing.assert_array_equal(filled(outline), expected)


def test_parts_of_a_shape_are_united_where_they_overlap():
    shape = cell(box(2, 2, 8, 8), box(5, 5, 12, 9), Patch(15, 15, np.ones((2, 3), bool)))
    expected = np.zeros((20, 20), bool)
    expected[2:8, 2:8] = expected[5:9, 5:12] = expected[15:17, 15:18] = True
    np.testing.assert_array_equal(draw(shape).labels == 1, expected)


def test_what_a_self_crossing_outline_encloses_twice_is_outside():
    twice = Outline((np.concatenate([box(2, 2, 10, 10).rings[0], box(2, 2, 10, 10).rings[0]]),))
    assert not filled(twice).any()
    bow_tie = filled(Outline((ring((0, 0), (20, 20), (20, 0), (0, 20)),)))
    assert bow_tie[10, 2] and bow_tie[10, 17] and not bow_tie[2, 10] and not bow_tie[17, 10]


def test_a_repeated_first_point_makes_no_difference():
    outline = box(2, 3, 9, 11)
    closed = Outline((np.concatenate([outline.rings[0], outline.rings[0][:1]]),))
    np.testing.assert_array_equal(filled(closed), filled(outline))


def test_filling_holds_no_more_than_the_bounding_box():
    patch = fill_rings(box(100, 200, 110, 205), shape=(5000, 5000))
    assert patch.mask.size <= 50 and (patch.top, patch.left) == (200, 100)


def test_an_outline_of_absurdly_many_crossings_is_refused():
    zigzag = np.tile([[0.0, 0.0], [1.0, 10_000.0]], (2_000, 1))
    with pytest.raises(InputError, match=r"shape 1 of drawn.zip .* 20000000 rows .* got 40000000"):
        draw(cell(Outline((zigzag,))), shape=(10_000, 10))


# --- the image's edge


def test_a_shape_within_one_pixel_outside_is_cut():
    mask = filled(box(-1, -0.6, 21, 20.4))
    assert mask.shape == (20, 20) and mask.all()
    patch = draw(cell(Patch(-1, -1, np.ones((3, 3), bool)))).labels
    assert (patch[:2, :2] == 1).all() and np.count_nonzero(patch == 1) == 4


def test_a_shape_that_reaches_over_the_border_is_cut_there_and_counted():
    drawing = draw(cell(box(-7, 4, 6, 9)), cell(Patch(12, 14, np.ones((5, 6), bool), is_cut=True)))
    expected = np.full((20, 20), -1)
    expected[4:9, :6] = 1
    expected[12:17, 14:] = 2
    np.testing.assert_array_equal(drawing.labels, expected)
    assert drawing.notes == ["drawn.zip: 2 shapes cut at the border of the image"]


def test_most_shapes_over_the_border_are_those_of_another_image():
    over = [cell(box(left, 4, left + 4, 30)) for left in (1, 6, 11)]
    assert draw(*over[:2]).labels.max() == 2  # one or two may well be all that was drawn
    inside = [cell(box(left, 1, left + 2, 3)) for left in (1, 6, 11)]
    assert draw(*over, *inside).labels.max() == 6
    with pytest.raises(InputError, match=r"shapes of drawn.zip must lie .* Got 3 of 5 that reach"):
        draw(*over, *inside[1:])


@pytest.mark.parametrize(
    ("bounds", "printed"),
    [
        ((-45, 2, 9, 9), "from -45, 2 to 9, 9"),
        ((2, 2, 9, 1e300), r"from 2, 2 to 9, 1e\+300"),
        ((30, 30, 40, 40), "from 30, 30 to 40, 40"),
        ((-9, 2, -3, 9), "from -9, 2 to -3, 9"),
    ],
)
def test_a_shape_outside_or_far_over_the_border_is_an_error_with_its_bounds(bounds, printed):
    with pytest.raises(InputError, match=rf"shape 3 \(a\) of drawn.zip .* 20 x 20 .*{printed}"):
        draw(cell(box(*bounds), name="a", number=3))


def test_coordinates_must_be_finite():
    with pytest.raises(InputError, match=r"finite coordinates. Got nan, 2, nan, 9"):
        draw(cell(box(np.nan, 2, 9, 9)))


# --- regions


def grid(count):
    return [cell(box(x, y, x + 3, y + 3)) for y in (2, 7, 12) for x in (2, 7, 12)][:count]


def region(*bounds, **told):
    return Shape((box(*bounds),), "cell", "p", 1, **told)


@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_shape_that_holds_several_cells_is_a_region_and_left_out(place):
    shapes = grid(9)
    shapes.insert(place, region(1, 1, 16, 16))
    drawing = draw(*shapes)
    assert len(drawing.names) == 9 and drawing.labels[1, 1] == -1
    assert drawing.notes == [
        "drawn.zip: left out 1 shape (p): a region that holds other cells, or is far larger, is "
        "no cell"
    ]


def test_regions_in_regions_are_left_out():
    drawing = draw(region(0, 0, 20, 20), region(1, 1, 16, 11), *grid(9))
    assert len(drawing.names) == 9 and "left out 2 shapes" in drawing.notes[0]


def test_the_whole_image_around_one_cell_is_a_region():
    assert draw(region(0, 0, 20, 20), *grid(1)).names == {1: ""}


def test_where_a_tool_draws_regions_so_a_smaller_one_or_an_empty_one_is_left_out():
    told = {"may_be_region": True}
    around_two, empty = region(1, 1, 11, 6, **told), region(1, 6, 17, 17, **told)
    assert len(draw(around_two, *grid(2)).names) == 2
    assert len(draw(empty, *grid(3)).names) == 3
    own = region(12, 12, 16, 16, **told)  # a cell drawn by hand beside those detected
    assert "p" in draw(own, *grid(3)).names.values()


# --- overlaps


def test_a_cell_inside_another_survives_in_either_order():
    outer, inner = box(2, 2, 16, 16), box(6, 6, 9, 9)
    for first, second, inner_label in ((outer, inner, 2), (inner, outer, 1)):
        labels = draw(cell(first), cell(second)).labels
        assert (labels[6:9, 6:9] == inner_label).all()
        assert np.count_nonzero(labels == 3 - inner_label) == 14 * 14 - 9


def test_of_two_cells_of_one_size_the_first_takes_the_overlap():
    drawing = draw(cell(box(2, 2, 8, 8)), cell(box(5, 2, 11, 8)))
    assert np.count_nonzero(drawing.labels == 1) == 36
    assert drawing.notes == [
        "drawn.zip: 2 cells overlap in 18 pixels; each pixel went to the smallest cell that "
        "claims it"
    ]


def test_a_cell_without_a_pixel_left_is_reported_and_its_number_left_out():
    shapes = [cell(box(2, 2, 8, 8), name=name, number=n) for n, name in enumerate("ab", start=1)]
    drawing = draw(*shapes)
    assert drawing.names == {1: "a"}
    covered = "1 cell left without a pixel, wholly covered by others (b)"
    assert drawing.notes[1] == f"drawn.zip: {covered}"


def test_cells_win_over_unknown_regions_and_these_over_background():
    background = cell(box(0, 0, 20, 20), role="background")
    unknown = cell(box(0, 0, 10, 20), role="unknown")
    drawn = cell(box(5, 5, 15, 15))
    for order in ((background, unknown, drawn), (drawn, unknown, background)):
        drawing = draw(*order)
        expected = np.zeros((20, 20), int)
        expected[:, :10] = -1
        expected[5:15, 5:15] = 1
        np.testing.assert_array_equal(drawing.labels, expected)
        assert drawing.notes == [
            "drawn.zip: 100 pixels of background regions went to cells drawn there",
            "drawn.zip: 50 pixels of unknown regions went to cells drawn there",
        ]


@pytest.mark.parametrize("ground", [-1, 0])
def test_what_is_not_drawn_has_the_label_of_the_ground(ground):
    assert (draw(cell(box(2, 2, 8, 8)), ground=ground).labels[10:] == ground).all()
    nothing = draw(ground=ground)
    assert (nothing.labels == ground).all() and nothing.names == {} and nothing.notes == []


def test_a_shape_between_pixel_centres_is_left_out_and_named():
    drawing = draw(cell(box(2.6, 2.6, 3.4, 3.4), name="speck"), cell(box(5, 5, 8, 8), name="b"))
    assert drawing.names == {2: "b"}
    assert drawing.notes == ["drawn.zip: left out 1 shape (speck): holds no pixel centre"]


def test_cells_are_numbered_in_the_order_of_the_file():
    drawing = draw(*(cell(box(4 * i, 0, 4 * i + 3, 3), name=f"c{i}") for i in range(4)))
    assert drawing.names == {1: "c0", 2: "c1", 3: "c2", 4: "c3"}
    assert drawing.labels[0, ::4].tolist() == [1, 2, 3, 4, -1]
    assert drawing.labels.dtype == np.int32


def test_too_many_shapes_are_refused(monkeypatch):
    monkeypatch.setattr("oce2stardist.annotations.rasterise.MAX_SHAPES", 2)
    with pytest.raises(InputError, match=r"at most 2 shapes an image. Got 3"):
        draw(*[cell(box(1, 1, 2, 2))] * 3)


# --- roles


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("background", ["background", "Background", "background-2", "BACKGROUND 0001"]),
        ("unknown", ["Ignore*", "ignore", "Ignored", "ignore-3", "Region*"]),
        ("cell", ["", "nucleus", "backgrounded", "ignorant", "my background"]),
    ],
)
def test_the_name_tells_the_role(role, names):
    assert {name: role_of(name) for name in names} == dict.fromkeys(names, role)
