"""Folders are laid out as the Cell Tracking Challenge's archives unpack."""

import numpy as np
import pytest
import tifffile

from oce2stardist.datasets import FIELD_BORDERS, keep_field_of_interest, open_data_set
from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import leave_out_border


def write(path, stored):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, stored, photometric="minisblack")


def frame(number):
    return np.full((60, 80), 100 + number, np.uint8)


def cell(label):
    labels = np.zeros((60, 80), np.uint16)
    labels[28:32, 38:42] = label
    return labels


@pytest.fixture
def hela(tmp_path):
    """Frames 0 to 3 of both sequences; gold truth of two of them, silver of all."""
    root = tmp_path / "Fluo-N2DL-HeLa"
    for sequence in ("01", "02"):
        for number in range(4):
            write(root / sequence / f"t{number:03d}.tif", frame(number))
            write(root / f"{sequence}_ST" / "SEG" / f"man_seg{number:03d}.tif", cell(7))
        for number in (1, 3):
            write(root / f"{sequence}_GT" / "SEG" / f"man_seg{number:03d}.tif", cell(number))
        write(root / f"{sequence}_GT" / "TRA" / "man_track000.tif", cell(9))
    return root


def test_sequence_01_trains_02_tests_and_only_frames_with_truth_are_read(hela):
    found = open_data_set("cell_tracking", hela)
    assert found.name == "Fluo-N2DL-HeLa"
    assert found.train.stems == ("01_t001", "01_t003")
    assert found.test.stems == ("02_t001", "02_t003")
    assert found.train.groups == ("01", "01")
    for labelled, number in zip(found.test, (1, 3), strict=True):
        assert labelled.group == "02"
        np.testing.assert_array_equal(labelled.image, frame(number)[..., None])
        np.testing.assert_array_equal(labelled.labels, cell(number))


def test_silver_truth_may_be_chosen(hela):
    found = open_data_set("cell_tracking", str(hela), truth="ST")
    assert len(found.train) == len(found.test) == 4
    assert found.test[0].labels.max() == 7


def test_zero_may_be_unknown_instead_of_background(hela):
    labelled = open_data_set("cell_tracking", hela, zero_is_background=False).train[0]
    assert set(np.unique(labelled.labels)) == {-1, 1}
    assert np.count_nonzero(labelled.labels > 0) == 16
    assert labelled.labels.dtype == np.int32


def test_frame_numbers_may_have_four_digits(tmp_path):
    for sequence in ("01", "02"):
        write(tmp_path / sequence / "t0012.tif", frame(12))
        write(tmp_path / f"{sequence}_GT" / "SEG" / "man_seg0012.tif", cell(5))
    found = open_data_set("cell_tracking", tmp_path, border=0)
    assert found.train.stems == ("01_t0012",)
    assert found.train[0].labels.max() == 5


def test_the_border_is_that_of_the_data_set_or_the_one_given(hela):
    assert open_data_set("cell_tracking", hela).border == 25
    assert open_data_set("cell_tracking", hela, border=3).border == 3
    hela.rename(hela.with_name("mine"))
    with pytest.raises(InputError, match=r"Got the folder 'mine'; pass the width E .*or 0"):
        open_data_set("cell_tracking", hela.with_name("mine"))


def test_every_known_border_is_of_a_two_dimensional_data_set():
    assert all("2D" in name for name in FIELD_BORDERS)
    assert set(FIELD_BORDERS.values()) == {0, 25, 50}


# refused


@pytest.mark.parametrize("border", [-1, 2.5, True, "25"])
def test_borders_that_are_no_width_are_refused(hela, border):
    with pytest.raises(InputError, match=rf"whole number of pixels from 0 on\. Got {border!r}"):
        open_data_set("cell_tracking", hela, border=border)


@pytest.mark.parametrize("truth", ["gt", "TRA", "../02_GT"])
def test_other_truths_are_refused(hela, truth):
    with pytest.raises(InputError, match=rf"truth must be GT or ST\. Got '{truth}'"):
        open_data_set("cell_tracking", hela, truth=truth)


def test_absent_folders_are_refused(hela):
    with pytest.raises(InputError, match=r"nowhere must exist\. Got no such folder"):
        open_data_set("cell_tracking", hela / "nowhere")
    (hela / "02_ST").rename(hela / "02_XX")
    with pytest.raises(InputError, match=r"02_ST/SEG must be a folder of the data set\. Got no"):
        open_data_set("cell_tracking", hela, truth="ST")


def test_a_sequence_without_truth_is_refused(hela):
    for file in (hela / "02_GT" / "SEG").iterdir():
        file.unlink()
    (hela / "02_GT" / "SEG" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"02_GT/SEG must hold the truth of .*Got none; "):
        open_data_set("cell_tracking", hela)


def test_truth_of_slices_is_refused(hela):
    write(hela / "01_GT" / "SEG" / "man_seg_000_001.tif", cell(1))
    with pytest.raises(InputError, match=r"Got man_seg_000_001\.tif, one slice of a volume; "):
        open_data_set("cell_tracking", hela)


@pytest.mark.parametrize("name", ["man_seg1.tif", "man_seg00001.tif", "man_seg001.png"])
def test_truth_with_another_name_is_not_passed_over(hela, name):
    (hela / "01_GT" / "SEG" / name).touch()
    with pytest.raises(InputError, match=rf"man_seg and 3 or 4 digits, \.tif\. Got {name}"):
        open_data_set("cell_tracking", hela)


def test_truth_without_its_frame_is_refused(hela):
    (hela / "02" / "t003.tif").unlink()
    with pytest.raises(InputError, match=r"Got man_seg003\.tif and no t003\.tif; unpack"):
        open_data_set("cell_tracking", hela)


def test_two_files_of_one_frame_are_refused(hela):
    write(hela / "01" / "t0001.tif", frame(1))
    with pytest.raises(InputError, match=r"one file for every frame\. Got t0001.tif and t001.tif"):
        open_data_set("cell_tracking", hela)


def test_volumes_are_refused_when_they_are_read(hela):
    write(hela / "01" / "t001.tif", np.zeros((6, 60, 80), np.uint8))
    with pytest.raises(InputError, match=r"t001\.tif must be 2-D"):
        open_data_set("cell_tracking", hela).train[0]


# the field of interest


def objects_around_the_field():
    """Of a rim of 10: object 1 lies in it, 2 reaches out of it, 3 lies inside, 4 in a corner."""
    labels = np.zeros((60, 80), np.int32)
    labels[0:10, 20:30] = 1
    labels[30:34, 0:11] = 2
    labels[30:40, 30:40] = 3
    labels[55:60, 75:80] = 4
    return labels


def test_objects_wholly_in_the_rim_go_and_others_stay_whole():
    labels = objects_around_the_field()
    labels[45, 70:80] = -1
    kept = keep_field_of_interest(labels, 10)
    expected = np.where(np.isin(labels, (1, 4)), 0, labels)
    np.testing.assert_array_equal(kept, expected)
    assert kept.dtype == labels.dtype
    assert labels.max() == 4


def test_objects_touch_the_field_at_its_first_and_last_pixel():
    for row in (10, 49):
        labels = np.zeros((60, 80), np.int32)
        labels[row, 40] = 1
        assert keep_field_of_interest(labels, 10).any()
        assert not keep_field_of_interest(labels, 11).any()


def test_no_border_keeps_everything_and_mirroring_changes_nothing():
    labels = objects_around_the_field()
    np.testing.assert_array_equal(keep_field_of_interest(labels, 0), labels)
    mirrored = keep_field_of_interest(labels[::-1, ::-1].T, 10)
    np.testing.assert_array_equal(mirrored, keep_field_of_interest(labels, 10)[::-1, ::-1].T)


def test_the_rule_by_centroid_removes_more():
    labels = objects_around_the_field()
    assert set(np.unique(keep_field_of_interest(labels, 10))) == {0, 2, 3}
    assert set(np.unique(leave_out_border(labels, 10))) == {0, 3}


@pytest.mark.parametrize("border", [-1, 30, 50])
def test_a_border_that_leaves_no_field_is_refused(border):
    with pytest.raises(InputError, match=rf"Got {border} for labels of shape \(60, 80\)"):
        keep_field_of_interest(np.zeros((60, 80), np.int32), border)
