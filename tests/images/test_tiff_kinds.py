"""TIFF of several files, with opacity, with 0 as white, with levels and pictures beside the image.

Files are written by tifffile, their OME-XML by hand; what is read is compared with what was drawn,
at once and in blocks.
"""

import re
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest
import tifffile

from oce2stardist.errors import InputError
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.read import ImageFile, read_image, read_pixel_size
from oce2stardist.images.sources import find_sources, list_images

SHAPE = (40, 50)


def plane(image=0, t=0, c=0, z=0):
    """Draw noise that no other plane has."""
    return np.random.default_rng([image, t, c, z]).integers(0, 60000, SHAPE, dtype=np.uint16)


def urn(file):
    return f"urn:uuid:{uuid5(NAMESPACE_URL, file)}"


def describe(files, own, *, own_uuid=True):
    """Write the OME-XML of `own`, which lists the planes (image, t, c, z) of all files."""
    planes = [(*place, file, ifd) for file, held in files.items() for ifd, place in enumerate(held)]
    images = ""
    for image in sorted({place[0] for place in planes}):
        here = [place for place in planes if place[0] == image]
        sizes = "".join(
            f' Size{axis}="{max(place[at] for place in here) + 1}"'
            for at, axis in enumerate("TCZ", 1)
        )
        data = "".join(
            f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{ifd}" PlaneCount="1">'
            f'<UUID FileName="{file}">{urn(file)}</UUID></TiffData>'
            for _, t, c, z, file, ifd in here
        )
        images += (
            f'<Image ID="Image:{image}"><Pixels ID="Pixels:{image}" DimensionOrder="XYCZT" '
            f'Type="uint16" SizeX="{SHAPE[1]}" SizeY="{SHAPE[0]}"{sizes} '
            f'PhysicalSizeX="{image + 1}" PhysicalSizeY="{image + 1}">{data}</Pixels></Image>'
        )
    uuid = f' UUID="{urn(own)}"' if own_uuid else ""
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<?xml version="1.0"?><OME xmlns="{space}"{uuid}>{images}</OME>'


def write_set(folder, files, *, description=describe):
    """Write an OME-TIFF of several files; of each, the planes that it holds."""
    folder.mkdir(exist_ok=True)
    for file, held in files.items():
        with tifffile.TiffWriter(folder / file) as writer:
            for number, place in enumerate(held):
                said = description(files, file) if number == 0 else None
                writer.write(plane(*place), description=said, metadata=None, contiguous=False)
    return folder


def read_lazily(path):
    """Read all images of a file in blocks."""
    pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
    return {one.name: one.read((slice(0, 40), slice(0, 50))) for one in list_images(path)}


def holds(path, *planes):
    """Tell whether a file is read as one image with these channels, at once and in blocks."""
    expected = np.stack(planes, axis=-1)
    (lazy,) = read_lazily(path).values()
    return np.array_equal(read_image(path), expected) and np.array_equal(lazy, expected)


# several files

TIMES = {"t0.ome.tif": [(0, 0, 0, 0)], "t1.ome.tif": [(0, 1, 0, 0)]}


def test_a_file_for_each_time_point_holds_that_time_point_alone(tmp_path):
    write_set(tmp_path, TIMES)
    assert holds(tmp_path / "t0.ome.tif", plane(t=0))
    assert holds(tmp_path / "t1.ome.tif", plane(t=1))
    assert [*read_lazily(tmp_path / "t1.ome.tif")] == ["t1"]
    found = find_sources(tmp_path)
    assert ([path.name for path in found.at_once], found.in_blocks) == ([*TIMES], [])


@pytest.mark.parametrize("file", TIMES)
def test_a_file_whose_neighbours_are_missing_is_read_as_before(tmp_path, file):
    write_set(tmp_path, TIMES)
    (other,) = set(TIMES) - {file}
    (tmp_path / other).unlink()
    assert holds(tmp_path / file, plane(t=int(file[1])))


def test_a_file_for_each_position_holds_that_position_with_its_pixel_size(tmp_path):
    files = {f"Pos{n}.ome.tif": [(n, 0, 0, 0), (n, 0, 1, 0)] for n in range(3)}
    write_set(tmp_path, files)
    for n, file in enumerate(files):
        assert holds(tmp_path / file, plane(n), plane(n, c=1))
        assert read_pixel_size(tmp_path / file) == (n + 1, n + 1)
        assert ImageFile.read(tmp_path / file, axes=None).pixel_size == (n + 1, n + 1)


def test_a_file_for_each_section_holds_that_section_alone(tmp_path):
    write_set(tmp_path, {f"z{n}.ome.tif": [(0, 0, 0, n)] for n in range(3)})
    assert all(holds(tmp_path / f"z{n}.ome.tif", plane(z=n)) for n in range(3))


def test_a_series_cut_into_files_gives_the_time_points_of_each(tmp_path):
    files = {
        "s.ome.tif": [(0, t, c, 0) for t in range(2) for c in range(2)],
        "s_1.ome.tif": [(0, t, c, 0) for t in range(2, 5) for c in range(2)],
    }
    write_set(tmp_path, files)
    read = read_lazily(tmp_path / "s_1.ome.tif")
    assert [*read] == ["s_1_t0000", "s_1_t0001", "s_1_t0002"]
    for at, values in enumerate(read.values()):
        np.testing.assert_array_equal(values, np.stack([plane(t=at + 2, c=c) for c in (0, 1)], -1))
    assert [*read_lazily(tmp_path / "s.ome.tif")] == ["s_t0000", "s_t0001"]


@pytest.mark.parametrize("own_uuid", [True, False])
def test_a_file_that_got_another_name_is_known_by_its_uuid(tmp_path, own_uuid):
    def description(files, own):
        return describe(files, own, own_uuid=own_uuid)

    write_set(tmp_path, TIMES, description=description)
    (tmp_path / "t1.ome.tif").rename(tmp_path / "control.ome.tif")
    # Without one its pages count, and there is one.
    assert holds(tmp_path / "control.ome.tif", plane(t=1))


@pytest.mark.parametrize("master", ["Pos0.ome.tif", "set.companion.ome"])
def test_a_file_that_refers_to_the_description_of_the_set_is_read_by_it(tmp_path, master):
    files = {f"Pos{n}.ome.tif": [(n, 0, 0, 0), (n, 0, 1, 0)] for n in range(2)}

    def description(files, own):
        if own == master:
            return describe(files, own)
        return f'<OME UUID="{urn(own)}"><BinaryOnly MetadataFile="{master}" UUID="x"/></OME>'

    write_set(tmp_path, files, description=description)
    if master.endswith(".companion.ome"):
        (tmp_path / master).write_text(describe(files, master))
    assert holds(tmp_path / "Pos1.ome.tif", plane(1), plane(1, c=1))
    (tmp_path / master).unlink()
    with pytest.raises(InputError, match="must be 2-D with channels"):
        read_image(tmp_path / "Pos1.ome.tif")


@pytest.mark.parametrize(
    "files",
    [
        {"c0.ome.tif": [(0, 0, 0, 0)], "c1.ome.tif": [(0, 0, 1, 0)]},
        {"a.ome.tif": [(0, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0)], "b.ome.tif": [(0, 1, 1, 0)]},
    ],
)
def test_channels_in_several_files_are_refused_at_once_and_in_blocks(tmp_path, files):
    write_set(tmp_path, files)
    for read in (read_image, list_images):
        with pytest.raises(InputError, match="some of its planes lie in other files; save each"):
            read(tmp_path / next(iter(files)))


def test_planes_that_a_file_declares_and_lacks_are_refused(tmp_path):
    def description(files, own):
        return describe({own: [(0, t, 0, 0) for t in range(3)]}, own)

    write_set(tmp_path, {"a.ome.tif": [(0, 0, 0, 0)]}, description=description)
    for read in (read_image, list_images):
        with pytest.raises(InputError, match="planes are missing or lie in other files"):
            read(tmp_path / "a.ome.tif")


def test_a_description_of_more_planes_than_there_can_be_is_refused(tmp_path):
    def description(files, own):
        return re.sub('SizeT="2"', 'SizeT="2000000000"', describe(files, own))

    write_set(tmp_path, TIMES, description=description)
    with pytest.raises(InputError, match="its description has 2000000000 planes"):
        read_image(tmp_path / "t0.ome.tif")


# opacity


@pytest.mark.parametrize("opacity", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((40, 50, 4), {"photometric": "rgb"}),
        ((4, 40, 50), {"photometric": "rgb", "planarconfig": "separate"}),
        ((40, 50, 4), {"photometric": "rgb", "ome": True}),
        ((40, 50, 2), {"photometric": "minisblack", "planarconfig": "contig"}),
    ],
)
def test_opacity_is_no_channel_and_that_is_said_once(tmp_path, caplog, shape, options, opacity):
    stored = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, extrasamples=[opacity], **options)
    last = stored if shape[0] == 40 else np.moveaxis(stored, 0, -1)
    assert holds(path, *np.moveaxis(last[..., :-1], -1, 0))
    assert caplog.messages == [f"dropped the alpha channel of {path}"]
    if shape == (40, 50, 4):
        np.testing.assert_array_equal(read_image(path, axes="YXC"), last[..., :3])


def test_a_fourth_sample_of_no_stated_meaning_stays_a_channel(tmp_path, caplog):
    stored = np.random.default_rng(0).integers(0, 255, (40, 50, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unspecified"])
    assert holds(tmp_path / "a.tif", *np.moveaxis(stored, -1, 0))
    assert not caplog.messages


# 0 is white


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "float32", "bool"])
def test_grey_with_0_as_white_is_turned_so_that_bright_is_bright(tmp_path, dtype):
    seen = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, SHAPE)
    white = {"uint8": 255, "uint16": 65535, "int8": -1, "float32": 0, "bool": 1}[dtype]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, (white - seen).astype(dtype), photometric="miniswhite")
    assert holds(path, seen)


def test_labels_with_0_as_white_keep_their_numbers(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:9, 5:9] = 3
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)


# levels and pictures beside the image


def scene(*shape):
    """Draw soft blobs, of which smaller copies look the same."""
    y, x = np.indices(shape[:2])
    grey = (100 + 90 * np.sin(y / 9) * np.cos(x / 7)).astype(np.uint8)
    return np.repeat(grey[..., None], shape[2], -1) if len(shape) > 2 else grey


def reduce(image, factor, how):
    if how == "picked":
        return image[::factor, ::factor].copy()
    h, w = (side // factor * factor for side in image.shape[:2])
    parts = image[:h, :w].reshape(h // factor, factor, w // factor, factor, *image.shape[2:])
    return parts.mean(axis=(1, 3)).astype(image.dtype)


def write_pages(path, pages, *, metadata=None):
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            image, said = page if isinstance(page, tuple) else (page, None)
            rgb = "rgb" if image.ndim == 3 else "minisblack"
            writer.write(image, photometric=rgb, description=said, metadata=metadata)
    return path


@pytest.mark.parametrize("how", ["picked", "mean"])
@pytest.mark.parametrize("metadata", [None, {}])
@pytest.mark.parametrize(
    ("shape", "factors"), [((201, 250), (2, 4)), ((240, 320, 3), (4, 16)), ((128, 128), (2,))]
)
def test_smaller_copies_of_an_image_are_its_levels_without_any_mark(
    tmp_path, shape, factors, metadata, how
):
    full = scene(*shape)
    levels = [reduce(full, factor, how) for factor in factors]
    path = write_pages(tmp_path / "a.tif", [full, *levels], metadata=metadata)
    np.testing.assert_array_equal(read_image(path).squeeze(), full)
    ((name, window),) = read_lazily(path).items()
    assert name == "a"
    np.testing.assert_array_equal(window.squeeze(), full[:40, :50])


@pytest.mark.parametrize("kind", ["noise", "empty"])
@pytest.mark.parametrize("metadata", [None, {"axes": "YX"}])
@pytest.mark.parametrize("shape", [(64, 64), (70, 64)])
def test_another_image_of_half_the_size_is_no_level(tmp_path, shape, metadata, kind):
    other = np.random.default_rng(0).integers(0, 200 if kind == "noise" else 1, shape)
    path = tmp_path / "a.tif"
    write_pages(path, [scene(128, 128), other.astype(np.uint8)], metadata=metadata)
    for read in (read_image, list_images):
        with pytest.raises(InputError, match=r"must hold one image\. Got 2; split"):
            read(path)


def test_positions_in_one_ome_tiff_are_images_of_their_own_in_blocks(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for n in range(2):
            writer.write(plane(n), metadata={"axes": "YX"})
    read = read_lazily(tmp_path / "a.ome.tif")
    assert [*read] == ["a_field0000", "a_field0001"]
    np.testing.assert_array_equal(read["a_field0001"][..., 0], plane(1))


def test_label_macro_and_thumbnail_of_a_slide_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    slide = scene(256, 256, 3)
    beside = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in [(64, 60, 3), (40, 90, 3)]]
    said = ["Aperio\nlabel 60x64", "Aperio\nmacro 90x40"]
    path = write_pages(tmp_path / "a.tif", [(slide, "Aperio"), *zip(beside, said, strict=True)])
    np.testing.assert_array_equal(read_image(path), slide)
    assert [*read_lazily(path)] == ["a"]


def test_an_image_that_is_called_a_label_is_read_where_it_is_alone(tmp_path):
    path = write_pages(tmp_path / "a.tif", [(scene(64, 64), "labels of nuclei")])
    np.testing.assert_array_equal(read_image(path)[..., 0], scene(64, 64))


def test_marked_levels_and_pictures_are_left_out_in_blocks(tmp_path):
    full = scene(256, 256).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(full, metadata=None)
        writer.write(full[:100, :90], subfiletype=1, metadata=None)
        writer.write(full[:50, :40], subfiletype=9, metadata=None)
    assert [*read_lazily(tmp_path / "a.tif")] == ["a"]
