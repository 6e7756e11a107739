"""Stacks from files: which axes make one, how large a voxel is, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from ngff import write_ome_zarr
from scenes import disc, grid_of_discs
from scipy import ndimage as ndi

from oce2stardist.config import OF_STACKS, Config
from oce2stardist.errors import InputError
from oce2stardist.images.diameter import estimate_diameter
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.images.prepare import prepare_images
from oce2stardist.images.scale import as_cubes
from oce2stardist.images.stacks import Reading, is_stack, list_stacks, read_stacks

STACK = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
SAID = VoxelSize(2.0, 0.5, 0.5)
NOTHING = Reading(None, None)


def ome_tiff(path):
    tifffile.imwrite(
        path, STACK, ome=True,
        metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0},
    )  # fmt: skip


def imagej(path):
    tifffile.imwrite(
        path, STACK, imagej=True, resolution=(2, 2),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
    )  # fmt: skip


def imagej_nanometres(path):
    tifffile.imwrite(
        path, STACK, imagej=True, resolution=(0.002, 0.002),
        metadata={"axes": "ZYX", "spacing": 2000.0, "unit": "nm"},
    )  # fmt: skip


def ome_zarr(path):
    pytest.importorskip("zarr", minversion="3")
    write_ome_zarr(path, STACK, "zyx", version="0.5", scale=0.5, depth=2.0)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.ome.tif", ome_tiff),
        ("a.tif", imagej),
        ("a.tif", imagej_nanometres),
        ("a.ome.zarr", ome_zarr),
    ],
)
def test_a_stack_and_its_voxels_are_read_from_the_file(tmp_path, name, write):
    write(tmp_path / name)
    assert is_stack(list_stacks(tmp_path)[0], axes=None)
    found = read_stacks(tmp_path, NOTHING)
    np.testing.assert_array_equal(found.images["a"][..., 0], STACK)
    assert found.voxel_sizes["a"] == pytest.approx(SAID)
    assert found.sides("a") == pytest.approx((4, 1, 1))


@pytest.mark.parametrize("name", ["a.tif", "a.ome.zarr"])
def test_channels_of_a_stack_become_the_last_axis(tmp_path, name):
    stored = np.stack([STACK, STACK + 1], axis=1)  # (Z, C, Y, X)
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, stored, imagej=True, metadata={"axes": "ZCYX"})
    else:
        pytest.importorskip("zarr", minversion="3")
        moved = np.moveaxis(stored, 1, 0)
        write_ome_zarr(tmp_path / name, moved, "czyx", version="0.4", scale=1.0, depth=1.0)
    image = read_stacks(tmp_path, Reading(None, SAID)).images["a"]
    np.testing.assert_array_equal(image, np.moveaxis(stored, 1, -1))


def test_what_the_user_says_goes_before_the_file(tmp_path):
    imagej(tmp_path / "a.tif")
    found = read_stacks(tmp_path, Reading(None, VoxelSize(1, 1, 1)))
    assert found.voxel_sizes["a"] == (1, 1, 1)


def test_a_movie_is_no_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TYX"})
    assert not is_stack(list_stacks(tmp_path)[0], axes=None)
    with pytest.raises(InputError, match=r"a\.tif must be a stack.*axes TYX.*--axes ZYX"):
        read_stacks(tmp_path, Reading(None, SAID))


def test_axes_without_a_name_are_no_stack_until_the_user_names_them(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    assert not is_stack(list_stacks(tmp_path)[0], axes=None)
    assert is_stack(list_stacks(tmp_path)[0], axes="ZYX")
    assert read_stacks(tmp_path, Reading("ZYX", SAID)).images["a"].shape == (5, 6, 7, 1)


def test_an_image_among_stacks_is_refused(tmp_path):
    imagej(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", STACK[0])
    with pytest.raises(InputError, match=r"b\.tif must be a stack"):
        read_stacks(tmp_path, Reading(None, SAID))


def test_a_png_among_stacks_is_refused(tmp_path):
    imagej(tmp_path / "a.tif")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"stacks must be TIFF or OME-Zarr. Got .*b\.png"):
        read_stacks(tmp_path, Reading(None, SAID))


def test_a_stack_without_the_size_of_its_voxels_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match=r"how large its voxels are.*--voxel-size Z,Y,X"):
        read_stacks(tmp_path, NOTHING)


def test_a_zarr_with_time_points_is_refused(tmp_path):
    pytest.importorskip("zarr", minversion="3")
    both = np.stack([STACK, STACK])
    write_ome_zarr(tmp_path / "a.zarr", both, "tzyx", version="0.5", scale=1.0, depth=1.0)
    with pytest.raises(InputError, match=r"must be a stack with axes Z, Y, X.*Got TZYX"):
        read_stacks(tmp_path, NOTHING)


def test_not_a_number_in_a_zarr_is_refused(tmp_path):
    pytest.importorskip("zarr", minversion="3")
    stored = STACK.astype(np.float32)
    stored[2, 3, 4] = np.nan
    write_ome_zarr(tmp_path / "a.zarr", stored, "zyx", version="0.5", scale=1.0, depth=1.0)
    with pytest.raises(InputError, match="finite numbers"):
        read_stacks(tmp_path, NOTHING)


def test_a_zarr_group_without_an_image_is_refused(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    with pytest.raises(InputError, match="must hold one OME-Zarr image"):
        read_stacks(tmp_path, NOTHING)


def test_a_voxel_size_for_images_without_planes_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--voxel-size is for stacks.*no axis Z"):
        Reading(None, SAID).refuse_voxel_size(tmp_path)


def test_labels_of_a_stack_come_back_as_they_were_written(tmp_path):
    labels = np.random.default_rng(0).integers(-1, 9, (5, 6, 7)).astype(np.int32)
    write_labels(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"


def test_labels_whose_axes_have_no_name_are_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), STACK)


def test_voxels_become_cubes_and_a_ball_stays_one():
    ball = disc((41, 41, 41), (20, 20, 20), 14)[::4].astype(np.float32)[..., None]
    cubes = as_cubes(ball, (4.0, 1.0, 1.0))[..., 0] > 0.5
    extents = [
        np.ptp(np.flatnonzero(cubes.any(axis=tuple({0, 1, 2} - {axis})))) for axis in range(3)
    ]
    assert extents == pytest.approx([28, 28, 28], abs=4)


@pytest.mark.parametrize("step", [1, 3])
def test_the_diameter_of_balls_is_found_also_where_planes_lie_apart(step):
    labels, _ = grid_of_discs(3, per_side=3, radius=9, pitch=24)
    image = ndi.gaussian_filter((labels > 0).astype(np.float32), 1.0)
    image += np.random.default_rng(0).normal(0, 0.05, image.shape)
    stack = np.float32(image[::step, ..., None])
    estimate = estimate_diameter([as_cubes(stack, (float(step), 1.0, 1.0))])
    assert estimate.diameter == pytest.approx(18, rel=0.1)


def test_planes_farther_apart_than_half_a_cell_are_refused():
    stack = np.random.default_rng(0).random((9, 60, 60, 1), dtype=np.float32)
    images = ImageSet({}, {"a": stack}, voxel_sizes={"a": VoxelSize(10, 1, 1)})
    with pytest.raises(InputError, match=r"at most half a cell apart. Got 1\.5 planes"):
        prepare_images(images, Config().for_stacks(), diameter=15)


def test_images_without_planes_need_cells_larger_than_the_field_of_view():
    images = ImageSet.from_arrays({"a": np.random.default_rng(0).random((40, 40))})
    config = Config().replace(**{"pseudo.working_diameter": 14.0})
    with pytest.raises(InputError, match="working_diameter must be above 16"):
        prepare_images(images, config, diameter=14)


def test_stacks_change_only_what_was_left_at_its_default():
    own = Config().replace(**{"embedding.kappa": 7.0}).for_stacks()
    assert own.embedding.kappa == 7
    assert own.pseudo.working_diameter == 14
    assert own.for_stacks() == own


def test_the_page_names_every_setting_that_differs_in_stacks():
    page = (Path(__file__).parents[2] / "docs" / "stacks.md").read_text(encoding="utf-8")
    default = Config().model_dump()
    for name, value in OF_STACKS.items():
        section, key = name.split(".")
        said = [
            f"{one:g}" if isinstance(one, float) else str(one)
            for one in (default[section][key], value)
        ]
        assert f"| `{name}` | {said[0]} | {said[1]} |" in page
