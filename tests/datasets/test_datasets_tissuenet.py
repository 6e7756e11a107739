"""Archives are written by numpy.savez in the layouts of TissueNet 1.0 and 1.1."""

import csv
import io
import os
import zipfile

import numpy as np
import pytest

from oce2stardist.datasets import open_data_set, tissuenet
from oce2stardist.datasets.npz import read_header, reading
from oce2stardist.errors import InputError

TISSUES = ["immune", "lung", "skin", "immune", "lung"]
PLATFORMS = ["mibi", "codex", "mibi", "codex", "codex"]


def arrays(n, side, first=0):
    """Image i is 100 i + channel; its whole cell has id i + 1, its nucleus id i + 51."""
    images = np.zeros((n, side, side, 2), np.float32)
    labels = np.zeros((n, side, side, 2), np.int32)
    for at in range(n):
        images[at] = 100 * (first + at) + np.arange(2)
        labels[at, 2:9, 2:9, 0] = first + at + 1
        labels[at, 4:7, 4:7, 1] = first + at + 51
    return {"X": images, "y": labels}


def lists():
    return {"tissue_list": np.array(TISSUES), "platform_list": np.array(PLATFORMS)}


def meta(dtype=str):
    rows = [["id", "Tissue", "mpp", "platform"]]
    rows += [
        [str(at), tissue.upper(), "0.5", platform]
        for at, (tissue, platform) in enumerate(zip(TISSUES, PLATFORMS, strict=True))
    ]
    return np.array(rows, dtype)


def write_v10(folder, save=np.savez_compressed, **changed):
    """Write train and test; ``changed`` replaces fields of the training file, None removes them."""
    train = {**arrays(5, 16), **lists(), **changed}
    save(
        folder / "tissuenet_v1.0_train.npz",
        **{field: stored for field, stored in train.items() if stored is not None},
    )
    save(folder / "tissuenet_v1.0_test.npz", **arrays(5, 12, first=20), **lists())
    return folder


def write_v11(folder, stored_meta):
    for split, side in (("train", 16), ("test", 12)):
        fields = {**arrays(5, side), "meta": stored_meta}
        np.savez(folder / f"tissuenet_v1.1_{split}.npz", **fields)
    return folder


def numbers(images):
    """Find the position in the file that an image's values tell."""
    return [int(one.image[0, 0, 0]) // 100 for one in images]


# reading


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_have_nuclei_first_and_labels_are_whole_cells(tmp_path, save):
    found = open_data_set("tissuenet", write_v10(tmp_path, save))
    assert found.name == "tissuenet"
    assert len(found.train) == len(found.test) == 5
    for at, labelled in enumerate(found.train):
        assert labelled.stem == f"train_{at:05d}"
        assert labelled.group == TISSUES[at]
        assert labelled.image.dtype == np.float32
        assert labelled.labels.dtype == np.int32
        np.testing.assert_array_equal(labelled.image, arrays(5, 16)["X"][at])
        assert np.count_nonzero(labelled.labels == at + 1) == 49  # 9 pixels are nucleus
        assert labelled.labels.max() == at + 1
    assert found.test[3].image.shape == (12, 12, 2)
    assert found.test[3].labels.max() == 24


@pytest.mark.parametrize("name", ["immune", "IMMUNE"])
def test_a_tissue_gives_its_images_in_either_case(tmp_path, name):
    found = open_data_set("tissuenet", write_v10(tmp_path), tissues=name)
    assert found.name == "tissuenet-immune"
    assert numbers(found.train) == [0, 3]
    assert found.train.stems == ("train_00000", "train_00003")
    assert set(found.train.groups) == {"immune"}
    assert numbers(found.test) == [20, 23]


def test_tissues_and_platforms_narrow_each_other(tmp_path):
    write_v10(tmp_path)
    both = {"tissues": ["lung", "immune"], "platforms": ["codex"]}
    assert numbers(open_data_set("tissuenet", tmp_path, **both).train) == [1, 3, 4]
    assert numbers(open_data_set("tissuenet", tmp_path, platforms="mibi").train) == [0, 2]


def test_images_are_read_in_any_order_and_again(tmp_path):
    train = open_data_set("tissuenet", write_v10(tmp_path)).train
    assert numbers([train[4], train[0], train[-2], train[0]]) == [4, 0, 3, 0]
    assert numbers(train[::-1]) == [4, 3, 2, 1, 0]
    assert numbers(train.in_group("lung")) == [1, 4]


def test_version_11_has_its_metadata_in_rows_below_a_header(tmp_path):
    found = open_data_set("tissuenet", write_v11(tmp_path, meta()), tissues="lung")
    assert numbers(found.train) == [1, 4]
    assert found.train[0].group == "lung"


def test_columns_of_metadata_may_have_other_names(tmp_path):
    stored = meta()
    stored[0] = ["id", "organ", "mpp", "machine"]
    write_v11(tmp_path, stored)
    named = {"tissue_column": "organ", "platform_column": "Machine"}
    found = open_data_set("tissuenet", tmp_path, platforms="codex", **named)
    assert numbers(found.train) == [1, 3, 4]
    with pytest.raises(
        InputError, match=r"column 'tissue'\. Got id, organ, mpp, machine; pass tissue_column"
    ):
        open_data_set("tissuenet", tmp_path)


def test_pickled_metadata_is_refused_but_images_without_it_are_read(tmp_path):
    write_v11(tmp_path, meta(object))
    with pytest.raises(
        InputError, match=r"meta in .*v1\.1_train\.npz .*Got pickled Python"
    ) as told:
        open_data_set("tissuenet", tmp_path)
    assert "tissuenet_v1.1_train.csv" in str(told.value)
    assert "grouped: false" in str(told.value)
    assert "\n" not in str(told.value)
    found = open_data_set("tissuenet", tmp_path, grouped=False)
    assert numbers(found.train) == [0, 1, 2, 3, 4]
    assert set(found.train.groups) == {""}


def test_a_csv_beside_the_file_takes_the_place_of_pickled_metadata(tmp_path):
    write_v11(tmp_path, meta(object))
    for split in ("train", "test"):
        with (tmp_path / f"tissuenet_v1.1_{split}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(meta())
    found = open_data_set("tissuenet", tmp_path, tissues="skin")
    assert numbers(found.train) == [2]


def test_splits_may_have_short_names_and_be_chosen(tmp_path):
    for split, first in (("train", 0), ("val", 10), ("test", 20)):
        np.savez(tmp_path / f"{split}.npz", **arrays(5, 12, first), **lists())
    found = open_data_set("tissuenet", tmp_path, test="val")
    assert numbers(found.test) == [10, 11, 12, 13, 14]
    assert found.test.stems[0] == "val_00000"


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64, np.float32])
def test_labels_may_be_of_any_type_that_holds_whole_numbers(tmp_path, dtype):
    write_v10(tmp_path, y=arrays(5, 16)["y"].astype(dtype))
    assert open_data_set("tissuenet", tmp_path).train[2].labels.max() == 3


def test_opening_reads_headers_only(tmp_path, monkeypatch):
    write_v10(tmp_path)
    monkeypatch.setattr(tissuenet, "read_pieces", None)
    assert len(open_data_set("tissuenet", tmp_path).train) == 5


# refused: options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tissues": "bone"}, r"tissues must be among .*: immune, lung, skin\. Got 'bone'"),
        ({"platforms": ["x"]}, r"platforms must be among .*: codex, mibi\. Got 'x'"),
        ({"tissues": "skin", "platforms": "codex"}, r"Got none of skin by codex; choose"),
        ({"tissues": []}, r"tissues must be one name or several\. Got \[\]"),
        ({"tissues": [3]}, r"tissues must be one name or several\. Got \[3\]"),
        ({"train": "../train"}, r"must be splits: train, val, test\. Got '\.\./train'"),
        ({"test": "train"}, r"must be two splits\. Got 'train' for both"),
        ({"test": "val"}, r"one \.npz file of the split val.* Got tissuenet_v1\.0_test\.npz"),
        ({"tissues": "lung", "grouped": False}, r"grouped must be true .*Got false"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    write_v10(tmp_path)
    with pytest.raises(InputError, match=message):
        open_data_set("tissuenet", tmp_path, **options)


def test_absent_folders_and_two_versions_in_one_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere must be a folder\. Got no such folder"):
        open_data_set("tissuenet", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"split train.* Got none; "):
        open_data_set("tissuenet", tmp_path)
    write_v11(write_v10(tmp_path), meta())
    with pytest.raises(InputError, match=r"Got tissuenet_v1\.0_train\.npz, tissuenet_v1\.1_train"):
        open_data_set("tissuenet", tmp_path)


# refused: fields


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": None}, r"must hold the fields X and y, each once\. Got X, tissue_list, platform_"),
        ({"platform_list": None}, r"tissue_list and platform_list, or meta\. Got X, y, tissue_l"),
        ({"X": np.zeros((5, 16, 16))}, r"X in .* \(images, Y, X, 2\)\. Got \(5, 16, 16\)"),
        ({"X": np.zeros((5, 16, 16, 3))}, r"X in .*Got \(5, 16, 16, 3\)"),
        ({"y": np.zeros((5, 16, 16, 1), int)}, r"y in .*Got \(5, 16, 16, 1\)"),
        ({"X": np.zeros((0, 16, 16, 2))}, r"X in .*Got \(0, 16, 16, 2\)"),
        ({"y": np.zeros((4, 16, 16, 2), int)}, r"Got \(5, 16, 16, 2\) and \(4, 16, 16, 2\)"),
        ({"y": np.zeros((5, 8, 16, 2), int)}, r"Got \(5, 16, 16, 2\) and \(5, 8, 16, 2\)"),
        ({"X": np.zeros((5, 16, 16, 2), complex)}, r"X in .* hold numbers\. Got complex128"),
        ({"X": np.zeros((5, 16, 16, 2), "U3")}, r"X in .* hold numbers\. Got <U3"),
        ({"y": np.zeros((5, 16, 16, 2), object)}, r"y in .*Got pickled Python objects"),
        ({"X": np.zeros((2, 16, 16, 5)).T}, r"X in .*C order\. Got Fortran order"),
        ({"tissue_list": np.array(TISSUES[:4])}, r"Got 4 entries for 5 images"),
        ({"platform_list": np.array(PLATFORMS * 2)}, r"Got 10 entries for 5 images"),
        ({"tissue_list": np.array(TISSUES, object)}, r"tissue_list in .*Got pickled"),
        ({"tissue_list": np.arange(5)}, r"text of 1 dimension and .*Got int64 of shape \(5,\)"),
        ({"tissue_list": np.array([TISSUES])}, r"Got <U6 of shape \(1, 5\)"),
    ],
)  # fmt: skip
def test_fields_that_are_missing_or_of_another_form_are_refused(tmp_path, changed, message):
    write_v10(tmp_path, **changed)
    with pytest.raises(InputError, match=message) as told:
        open_data_set("tissuenet", tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (meta()[:5], r"Got 4 entries for 5 images"),
        (meta()[:0], r"must name the column 'tissue'\. Got no row"),
        (meta()[:, 1], r"meta in .*text of 2 dimensions .*Got <U8 of shape \(6,\)"),
    ],
)
def test_metadata_of_another_form_is_refused(tmp_path, stored, message):
    with pytest.raises(InputError, match=message):
        open_data_set("tissuenet", write_v11(tmp_path, stored))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"tissue,platform\nlung\n", r"must have 2 entries\. Got 1 in row 2"),
        (b"\xff\xfe\x00", r"must be a CSV file in UTF-8"),
        (b"", r"first row of .*Got no row"),
    ],
)
def test_a_broken_csv_is_refused(tmp_path, content, message):
    write_v11(tmp_path, meta())
    (tmp_path / "tissuenet_v1.1_train.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_data_set("tissuenet", tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("X", np.nan, r"image 1 of .* finite numbers\. Got NaN or infinity"),
        ("X", 1e300, r"image 1 of .* finite numbers"),
        ("y", -1, r"labels of image 1 of .*Got -1\.0 to 2\.0"),
        ("y", 0.5, r"labels of image 1 of .*whole numbers.*Got 0\.0 to 2\.0"),
        ("y", 2.0**31, r"labels of image 1 of .*Got 0\.0 to 2147483648\.0"),
        ("y", np.nan, r"labels of image 1 of .*Got nan to nan"),
    ],
)
def test_values_that_can_not_be_right_are_refused_when_read(tmp_path, field, value, message):
    stored = arrays(5, 16)[field].astype(np.float64 if field == "X" else np.float32)
    stored[1, 0, 0, 0] = value
    train = open_data_set("tissuenet", write_v10(tmp_path, **{field: stored})).train
    assert train[0].stem == "train_00000"
    with pytest.raises(InputError, match=message):
        train[1]


def test_a_csv_above_the_limit_is_refused(tmp_path, monkeypatch):
    write_v11(tmp_path, meta())
    (tmp_path / "tissuenet_v1.1_train.csv").write_text("tissue,platform\n")
    monkeypatch.setattr(tissuenet, "MAX_METADATA_BYTES", 15)
    with pytest.raises(InputError, match=r"train\.csv must have at most 15 bytes\. Got 16; "):
        open_data_set("tissuenet", tmp_path)


# refused: archives


def rewrite(path, change):
    """Write the members of an archive again, as ``change`` maps names and contents."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(members):
            archive.writestr(name, content)


def with_header(shape, dtype="<f4"):
    stream = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip file" * 9])
def test_files_that_are_no_archive_are_refused(tmp_path, content):
    (write_v10(tmp_path) / "tissuenet_v1.0_train.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"must be a whole \.npz file\. Got one that can't be"):
        open_data_set("tissuenet", tmp_path)


def test_an_archive_cut_short_anywhere_is_refused(tmp_path):
    path = write_v10(tmp_path) / "tissuenet_v1.0_train.npz"
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"whole \.npz file"):
            open_data_set("tissuenet", tmp_path)


def test_damaged_values_are_refused_when_they_are_read(tmp_path):
    path = write_v10(tmp_path) / "tissuenet_v1.0_train.npz"
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("X.npy")
    content = bytearray(path.read_bytes())
    middle = member.header_offset + member.compress_size - 40
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"whole \.npz file"):
        list(open_data_set("tissuenet", tmp_path).train)


@pytest.mark.parametrize("shape", [(5, 16, 16, 3), (10**5, 512, 512, 2), (-5, -16, 16, 2), ()])
def test_a_header_that_promises_other_values_than_stored_is_refused(tmp_path, shape):
    path = write_v10(tmp_path) / "tissuenet_v1.0_train.npz"
    rewrite(path, lambda members: [
        (name, with_header(shape) + content[128:] if name == "X.npy" else content)
        for name, content in members
    ])  # fmt: skip
    with pytest.raises(InputError, match=r"train\.npz must be a whole \.npz file.*X "):
        open_data_set("tissuenet", tmp_path)


def test_images_above_the_limit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    write_v10(tmp_path)
    monkeypatch.setattr(tissuenet, "MAX_IMAGE_VALUES", 511)
    with pytest.raises(InputError, match=r"at most 1000000 images of at most 511 values\. Got \(5"):
        open_data_set("tissuenet", tmp_path)
    monkeypatch.setattr(tissuenet, "MAX_IMAGE_VALUES", 512)
    assert len(open_data_set("tissuenet", tmp_path).train) == 5
    monkeypatch.setattr(tissuenet, "MAX_METADATA_BYTES", 5 * 6 * 4 - 1)
    with pytest.raises(InputError, match=r"at most 119 bytes\. Got <U6 of shape \(5,\)"):
        open_data_set("tissuenet", tmp_path)


@pytest.mark.parametrize("name", ["../X.npy", "/X.npy", "X.npy/X.npy"])
def test_members_with_paths_are_neither_fields_nor_written(tmp_path, name):
    folder = tmp_path / "deep"
    folder.mkdir()
    path = write_v10(folder) / "tissuenet_v1.0_train.npz"
    rewrite(path, lambda members: [
        (name if member == "X.npy" else member, content) for member, content in members
    ])  # fmt: skip
    with pytest.raises(InputError, match=r"must hold the fields X and y"):
        open_data_set("tissuenet", folder)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_field_stored_twice_is_refused(tmp_path):
    path = write_v10(tmp_path) / "tissuenet_v1.0_train.npz"
    rewrite(path, lambda members: [*members, members[0]])
    with pytest.raises(InputError, match=r"each once\. Got X, y, .*, X; "):
        open_data_set("tissuenet", tmp_path)


def test_pickled_objects_are_refused_without_running_them(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    write_v11(tmp_path, np.array([[Trap()]], object))
    with pytest.raises(InputError, match="Got pickled"):
        open_data_set("tissuenet", tmp_path)
    list(open_data_set("tissuenet", tmp_path, grouped=False).train)
    assert not (tmp_path / "ran").exists()
    np.load(tmp_path / "tissuenet_v1.1_train.npz", allow_pickle=True)["meta"]
    assert (tmp_path / "ran").exists()


def test_an_unknown_header_version_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x09\x00" + bytes(200))
    with pytest.raises(InputError, match=r"version \(9, 0\) of X"), reading(path) as archive:
        read_header(archive, "X")
    with pytest.raises(InputError, match=r"b\.npz must exist"), reading(tmp_path / "b.npz"):
        pass
