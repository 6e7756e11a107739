"""Annotations of stacks: which files say something of which plane, and what they say."""

import zipfile

import numpy as np
import pytest
from roifile import ROI_TYPE, ImagejRoi

from oce2stardist.annotations.known import read_known
from oce2stardist.annotations.planes import read_stack_annotations
from oce2stardist.errors import InputError
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import write_labels
from oce2stardist.images.pixel_size import VoxelSize

SHAPE = (8, 20, 30)


def read(tmp_path, *, zero_is_background=False, stems=("a",)):
    return read_stack_annotations(
        {stem: tmp_path / "images" / f"{stem}.tif" for stem in stems},
        dict.fromkeys(stems, SHAPE),
        tmp_path,
        zero_is_background=zero_is_background,
    )


def volume():
    """Cell 3 on planes 2 and 5, cell 70,000 on plane 5."""
    labels = np.zeros(SHAPE, np.int32)
    labels[[2, 5], 4:9, 5:12] = 3
    labels[5, 4:9, 15:20] = 70_000
    return labels


def rectangle(top, left, *, z, name="", hyperstack=False):
    roi = ImagejRoi.frompoints([(left, top), (left + 6, top), (left + 6, top + 5), (left, top + 5)])
    roi.roitype, roi.name = ROI_TYPE.POLYGON, name
    roi.position, roi.z_position = (0, z) if hyperstack else (z, 0)
    return roi


def write_rois(path, *rois):
    with zipfile.ZipFile(path, "w") as archive:
        for number, roi in enumerate(rois):
            archive.writestr(f"{number:04d}.roi", roi.tobytes())


@pytest.mark.parametrize("known", [False, True])
def test_a_label_volume_knows_the_planes_on_which_something_is_outlined(tmp_path, known):
    write_labels(tmp_path / "a.tif", volume())
    labels = read(tmp_path, zero_is_background=known).labels["a"]
    assert np.array_equal(labels > 0, volume() > 0)
    background = np.zeros(SHAPE, bool)
    background[[2, 5]] = known
    assert np.array_equal(labels == 0, background & (volume() == 0))


def test_label_images_of_planes_are_named_from_0_and_share_numbers(tmp_path):
    for name, plane in (("a_z002.tif", 2), ("a-Z5_labels.tif", 5)):
        write_labels(tmp_path / name, volume()[plane])
    found = read(tmp_path)
    assert np.array_equal(found.labels["a"], np.where(volume() > 0, volume(), -1))
    assert [file.name for file in found.files] == ["a-Z5_labels.tif", "a_z002.tif"]


@pytest.mark.parametrize("hyperstack", [False, True])
def test_selections_are_drawn_on_their_slices_and_one_name_is_one_cell(tmp_path, hyperstack):
    write_rois(
        tmp_path / "a.zip",
        rectangle(4, 5, z=3, name="mine", hyperstack=hyperstack),
        rectangle(4, 5, z=6, name="mine", hyperstack=hyperstack),
        rectangle(4, 15, z=6, name="other", hyperstack=hyperstack),
        rectangle(12, 15, z=6, name="background", hyperstack=hyperstack),
    )
    labels = read(tmp_path).labels["a"]
    assert np.flatnonzero((labels > -1).any(axis=(1, 2))).tolist() == [2, 5]
    assert np.all(labels[[2, 5], 4:9, 5:11] == 1)
    assert np.all(labels[5, 4:9, 15:21] == 2)
    assert np.all(labels[5, 12:17, 15:21] == 0)
    assert (labels > -1).sum() == 4 * 30


def test_stacks_are_matched_by_name_and_what_matches_none_is_told(tmp_path):
    write_labels(tmp_path / "a_z001.tif", volume()[2])
    write_labels(tmp_path / "b.tif", volume())
    write_labels(tmp_path / "c.tif", volume())
    found = read(tmp_path, stems=("a", "b"))
    assert sorted(found.labels) == ["a", "b"]
    assert found.notes == ["match no stack: c.tif"]


def test_a_stack_beside_its_annotations_is_not_taken_for_them(tmp_path):
    write_labels(tmp_path / "a.tif", volume())
    write_labels(tmp_path / "a_labels.tif", volume())
    found = read_stack_annotations(
        {"a": tmp_path / "a.tif"}, {"a": SHAPE}, tmp_path, zero_is_background=False
    )
    assert [file.name for file in found.files] == ["a_labels.tif"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda at: write_labels(at / "a_z008.tif", volume()[2]), "0 to 7. Got 8"),
        (lambda at: write_rois(at / "a.zip", rectangle(4, 5, z=9)), "0 to 7. Got 8"),
        (lambda at: write_rois(at / "a.zip", rectangle(4, 5, z=0)), "must tell their slice"),
        (lambda at: write_labels(at / "other.tif", volume()), "Got other.tif for the stacks a.tif"),
        (lambda at: (at / "a.geojson").write_text("{}"), "must be label volumes"),
        (lambda at: write_labels(at / "a.tif", volume()[:5]), r"Got \(5, 20, 30\)"),
        (lambda at: write_labels(at / "a_z001.tif", volume()), r"Got \(8, 20, 30\)|one image|axes"),
    ],
)
def test_what_can_not_be_placed_is_refused_in_one_line(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_points_and_two_files_of_one_plane_are_refused(tmp_path):
    roi = ImagejRoi.frompoints([(3, 4)])
    roi.roitype, roi.position = ROI_TYPE.POINT, 2
    write_rois(tmp_path / "a.zip", roi)
    with pytest.raises(InputError, match=r"must be outlines\. Got points"):
        read(tmp_path)
    write_rois(tmp_path / "a.zip", rectangle(4, 5, z=3))
    write_labels(tmp_path / "a_z002.tif", volume()[2])
    with pytest.raises(InputError, match=r"Got plane 2 in a\.zip and a_z002\.tif"):
        read(tmp_path)


def test_arrays_are_taken_as_they_are_and_components_refused(tmp_path):
    stacks = ImageSet(
        {"a": tmp_path / "images" / "a.tif"}, {"a": np.zeros((*SHAPE, 1), np.float32)},
        voxel_sizes={"a": VoxelSize(2, 1, 1)},
    )  # fmt: skip
    known = read_known(stacks, {"a": volume()}, instances="auto")
    assert np.array_equal(known.labels["a"], volume())
    with pytest.raises(InputError, match=r"shape \(8, 20, 30\)"):
        read_known(stacks, {"a": volume()[0]})
    write_labels(tmp_path / "a.tif", volume())
    assert read_known(stacks, tmp_path).labels["a"].max() == 70_000
    with pytest.raises(InputError, match="without planes"):
        read_known(stacks, tmp_path, instances="components")
