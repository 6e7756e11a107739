"""Files are written by tifffile; also what every kind of data set has in common."""

import logging
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from oce2stardist.datasets import LabelledImage, LabelledImages, open_data_set, pair_folders
from oce2stardist.errors import InputError


def write(path, stored):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, stored, photometric="minisblack")


def image(value):
    return np.full((5, 7), value, np.uint16)


def cell(label):
    labels = np.zeros((5, 7), np.uint16)
    labels[1:3, 2:6] = label
    return labels


@pytest.fixture
def folders(tmp_path):
    """Two training images and one test image, the value of each in its name."""
    for part, values in {"train": (10, 20), "test": (30,)}.items():
        for value in values:
            write(tmp_path / part / "images" / f"n{value}.tif", image(value))
            write(tmp_path / part / "masks" / f"n{value}.tif", cell(value + 1))
    return tmp_path


# folders


def test_folders_give_the_images_and_labels_of_both_parts(folders):
    found = open_data_set("folders", folders)
    assert found.name == folders.name
    assert found.border == 0
    assert found.train.stems == ("n10", "n20")
    assert found.train.groups == ("", "")
    assert found.test.stems == ("n30",)
    for part, values in ((found.train, (10, 20)), (found.test, (30,))):
        for labelled, value in zip(part, values, strict=True):
            assert labelled.stem == f"n{value}"
            assert labelled.image.dtype == np.float32
            assert labelled.labels.dtype == np.int32
            np.testing.assert_array_equal(labelled.image, np.full((5, 7, 1), value))
            np.testing.assert_array_equal(labelled.labels, cell(value + 1))


def test_a_mask_in_place_of_labels_is_refused(folders):
    mask = np.zeros((5, 7), np.uint8)
    mask[1, 1] = mask[3, 5] = 255
    write(folders / "train" / "masks" / "n10.tif", mask)
    with pytest.raises(InputError, match=r"n10.tif must have one number .* label 255 in 2 pieces"):
        list(open_data_set("folders", folders).train)


def test_labels_may_lie_beside_their_images(tmp_path):
    for part in ("train", "test"):
        write(tmp_path / part / "all" / f"{part}.tif", image(1))
        write(tmp_path / part / "all" / f"{part}_masks.tif", cell(2))
    found = open_data_set("folders", tmp_path, images="all", labels="all")
    assert found.test[0].labels.max() == 2


def test_images_without_labels_are_left_out_and_counted(folders, caplog):
    write(folders / "train" / "images" / "alone.tif", image(1))
    with caplog.at_level(logging.WARNING):
        found = open_data_set("folders", folders)
    assert found.train.stems == ("n10", "n20")
    assert "1 of 3 images" in caplog.text


def test_nothing_is_read_before_it_is_asked_for(folders):
    (folders / "train" / "images" / "n20.tif").write_bytes(b"no image")
    found = open_data_set("folders", folders)
    assert found.train[0].stem == "n10"
    with pytest.raises(InputError, match=r"n20\.tif can't be read as an image"):
        found.train[1]


def test_labels_of_another_shape_than_their_image_are_refused(folders):
    write(folders / "test" / "masks" / "n30.tif", cell(1).T)
    with pytest.raises(InputError, match=r"Got \(7, 5\) in .*n30\.tif and \(5, 7\)"):
        list(open_data_set("folders", folders).test)


def test_a_name_in_both_parts_is_refused(folders):
    write(folders / "test" / "images" / "n10.tif", image(1))
    write(folders / "test" / "masks" / "n10.tif", cell(1))
    with pytest.raises(InputError, match=r"share no image name\. Got n10 in both, 1 in all; "):
        open_data_set("folders", folders)


@pytest.mark.parametrize("name", ["../images", "/tmp", "a/b", "images/"])
def test_a_folder_name_that_is_a_path_is_refused(folders, name):
    with pytest.raises(InputError, match=rf"must be names of folders .*Got '{re.escape(name)}'"):
        open_data_set("folders", folders, labels=name)


def test_absent_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"train/images must exist\. Got no such file or folder"):
        open_data_set("folders", tmp_path)
    write(tmp_path / "a" / "x.tif", image(1))
    with pytest.raises(InputError, match=r"masks must exist"):
        pair_folders(tmp_path / "a", tmp_path / "masks")


# what every kind has in common


def numbered(n):
    """Images whose stems are their positions, and a list of what was read."""
    seen = []

    def read(positions):
        for at in positions:
            seen.append(at)
            plane = np.full((2, 2), at)
            yield LabelledImage(
                str(at), plane[..., None].astype(np.float32), plane.astype(np.int32), "ab"[at % 2]
            )

    return LabelledImages(
        [str(at) for at in range(n)], ["ab"[at % 2] for at in range(n)], read
    ), seen


def test_labelled_images_are_a_sequence_that_reads_on_demand():
    images, seen = numbered(6)
    assert len(images) == 6
    assert not seen
    assert images[4].stem == "4"
    assert images[-1].stem == "5"
    assert seen == [4, 5]
    with pytest.raises(IndexError):
        images[6]
    assert [one.stem for one in images] == list(images.stems)


def test_slices_and_groups_are_such_sequences_again_and_read_nothing():
    images, seen = numbered(6)
    part = images[1:].in_group("b")[::-1]
    assert part.stems == ("5", "3", "1")
    assert part.groups == ("b", "b", "b")
    assert not seen
    assert [int(one.image.max()) for one in part] == [5, 3, 1]
    assert part[1].stem == "3"
    assert len(images.in_group("c")) == 0


def test_unknown_kinds_and_options_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"one of cell_tracking, folders, tissuenet\. Got 'coco'"):
        open_data_set("coco", tmp_path)
    with pytest.raises(InputError, match=r"options of folders must be among images, labels\. Got"):
        open_data_set("folders", tmp_path, tissues="lung")


def test_reading_data_sets_loads_neither_torch_nor_tensorflow():
    script = (
        "import sys, oce2stardist.datasets; "
        "print('loaded:', *sorted({'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "loaded:", done.stderr
