"""The merge: its table of pixels as the docs print it, its rules for objects, and ids."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scenes import disc, discs_scene, two_touching_discs

from oce2stardist.errors import InputError
from oce2stardist.training_labels import merge
from oce2stardist.training_labels.merge import (
    MAX_ID,
    infer_background,
    keep_cells,
    merge_annotations,
)

SHAPE = (60, 100)
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "merge.md").read_text(encoding="utf-8")


def unknown(shape=SHAPE):
    return np.full(shape, -1, np.int32)


def boxes(*corners, size=10):
    """Squares with ids 1, 2, ... on background."""
    labels = np.zeros(SHAPE, np.int32)
    for i, (y, x) in enumerate(corners, start=1):
        labels[y : y + size, x : x + size] = i
    return labels


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


def test_one_shared_pixel_drops_a_pseudo_object_entirely():
    annotations = unknown()
    annotations[20:30, 20:30] = 4
    pseudo_labels = boxes((20, 29), (20, 40), (30, 20))  # the third only touches
    merged = merge_annotations(pseudo_labels, annotations)
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
    pseudo_labels = boxes((20, 55))
    merged = merge_annotations(pseudo_labels, annotations, background_distance=distance)
    near = disc(SHAPE, (30, 50), distance)
    assert np.array_equal(merged.sparse == 0, near & (annotations == -1) & (pseudo_labels == 0))
    assert np.array_equal(merged.sparse == 1, annotations == 1)


def test_without_annotations_pseudo_labels_pass_through():
    pseudo_labels = boxes((5, 5), (20, 50))
    merged = merge_annotations(pseudo_labels, unknown())
    assert np.all(merged.sparse == -1)
    assert np.array_equal(merged.pseudo, pseudo_labels)
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


@pytest.mark.parametrize("annotations", [unknown(), np.zeros(SHAPE, np.int32)])
def test_images_without_a_cell_have_no_objects_but_a_table(annotations):
    for pseudo_labels in (None, boxes((5, 5), (40, 40)) * (annotations == 0)):
        merged = merge_annotations(pseudo_labels, annotations)
        assert np.array_equal(merged.sparse, annotations)
        assert merged.objects.empty and "confidence" in merged.objects


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
    pseudo_labels = np.roll(ids[truth], (2, 3), (0, 1)) * 3
    before = annotations.copy(), pseudo_labels.copy()
    merged = merge_annotations(pseudo_labels, annotations, background_distance=0)

    assert np.array_equal(merged.sparse, annotations)
    assert np.array_equal(merged.pseudo[annotations >= 0], annotations[annotations >= 0])
    assert np.array_equal(annotations, before[0])
    assert np.array_equal(pseudo_labels, before[1])
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
            assert np.all(pseudo_labels[of_object] == row["pseudo_id"])
            assert not np.any(annotations[pseudo_labels == row["pseudo_id"]] > 0)


def test_renaming_pseudo_objects_changes_only_their_recorded_ids():
    annotations = unknown()
    annotations[20:30, 20:30] = 2
    pseudo_labels = boxes((5, 5), (40, 40), (22, 22))
    plain = merge_annotations(pseudo_labels, annotations)
    renamed = merge_annotations(pseudo_labels * 100_000, annotations)
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


# The table of pixels: each row is read from the docs and tried


def table_of_docs(heading):
    """Cells of the first table below a heading, without its head."""
    section = DOCS.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def table_of_docstring():
    """The same table of the module's docstring, by the columns that its ruler marks."""
    lines = merge.__doc__.splitlines()
    first, middle, last = [i for i, line in enumerate(lines) if re.fullmatch("=+ +.*=", line)][:3]
    columns = [match.span() for match in re.finditer("=+", lines[first])]
    ends = [start for start, _ in columns[1:]] + [None]
    return [
        [line[start:end].strip() for (start, _), end in zip(columns, ends, strict=True)]
        for line in lines[middle + 1 : last]
    ]


ROWS = table_of_docs("Every pixel")


def test_docstring_and_docs_print_the_same_table():
    in_words = [[cell.split(",")[0] for cell in row[3:]] for row in table_of_docstring()]
    assert in_words == [row[3:] for row in ROWS]
    assert [row[:3] for row in table_of_docstring()] == [row[:3] for row in ROWS]


def scene(annotated, found, *, near):
    """An image whose pixel (30, 50) is what a row of the table says.

    The annotated cell 6 ends 5 pixels from it if it is to be near, else 45.
    """
    annotations, pseudo_labels = unknown(), np.zeros(SHAPE, np.int32)
    annotations[25:35, 40:46] = 6
    if not near:
        annotations = np.roll(annotations, -40, axis=1)
    place = np.s_[28:33, 48:53]
    annotations[place] = {"cell": 8, "0": 0, "-1": -1}[annotated]
    if found == "-1":
        pseudo_labels[place] = -1
    elif found.startswith("object"):
        pseudo_labels[place] = 3
    if found == "object, dropped":
        pseudo_labels[33:40, 48:53] = 3
        annotations[33:40, 48:53] = 0  # more than half of it
    elif found == "object, piece cut off":
        pseudo_labels[33:45, 48:53] = 3
        annotations[33, 48:53] = 0
    return annotations, None if found == "none for the image" else pseudo_labels


@pytest.mark.parametrize("row", ROWS, ids=" | ".join)
def test_every_row_of_the_table_holds(row):
    annotated, found, near, *results = row
    every = ["0", "-1", "object, kept", "object, dropped", "none for the image"]
    for pseudo in every if found == "any" else [found]:
        for is_near in {"yes": [True], "no": [False], "any": [True, False]}[near]:
            annotations, pseudo_labels = scene(annotated, pseudo, near=is_near)
            merged = merge_annotations(pseudo_labels, annotations, background_distance=20)
            for result, labels in zip(results, (merged.sparse, merged.pseudo), strict=True):
                at = int(labels[30, 50])
                if result == "object":
                    assert at == 7  # the one behind the annotated 6
                else:
                    assert at == (8 if result == "cell" else int(result))


# The named cases


def overlap_of(n_pixels):
    """A pseudo object of 100 pixels of which so many lie on a much larger annotated cell."""
    annotations = unknown()
    annotations[10:40, 10:40] = 4
    pseudo_labels = np.zeros(SHAPE, np.int32)
    inside = n_pixels // 10
    pseudo_labels[20:30, 40 - inside : 50 - inside] = 1
    return annotations, pseudo_labels


@pytest.mark.parametrize("percent", [10, 30, 70])
def test_an_object_may_overlap_cells_by_the_given_share_and_no_more(percent):
    annotations, pseudo_labels = overlap_of(percent)
    assert np.count_nonzero((pseudo_labels > 0) & (annotations > 0)) == percent
    kept = merge_annotations(pseudo_labels, annotations, overlap=percent / 100)
    assert (kept.pseudo == 5).sum() == 100 - percent
    assert (kept.pseudo == 4).sum() == 900
    assert kept.objects.query("id == 5")["area"].tolist() == [100 - percent]
    dropped = merge_annotations(pseudo_labels, annotations, overlap=percent / 100 - 0.001)
    assert set(np.unique(dropped.pseudo)) == {0, 4}


@pytest.mark.parametrize("overlap", [0, 0.5, 0.99])
def test_an_object_around_an_annotated_cell_is_dropped_whatever_the_share(overlap):
    # A ninth of the object: its share alone would let it stay, as a ring.
    annotations = unknown()
    annotations[25:35, 45:55] = 2
    pseudo_labels = np.zeros(SHAPE, np.int32)
    pseudo_labels[15:45, 35:65] = 7
    merged = merge_annotations(pseudo_labels, annotations, overlap=overlap)
    assert np.array_equal(merged.pseudo, np.where(annotations == 2, 2, 0))
    # inside of the dropped object nothing is known
    assert np.all(merged.sparse[(pseudo_labels == 7) & (annotations < 0)] == -1)


@pytest.mark.parametrize("shape", ["open", "ring of corners"])
def test_an_object_left_open_stays_and_one_closed_by_corners_does_not(shape):
    annotations = unknown()
    annotations[25:30, 45:50] = 1
    pseudo_labels = np.zeros(SHAPE, np.int32)
    pseudo_labels[20:30, 40:55] = 7  # the cell is at its lower edge
    if shape == "ring of corners":
        pseudo_labels[30, 45:50] = 7
    merged = merge_annotations(pseudo_labels, annotations, overlap=0.5)
    assert (merged.pseudo == 2).sum() == (125 if shape == "open" else 0)


def test_an_object_that_cells_and_background_cover_whole_is_dropped():
    annotations = unknown()
    annotations[10:50, 20:26] = 1
    annotations[10:50, 26:30] = 0
    merged = merge_annotations(boxes((20, 20)), annotations, overlap=0.7)
    assert merged.objects["source"].tolist() == ["manual"]
    assert np.array_equal(merged.pseudo == 1, annotations == 1)


@pytest.mark.parametrize("value", [0, 5])
def test_of_the_pieces_that_a_cut_leaves_the_largest_stays(value):
    # A line through the object, known background or a large annotated cell.
    annotations = unknown()
    annotations[:, 24] = value
    merged = merge_annotations(
        boxes((20, 20), (40, 60)), annotations, overlap=0.2, background_distance=0
    )
    first = annotations.max() + 1 if value else 1
    kept = np.zeros(SHAPE, bool)
    kept[20:30, 25:30] = True
    assert np.array_equal(merged.pseudo == first, kept)
    assert np.all(merged.pseudo[20:30, 20:24] == -1)
    assert merged.objects.query("source == 'pseudo'")["area"].tolist() == [50, 100]


def test_of_equal_pieces_the_first_stays_and_corners_hold_pieces_together():
    annotations = unknown()
    annotations[20:30, 24:26] = 0
    merged = merge_annotations(boxes((20, 20)), annotations)
    assert np.array_equal(np.argwhere(merged.pseudo == 1)[[0, -1]], [[20, 20], [29, 23]])
    annotations = unknown()
    annotations[20:25, 20:25] = annotations[25:30, 25:30] = 0
    merged = merge_annotations(boxes((20, 20)), annotations)
    assert (merged.pseudo == 1).sum() == 50


def test_objects_that_lose_no_pixel_may_lie_in_pieces():
    pseudo_labels = boxes((5, 5), (40, 40))
    pseudo_labels[pseudo_labels == 2] = 1
    annotations = unknown()
    annotations[0, 99] = 0
    assert np.array_equal(merge_annotations(pseudo_labels, annotations).pseudo, pseudo_labels)


def test_near_a_cell_on_the_border_background_is_known_inside_the_image():
    annotations = unknown()
    annotations[:5, :5] = 3
    merged = merge_annotations(np.zeros(SHAPE, np.int32), annotations, background_distance=10)
    y, x = np.indices(SHAPE)
    from_cell = np.hypot(np.maximum(y - 4, 0), np.maximum(x - 4, 0))
    expected = np.where(from_cell <= 10, 0, -1)
    expected[:5, :5] = 3
    assert np.array_equal(merged.sparse, expected)


def test_sparse_labels_are_those_that_infer_background_makes():
    annotations, pseudo_labels = overlap_of(30)
    merged = merge_annotations(pseudo_labels, annotations, background_distance=7)
    sparse = infer_background(annotations, pseudo_labels, background_distance=7)
    assert np.array_equal(merged.sparse, sparse)
    assert np.array_equal(infer_background(sparse, pseudo_labels, background_distance=0), sparse)


@pytest.mark.parametrize("overlap", [-0.1, 1, math.nan])
def test_shares_out_of_range_are_refused(overlap):
    with pytest.raises(InputError, match=f"overlap must be .* Got {overlap};"):
        merge_annotations(None, unknown(), overlap=overlap)


# Ids


@pytest.mark.parametrize("first", [1, 255, 65_535, 65_536, 2**24, 2**31 - 200])
def test_large_ids_with_gaps_merge_as_small_ones_do(first):
    annotations = unknown()
    annotations[20:30, 20:30], annotations[50:55, 80:85] = 1, 2
    pseudo_labels = boxes((5, 5), (22, 22), (40, 40), (50, 70))
    merged = merge_annotations(pseudo_labels, annotations)
    rename = np.array([-1, 0, first, first + 77])  # of -1, 0, 1, 2
    large = merge_annotations(
        np.where(pseudo_labels > 0, first + 40 * pseudo_labels, 0), rename[annotations + 1]
    )
    assert large.pseudo.dtype == large.sparse.dtype == np.int32
    assert np.array_equal(large.sparse, rename[merged.sparse + 1])
    ids = np.array([-1, 0, first, first + 77, first + 78, first + 79, first + 80])
    assert np.array_equal(large.pseudo, ids[merged.pseudo + 1])
    assert large.objects["id"].tolist() == ids[2:].tolist()
    assert large.objects["pseudo_id"].tolist() == [-1, -1, first + 40, first + 120, first + 160]


def test_behind_the_largest_id_pseudo_objects_take_free_ones():
    annotations = unknown()
    annotations[0, 0], annotations[0, 10], annotations[0, 20] = MAX_ID, 1, 3
    merged = merge_annotations(
        boxes((20, 20), (40, 40), (20, 60)), annotations, confidence={2: 0.5}, reserved_ids=[4]
    )
    assert merged.pseudo[0, 0] == merged.sparse[0, 0] == MAX_ID
    assert merged.pseudo[[25, 45, 25], [25, 45, 65]].tolist() == [2, 5, 6]
    table = merged.objects.set_index("id")
    assert table.index.tolist() == [1, 2, 3, 5, 6, MAX_ID]
    assert table["pseudo_id"].tolist() == [-1, 1, -1, 2, 3, -1]
    assert table["source"].tolist() == ["manual", "pseudo", "manual", "pseudo", "pseudo", "manual"]
    assert table["confidence"].tolist() == [1, 1, 1, 0.5, 1, 1]


def test_reserved_ids_stay_free():
    annotations = unknown()
    annotations[0, 0] = 2
    merged = merge_annotations(boxes((20, 20)), annotations, reserved_ids=[9, 5])
    assert merged.objects["id"].tolist() == [2, 10]


def test_ids_beyond_int32_are_refused():
    annotations = unknown().astype(np.int64)
    annotations[0, 0] = 2**31
    for function in (merge_annotations, lambda _, given: infer_background(given, None)):
        with pytest.raises(InputError, match=f"at most {MAX_ID}. Got {MAX_ID + 1};"):
            function(None, annotations)


# scenes


def test_scenes_hold_the_cells_they_promise():
    image, labels = discs_scene(20, (160, 200), 10, seed=0)
    again, _ = discs_scene(20, (160, 200), 10, seed=0)
    assert np.array_equal(image, again)
    assert (image.dtype, labels.dtype) == (np.float32, np.int32)
    areas = np.bincount(labels.ravel())[1:]
    assert len(areas) == 20
    assert areas.min() > np.pi * (0.75 * 10) ** 2
    assert areas.max() < np.pi * (1.25 * 10) ** 2
    assert image[labels > 0].min() > image[labels == 0].mean()
    with pytest.raises(ValueError, match=r"of 50 fit into \(60, 60\)"):
        discs_scene(50, (60, 60), 10, seed=0)
