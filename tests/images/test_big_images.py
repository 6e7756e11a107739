"""OME-Zarr and TIFF listed and read window by window."""

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from oce2stardist.cli.main import main

from oce2stardist.errors import InputError
from oce2stardist.images.read import read_image
from oce2stardist.images.sources import find_sources, list_images

zarr = pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
from ngff import write_ome_zarr  # noqa: E402

from oce2stardist.images.lazy import percentiles, sample_windows  # noqa: E402
from oce2stardist.images.read import read_pixel_size  # noqa: E402

WINDOW = (slice(10, 40), slice(50, 90))


def random_image(*shape):
    return np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_windows_of_an_ome_zarr_have_its_values_and_pixel_size(tmp_path, version):
    stored = random_image(2, 3, 1, 70, 110)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", stored, "tczyx", version=version, scale=0.25)
    first, second = list_images(path)
    assert (first.name, second.name, second.shape) == ("a_t0000", "a_t0001", (70, 110, 3))
    assert second.pixel_size == (0.25, 0.25)
    values = second.read(WINDOW)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.moveaxis(stored[1, :, 0], 0, -1)[WINDOW])


def test_every_field_of_a_plate_is_an_image(tmp_path):
    plate = zarr.open_group(str(tmp_path / "p.zarr"), mode="w", zarr_format=3)
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    well = plate.create_group("A/1")
    fields = [{"path": "0"}, {"path": "1"}]
    well.attrs["ome"] = {"version": "0.5", "well": {"images": fields}}
    for field in "01":
        write_ome_zarr(tmp_path / "p.zarr/A/1" / field, random_image(60, 60), "yx", version="0.5")
    names = [image.name for image in list_images(tmp_path / "p.zarr")]
    assert names == ["p_A_1_0", "p_A_1_1"]


@pytest.mark.parametrize(
    ("plate", "message"),
    [
        ({"wells": [{"path": "../other"}]}, "must lie inside it"),
        ({"wells": [{"path": "/other"}]}, "must lie inside it"),
        ({"wells": [{"path": "A/1"}]}, "must lie inside it"),  # its field is ../../other
        ({"wells": [{}]}, "must list the wells"),
        ({"rows": []}, "must list the wells"),
    ],
)
def test_a_plate_leads_to_nothing_outside_itself(tmp_path, plate, message):
    write_ome_zarr(tmp_path / "other", np.ones((8, 8), "u1"), "yx", version="0.5")
    root = zarr.open_group(str(tmp_path / "p.zarr"), mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "plate": plate}
    well = {"version": "0.5", "well": {"images": [{"path": "../../../other"}]}}
    root.create_group("A/1").attrs["ome"] = well
    with pytest.raises(InputError, match=message):
        list_images(tmp_path / "p.zarr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../0"}, "must have NGFF multiscales"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1.0]}]}, "must have"),
        ({"coordinateTransformations": [{"type": "translation", "translation": [0.0] * 3}]},
         "one number per axis"),
        ({"coordinateTransformations": ["scale"]}, "must have"),
    ],
)  # fmt: skip
def test_places_that_labels_could_not_take_over_are_refused(tmp_path, change, message):
    path = write_ome_zarr(tmp_path / "a.zarr", np.ones((8, 8), "u1"), "yx", version="0.5")
    root = zarr.open_group(str(path), mode="r+")
    content = dict(root.attrs["ome"])
    content["multiscales"][0]["datasets"][0] |= change
    root.attrs["ome"] = content
    with pytest.raises(InputError, match=message):
        list_images(path)


@pytest.mark.parametrize(
    ("axes", "shape", "photometric"),
    [("YX", (90, 120), "minisblack"), ("CYX", (2, 90, 120), "minisblack"),
     ("YXS", (90, 120, 3), "rgb")],
)  # fmt: skip
def test_windows_of_a_tiff_are_those_of_the_image_read_at_once(tmp_path, axes, shape, photometric):
    path = tmp_path / "b.ome.tif"
    tifffile.imwrite(
        path, random_image(*shape), photometric=photometric, tile=(32, 32), metadata={"axes": axes}
    )
    (image,) = list_images(path)
    np.testing.assert_array_equal(image.read(WINDOW), read_image(path)[WINDOW])


@pytest.mark.parametrize("n_channels", [3, 4])
def test_a_last_axis_without_a_name_is_channels_at_once_and_in_blocks(tmp_path, n_channels):
    path = tmp_path / "b.tif"
    tifffile.imwrite(path, random_image(90, 120, n_channels), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "QYX"
    (image,) = list_images(path)
    assert (image.shape, image.label_axes) == ((90, 120, n_channels), "yx")
    np.testing.assert_array_equal(image.read(WINDOW), read_image(path)[WINDOW])


@pytest.mark.parametrize("shape", [(90, 120, 5), (5, 90, 120), (2, 90, 120, 3)])
def test_other_axes_without_a_name_are_refused_at_once_and_in_blocks(tmp_path, shape):
    path = tmp_path / "b.tif"
    tifffile.imwrite(path, random_image(*shape), photometric="minisblack")
    with pytest.raises(InputError, match="must say what its axes are"):
        list_images(path)
    with pytest.raises(InputError, match="must be 2-D with channels"):
        read_image(path)


def test_the_pixel_size_of_an_ome_tiff_is_read(tmp_path):
    size = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "c.ome.tif", random_image(40, 40), metadata={"axes": "YX", **size})
    (image,) = list_images(tmp_path / "c.ome.tif")
    assert image.pixel_size == (0.25, 0.5)  # without a unit OME means micrometres


@pytest.mark.parametrize("unit", ["µm", "um", "micron", "\\u00B5m"])
@pytest.mark.parametrize("read", [read_pixel_size, lambda path: list_images(path)[0].pixel_size])
def test_every_name_of_the_micrometre_is_read_at_once_and_in_blocks(tmp_path, unit, read):
    tifffile.imwrite(
        tmp_path / "a.tif",
        random_image(40, 40),
        resolution=(2, 4),  # pixels per unit, x and y
        description=f"ImageJ=1.54f\nimages=1\nunit={unit}\n".encode("latin-1"),
        metadata=None,
    )
    assert read(tmp_path / "a.tif") == (0.25, 0.5)


def test_percentiles_of_a_small_image_are_those_of_all_pixels(tmp_path):
    stored = random_image(2, 150, 130)
    path = write_ome_zarr(tmp_path / "d.zarr", stored, "cyx", version="0.5")
    (image,) = list_images(path)
    wanted = np.percentile(stored.astype(np.float32), (1, 99.8), axis=(1, 2)).astype(np.float32)
    np.testing.assert_array_equal(percentiles(image), wanted)


def test_a_sample_of_a_large_image_is_seeded_spread_out_and_small():
    shape = (30_000, 50_000)
    windows = sample_windows(shape, seed=3)
    assert windows == sample_windows(shape, seed=3) != sample_windows(shape, seed=4)
    sizes = {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in windows}
    assert sizes == {(256, 256)}
    assert 0.8 * 2**24 < len(windows) * 256**2 <= 2**24
    tops, lefts = np.array([(rows.start, columns.start) for rows, columns in windows]).T
    assert (np.histogram(tops, 4, (0, 30_000))[0] > 0.2 * len(windows)).all()
    assert (np.histogram(lefts, 4, (0, 50_000))[0] > 0.2 * len(windows)).all()
    assert max(tops) <= 30_000 - 256 and max(lefts) <= 50_000 - 256


def test_a_group_without_an_image_is_refused(tmp_path):
    zarr.open_group(str(tmp_path / "f.zarr"), mode="w")
    with pytest.raises(InputError, match="Got a zarr group without multiscales"):
        list_images(tmp_path / "f.zarr")


def test_unknown_versions_are_refused(tmp_path):
    path = write_ome_zarr(tmp_path / "g.zarr", random_image(40, 40), "yx", version="0.5")
    root = zarr.open_group(str(path))
    root.attrs["ome"] = dict(root.attrs["ome"]) | {"version": "0.9"}
    with pytest.raises(InputError, match=r"must be NGFF 0\.4 or 0\.5. Got 0\.9"):
        list_images(path)


def test_nan_is_refused_where_it_is_read(tmp_path):
    stored = np.ones((60, 60), np.float32)
    stored[50, 50] = np.nan
    (image,) = list_images(write_ome_zarr(tmp_path / "h.zarr", stored, "yx", version="0.5"))
    image.read((slice(0, 40), slice(0, 40)))
    with pytest.raises(InputError, match="rows 40 to 60, columns 0 to 60"):
        image.read((slice(40, 60), slice(0, 60)))


def test_a_folder_is_divided_into_what_is_predicted_at_once_and_in_blocks(tmp_path):
    write_ome_zarr(tmp_path / "i.ome.zarr", random_image(40, 40), "yx", version="0.5")
    tifffile.imwrite(tmp_path / "large.tif", random_image(400, 300))
    tifffile.imwrite(tmp_path / "small.tif", random_image(40, 40))
    movie = random_image(3, 40, 40)
    tifffile.imwrite(tmp_path / "movie.ome.tif", movie, metadata={"axes": "TYX"})
    found = find_sources(tmp_path, largest=0.1)
    assert [path.name for path in found.at_once] == ["small.tif"]
    assert [path.name for path in found.in_blocks] == ["i.ome.zarr", "large.tif", "movie.ome.tif"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "must say how large its voxels are. Got no size of all three sides"),
     (["--scheduler", "a", "--slurm", "b"], "can't be given together")],
)  # fmt: skip
def test_a_stack_and_two_places_are_refused_in_one_line(tmp_path, arguments, message):
    path = write_ome_zarr(tmp_path / "j.zarr", random_image(4, 40, 40), "zyx", version="0.5")
    result = CliRunner().invoke(
        main, ["predict", str(path), "--model", "m", "-o", str(tmp_path / "out"), *arguments]
    )
    assert result.exit_code == 2
    assert message in result.output and len(result.output.strip().splitlines()) == 1


def test_in_place_is_refused_without_an_ome_zarr(tmp_path):
    tifffile.imwrite(tmp_path / "k.tif", random_image(40, 40))
    arguments = ["predict", str(tmp_path / "k.tif"), "--model", "m", "-o", "out", "--in-place"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "--in-place needs an OME-Zarr" in result.output
