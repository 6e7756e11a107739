import math
from itertools import pairwise

import numpy as np
import pytest
from scenes import disc, discs_scene, empty_image, two_touching_discs

from oce2stardist.errors import InputError
from oce2stardist.merge import MAX_ID, draw_cells, keep_cells, merge_annotations

SHAPE = (60, 100)


def image_set():
    """Ten images of eight cells each; ids have gaps, and two images have no cell."""
    images = {f"image{k}": discs_scene(8, (80, 80), 6, seed=k)[1] * (k + 2) for k in range(10)}
    return images | {"empty": empty_image(), "unlabelled": empty_image() - 1}


def pairs(drawn):
    return {(name, i) for name, ids in drawn.items() for i in ids}


def unknown(shape=SHAPE):
    return np.full(shape, -1, np.int32)


def boxes(*corners, size=10):
    """Squares with ids 1, 2, ... on background."""
    labels = np.zeros(SHAPE, np.int32)
    for i, (y, x) in enumerate(corners, start=1):
        labels[y : y + size, x : x + size] = i
    return labels


# draw_cells


def test_draws_are_nested_as_the_fraction_rises():
    draws = [pairs(draw_cells(image_set(), fraction=f, seed=5)) for f in (0.001, 0.05, 0.1, 0.5, 1)]
    assert [len(draw) for draw in draws] == [1, 4, 8, 40, 80]
    for smaller, larger in pairwise(draws):
        assert smaller < larger


def test_counts_and_fractions_draw_the_same_cells():
    for n in (1, 8, 80):
        assert draw_cells(image_set(), count=n, seed=5) == draw_cells(
            image_set(), fraction=n / 80, seed=5
        )


def test_drawn_cells_are_cells_and_every_image_is_listed():
    images = image_set()
    drawn = draw_cells(images, fraction=1, seed=0)
    assert drawn == {
        name: np.unique(labels[labels > 0]).tolist() for name, labels in images.items()
    }
    assert drawn["empty"] == drawn["unlabelled"] == []
    assert all(type(i) is int for ids in drawn.values() for i in ids)


def test_draws_depend_on_the_seed_and_not_on_the_order_of_images():
    images = image_set()
    backwards = dict(reversed(images.items()))
    assert draw_cells(images, count=20, seed=1) == draw_cells(backwards, count=20, seed=1)
    assert draw_cells(images, count=20, seed=1) != draw_cells(images, count=20, seed=2)


def test_cells_are_drawn_over_the_set_and_not_per_image():
    # ten of eighty cells in ten images of eight
    drawn = draw_cells(image_set(), count=10, seed=0)
    assert max(len(ids) for ids in drawn.values()) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Got fraction=None and count=None"),
        ({"fraction": 0.5, "count": 3}, "Got fraction=0.5 and count=3"),
        ({"fraction": 0}, "at most 1. Got 0;"),
        ({"fraction": 1.5}, "at most 1. Got 1.5;"),
        ({"fraction": math.nan}, "at most 1. Got nan;"),
        ({"count": 0}, "the 2 annotated cells. Got 0;"),
        ({"count": 3}, "the 2 annotated cells. Got 3;"),
    ],
)
def test_draws_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        draw_cells({"discs": two_touching_discs()}, **arguments, seed=0)


def test_drawing_from_no_cell_is_refused():
    with pytest.raises(InputError, match="Got none in 1 images"):
        draw_cells({"empty": empty_image()}, fraction=1, seed=0)


# keep_cells


def test_keep_cells_knows_background_by_its_distance():
    truth = 70_000 * disc((90, 90), (45, 45), 8).astype(np.int32)
    annotations = keep_cells(truth, [70_000], background_distance=20)
    assert annotations.dtype == np.int32
    assert np.array_equal(annotations > 0, disc((90, 90), (45, 45), 8))
    assert annotations[45, 45] == 70_000
    # along the row through the centre the disc ends at 53
    assert annotations[45, 54] == annotations[45, 73] == 0
    assert annotations[45, 74] == -1
    assert (annotations == 0).sum() == pytest.approx(np.pi * (28**2 - 8**2), rel=0.03)


def test_keep_cells_hides_every_other_cell():
    truth = two_touching_discs()
    annotations = keep_cells(truth, [2])
    assert np.all(annotations[truth == 1] == -1)
    assert np.all(annotations[truth == 2] == 2)
    assert np.all(truth[annotations == 0] == 0)


def test_keep_cells_takes_no_unlabelled_pixel_for_background():
    truth = two_touching_discs()
    truth[:6] = -1
    annotations = keep_cells(truth, [1, 2], background_distance=1000)
    assert np.array_equal(annotations, truth)


@pytest.mark.parametrize(("ids", "distance"), [([], 30), ([1], 0)])
def test_keep_cells_knows_nothing_else_without_ids_or_distance(ids, distance):
    truth = two_touching_discs()
    annotations = keep_cells(truth, ids, background_distance=distance)
    assert np.array_equal(annotations, np.where(np.isin(truth, ids), truth, -1))


def test_keep_cells_refuses_cells_that_are_not_there():
    with pytest.raises(InputError, match=r"Got \[0, 7\]"):
        keep_cells(two_touching_discs(), [7, 1, 0])


def test_keep_cells_refuses_ids_beyond_int32():
    with pytest.raises(InputError, match=f"Got {2**31}"):
        keep_cells(two_touching_discs().astype(np.int64) * 2**31, [2**31])


# merge_annotations


def test_merge_follows_the_table_of_the_module():
    # five cases in columns 20 px wide: cell, known background, unknown x 3
    annotations = unknown((10, 100))
    annotations[:, :20] = 6
    annotations[:, 20:40] = 0
    pseudo_gt = np.zeros((10, 100), np.int32)
    pseudo_gt[2:4, 45:50] = 3  # kept
    pseudo_gt[6:8, 45:50] = -1
    pseudo_gt[6:8, 10:22] = 8  # on the annotated cell, so dropped
    merged = merge_annotations(pseudo_gt, annotations, background_distance=40)

    sparse = np.zeros((10, 100), np.int32)
    sparse[:, :20] = 6
    sparse[:, 60:] = -1  # the cell ends at 19
    sparse[2:4, 45:50] = -1
    sparse[6:8, 45:50] = -1
    pseudo = np.zeros((10, 100), np.int32)
    pseudo[:, :20] = 6
    pseudo[2:4, 45:50] = 7
    pseudo[6:8, 45:50] = -1
    assert np.array_equal(merged.sparse, sparse)
    assert np.array_equal(merged.pseudo, pseudo)
    assert merged.sparse.dtype == merged.pseudo.dtype == np.int32


def test_one_shared_pixel_drops_a_pseudo_object_entirely():
    annotations = unknown()
    annotations[20:30, 20:30] = 4
    pseudo_gt = boxes((20, 29), (20, 40), (30, 20))  # the third only touches
    merged = merge_annotations(pseudo_gt, annotations)
    assert np.all(merged.pseudo[20:30, 30:39] == 0)
    assert merged.objects["pseudo_id"].tolist() == [-1, 2, 3]
    # a dropped object still says that something may be there
    assert np.all(merged.sparse[20:30, 30:39] == -1)


@pytest.mark.parametrize(("columns", "kept"), [(0, 10), (4, 6), (5, 5), (6, 0), (10, 0)])
def test_known_background_cuts_pseudo_objects_or_drops_them(columns, kept):
    annotations = unknown()
    annotations[:, 20 : 20 + columns] = 0
    merged = merge_annotations(boxes((20, 20)), annotations)
    assert (merged.pseudo > 0).sum() == 10 * kept
    assert np.all(merged.pseudo[annotations == 0] == 0)
    assert np.all(merged.sparse[annotations == 0] == 0)
    assert merged.objects["area"].tolist() == ([10 * kept] if kept else [])


@pytest.mark.parametrize("distance", [0, 1, 7.5, 30])
def test_background_is_inferred_up_to_a_distance_outside_pseudo_objects(distance):
    annotations = unknown()
    annotations[30, 50] = 1
    pseudo_gt = boxes((20, 55))
    merged = merge_annotations(pseudo_gt, annotations, background_distance=distance)
    near = disc(SHAPE, (30, 50), distance)
    assert np.array_equal(merged.sparse == 0, near & (annotations == -1) & (pseudo_gt == 0))
    assert np.array_equal(merged.sparse == 1, annotations == 1)


def test_without_annotations_pseudo_labels_pass_through():
    pseudo_gt = boxes((5, 5), (20, 50))
    merged = merge_annotations(pseudo_gt, unknown())
    assert np.all(merged.sparse == -1)
    assert np.array_equal(merged.pseudo, pseudo_gt)
    assert set(merged.objects["source"]) == {"pseudo"}


def test_without_pseudo_labels_both_labels_are_the_annotations():
    annotations = unknown()
    annotations[30, 50] = 9
    annotations[:, 90:] = 0
    merged = merge_annotations(None, annotations, background_distance=0)
    assert np.array_equal(merged.sparse, annotations)
    assert np.array_equal(merged.pseudo, annotations)
    assert merged.objects.to_dict("records") == [
        {"id": 9, "source": "manual", "pseudo_id": -1, "area": 1, "y": 30, "x": 50, "confidence": 1}
    ]  # fmt: skip
    near = merge_annotations(None, annotations, background_distance=10)
    assert np.array_equal(near.sparse, near.pseudo)
    assert np.all(near.sparse[disc(SHAPE, (30, 50), 10) & (annotations < 0)] == 0)


def test_nothing_at_all_merges_into_nothing():
    merged = merge_annotations(None, unknown())
    assert np.all(merged.sparse == -1)
    assert len(merged.objects) == 0
    assert "confidence" in merged.objects


def test_complete_annotations_leave_no_room_for_pseudo_labels():
    truth = two_touching_discs()
    for annotations in (truth, truth.astype(np.uint16)):
        merged = merge_annotations(np.roll(truth, 3, axis=1), annotations)
        assert np.array_equal(merged.sparse, truth)
        assert np.array_equal(merged.pseudo, truth)


@pytest.mark.parametrize("seed", range(3))
def test_merge_keeps_every_annotated_cell_and_unique_ids(seed):
    _, truth = discs_scene(15, (150, 150), 10, seed)
    rng = np.random.default_rng(seed)
    ids = np.concatenate([[0], rng.choice(10**7, 15, replace=False) + 1]).astype(np.int32)
    annotations = keep_cells(ids[truth], rng.choice(ids[1:], 4, replace=False))
    pseudo_gt = np.roll(ids[truth], (2, 3), (0, 1)) * 3
    before = annotations.copy(), pseudo_gt.copy()
    merged = merge_annotations(pseudo_gt, annotations, background_distance=0)

    assert np.array_equal(merged.sparse, annotations)
    assert np.array_equal(merged.pseudo[annotations >= 0], annotations[annotations >= 0])
    assert np.array_equal(annotations, before[0])
    assert np.array_equal(pseudo_gt, before[1])
    objects = merged.objects.set_index("id")
    assert sorted(np.unique(merged.pseudo[merged.pseudo > 0])) == list(objects.index)
    assert (objects["source"] == "manual").sum() == 4
    assert len(objects) > 8
    for i, row in objects.iterrows():
        of_object = merged.pseudo == i
        y, x = np.nonzero(of_object)
        assert (row["area"], row["y"], row["x"]) == pytest.approx((len(y), y.mean(), x.mean()))
        if row["source"] == "pseudo":
            assert i > annotations.max()
            assert np.all(pseudo_gt[of_object] == row["pseudo_id"])
            assert not np.any(annotations[pseudo_gt == row["pseudo_id"]] > 0)


def test_renaming_pseudo_objects_changes_only_their_recorded_ids():
    annotations = unknown()
    annotations[20:30, 20:30] = 2
    pseudo_gt = boxes((5, 5), (40, 40), (22, 22))
    plain = merge_annotations(pseudo_gt, annotations)
    renamed = merge_annotations(pseudo_gt * 100_000, annotations)
    assert np.array_equal(plain.pseudo, renamed.pseudo)
    assert plain.objects["pseudo_id"].tolist() == [-1, 1, 2]
    assert renamed.objects["pseudo_id"].tolist() == [-1, 100_000, 200_000]


def test_confidence_is_looked_up_by_pseudo_id():
    annotations = unknown()
    annotations[50:55, 80:85] = 2  # the id of a pseudo object elsewhere
    merged = merge_annotations(
        boxes((5, 5), (20, 20), (20, 60)), annotations, confidence={2: 0.25, 3: 0.5}
    )
    assert merged.objects["source"].tolist() == ["manual", "pseudo", "pseudo", "pseudo"]
    assert merged.objects["id"].tolist() == [2, 3, 4, 5]
    assert merged.objects["confidence"].tolist() == [1.0, 1.0, 0.25, 0.5]


def test_shapes_that_differ_are_refused_with_both():
    with pytest.raises(InputError, match=r"Got \(60, 100\) and \(60, 99\)"):
        merge_annotations(boxes()[:, 1:], unknown())


@pytest.mark.parametrize("distance", [-1, math.nan])
def test_negative_distances_are_refused(distance):
    with pytest.raises(InputError, match=f"Got {distance};"):
        merge_annotations(None, unknown(), background_distance=distance)
    with pytest.raises(InputError, match=f"Got {distance};"):
        keep_cells(two_touching_discs(), [1], background_distance=distance)


def test_ids_beyond_int32_are_refused():
    annotations = unknown().astype(np.int64)
    annotations[0, 0] = MAX_ID
    assert merge_annotations(None, annotations).pseudo.max() == MAX_ID
    with pytest.raises(InputError, match=f"at most {MAX_ID}. Got {MAX_ID + 1};"):
        merge_annotations(boxes((20, 20)), annotations)
    annotations[0, 0] = 2**40
    with pytest.raises(InputError, match=f"Got {2**40};"):
        merge_annotations(None, annotations)


# scenes


def test_scenes_hold_the_cells_they_promise():
    image, labels = discs_scene(20, (160, 200), 10, seed=0)
    again, _ = discs_scene(20, (160, 200), 10, seed=0)
    assert np.array_equal(image, again)
    assert image.dtype == np.float32
    assert labels.dtype == np.int32
    areas = np.bincount(labels.ravel())[1:]
    assert len(areas) == 20
    assert areas.min() > np.pi * (0.75 * 10) ** 2
    assert areas.max() < np.pi * (1.25 * 10) ** 2
    assert image[labels > 0].min() > image[labels == 0].mean()
    with pytest.raises(ValueError, match=r"of 50 fit into \(60, 60\)"):
        discs_scene(50, (60, 60), 10, seed=0)
