"""Selections are written by roifile; the masks printed here are those of ImageJ 1.53t."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from oce2stardist.annotations.imagej import read_rois
from oce2stardist.annotations.rasterise import draw_shapes
from oce2stardist.errors import InputError

SHAPE = (40, 50)
# ImageJ 1.53t: makeOval(3, 4, w, h), its mask.
IMAGEJ_OVALS = {
    (8, 8): "..####.. .######. ######## ######## ######## ######## .######. ..####..",
    (5, 3): ".###. ##### .###.",
    (4, 4): ".##. #### #### .##.",
    (2, 1): "##",
}


def selection(kind, left, top, right, bottom, **values):
    roi = ImagejRoi()
    roi.roitype = kind
    roi.left, roi.top, roi.right, roi.bottom = left, top, right, bottom
    for key, value in values.items():
        setattr(roi, key, value)
    return roi


def polygon(points, kind=ROI_TYPE.POLYGON, name="polygon"):
    roi = ImagejRoi.frompoints(np.asarray(points), name=name)
    roi.roitype = kind
    return roi


def composite(*rings, name="composite"):
    path = []
    for points in rings:
        for number, point in enumerate(points):
            path += [float(number > 0), *point]
        path.append(4.0)
    roi = selection(ROI_TYPE.RECT, 0, 0, 1, 1, name=name, shape_roi_size=len(path))
    roi.multi_coordinates = np.array(path, np.float32)
    return roi


def square(left, top, side):
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]


def save(path, *rois):
    roifile.roiwrite(path, rois[0] if path.suffix == ".roi" else rois)
    return path


def draw(path):
    reading = read_rois(path, shape=SHAPE)
    return draw_shapes(reading.shapes, shape=SHAPE, ground=-1, file=path), reading.notes


def mask_of(tmp_path, roi):
    drawing, _ = draw(save(tmp_path / "one.roi", roi))
    return drawing.labels == 1


def rows(mask):
    return " ".join("".join(".#"[int(pixel)] for pixel in row) for row in mask)


def test_a_rectangle_holds_left_to_right_and_top_to_bottom_exclusive(tmp_path):
    expected = np.zeros(SHAPE, bool)
    expected[4:9, 3:10] = True
    roi = selection(ROI_TYPE.RECT, 3, 4, 10, 9, name="r")
    np.testing.assert_array_equal(mask_of(tmp_path, roi), expected)


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_outlines_have_their_integer_corners_on_corners_of_pixels(tmp_path, kind):
    expected = np.zeros(SHAPE, bool)
    expected[5:12, 6:13] = True
    np.testing.assert_array_equal(mask_of(tmp_path, polygon(square(6, 5, 7), kind)), expected)


def test_outlines_with_finer_corners_hold_the_pixels_whose_centres_are_inside(tmp_path):
    """2.6 leaves out the centre at 2.5, 9.6 takes in that at 9.5."""
    expected = np.zeros(SHAPE, bool)
    expected[3:10, 3:10] = True
    points = np.array(square(2.6, 2.6, 7.0))
    np.testing.assert_array_equal(mask_of(tmp_path, polygon(points)), expected)


@pytest.mark.parametrize("size", IMAGEJ_OVALS)
def test_ovals_have_the_pixels_of_imagej(tmp_path, size):
    width, height = size
    mask = mask_of(tmp_path, selection(ROI_TYPE.OVAL, 3, 4, 3 + width, 4 + height, name="o"))
    assert rows(mask[4 : 4 + height, 3 : 3 + width]) == IMAGEJ_OVALS[size]
    assert mask.sum() == IMAGEJ_OVALS[size].count("#")


def test_an_oval_is_the_ellipse_its_bounds_enclose(tmp_path):
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    expected = ((x + 0.5 - 20) / 15) ** 2 + ((y + 0.5 - 16.5) / 11.5) ** 2 <= 1
    oval = selection(ROI_TYPE.OVAL, 5, 5, 35, 28, name="o")
    np.testing.assert_array_equal(mask_of(tmp_path, oval), expected)


@pytest.mark.parametrize("kind", [ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.POLYGON])
def test_a_selection_over_the_border_is_cut_there(tmp_path, kind):
    """As if the image were larger, which ImageJ's own mask does."""
    corners = {"top_left": (-6, -5), "bottom_right": (SHAPE[1] - 8, SHAPE[0] - 9)}
    for left, top in corners.values():
        roi = selection(kind, left, top, left + 14, top + 14, name="o")
        inside = selection(kind, 20, 20, 34, 34, name="o")
        if kind == ROI_TYPE.POLYGON:
            roi, inside = (
                polygon(np.array(square(*place, 13.5))) for place in ((left, top), (20, 20))
            )
        whole = np.roll(mask_of(tmp_path, inside), (top - 20, left - 20), axis=(0, 1))
        y, x = np.indices(SHAPE)
        near = (abs(y - top - 7) < 12) & (abs(x - left - 7) < 12)
        np.testing.assert_array_equal(mask_of(tmp_path, roi), whole & near)
        (note,) = draw(tmp_path / "one.roi")[0].notes
        assert note == "one.roi: 1 shape cut at the border of the image"


def test_a_rounded_rectangle_lacks_the_corners_outside_its_arcs(tmp_path):
    roi = selection(ROI_TYPE.RECT, 10, 10, 30, 24, rounded_rect_arc_size=8, name="r")
    mask = mask_of(tmp_path, roi)
    assert not mask[10, 10] and mask[10, 15] and mask[15, 10] and mask[17, 20]
    y, x = np.mgrid[:4, :4] + 0.5
    corner = (x - 4) ** 2 + (y - 4) ** 2 <= 16
    for part in (mask[10:14, 10:14], mask[10:14, 26:30][:, ::-1], mask[20:24, 10:14][::-1]):
        np.testing.assert_array_equal(part, corner)


def test_a_composite_has_holes_and_separate_pieces(tmp_path):
    expected = np.zeros(SHAPE, bool)
    expected[2:22, 2:22] = expected[30:35, 30:35] = True
    expected[8:13, 8:13] = False
    roi = composite(square(2, 2, 20), square(8, 8, 5), square(30, 30, 5))
    np.testing.assert_array_equal(mask_of(tmp_path, roi), expected)


def test_curves_of_a_composite_are_followed(tmp_path):
    """Four cubic arcs of the usual constant are a circle to within 0.03 % of its radius."""
    k, radius, x, y = 0.5522847, 12, 20, 20
    path = [0.0, x + radius, y]
    for turn in range(4):
        dx, dy = [(1, 0), (0, 1), (-1, 0), (0, -1)][turn]
        ex, ey = -dy, dx
        for a, b in ((1, k), (k, 1), (0, 1)):
            path += [3.0] * (a == 1 and b == k)
            path += [x + radius * (a * dx + b * ex), y + radius * (a * dy + b * ey)]
    roi = selection(ROI_TYPE.RECT, 8, 8, 32, 32, name="c", shape_roi_size=len(path) + 1)
    roi.multi_coordinates = np.array([*path, 4.0], np.float32)
    yy, xx = np.ogrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(yy + 0.5 - y, xx + 0.5 - x)
    mask = mask_of(tmp_path, roi)
    assert mask[distance < radius - 0.05].all() and not mask[distance > radius + 0.05].any()


def test_a_spline_bulges_beyond_its_points_and_is_reported(tmp_path):
    roi = polygon(square(10, 10, 16), name="bent")
    roi.options |= ROI_OPTIONS.SPLINE_FIT
    drawing, notes = draw(save(tmp_path / "one.roi", roi))
    assert np.count_nonzero(drawing.labels == 1) > 16 * 16
    assert drawing.labels[9, 18] == 1 and drawing.labels[9, 9] == -1
    assert notes == ["one.roi: redrew splines, to within a few pixels of ImageJ's (bent)"]


def test_a_zip_keeps_the_order_and_the_names_of_the_roi_manager(tmp_path):
    rois = [selection(ROI_TYPE.RECT, 5 * i, 0, 5 * i + 4, 4, name=f"n{9 - i}") for i in range(4)]
    drawing, notes = draw(save(tmp_path / "set.zip", *rois))
    assert drawing.names == {1: "n9", 2: "n8", 3: "n7", 4: "n6"}
    assert drawing.labels[0, ::5].tolist()[:5] == [1, 2, 3, 4, -1] and notes == []


def test_a_folder_of_selections_is_read_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a"):
        save(tmp_path / f"{name}.roi", selection(ROI_TYPE.RECT, 1, 1, 3, 3, name=name))
    assert [shape.name for shape in read_rois(tmp_path, shape=SHAPE).shapes] == ["a", "b"]


def test_names_tell_background_and_what_to_ignore(tmp_path):
    names = enumerate(("background-1", "Ignore", "0001-0002"))
    rois = [selection(ROI_TYPE.RECT, 10 * i, 0, 10 * i + 9, 9, name=name) for i, name in names]
    drawing, _ = draw(save(tmp_path / "set.zip", *rois))
    assert drawing.labels[0, [0, 10, 20]].tolist() == [0, -1, 1]


def test_angles_text_and_arrows_are_left_out_and_named(tmp_path):
    rois = [
        polygon([[3, 4], [5, 6], [9, 9]], ROI_TYPE.ANGLE, name="angle"),
        polygon([[3, 4], [5, 6]], name="two"),
        selection(ROI_TYPE.LINE, 0, 0, 5, 5, name="arrow", x2=5.0, subtype=ROI_SUBTYPE.ARROW),
        selection(ROI_TYPE.RECT, 1, 1, 9, 9, name="word", subtype=ROI_SUBTYPE.TEXT, text="hello"),
        selection(ROI_TYPE.RECT, 1, 1, 9, 9, name="cell"),
    ]
    drawing, notes = draw(save(tmp_path / "set.zip", *rois))
    assert list(drawing.names.values()) == ["cell"]
    assert notes == [
        "set.zip: left out 4 shapes (angle, two, arrow, word): angles, text, arrows, pictures and "
        "outlines of two points mark no cell",
    ]


def test_selections_of_several_planes_are_reported(tmp_path):
    rois = [selection(ROI_TYPE.RECT, 1, 1, 9, 9, name=str(i), position=i) for i in (1, 2)]
    _, notes = draw(save(tmp_path / "set.zip", *rois))
    assert notes == ["set.zip: took the selections of 2 planes of a stack as one"]


# --- broken and hostile files


def test_a_selection_outside_the_image_is_an_error(tmp_path):
    path = save(tmp_path / "far.roi", selection(ROI_TYPE.OVAL, 45, 5, 60_000, 60_000, name="o"))
    with pytest.raises(InputError, match=r"far.roi .* 50 x 40 pixels. Got .* to 60000, 60000"):
        draw(path)


def test_a_polygon_outside_the_image_is_an_error(tmp_path):
    path = save(tmp_path / "far.zip", polygon(square(55, 5, 30)))
    with pytest.raises(InputError, match=r"shape 1 \(polygon\) of .*far.zip .* to 85, 35"):
        draw(path)


def test_every_broken_selection_is_named_in_one_line(tmp_path):
    whole = polygon(square(5, 5, 9)).tobytes()
    path = tmp_path / "broken.roi"
    for data in (b"", b"Iout", whole[:70], b"Xout" + whole[4:]):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"broken.roi can't be read as an ImageJ") as caught:
            draw(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("roi", [polygon(np.array(square(5.5, 5, 9))), composite(square(2, 2, 9))])
def test_a_flipped_byte_is_read_or_refused_but_never_crashes(tmp_path, roi):
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.roi"
    whole = roi.tobytes()
    outcomes = set()
    for _ in range(150):
        data = bytearray(whole)
        data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        try:
            outcomes.add(draw(path)[0].labels.shape)
        except InputError as error:
            outcomes.add("flipped.roi" in str(error))
    assert outcomes == {SHAPE, True}


def test_a_composite_without_a_valid_path_is_refused(tmp_path):
    roi = composite(square(2, 2, 20))
    roi.multi_coordinates[3] = 9
    with pytest.raises(InputError, match=r"one.roi can't be read as a composite selection"):
        draw(save(tmp_path / "one.roi", roi))


def test_what_is_no_zip_is_named(tmp_path):
    path = tmp_path / "set.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"set.zip can't be read as a zip of ImageJ selections"):
        draw(path)


def test_a_zip_without_selections_is_an_error(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "none")
    with pytest.raises(InputError, match=r"must hold ImageJ selections .* Got notes.txt"):
        draw(path)


def test_a_zip_is_never_unpacked_and_hidden_members_are_not_read(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        roi = selection(ROI_TYPE.RECT, 1, 1, 9, 9)
        archive.writestr("../../outside.roi", roi.tobytes())
        archive.writestr("__MACOSX/._outside.roi", b"resource fork")
    drawing, _ = draw(path)
    assert drawing.names == {1: "outside"}
    assert [Path(file).name for file in tmp_path.rglob("*")] == ["set.zip"]


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("oce2stardist.annotations.imagej.MAX_BYTES", 100_000)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", bytes(1_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"bomb.zip .* 100000 bytes of them. Got 1 and 1000000"):
        draw(path)


def test_a_damaged_member_is_named(tmp_path):
    path = save(tmp_path / "set.zip", selection(ROI_TYPE.RECT, 1, 1, 9, 9, name="r1"))
    data = bytearray(path.read_bytes())
    data[data.index(b"Iout") + 10] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"r1.roi in .*set.zip can't be read as an ImageJ sel"):
        draw(path)
