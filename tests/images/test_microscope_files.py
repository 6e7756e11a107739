"""CZI, LIF and ND2, written by `microscope_writers` and read by the packages for them."""

import struct
import sys

import numpy as np
import pytest

from oce2stardist.errors import InputError, say_install

pytest.importorskip("pylibCZIrw")
from microscope_writers import SHAPE, plane, write_czi, write_lif, write_nd2

from oce2stardist.images import microscope_readers
from oce2stardist.images.find import find_images, image_stem
from oce2stardist.images.image_set import read_images
from oce2stardist.images.read import ImageFile, read_image, read_pixel_size
from oce2stardist.images.sources import find_sources, list_images, open_in_blocks

WINDOW = (slice(5, 17), slice(20, 50))


def write(folder, suffix, *, scenes=2, times=3, channels=2):
    """Write a file of scenes, time points and channels."""
    path = folder / f"exp{suffix}"
    if suffix == ".czi":
        return write_czi(path, scenes=scenes, times=times, channels=channels)
    if suffix == ".nd2":
        return write_nd2(path, positions=scenes, times=times, channels=channels)
    outer = [(axis, size) for axis, size in (("T", times), ("C", channels)) if size > 1]
    return write_lif(path, [outer] * scenes, dtype=np.uint16)


def drawn(scene=0, t=0, channels=1):
    return np.stack([plane(scene, t, c) for c in range(channels)], axis=-1)


every_format = pytest.mark.parametrize("suffix", [".czi", ".lif", ".nd2"])


@every_format
def test_every_time_point_of_every_scene_is_an_image_with_its_channels(tmp_path, suffix):
    path = write(tmp_path, suffix)
    images = read_images(tmp_path)
    names = [f"exp_scene000{scene}_t000{t}" for scene in range(2) for t in range(3)]
    assert [*images.images] == names
    for name, pixels in images.images.items():
        np.testing.assert_array_equal(pixels, drawn(int(name[-7]), int(name[-1]), channels=2))
    assert len(set(images.digests.values())) == 6
    assert [image_stem(image) for image in find_images(path)] == names
    assert images.paths["exp_scene0001_t0002"] == path / "scene0001_t0002"


@every_format
def test_the_only_image_of_a_file_is_called_like_the_file(tmp_path, suffix):
    path = write(tmp_path, suffix, scenes=1, times=1, channels=1)
    assert find_images(tmp_path) == [path]
    np.testing.assert_array_equal(read_image(path), drawn())


@every_format
def test_names_tell_scene_and_time_point_only_where_there_are_several(tmp_path, suffix):
    write(tmp_path, suffix, times=1)
    assert [path.name for path in find_images(tmp_path)] == ["scene0000", "scene0001"]
    write(tmp_path, suffix, scenes=1)
    assert [path.name for path in find_images(tmp_path)] == ["t0000", "t0001", "t0002"]


@every_format
def test_windows_are_those_of_the_whole(tmp_path, suffix):
    path = write(tmp_path, suffix)
    found = find_sources(path, largest=0.001)
    assert (len(found.in_blocks), found.at_once) == (6, [])
    for lazy, image in zip(open_in_blocks(found), find_images(path), strict=True):
        assert (lazy.name, lazy.shape) == (image_stem(image), (*SHAPE, 2))
        np.testing.assert_array_equal(lazy.read(WINDOW), read_image(image)[WINDOW])
    assert find_sources(path).in_blocks == []


@pytest.mark.parametrize(
    ("suffix", "size"), [(".czi", (0.5, 0.25)), (".lif", (0.5, 0.25)), (".nd2", (0.325, 0.325))]
)
def test_the_pixel_size_is_kept_at_once_and_in_blocks(tmp_path, suffix, size):
    path = write(tmp_path, suffix)
    image = find_images(path)[-1]
    (lazy,) = list_images(image)
    for found in (read_pixel_size(image), ImageFile.read(image, axes=None).pixel_size):
        assert found == pytest.approx(size)
    assert lazy.pixel_size == pytest.approx(size)


def test_an_nd2_without_calibration_has_no_pixel_size(tmp_path):
    assert read_pixel_size(write_nd2(tmp_path / "a.nd2", calibrated=False)) is None


@every_format
def test_one_image_of_a_file_can_be_named(tmp_path, suffix):
    path = write(tmp_path, suffix)
    assert find_images(path / "scene0001_t0000") == [path / "scene0001_t0000"]
    for name in ("", "scene0007"):
        with pytest.raises(InputError, match=r"must name one image of exp.* Got 6 images"):
            read_image(path / name)
    with pytest.raises(InputError, match="must name one image of exp"):
        find_images(path / "scene0007")


def test_colours_of_a_czi_come_as_red_green_blue(tmp_path):
    from pylibCZIrw.czi import create_czi

    colours = np.zeros((30, 40, 3), np.uint8)
    colours[..., 0], colours[..., 2] = 10, 200  # the library writes blue, green, red
    with create_czi(str(tmp_path / "a.czi")) as writer:
        writer.write(colours)
    np.testing.assert_array_equal(read_image(tmp_path / "a.czi"), colours[..., ::-1])


def test_tiles_of_a_czi_are_stitched(tmp_path):
    from pylibCZIrw.czi import create_czi

    left, right = plane(0), plane(1)
    with create_czi(str(tmp_path / "a.czi")) as writer:
        for m, tile in enumerate((left, right)):
            writer.write(tile[..., None], location=(m * SHAPE[1], 0))
    np.testing.assert_array_equal(read_image(tmp_path / "a.czi")[..., 0], np.hstack([left, right]))


@pytest.mark.parametrize("suffix", [".czi", ".lif", ".nd2"])
def test_a_stack_of_sections_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".lif":
        write_lif(path, [[("Z", 4)]])
    else:
        (write_czi if suffix == ".czi" else write_nd2)(path, sections=4)
    with pytest.raises(
        InputError, match=r"must hold 2-D images.* Got axis Z of 4; project or split"
    ):
        find_images(tmp_path)


def test_a_stack_beside_other_scenes_is_left_out_and_named(tmp_path, caplog):
    path = write_lif(tmp_path / "a.lif", [[], [("Z", 4)], [("C", 2)]])
    assert [image.name for image in find_images(path)] == ["scene0000", "scene0002"]
    find_images(path)
    said = f"1 of 3 scenes of {path} are left out, such as number 1: axis Z of 4"
    assert caplog.messages == [said]


def test_scenes_of_different_channels_are_refused_by_their_names(tmp_path):
    write_lif(tmp_path / "a.lif", [[], [("C", 2)]])
    with pytest.raises(InputError, match=r"Got 1 in a_scene0000 and 2 in a_scene0001; convert"):
        read_images(tmp_path)


def test_a_scene_of_a_czi_that_lacks_a_channel_at_a_time_is_left_out(tmp_path, caplog):
    path = write_czi(tmp_path / "a.czi", scenes=2, times=2, channels=2, lacks=[(1, 1, 1)])
    assert [image.name for image in find_images(path)] == ["scene0000_t0000", "scene0000_t0001"]
    assert "channels that some time points lack" in caplog.messages[0]


def test_frames_of_an_nd2_that_were_not_taken_are_no_images(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", positions=2, times=3, taken=3)
    assert [image.name for image in find_images(path)] == [
        "scene0000_t0000",
        "scene0000_t0001",
        "scene0001",
    ]


@every_format
def test_a_file_that_is_cut_off_is_refused_or_read_right(tmp_path, suffix):
    whole = write(tmp_path, suffix)
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    refused = 0
    for length in range(0, len(data) - 1, len(data) // 12):
        path.write_bytes(data[:length])
        try:
            images = {image.name: read_image(image) for image in find_images(path)}
        except InputError:
            refused += 1
            continue
        for name, pixels in images.items():
            scene = int(name[8]) if "scene" in name else 0
            time = int(name[-1]) if "t0" in name else 0
            np.testing.assert_array_equal(pixels, drawn(scene, time, channels=2))
    assert refused


def test_a_frame_of_nothing_but_0_is_taken_for_one_that_is_missing(tmp_path):
    path = write_nd2(tmp_path / "a.nd2")
    data = bytearray(path.read_bytes())
    pixels = plane().tobytes()
    at = data.index(pixels)
    data[at : at + len(pixels)] = bytes(len(pixels))
    path.write_bytes(data)
    with pytest.raises(InputError, match="frame 0 of it is missing, or 0 everywhere"):
        read_image(path)


@pytest.mark.parametrize(
    ("suffix", "package"), [(".czi", "pylibCZIrw"), (".lif", "liffile"), (".nd2", "nd2")]
)
def test_a_package_that_is_missing_is_named_with_the_extra(tmp_path, monkeypatch, suffix, package):
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert microscope_readers.SOURCES[suffix].package == package
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError) as refused:
        find_images(path)
    said = str(refused.value)
    assert f"the package {package} must be installed to read a{suffix}. Got none" in said
    assert say_install("microscope") in said


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for name in ("a.lif", "a.lif/scene0001"):
        with pytest.raises(InputError, match=r"a\.lif can't be read: No such file"):
            read_image(tmp_path / name)
    (tmp_path / "b.lif").mkdir()  # a folder of this name is one
    with pytest.raises(InputError, match="must be an image"):
        read_image(tmp_path / "b.lif" / "c.txt")


def test_files_that_announce_more_than_they_hold_are_refused(tmp_path):
    """They would take memory for as many names."""
    nd2 = write_nd2(tmp_path / "a.nd2", times=3, positions=2)
    data = nd2.read_bytes()
    times = struct.pack("<I", 3)
    at = data.index(
        times, data.index("uiCount".encode("utf-16-le"), data.index(b"ImageMetadataLV!"))
    )
    nd2.write_bytes(data[:at] + struct.pack("<I", 2**31) + data[at + 4 :])
    with pytest.raises(InputError, match="it announces 4294967296 frames"):
        find_images(nd2)
    lif = write_lif(tmp_path / "a.lif", [[("T", 4)]])
    said = 'DimID="4" NumberOfElements="{}"'
    four, many = (said.format(n).encode("utf-16-le") for n in ("4", "9"))
    lif.write_bytes(lif.read_bytes().replace(four, many))
    with pytest.raises(InputError, match="Got no pixels: the file is cut off"):
        find_images(lif)
