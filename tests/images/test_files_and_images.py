"""Files are written by tifffile, or byte by byte as the PNG specification says."""

import logging
import re
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import replacing, write_text
from oce2stardist.images.find import find_images, image_stem, label_paths
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_image
from oce2stardist.objects.overlay import write_overlay


def ramp(*shape, dtype=np.uint16):
    """Every value once, so that no two orders of the axes look alike."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def channels_last(stored, order):
    """Bring an array with these axes, z and t of one element, to (Y, X, C)."""
    kept = [axis for axis in "yxcs" if axis in order]
    moved = np.einsum(f"{order}->{''.join(kept)}", stored)
    return moved.reshape(*moved.shape[:2], -1)


def two_touching_squares():
    labels = np.zeros((12, 16), np.int32)
    labels[3:9, 2:8] = 4
    labels[3:9, 8:14] = 5
    return labels


def write_tiff(path, stored, **options):
    tifffile.imwrite(path, stored, **{"photometric": "minisblack", **options})
    return path


def write_png(path, rows, *, size, depth, colour, palette=b""):
    """Assemble a PNG; ``rows`` are the packed bytes of each row."""

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    height, width = size
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )
    return path


def write_array_as_png(path, pixels):
    """Write grey, grey-alpha, RGB or RGBA of 8 or 16 bits."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    depth = 8 * pixels.dtype.itemsize
    rows = [row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels]
    return write_png(path, rows, size=pixels.shape[:2], depth=depth, colour=colour)


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def names(paths):
    return [path.name for path in paths]


# image_stem, find_images


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.tif", "a"), ("a.TIFF", "a"), ("a.ome.tif", "a"), ("a.OME.TIFF", "a"), ("a.b.png", "a.b"),
     ("a.ome.png", "a.ome"), ("folder.x/a.tif", "a")],
)  # fmt: skip
def test_stem_is_the_name_without_its_suffix(name, stem):
    assert image_stem(name) == stem
    assert image_stem(Path(name)) == stem


def test_folder_gives_its_images_sorted_by_name(tmp_path):
    touch(tmp_path, "d.png", "b.TIF", "a.tiff", "c.ome.tif", "._a.tif", "notes.txt", "x.csv")
    touch(tmp_path / "deeper.tif", "e.tif")
    assert names(find_images(tmp_path)) == ["a.tiff", "b.TIF", "c.ome.tif", "d.png"]
    assert find_images(str(tmp_path)) == find_images(tmp_path)


def test_folder_leaves_out_labels_that_lie_beside_the_images(tmp_path):
    touch(tmp_path, "a.tif", "a_masks.tif", "b.tif", "b_labels.ome.tif", "c_masks.png")
    assert names(find_images(tmp_path)) == ["a.tif", "b.tif"]
    assert names(find_images(tmp_path / "*.tif")) == ["a.tif", "b.tif"]
    nothing_else = touch(tmp_path / "labels", "a_masks.tif", "b_masks.tif")
    assert names(find_images(nothing_else)) == ["a_masks.tif", "b_masks.tif"]


def test_files_left_out_for_their_names_are_told_where_their_image_is_not_there(tmp_path, caplog):
    touch(tmp_path, "a.tif", "a_cp_masks.png", "a_label.tif", "dapi_label.tif")
    assert names(find_images(tmp_path)) == ["a.tif"]
    assert caplog.messages == ["left out, named like labels: dapi_label.tif"]


def test_labels_of_both_sides_may_have_endings(tmp_path):
    for name, found in (("x_cp_masks.png", "x.ome_MASKS.tif"), ("y.ome.tif", "y_label.tif")):
        touch(tmp_path / "one", name)
        touch(tmp_path / "two", found)
    matched = label_paths(sorted((tmp_path / "one").iterdir()), tmp_path / "two")
    assert [path.name for path in matched.values()] == ["x.ome_MASKS.tif", "y_label.tif"]


def test_glob_pattern_gives_what_it_matches(tmp_path):
    touch(tmp_path / "one", "a1.tif", "b.tif", "a2.txt")
    touch(tmp_path / "two", "a0.png")
    assert names(find_images(str(tmp_path / "*" / "a*"))) == ["a0.png", "a1.tif"]


def test_one_file_gives_itself_even_where_its_name_looks_like_a_pattern(tmp_path):
    touch(tmp_path, "a[1].tif", "a1.tif", "b_masks.tif")
    assert names(find_images(tmp_path / "a[1].tif")) == ["a[1].tif"]
    assert names(find_images(tmp_path / "b_masks.tif")) == ["b_masks.tif"]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], "Got none;"),
        (["a.svs", "b.txt"], r"Got a\.svs, b\.txt;"),
        ([f"{i}.svs" for i in range(7)], r"Got 0\.svs, .*, 4\.svs and 2 more;"),
    ],
)
def test_folder_without_images_is_refused(tmp_path, files, found):
    touch(tmp_path, *files)
    with pytest.raises(
        InputError, match=rf"holds no images \(\.tif, \.tiff, \.png, .*\.nd2\)\. {found}"
    ):
        find_images(tmp_path)


def test_missing_source_other_file_and_glob_without_match_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere must exist\. Got no such file or folder"):
        find_images(tmp_path / "nowhere")
    touch(tmp_path, "a.svs")
    with pytest.raises(InputError, match=r"Got a\.svs;"):
        find_images(tmp_path / "a.svs")
    with pytest.raises(InputError, match=r"\*\.tif' holds no images .* Got none;"):
        find_images(tmp_path / "*.tif")


def test_two_images_with_one_stem_are_refused(tmp_path):
    touch(tmp_path, "a.ome.tif", "a.png")
    with pytest.raises(InputError, match=r"Got .*a\.ome\.tif and .*a\.png; rename"):
        find_images(tmp_path)


def test_other_formats_beside_the_images_are_named_in_one_warning(tmp_path, caplog):
    touch(tmp_path, "a.tif", "b.tif", "scan.svs", "c.vsi", "notes.txt", "b_masks.tif")
    assert names(find_images(tmp_path)) == ["a.tif", "b.tif"]
    said = "left out, in formats that aren't read: c.vsi, scan.svs; export OME-TIFF"
    assert caplog.messages == [said]


def test_jpeg_beside_the_image_that_it_was_made_of_is_left_out(tmp_path, caplog):
    touch(tmp_path, "a.tif", "a.jpg", "b.jpeg", "c.ome.tif", "c.JPG", "d.bmp")
    assert names(find_images(tmp_path)) == ["a.tif", "b.jpeg", "c.ome.tif", "d.bmp"]
    assert caplog.messages == ["left out, as JPEG beside the same image: a.jpg, c.JPG"]
    assert names(find_images(tmp_path / "a.jpg")) == ["a.jpg"]


# read_image: layouts


@pytest.mark.parametrize(
    ("shape", "options", "order"),
    [
        ((5, 7), {}, "yx"),
        ((5, 7), {"metadata": None}, "yx"),
        ((5, 7), {"ome": True}, "yx"),
        ((5, 7), {"imagej": True}, "yx"),
        ((1, 7), {}, "yx"),
        ((1, 5, 7), {}, "zyx"),
        ((1, 5, 1, 7), {}, "tyzx"),
        ((5, 7, 1), {"metadata": {"axes": "YXC"}}, "yxc"),
        ((7, 5), {"metadata": {"axes": "XY"}}, "xy"),
        ((2, 5, 7), {"metadata": {"axes": "CYX"}}, "cyx"),
        ((6, 5, 7), {"metadata": {"axes": "CYX"}, "ome": True}, "cyx"),
        ((6, 5, 7), {"metadata": {"axes": "CYX"}, "imagej": True}, "cyx"),
        ((1, 3, 5, 7), {"metadata": {"axes": "ZCYX"}}, "zcyx"),
        ((1, 3, 5, 7), {"metadata": {"axes": "TCYX"}, "ome": True}, "tcyx"),
        ((5, 7, 3), {"photometric": "rgb"}, "yxs"),
        ((5, 7, 3), {"photometric": "rgb", "metadata": None}, "yxs"),
        ((5, 7, 3), {"photometric": "rgb", "ome": True}, "yxs"),
        ((3, 5, 7), {"photometric": "rgb", "planarconfig": "separate"}, "syx"),
        ((5, 7, 6), {"planarconfig": "contig"}, "yxs"),
        ((5, 7, 3), {}, "yxc"),  # unnamed: pages of 7 x 3
        ((5, 7, 4), {"metadata": None}, "yxc"),
        ((2, 5, 7, 3), {"photometric": "rgb", "metadata": {"axes": "CYXS"}}, "cyxs"),
        ((6, 5, 7), {"metadata": {"axes": "CYX"}, "compression": "lzw", "ome": True}, "cyx"),
        ((48, 32), {"tile": (16, 16), "compression": "zlib"}, "yx"),
        ((6, 5, 7), {"metadata": {"axes": "CYX"}, "bigtiff": True}, "cyx"),
    ],
)
def test_tiff_layouts_come_with_channels_last(tmp_path, shape, options, order):
    stored = ramp(*shape)
    image = read_image(write_tiff(tmp_path / "a.tif", stored, **options))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, channels_last(stored, order))


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64",
     "bool"],
)  # fmt: skip
def test_stored_values_are_kept(tmp_path, dtype):
    values = np.array([[0, 1, 100]]).astype(dtype)
    if np.issubdtype(dtype, np.signedinteger) or np.issubdtype(dtype, np.floating):
        values[0, 2] = -100
    image = read_image(write_tiff(tmp_path / "a.tif", values))
    np.testing.assert_array_equal(image[..., 0], values.astype(float))


def test_pyramid_gives_its_full_size(tmp_path):
    stored = ramp(64, 32)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(stored, subifds=1, photometric="minisblack")
        writer.write(stored[::2, ::2], subfiletype=1, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif")[..., 0], stored)


# read_image: axes that the user names


@pytest.mark.parametrize(
    ("shape", "axes", "options"),
    [
        ((2, 5, 7), "CYX", {}),
        ((2, 5, 7), "cyx", {}),
        ((5, 7, 2), "YXC", {}),
        ((5, 7, 3), "CYX", {}),
        ((5, 2, 7), "YCX", {}),
        ((5, 7), "XY", {}),
        ((1, 2, 5, 7), "TCYX", {}),
        ((5, 6, 7), "CYX", {"imagej": True, "metadata": {"axes": "ZYX"}}),
    ],
)
def test_named_axes_replace_those_of_the_file(tmp_path, shape, axes, options):
    stored = ramp(*shape)
    path = write_tiff(tmp_path / "a.tif", stored, **options)
    expected = channels_last(stored, axes.lower())
    np.testing.assert_array_equal(read_image(path, axes=axes), expected)


@pytest.mark.parametrize("axes", ["YX", "CCX", "CZX", "YYX", "CCYX", ""])
def test_axes_that_do_not_fit_are_refused(tmp_path, axes):
    path = write_tiff(tmp_path / "a.tif", ramp(2, 5, 7))
    with pytest.raises(InputError, match=rf"Got '{axes}' for shape \(2, 5, 7\)"):
        read_image(path, axes=axes)


def test_named_axes_do_not_make_a_stack_2d(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(2, 5, 7))
    with pytest.raises(InputError, match=r"shape \(2, 5, 7\) with axes TYX; split"):
        read_image(path, axes="TYX")


# read_image: refused


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((2, 5, 7), {}, "QYX"),
        ((2, 5, 7), {"metadata": None}, "IYX"),
        ((5, 7, 2), {}, "QYX"),
        ((30, 5, 7), {}, "QYX"),
        ((2, 3, 5, 7), {}, "QQYX"),
        ((2, 5, 7, 3), {"photometric": "rgb"}, "QYXS"),
        ((6, 5, 7), {"metadata": {"axes": "TYX"}}, "TYX"),
        ((6, 5, 7), {"metadata": {"axes": "ZYX"}, "imagej": True}, "ZYX"),
        ((6, 2, 5, 7), {"metadata": {"axes": "TCYX"}, "ome": True}, "TCYX"),
        ((6, 5, 7), {"metadata": {"axes": "PYX"}}, "PYX"),
    ],
)
def test_stacks_and_unnamed_dimensions_are_not_guessed(tmp_path, shape, options, axes):
    path = write_tiff(tmp_path / "a.tif", ramp(*shape), **options)
    expected = f"must be 2-D with channels. Got shape {shape} with axes {axes}; split a stack"
    with pytest.raises(InputError, match=re.escape(expected) + ".*--axes CYX or YXC"):
        read_image(path)


def test_several_images_in_one_tiff_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(ramp(5, 7), photometric="minisblack")
        writer.write(ramp(9, 4), photometric="minisblack")
    with pytest.raises(InputError, match=r"a\.tif must hold one image\. Got 2; split"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path, bad):
    path = write_tiff(tmp_path / "a.tif", np.array([[bad, 1.0, bad]]))
    with pytest.raises(InputError, match="Got NaN or infinity in 2 of 3 values"):
        read_image(path)


def test_complex_values_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.ones((5, 7), np.complex64))
    with pytest.raises(InputError, match=r"integers or floats\. Got complex64"):
        read_image(path)


def test_empty_image_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="zero-size"):
        write_tiff(tmp_path / "a.tif", np.zeros((0, 7), np.uint8))
    with pytest.raises(InputError, match=r"1 to 2147483648 values\. Got shape \(0, 7\)"):
        read_image(tmp_path / "a.tif")


def test_size_is_refused_before_anything_is_decoded(tmp_path, monkeypatch):
    tiff = write_tiff(tmp_path / "a.tif", ramp(5, 7), metadata=None)
    with tifffile.TiffFile(tiff, mode="r+") as file:
        file.pages[0].tags["ImageWidth"].overwrite(60_000)
        file.pages[0].tags["ImageLength"].overwrite(60_000)
    png = write_png(tmp_path / "b.png", [b"\0"], size=(60_000, 50_000), depth=8, colour=0)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", None)
    monkeypatch.setattr(imagecodecs, "png_decode", None)
    with pytest.raises(InputError, match=r"Got shape \(60000, 60000\); crop"):
        read_image(tiff)
    with pytest.raises(InputError, match=r"Got shape \(60000, 50000, 1\); crop"):
        read_image(png)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.bmp", "a.czi", "a.lif", "a.nd2"])
@pytest.mark.parametrize("content", [b"", b"II*\0", b"\x89PNG\r\n\x1a\n", b"hello, world" * 9])
def test_files_that_are_not_images_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=rf"{name} can't be read as .+: .+\. (Save it again|Open it with)"
    ):
        read_image(tmp_path / name)


def test_missing_file_and_other_suffix_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"can't be read as an image: .*No such file"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.svs must be an image .* Got \.svs"):
        read_image(tmp_path / "a.svs")


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"imagej": True}, {"imagej": True, "truncate": True},
     {"ome": True}, {"bigtiff": True}],
)  # fmt: skip
def test_truncated_tiff_is_never_read_in_part(tmp_path, options):
    whole = write_tiff(tmp_path / "a.tif", ramp(3, 30, 20), metadata={"axes": "CYX"}, **options)
    data = whole.read_bytes()
    expected = read_image(whole)
    for length in range(0, len(data) - 1, len(data) // 30):
        (tmp_path / "b.tif").write_bytes(data[:length])
        try:
            image = read_image(tmp_path / "b.tif")
        except InputError:
            continue
        np.testing.assert_array_equal(image, expected)


def test_truncated_png_is_refused(tmp_path):
    path = write_array_as_png(tmp_path / "a.png", ramp(40, 30))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"a\.png can't be read as an image"):
        read_image(path)


def test_ome_tiff_whose_planes_lie_in_other_files_is_refused(tmp_path):
    write_tiff(tmp_path / "a.ome.tif", ramp(3, 5, 7), ome=True, metadata={"axes": "CYX"})
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    write_tiff(tmp_path / "b.ome.tif", ramp(5, 7), description=xml, metadata=None)
    with pytest.raises(InputError, match="some of its planes are missing or lie in other"):
        read_image(tmp_path / "b.ome.tif")


def test_imagej_tiff_with_fewer_planes_than_it_declares_is_refused(tmp_path):
    declared = "ImageJ=1.53\nimages=4\nchannels=4\nhyperstack=true\n"
    write_tiff(tmp_path / "a.tif", ramp(5, 7), description=declared, metadata=None)
    with pytest.raises(InputError, match="it holds fewer planes than the 4 it declares"):
        read_image(tmp_path / "a.tif")


# read_image: PNG


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_keeps_its_values(tmp_path, caplog, shape, dtype):
    stored = ramp(*shape, dtype=dtype) * (257 if dtype == np.uint16 else 1)
    image = read_image(write_array_as_png(tmp_path / "a.png", stored))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, stored.reshape(5, 7, -1))
    assert not caplog.records


@pytest.mark.parametrize("channels", [2, 4])
def test_png_loses_its_alpha_channel_with_a_warning(tmp_path, caplog, channels):
    stored = ramp(5, 7, channels, dtype=np.uint8)
    image = read_image(write_array_as_png(tmp_path / "a.PNG", stored))
    np.testing.assert_array_equal(image, stored[..., :-1])
    assert caplog.messages == [f"dropped the alpha channel of {tmp_path / 'a.PNG'}"]


def test_palette_png_becomes_rgb(tmp_path):
    palette, rows = bytes(range(10, 100, 10)), [bytes([0, 1]), bytes([2, 0])]
    path = write_png(tmp_path / "a.png", rows, size=(2, 2), depth=8, colour=3, palette=palette)
    assert read_image(path).tolist() == [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("depth", "row", "values"),
    [(1, 0b10110000, [1, 0, 1, 1]), (2, 0b11100100, [3, 2, 1, 0]), (4, 0xF3, [15, 3])],
)
def test_png_of_few_bits_is_not_stretched(tmp_path, depth, row, values):
    size = (1, len(values))
    path = write_png(tmp_path / "a.png", [bytes([row])], size=size, depth=depth, colour=0)
    assert read_image(path).ravel().tolist() == values
    assert read_labels(path).ravel().tolist() == values


# read_image: JPEG and BMP


def jpeg(path, pixels):
    path.write_bytes(imagecodecs.jpeg_encode(pixels, level=98))
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_read_with_a_warning_that_it_is_lossy(tmp_path, caplog, channels):
    y, x = np.indices((40, 60))
    stored = np.stack([2 * x, 3 * y, x + y], axis=-1)[..., :channels].astype(np.uint8)
    path = jpeg(tmp_path / "a.jpg", stored.squeeze())
    for _ in range(2):
        assert np.abs(read_image(path) - stored).max() < 12
    assert len(caplog.messages) == 1
    assert "a.jpg is JPEG, which changes intensities" in caplog.messages[0]


def test_truncated_jpeg_is_refused_at_every_length(tmp_path):
    """The decoder would fill what is missing with grey."""
    path = jpeg(
        tmp_path / "a.jpeg", np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    )
    data = path.read_bytes()
    for length in range(0, len(data) - 1, len(data) // 40):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"a\.jpeg can't be read as an image: "):
            read_image(path)


def test_jpeg_for_printers_and_one_that_announces_too_much_are_refused(tmp_path):
    stored = np.zeros((8, 8, 4), np.uint8)
    data = imagecodecs.jpeg_encode(stored, colorspace="CMYK", outcolorspace="CMYK")
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match="it has 4 colours, such as CMYK"):
        read_image(tmp_path / "a.jpg")
    sides = data.index(b"\xff\xc0") + 5
    (tmp_path / "b.jpg").write_bytes(data[:sides] + b"\xff\xff\xff\xff" + data[sides + 4 :])
    with pytest.raises(InputError, match=r"1 to 2147483648 values\. Got shape \(65535, 65535, 4\)"):
        read_image(tmp_path / "b.jpg")


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp_keeps_its_values(tmp_path, caplog, channels):
    stored = ramp(5, 7, channels, dtype=np.uint8)
    path = tmp_path / "a.bmp"
    path.write_bytes(imagecodecs.bmp_encode(stored.squeeze()))
    np.testing.assert_array_equal(read_image(path), stored)
    assert not caplog.records
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"a\.bmp can't be read as an image: "):
        read_image(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp"])
def test_labels_in_formats_that_change_numbers_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"file of \.tif, \.tiff, \.png\. Got {name}; save"):
        read_labels(tmp_path / name)


# read_labels


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "bool"])
def test_labels_of_every_integer_type_become_int32(tmp_path, dtype):
    stored = np.array([[0, 1], [7, 0]]).astype(dtype)
    labels = read_labels(write_tiff(tmp_path / "a.tif", stored), shape=(2, 2))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, stored)


def test_labels_may_be_png_and_may_have_singleton_dimensions(tmp_path):
    stored = ramp(5, 7)
    png, tiff = write_array_as_png(tmp_path / "a.png", stored), tmp_path / "a.tif"
    for path in (png, write_tiff(tiff, stored[None])):
        np.testing.assert_array_equal(read_labels(path), stored)


def test_float_labels_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.ones((5, 7), np.float32))
    with pytest.raises(InputError, match=r"a\.tif must be integer\. Got float32; save"):
        read_labels(path)


@pytest.mark.parametrize("value", [-2, 2**31])
def test_labels_out_of_range_are_refused(tmp_path, value):
    path = write_tiff(tmp_path / "a.tif", np.array([[0, value]], np.int64))
    low, high = min(0, value), max(0, value)
    with pytest.raises(InputError, match=rf"from -1 to 2147483647\. Got {low} to {high};"):
        read_labels(path)


@pytest.mark.parametrize(
    ("depth", "row", "values"),
    [
        (1, [0b10110000], [1, 0, 1, 1]),
        (2, [0b11100100], [3, 2, 1, 0]),
        (4, [0xF3], [15, 3]),
        (8, [0, 7, 255], [0, 7, 255]),
    ],
)
def test_of_a_palette_the_indices_are_the_labels(tmp_path, depth, row, values):
    palette = bytes(np.random.default_rng(0).integers(0, 256, 3 * 2**depth).tolist())
    path, size = tmp_path / "a.png", (1, len(values))
    write_png(path, [bytes(row)], size=size, depth=depth, colour=3, palette=palette)
    assert read_labels(path).ravel().tolist() == values
    assert read_image(path).shape == (*size, 3)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="ends before its last chunk"):
        read_labels(path)


@pytest.mark.parametrize("channels", [3, 4])
def test_labels_stored_as_grey_colours_are_their_grey_values(tmp_path, channels):
    grey = ramp(5, 7, dtype=np.uint8)
    colours = np.dstack([grey] * 3 + [np.full_like(grey, 255)] * (channels - 3))
    for path in (write_array_as_png(tmp_path / "a.png", colours),
                 write_tiff(tmp_path / "a.tif", colours, photometric="rgb")):  # fmt: skip
        np.testing.assert_array_equal(read_labels(path), grey)


def test_labels_of_several_channels_are_refused(tmp_path):
    path = write_array_as_png(tmp_path / "a.png", ramp(5, 7, 3, dtype=np.uint8))
    with pytest.raises(InputError, match=r"one channel of labels\. Got 3 channels"):
        read_labels(path)


def test_labels_of_another_shape_than_the_image_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(5, 7))
    with pytest.raises(InputError, match=r"Got \(5, 7\) in .*a\.tif and \(7, 5\) in x\.tif;"):
        read_labels(path, shape=(7, 5), image="x.tif")
    with pytest.raises(InputError, match=r"Got \(5, 7\) in .*a\.tif and \(7, 5\) in the image;"):
        read_labels(path, shape=(7, 5))


# label_paths


@pytest.mark.parametrize(
    "name", ["x.tif", "x.png", "x.ome.tif", "x_masks.tif", "x_mask.PNG", "x_labels.tiff"]
)
def test_labels_in_another_folder_are_found_by_name(tmp_path, name):
    images = find_images(touch(tmp_path / "images", "x.tif", "y.tif"))
    folder = touch(tmp_path / "labels", name)
    assert label_paths(images, folder) == {images[0]: folder / name}
    assert label_paths(images, folder / name) == {images[0]: folder / name}


def test_labels_beside_the_images_need_an_ending(tmp_path, caplog):
    touch(tmp_path, "x.tif", "x_masks.tif", "y.tif", "y_labels.tif", "z.tif", "z_b.tif")
    images = find_images(tmp_path)
    found = label_paths(images, tmp_path)
    pairs = [names(pair) for pair in found.items()]
    assert pairs == [["x.tif", "x_masks.tif"], ["y.tif", "y_labels.tif"]]
    assert not caplog.records


def test_labels_keep_the_order_of_the_images(tmp_path):
    images = find_images(touch(tmp_path / "images", "a.tif", "b.tif", "c.tif"))[::-1]
    folder = touch(tmp_path / "labels", "a_mask.tif", "b.png", "c.tif")
    assert list(label_paths(images, folder)) == images


def test_no_labels_at_all_are_refused(tmp_path):
    images = find_images(touch(tmp_path / "images", "a.tif", "b.tif"))
    folder = touch(tmp_path / "labels", "man_a.tif")
    with pytest.raises(InputError, match=r"Got labels man_a\.tif and images a\.tif, b\.tif;"):
        label_paths(images, folder)
    with pytest.raises(InputError, match=r"Got labels none and images a\.tif, b\.tif;"):
        label_paths(images, tmp_path / "images")
    with pytest.raises(InputError, match=r"nowhere must exist"):
        label_paths(images, tmp_path / "nowhere")


def test_two_label_files_for_one_image_are_refused(tmp_path):
    images = find_images(touch(tmp_path / "images", "x.tif"))
    folder = touch(tmp_path / "labels", "x.tif", "x_masks.tif")
    with pytest.raises(InputError, match=r"one label file\. Got .*x\.tif and .*x_masks\.tif;"):
        label_paths(images, folder)


def test_labels_without_an_image_are_named_in_one_warning(tmp_path, caplog):
    images = find_images(touch(tmp_path / "images", "x.tif"))
    folder = touch(tmp_path / "labels", "x.tif", *(f"{i}.tif" for i in range(7)), "notes.txt")
    label_paths(images, folder)
    assert caplog.messages == [
        "label files that match no image: 0.tif, 1.tif, 2.tif, 3.tif, 4.tif and 2 more"
    ]
    assert caplog.records[0].levelno == logging.WARNING


# writing


def test_replacing_creates_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "new" / "folder" / "a.weights.h5"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("a.weights.h5")
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise error
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_labels_whose_encoding_fails_leave_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    write_labels(path, two_touching_squares())
    before = path.read_bytes()

    def write_half(temporary, *_, **__):
        temporary.write_bytes(before[: len(before) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", write_half)
    with pytest.raises(OSError, match="disk full"):
        write_labels(path, two_touching_squares() + 1)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_unfinished_file_is_not_found_as_an_image(tmp_path):
    touch(tmp_path, "a.tif")
    with replacing(tmp_path / "b.tif") as temporary:
        temporary.touch()
        assert names(find_images(tmp_path)) == ["a.tif"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "µm\nü\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc2\xb5m\n\xc3\xbc\n"


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_written_labels_are_compressed_int32_and_come_back(tmp_path, dtype):
    labels = np.repeat(ramp(40, 5, dtype=dtype), 20, axis=1)
    if dtype != np.uint16:
        labels[0, :2] = -1, 2**31 - 1
    write_labels(tmp_path / "labels" / "a.tif", labels)
    with tifffile.TiffFile(tmp_path / "labels" / "a.tif") as file:
        assert file.pages[0].dtype == np.int32
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert file.series[0].axes == "YX"
    np.testing.assert_array_equal(read_labels(tmp_path / "labels" / "a.tif"), labels)


def test_same_labels_give_the_same_bytes(tmp_path):
    write_labels(tmp_path / "a.tif", two_touching_squares())
    write_labels(tmp_path / "b.tif", two_touching_squares())
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


# write_overlay, normalise_percentiles


def overlay(tmp_path, image, labels):
    write_overlay(tmp_path / "a.png", image, labels)
    return imagecodecs.png_decode((tmp_path / "a.png").read_bytes())


def test_overlay_outlines_touching_objects_in_different_colours(tmp_path):
    labels = two_touching_squares()
    shown = overlay(tmp_path, np.zeros((*labels.shape, 1), np.float32), labels)
    assert shown.shape == (12, 16, 3)
    # The rim of each 6 x 6 square, and nothing else, is coloured: black is the image.
    expected = np.zeros(labels.shape, bool)
    expected[3:9, 2:14] = True
    expected[4:8, 3:7] = expected[4:8, 9:13] = False
    np.testing.assert_array_equal(shown.any(axis=-1), expected)
    left, right = (np.unique(shown[expected & (labels == i)], axis=0) for i in (4, 5))
    assert len(left) == len(right) == 1
    assert np.abs(left.astype(int) - right).max() > 60


def test_overlay_tells_touching_objects_apart_whatever_their_ids(tmp_path):
    ids = np.random.default_rng(0).permutation(5000)[:36].reshape(6, 6) + 1
    labels = np.kron(ids, np.ones((5, 5), int))
    shown = overlay(tmp_path, np.zeros((30, 30, 1)), labels).astype(int)
    for side in (shown[2::5], shown[:, 2::5].swapaxes(0, 1)):  # through the middles
        assert np.abs(side[:, 4:-1:5] - side[:, 5::5]).max(axis=-1).min() > 20


def test_overlay_does_not_outline_what_is_unlabelled(tmp_path):
    labels = -np.ones((12, 16), np.int32)
    labels[4:8] = 0
    assert not overlay(tmp_path, np.zeros((12, 16, 1)), labels).any()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_overlay_shows_grey_or_the_first_three_channels(tmp_path, channels):
    ramps = np.random.default_rng(0).permuted(np.tile(np.arange(1001.0), (channels, 1)), axis=1)
    image = ramps.T.reshape(13, 77, channels).astype(np.float32)
    shown = overlay(tmp_path, image, np.zeros((13, 77), np.int32))
    # Of 0 to 1000, the percentiles 1 and 99.8 are 10 and 998.
    expected = np.rint(np.clip((image - 10) / 988, 0, 1) * 255)
    expected = expected[..., :3] if channels >= 3 else expected[..., [0, 0, 0]]
    assert np.abs(shown - expected).max() <= 1


def test_overlay_refuses_labels_of_another_shape(tmp_path):
    with pytest.raises(AssertionError, match=r"\(5, 7, 1\), \(7, 5\)"):
        write_overlay(tmp_path / "a.png", np.zeros((5, 7, 1)), np.zeros((7, 5), int))


def test_percentiles_of_every_channel_become_0_and_1():
    # Of 0 to 1000, the percentiles 1 and 99.8 are 10 and 998.
    image = np.stack([np.arange(1001.0), 5 + 2 * np.arange(1001.0)[::-1]], axis=-1)[None]
    scaled = normalise_percentiles(image)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[0, :, 0], (np.arange(1001) - 10) / 988, atol=1e-6)
    np.testing.assert_allclose(scaled[0, ::-1, 1], scaled[0, :, 0], atol=1e-5)


@pytest.mark.parametrize(("ground", "cell"), [(0, 900), (7, 900), (900, 0)])
def test_a_few_cells_on_a_ground_of_one_value_are_not_lost(ground, cell):
    """They cover 0.1 % of the image, less than the percentiles leave out at either end."""
    image = np.full((100, 100, 2), ground, np.float32)
    image[:2, :5, 0] = cell
    image[:2, :3, 0] = cell - 100 if cell else 100
    scaled = normalise_percentiles(image)
    assert np.ptp(scaled[..., 0]) == pytest.approx(1, abs=0.01)
    assert (scaled[:2, :5, 0] > 0.8).all() if cell else (scaled[:2, :5, 0] < 0.2).all()
    assert scaled[50, 50, 0] == (0 if cell else 1)
    assert not scaled[..., 1].any()  # a constant channel


def test_constant_channel_becomes_0_and_the_input_is_left_alone():
    image = np.stack([np.full((5, 7), 3.0), ramp(5, 7)], axis=-1).astype(np.float32)
    before = image.copy()
    scaled = normalise_percentiles(image)
    assert not scaled[..., 0].any()
    assert scaled[..., 1].any()
    np.testing.assert_array_equal(image, before)
