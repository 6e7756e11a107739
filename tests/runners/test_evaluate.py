"""Folders of labels that people hand to `evaluate`."""

import numpy as np
import pytest
import tifffile
from scenes import disc

from oce2stardist.errors import InputError
from oce2stardist.images.label_files import write_labels
from oce2stardist.runners.evaluate import evaluate_folders

SHAPE = (60, 90)


def cells():
    labels = np.zeros(SHAPE, np.int32)
    for number, x in enumerate((12, 45, 78), start=1):
        labels[disc(SHAPE, (30, x), 8)] = number
    return labels


def save(path, labels):
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, labels.astype(np.uint8), photometric="minisblack")
    return path.parent


@pytest.mark.parametrize("masked", ["truth", "predicted"])
def test_a_mask_is_no_side_of_a_comparison_but_its_pieces_are(tmp_path, masked):
    other = {"truth": "predicted", "predicted": "truth"}[masked]
    save(tmp_path / masked / "x.tif", 255 * (cells() > 0))
    save(tmp_path / other / "x.tif", cells())
    sides = tmp_path / "predicted", tmp_path / "truth"
    with pytest.raises(InputError, match=rf"{masked}/x.tif must have .* label 255 in 3 pieces"):
        evaluate_folders(*sides)
    assert evaluate_folders(*sides, instances="components").pooled.f1 == 1
    assert evaluate_folders(*sides, instances="labels").pooled.f1 == 0


def test_what_we_wrote_is_scored_however_bad_it_is(tmp_path):
    (tmp_path / "predicted").mkdir()
    write_labels(tmp_path / "predicted" / "x.tif", np.minimum(cells(), 1))
    truth = save(tmp_path / "truth" / "x.tif", cells())
    assert evaluate_folders(tmp_path / "predicted", truth).pooled.f1 == 0
