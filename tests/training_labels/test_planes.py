"""The merge in stacks: outlines on single planes and the pseudo objects that they meet."""

import re
from pathlib import Path

import numpy as np
import pytest
from scenes import disc

from oce2stardist.labels import cut_cells
from oce2stardist.pseudo_labels.files import PseudoLabels
from oce2stardist.training_labels import planes
from oce2stardist.training_labels.make import make_training_labels
from oce2stardist.training_labels.merge import infer_background, merge_annotations

SHAPE = (21, 40, 60)
PLANE = 10  # the one that is annotated
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "merge.md").read_text(encoding="utf-8")


def ball(z, y, x, radius=8):
    return disc(SHAPE, (z, y, x), radius)


def on_plane(*cells, background=False, plane=PLANE):
    """Annotations of one plane: the sections of these cells there, numbered 5, 6, ..."""
    annotations = np.full(SHAPE, -1, np.int32)
    if background:
        annotations[plane] = 0
    for number, cell in enumerate(cells, start=5):
        annotations[plane][cell[plane]] = number
    return annotations


def merge(pseudo, annotations):
    return merge_annotations(pseudo.astype(np.int32), annotations, background_distance=0)


# What is a cut, and what is near


def test_a_cell_is_a_cut_unless_planes_that_follow_each_other_have_it():
    labels = np.zeros((6, 4, 4), np.int32)
    labels[0], labels[2, 0], labels[4, 0], labels[3:5, 3] = 0, 7, 7, 9
    assert cut_cells(labels).tolist() == [7]


def test_background_is_inferred_within_the_plane_only():
    annotations = np.full(SHAPE, -1, np.int32)
    annotations[PLANE, 20, 30] = 1
    sparse = infer_background(annotations, np.zeros(SHAPE, np.int32), background_distance=5)
    expected = disc(SHAPE[1:], (20, 30), 5) & (annotations[PLANE] < 0)
    assert np.array_equal(sparse[PLANE] == 0, expected)
    assert np.all(np.delete(sparse, PLANE, axis=0) == -1)


# The table of objects: its rows are read from the docs, each is tried


def rows_of_docs():
    section = DOCS.split("## Stacks: outlines on single planes\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def rows_of_docstring():
    lines = planes.__doc__.splitlines()
    rulers = [i for i, line in enumerate(lines) if re.fullmatch("=+ +.*=", line)]
    columns = [match.start() for match in re.finditer("=+", lines[rulers[0]])]
    return [
        [line[a:b].strip() for a, b in zip(columns, [*columns[1:], None], strict=True)]
        for line in lines[rulers[1] + 1 : rulers[2]]
    ]


def covers_a_cut():
    """The object is fatter than the cell, whose outline leaves a rim of it."""
    found = ball(10, 20, 30, 9)
    annotations = on_plane(ball(10, 20, 30, 6), background=True)
    expected = np.where(found, 5, 0)
    expected[PLANE] = annotations[PLANE]
    return found, annotations, expected


def lies_in_a_cut():
    """Two halves of a cell, of which neither covers more than half of the cut."""
    cell = ball(10, 20, 30)
    found = np.where(cell, 1, 0)
    found[:, :, 30:] *= 2
    found[:, :, 30] = 0
    return found, on_plane(cell, background=True), np.where((found > 0) | on_cut(cell), 5, 0)


def on_cut(cell):
    section = np.zeros(SHAPE, bool)
    section[PLANE] = cell[PLANE]
    return section


def joins_two_cuts():
    """One object is two cells side by side: each voxel goes to the nearer cut."""
    left, right = ball(10, 20, 22, 7), ball(10, 20, 38, 7)
    bridge = np.zeros(SHAPE, bool)
    bridge[9:12, 18:23, 28:33] = True
    expected = np.where(left | right | bridge, np.where(np.arange(60) < 30, 5, 6), 0)
    expected[PLANE] = np.where(left, 5, np.where(right, 6, 0))[PLANE]
    found = left | right | bridge
    # in the middle, x = 30, voxels are as near to one as to the other
    return found, on_plane(left, right, background=True), np.where(mid(found), -9, expected)


def mid(found):
    is_mid = np.zeros(SHAPE, bool)
    is_mid[:, :, 30] = True
    return is_mid & found


def refuted():
    found = ball(10, 20, 30)
    expected = np.where(found, -1, 0)
    expected[PLANE] = 0
    return found, on_plane(background=True), expected


def cut_away():
    """The plane sees background where the cap of an object ends."""
    found = ball(17, 20, 30)
    annotations = on_plane(background=True)
    expected = np.where(found, 1, 0)
    expected[: PLANE + 1][expected[: PLANE + 1] > 0] = -1
    expected[PLANE] = 0
    return found, annotations, expected


def untouched():
    found = disc(SHAPE, (16, 20, 30), 4)
    return found, on_plane(background=True), np.where(found, 1, 0)


SCENES = [covers_a_cut, lies_in_a_cut, joins_two_cuts, refuted, cut_away, untouched]


def test_docstring_and_docs_have_the_same_rows_and_each_has_a_scene():
    in_words = [[cell.replace("unlabelled", "-1") for cell in row] for row in rows_of_docstring()]
    assert in_words == rows_of_docs()
    assert len(SCENES) == len(in_words)


@pytest.mark.parametrize(
    ("row", "scene"),
    list(zip(rows_of_docs(), SCENES, strict=True)),
    ids=[scene.__name__ for scene in SCENES],
)
def test_every_row_of_the_table_holds(row, scene):
    found, annotations, expected = scene()
    merged = merge(found, annotations)
    assert np.array_equal(merged.sparse, annotations)
    is_sure = expected != -9
    assert np.array_equal(merged.pseudo[is_sure], expected[is_sure])
    if row[2] == "the cell nearest to it":
        assert set(np.unique(np.delete(merged.pseudo, PLANE, 0)[:, :, 30])) <= {0, 5, 6}


# Cases beside the table


def test_a_cut_that_meets_no_object_makes_its_surroundings_unknown():
    cell = ball(10, 20, 30, 6)
    merged = merge(np.zeros(SHAPE), on_plane(cell, background=True))
    radius = np.sqrt(cell[PLANE].sum() / np.pi)
    z = np.abs(np.arange(SHAPE[0]) - PLANE)
    column = merged.pseudo[:, 20, 30]
    assert np.array_equal(column == -1, (z > 0) & (z <= radius))
    assert np.all(merged.pseudo[PLANE] == np.where(cell[PLANE], 5, 0))


def test_distances_are_those_of_the_microscope_not_of_the_voxels():
    found = np.zeros(SHAPE, np.int32)
    found[4:11, 18:23, 10:50] = 1
    annotations = np.full(SHAPE, -1, np.int32)
    annotations[4, 18:23, 30:50] = 7
    annotations[10, 18:23, 10:30] = 8
    cubes = merge_annotations(found, annotations, voxel_size=(1.0, 1.0, 1.0)).pseudo
    thick = merge_annotations(found, annotations, voxel_size=(10.0, 1.0, 1.0)).pseudo
    # from the cut 7 it is 2 planes and 6 columns, from the cut 8 it is 4 planes
    assert cubes[6, 20, 24] == 8
    assert thick[6, 20, 24] == 7


def test_a_cell_outlined_on_planes_that_follow_drops_what_it_overlaps():
    cell = ball(10, 20, 30, 6)
    annotations = np.where(cell, 5, -1).astype(np.int32)
    merged = merge(ball(10, 20, 34), annotations)
    assert np.array_equal(merged.pseudo, np.where(cell, 5, 0))


def test_the_slim_end_of_a_neighbour_is_cut_and_not_claimed():
    cell, neighbour = ball(10, 20, 25, 7), ball(18, 20, 30)
    found = np.where(cell, 1, np.where(neighbour, 2, 0))
    merged = merge(found, on_plane(cell | neighbour & ball(10, 20, 30, 3), background=True))
    assert merged.pseudo[18, 20, 30] == 6  # behind the outlined 5: still its own
    assert merged.pseudo[8, 20, 25] == 5


def test_two_planes_of_one_cell_are_one_cell():
    cell = ball(10, 20, 30)
    annotations = np.full(SHAPE, -1, np.int32)
    for plane in (7, 13):
        annotations[plane] = np.where(cell[plane], 9, 0)
    merged = merge(cell, annotations)
    assert np.array_equal(merged.pseudo, np.where(cell, 9, 0))
    assert merged.objects.to_dict("records")[0] == pytest.approx(
        {
            "id": 9, "source": "manual", "pseudo_id": -1, "area": cell.sum(),
            "z": 10, "y": 20, "x": 30, "confidence": 1,
        }
    )  # fmt: skip


def test_pieces_that_do_not_hang_together_with_the_cut_are_unlabelled():
    found = ball(10, 20, 30, 6)
    found[:, 2:4, 2:4] = False
    found[18:, 2:8, 2:8] = True  # the same object, elsewhere
    annotations = on_plane(ball(10, 20, 30, 6))
    merged = merge(found, annotations)
    assert np.all(merged.pseudo[18:, 2:8, 2:8] == -1)
    assert merged.pseudo[7, 20, 30] == 5


def test_a_stack_that_has_cells_held_back_trains_on_the_others():
    left, right = ball(10, 20, 18, 6), ball(10, 20, 42, 6)
    annotations = on_plane(left, right, background=True)
    labels = make_training_labels(
        {"a": annotations},
        PseudoLabels({"a": np.where(left, 1, np.where(right, 2, 0)).astype(np.int32)}, {}),
        {"a": [5, 6]},
        held_back={"a": [6]},
        complete=False,
        background_distance=0.0,
        overlap=0.0,
    )
    assert np.array_equal(labels.sparse["a"] == 5, annotations == 5)
    assert not (labels.sparse["a"] == 6).any()
    assert np.array_equal(labels.held_back["a"] == 6, annotations == 6)
    assert np.array_equal(labels.pseudo["a"] == 5, left)
    assert labels.objects["z"].tolist() == [10, 10, 10]
    assert list(labels.objects)[:5] == ["image", "id", "source", "pseudo_id", "area"]
