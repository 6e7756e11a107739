"""What runs look at before they trust their inputs, and what they say."""

import errno
import re

import numpy as np
import pytest
import torch
from labs import make_lab, run
from scenes import disc

from oce2stardist.errors import InputError, is_out_of_memory
from oce2stardist.images.image_set import read_images
from oce2stardist.images.pixel_size import common_pixel_size, warn_of_pixel_sizes
from oce2stardist.images.read import read_image, read_pixel_size
from oce2stardist.images.sources import find_sources
from oce2stardist.pseudo_labels.sizes import warn_of_giants, warn_of_scales
from oce2stardist.stardist_model.facts import has_thresholds, trained_pixel_size

FLAT = {"a": (1.0, 1.0), "b": (1.0, 1.0)}  # sides of a pixel


def discs(radius, shape=(100, 100)):
    return {"a": disc(shape, (50, 50), radius).astype(np.int32)}


def test_annotations_and_pseudo_labels_of_alike_size_or_without_cells_are_fine():
    nothing = {"a": np.full((9, 9), -1, np.int32)}
    assert warn_of_scales(discs(15), discs(10)) == warn_of_scales(discs(19), discs(10)) == []
    assert warn_of_scales(nothing, discs(10)) == warn_of_scales(discs(10), nothing) == []


@pytest.mark.parametrize(("annotated", "pseudo"), [(22, 10), (10, 22)])
def test_a_factor_above_two_between_their_diameters_is_said(annotated, pseudo):
    (warning,) = warn_of_scales(discs(annotated), discs(pseudo))
    told = [float(diameter) for diameter in re.findall(r"([\d.]+) px", warning)]
    assert told == pytest.approx([2 * annotated, 2 * pseudo], rel=0.01)
    assert "--diameter" in warning


def test_an_object_over_most_of_an_image_is_a_giant():
    labels = {"a": np.ones((100, 100), np.int32), "b": discs(10)["a"]}
    (warning,) = warn_of_giants(labels, FLAT, diameter=20)
    assert warning.startswith("one object covers 100% of a (cells of 20 px were expected)")


def test_a_large_cell_in_a_small_image_is_no_giant():
    assert warn_of_giants({"a": np.ones((20, 20), np.int32)}, FLAT, diameter=20) == []
    small = discs(10) | {"b": np.zeros((9, 9), np.int32)}
    assert warn_of_giants(small, FLAT, diameter=2) == []


@pytest.mark.parametrize("name", ["broken.tif", "x.png"])
def test_files_that_are_no_tiff_tell_no_size_of_pixels(tmp_path, name):
    (tmp_path / name).write_bytes(b"II*\0")
    assert read_pixel_size(tmp_path / name) is None


def test_pixels_of_another_size_than_in_training_are_said():
    sizes = {"a": (0.5, 0.5), "b": (1.0, 1.0), "c": None}
    (warning,) = warn_of_pixel_sizes((0.5, 0.5), sizes)
    assert warning.startswith("1 of 3 images") and "b: 1 µm where it was 0.5 µm" in warning
    assert warn_of_pixel_sizes((0.52, 0.49), {"a": (0.5, 0.5)}) == []
    assert warn_of_pixel_sizes(None, sizes) == []


def test_a_set_has_a_pixel_size_only_if_its_images_agree():
    assert common_pixel_size({"a": (0.5, 0.5), "b": None}) == (0.5, 0.5)
    assert common_pixel_size({"a": (0.5, 0.5), "b": (0.7, 0.5)}) is None
    assert common_pixel_size({"a": None}) is None


@pytest.mark.parametrize("text", ["", "[]", "inputs: {}", "inputs: {pixel_size_um: null}", "a: ["])
def test_a_model_that_does_not_say_has_no_pixel_size(tmp_path, text):
    assert trained_pixel_size(tmp_path) is None
    (tmp_path / "run.yaml").write_text(text)
    assert trained_pixel_size(tmp_path) is None


def test_thresholds_are_set_if_both_are_numbers(tmp_path):
    assert not has_thresholds(tmp_path)
    for prob, are_set in (("0.4", True), ("null", False)):
        (tmp_path / "thresholds.json").write_text(f'{{"prob": {prob}, "nms": 0.3}}')
        assert has_thresholds(tmp_path) == are_set
    (tmp_path / "thresholds.json").write_text("[]")
    assert not has_thresholds(tmp_path)


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "means_it"),
    [
        (MemoryError("Unable to allocate 8.00 GiB"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("libdeflate_alloc_compressor returned unknown error 'NULL'"), True),
        (ResourceExhaustedError("OOM when allocating tensor"), True),
        (SystemError("Conv2D.call().\n\nerror return without exception set\n"), True),
        (SystemError("unknown opcode"), False),
        (RuntimeError("shapes differ"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_memory_that_is_used_up_is_known_whatever_the_library_calls_it(error, means_it):
    assert is_out_of_memory(error) == means_it


def test_torch_says_so_in_a_way_we_know():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**48)
    assert is_out_of_memory(raised.value)


def test_an_image_that_is_gone_since_it_was_listed_is_missed(tmp_path):
    """Not left out: the run would go on with the others as though there were no more."""
    images = make_lab(tmp_path) / "images"
    listed = find_sources(images).at_once
    assert read_images(images, files=listed).source == str(images)
    (images / "b.tif").unlink()
    with pytest.raises(InputError, match=r"b\.tif"):
        read_images(images, files=listed)


def refuse(*_, **__):
    raise MemoryError("Unable to allocate 8.00 GiB")


def test_a_command_without_memory_ends_in_one_line(tmp_path, monkeypatch):
    lab = make_lab(tmp_path)
    monkeypatch.setattr("oce2stardist.runners.merge.make_training_labels", refuse)
    result = run(["merge", lab / "run", "--annotations", lab / "masks"])
    assert result.exit_code == 2
    assert result.output.startswith("Error: there must be memory for images and network.")
    assert len(result.output.splitlines()) == 1


def test_an_image_that_does_not_fit_into_memory_is_not_called_broken(tmp_path, monkeypatch):
    lab = make_lab(tmp_path)
    monkeypatch.setattr("oce2stardist.images.read._read_tiff", refuse)
    with pytest.raises(InputError, match=r"a\.tif can't be read: there is no memory left for it"):
        read_image(lab / "images" / "a.tif")


@pytest.mark.parametrize(
    ("section", "setting", "command", "weights"),
    [
        ("embedding", "centring: 1.0e+300", "pseudo {0}/images --diameter 18",
         "oce/weights.safetensors"),
        pytest.param(
            "stardist", "distance_weight: 1.0e+38",
            "finetune {0}/images --pseudo {0}/run --annotations {0}/masks", "weights_best.h5",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_loss_that_overflows_ends_the_run_in_one_line(
    tmp_path, section, setting, command, weights
):
    """An absurd weight of one part of the loss."""
    lab = make_lab(tmp_path)
    tiny = (lab / "tiny.yaml").read_text().replace("steps: 1\n", "steps: 4\n", 1)
    (lab / "tiny.yaml").write_text(tiny.replace(f"{section}:", f"{section}:\n  {setting}"))
    command += " -o {0}/out --config {0}/tiny.yaml"
    result = run([word.format(lab) for word in command.split()])
    assert result.exit_code == 2, result.output
    last = result.output.strip().splitlines()[-1]
    assert re.search(rf"finite number. Got \w+ at step \d.* Lower {section}.learning_rate", last)
    assert not (lab / "out" / weights).exists()
