"""Scores of label stacks, whose answers come from geometry."""

import numpy as np
import pytest
import tifffile
from scenes import grid_of_discs

from oce2stardist.errors import InputError
from oce2stardist.images.label_files import write_labels
from oce2stardist.runners.evaluate import evaluate_folders


@pytest.fixture
def folders(tmp_path):
    """Eight balls, and the same without the first and with the second moved far away."""
    truth, _ = grid_of_discs(3)
    found = np.where(truth == 1, 0, truth)
    moved = np.roll(found == 2, 10, axis=0)
    found = np.where(found == 2, 0, found)
    found = np.where(moved & (found == 0), 2, found)
    for name, labels in (("truth", truth), ("found", found)):
        write_labels(tmp_path / name / "a.tif", labels.astype(np.int32))
    return tmp_path


def test_f1_and_seg_of_a_stack_count_its_objects(folders):
    scores = evaluate_folders(folders / "found", folders / "truth").pooled
    assert (scores.tp, scores.fp, scores.fn) == (6, 1, 2)
    assert scores.f1 == pytest.approx(12 / 15) and scores.seg == pytest.approx(6 / 8)


def test_true_stacks_of_other_programs_need_no_axes(folders):
    truth = tifffile.imread(folders / "truth" / "a.tif").astype(np.uint16)
    tifffile.imwrite(folders / "truth" / "a.tif", truth)
    assert evaluate_folders(folders / "found", folders / "truth").pooled.tp == 6


def test_objects_near_any_side_of_a_stack_can_be_left_out(folders):
    scores = evaluate_folders(folders / "found", folders / "truth", border=12).pooled
    assert scores.n_true == 0


def test_a_stack_is_not_scored_against_a_plane(folders):
    plane = tifffile.imread(folders / "truth" / "a.tif")[0]
    tifffile.imwrite(folders / "truth" / "a.tif", plane)
    with pytest.raises(InputError, match=r"must have the shape of their image. Got \(40, 40\)"):
        evaluate_folders(folders / "found", folders / "truth")


def test_pieces_of_a_stack_are_not_numbered(folders):
    with pytest.raises(InputError, match=r"components is for images without planes. Got the stack"):
        evaluate_folders(folders / "found", folders / "truth", instances="components")
