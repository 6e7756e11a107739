"""Which cells of an edited layer are annotations. Layers are edited here as a user would."""

import time

import numpy as np
import pytest
from scenes import disc, two_touching_discs

from oce2stardist.labels import remove_objects
from oce2stardist.napari_plugin.corrections import (
    SMALLEST,
    carry_over,
    confirm_cell,
    find_corrections,
)

SHAPE = (60, 100)
LEFT, RIGHT = disc(SHAPE, (30, 25), 10), disc(SHAPE, (30, 70), 10)


def pseudo_labels():
    """Two discs, 4 and 7, far from each other."""
    return np.where(LEFT, 4, np.where(RIGHT, 7, 0)).astype(np.int32)


def annotated(found):
    """The pixels of every annotated cell."""
    ids = np.unique(found.annotations[found.annotations > 0])
    assert ids.tolist() == list(range(1, found.n_cells + 1))
    return [found.annotations == label for label in ids]


@pytest.mark.parametrize("label", [4, 99])
def test_pseudo_labels_that_are_untouched_or_only_recoloured_are_no_annotations(label):
    found = find_corrections(np.where(LEFT, label, pseudo_labels()), pseudo_labels())
    assert found.n_cells == 0 and found.n_erased == 0
    assert (found.annotations == -1).all()


def test_every_cell_of_a_layer_drawn_from_scratch_is_an_annotation():
    found = find_corrections(pseudo_labels())
    assert [cell.tolist() for cell in annotated(found)] == [LEFT.tolist(), RIGHT.tolist()]
    assert (found.annotations[~LEFT & ~RIGHT] == -1).all()


@pytest.mark.parametrize("label", [20, 4])
def test_a_new_cell_is_an_annotation_alone_also_with_the_label_of_another(label):
    new = disc(SHAPE, (12, 48), 8)
    labels = np.where(new, label, pseudo_labels())
    (cell,) = annotated(find_corrections(labels, pseudo_labels()))
    np.testing.assert_array_equal(cell, new)


def test_two_new_cells_painted_with_one_label_are_two():
    new = disc(SHAPE, (12, 48), 6) | disc(SHAPE, (48, 48), 6)
    assert find_corrections(np.where(new, 20, pseudo_labels()), pseudo_labels()).n_cells == 2


def test_a_cell_that_grew_is_an_annotation_as_it_is_now():
    larger = disc(SHAPE, (30, 25), 12)
    labels = np.where(larger, 4, pseudo_labels())
    (cell,) = annotated(find_corrections(labels, pseudo_labels()))
    np.testing.assert_array_equal(cell, larger)


def test_a_cell_that_was_trimmed_is_an_annotation_and_what_was_cut_off_is_background():
    smaller = disc(SHAPE, (30, 25), 7)
    labels = pseudo_labels()
    labels[LEFT & ~smaller] = 0
    found = find_corrections(labels, pseudo_labels())
    (cell,) = annotated(found)
    np.testing.assert_array_equal(cell, smaller)
    np.testing.assert_array_equal(found.annotations == 0, LEFT & ~smaller)
    assert found.n_erased == 0


def test_an_erased_object_is_known_background_and_no_cell():
    labels = remove_objects(pseudo_labels(), [7])
    found = find_corrections(labels, pseudo_labels())
    assert found.n_cells == 0 and found.n_erased == 1
    np.testing.assert_array_equal(found.annotations == 0, RIGHT)


def test_what_is_left_under_a_cell_drawn_over_an_object_is_unknown():
    smaller = disc(SHAPE, (30, 25), 7)
    labels = np.where(smaller, 20, pseudo_labels())
    found = find_corrections(labels, pseudo_labels())
    (cell,) = annotated(found)
    np.testing.assert_array_equal(cell, smaller)
    assert (found.annotations[LEFT & ~smaller] == -1).all()


def test_objects_joined_are_one_annotation_and_of_one_split_it_is_the_repainted_half():
    two = two_touching_discs()
    one = np.minimum(two, 1)
    (joined,) = annotated(find_corrections(one, two))
    np.testing.assert_array_equal(joined, two > 0)
    (half,) = annotated(find_corrections(two, one))
    np.testing.assert_array_equal(half, two == 2)


@pytest.mark.parametrize(("side", "n_cells"), [(SMALLEST - 1, 0), (SMALLEST, 1)])
def test_a_slip_of_the_brush_is_no_cell(side, n_cells):
    labels = pseudo_labels()
    labels[2, 40 : 40 + side] = 20
    assert find_corrections(labels, pseudo_labels()).n_cells == n_cells


def test_a_confirmed_cell_is_an_annotation_though_nothing_changed():
    baseline = confirm_cell(pseudo_labels(), pseudo_labels(), 7)
    (cell,) = annotated(find_corrections(pseudo_labels(), baseline))
    np.testing.assert_array_equal(cell, RIGHT)


def test_an_image_covered_by_one_cell_and_the_largest_unsigned_labels_are_counted():
    assert find_corrections(np.ones((20, 20), np.int32)).n_cells == 1
    labels = np.where(LEFT, 2**31 - 1, np.where(RIGHT, 2**31 - 2, 0)).astype(np.uint32)
    assert find_corrections(labels).n_cells == 2


def test_annotations_put_into_new_pseudo_labels_are_found_again():
    pseudo = pseudo_labels()
    larger = disc(SHAPE, (30, 25), 12)
    annotations = np.where(larger, 1, np.where(RIGHT, 0, -1)).astype(np.int32)
    labels, baseline = carry_over(annotations, pseudo)
    np.testing.assert_array_equal(labels > 0, larger)
    np.testing.assert_array_equal(find_corrections(labels, baseline).annotations, annotations)
    assert pseudo.tolist() == pseudo_labels().tolist()


def test_pseudo_objects_beside_carried_over_annotations_stay_pseudo():
    annotations = np.where(disc(SHAPE, (30, 25), 12), 1, -1).astype(np.int32)
    labels, baseline = carry_over(annotations, pseudo_labels())
    assert (labels[RIGHT] > 0).all()
    assert (find_corrections(labels, baseline).annotations[RIGHT] == -1).all()


def test_counting_in_a_large_image_is_quick_enough_for_every_stroke():
    pseudo = np.kron(np.arange(1, 10_001).reshape(100, 100), np.pad(np.ones((12, 12), int), 4))
    labels = pseudo.copy()
    labels[300:320, 300:320] = 20_000
    started = time.process_time()
    assert find_corrections(labels, pseudo).n_cells == 1
    assert time.process_time() - started < 2
