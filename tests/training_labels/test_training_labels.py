"""Annotations and pseudo labels become training labels: what is known, held back, recorded."""

import logging

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import disc

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.pseudo_labels.files import PseudoLabels, read_pseudo_labels
from oce2stardist.runners.merge import merge_run
from oce2stardist.training_labels.draw_cells import CellDraw, draw_held_back, split_folds
from oce2stardist.training_labels.files import read_cells, write_training_labels
from oce2stardist.training_labels.make import make_training_labels, object_weights

SHAPE = (100, 160)
CENTRES = [(20, 20), (20, 60), (20, 100), (70, 30), (70, 80), (70, 130)]
NEAR = Config(merge={"background_distance": 15.0})


def cells(ids=range(1, 7), radius=8, *, elsewhere=0):
    labels = np.full(SHAPE, elsewhere, np.int32)
    for i in ids:
        labels[disc(SHAPE, CENTRES[i - 1], radius)] = i
    return labels


def annotated(ids, radius=8):
    return cells(ids, radius, elsewhere=-1)


def make(annotations, pseudo, *, share=0.0, held_back=None, confidence=None, seed=0, **given):
    """Training labels of all cells, or of those drawn; few are simulated where it says complete."""
    settings = {"background_distance": 15.0, "overlap": 0.0, "complete": False}
    draw = {key: given.pop(key) for key in ("fraction", "count", "per_image") if key in given}
    cells = given.pop("cells", None) or CellDraw(**draw).draw(annotations, seed=seed)
    if held_back is None:
        held_back = draw_held_back(cells, share=share, seed=seed)
    return make_training_labels(
        annotations,
        PseudoLabels(pseudo, confidence or {}),
        cells,
        held_back=held_back,
        **settings | given,
    )


def used(labels):
    return set(labels.cells[["image", "label"]].itertuples(index=False, name=None))


# What is known


@pytest.mark.parametrize(
    ("zero", "sampled", "expected"),
    [
        ("auto", False, False),
        ("auto", True, True),
        ("background", False, True),
        ("background", True, True),
        ("unlabelled", False, False),
        ("unlabelled", True, False),
    ],
)
def test_zero_is_background_if_said_or_if_few_annotations_are_simulated(zero, sampled, expected):
    draw = CellDraw(fraction=0.5 if sampled else None, zero=zero)
    assert draw.zero_is_background is expected


def test_background_is_inferred_where_neither_annotations_nor_pseudo_labels_have_a_cell():
    merged = make({"a": annotated([2])}, {"a": cells()})
    sparse = merged.sparse["a"]
    assert (sparse[cells([2]) > 0] == 2).all()
    assert sparse[20, 60 + 12] == 0  # near, and no cell of either kind
    assert sparse[20, 100] == -1  # a cell that only the pseudo labels know
    assert sparse[95, 5] == -1  # far away


def test_background_that_was_annotated_is_taken_as_it_is():
    merged = make({"a": cells([2])}, {"a": cells()})
    np.testing.assert_array_equal(merged.sparse["a"], cells([2]))
    assert (merged.objects["source"] == "manual").all()


def test_a_draw_from_annotations_that_are_not_complete_keeps_their_background():
    annotations = cells([1, 4])
    annotations[:, 80:] = -1
    merged = make({"a": annotated([2]), "b": annotations}, {}, count=1)
    ((stem, label),) = used(merged)
    expected = np.where(np.isin(annotations, [1, 4]), -1, annotations)
    if stem == "b":
        expected[annotations == label] = label
        near = disc(SHAPE, CENTRES[label - 1], 8 + 14) & (annotations < 0)
        assert (merged.sparse["b"][near] == 0).all()
    np.testing.assert_array_equal(
        np.where(annotations < 0, -1, merged.sparse["b"]), np.where(annotations < 0, -1, expected)
    )


def test_a_fraction_of_complete_annotations_knows_only_background_near_the_drawn_cells():
    merged = make({"a": cells(), "b": cells()}, {}, fraction=0.25, complete=True)
    assert len(merged.cells) == 3
    for stem, group in merged.cells.groupby("image"):
        kept = cells(group["label"])
        sparse = merged.sparse[stem]
        np.testing.assert_array_equal(np.where(sparse > 0, sparse, 0), kept)
        others = (cells() > 0) & (kept == 0)
        assert (sparse[others] == -1).all()
        assert (sparse == 0).any()


# Images of which something is missing


def test_an_image_annotated_with_background_only_trains_on_it():
    background = np.full(SHAPE, -1, np.int32)
    background[:50] = 0
    for share in (0.0, 0.5):
        merged = make({"a": background, "b": annotated([1, 2])}, {"a": cells()}, share=share)
        np.testing.assert_array_equal(merged.sparse["a"], background)
        np.testing.assert_array_equal(merged.pseudo["a"] > 0, cells([4, 5, 6]) > 0)
        assert "a" not in merged.held_back


def test_an_image_without_any_background_is_divided_by_cells():
    full = np.ones(SHAPE, np.int32)
    full[:, 80:] = 2
    merged = make({"a": full}, {"a": cells()}, share=0.5)
    ((_, held),) = used_as(merged, "held_back")
    np.testing.assert_array_equal(merged.held_back["a"], np.where(full == held, held, -1))
    np.testing.assert_array_equal(merged.sparse["a"], np.where(full == held, -1, full))


def test_without_pseudo_labels_only_sparse_labels_are_made():
    merged = make({"a": annotated([1, 2])}, {}, share=0.5)
    assert merged.pseudo == {}
    assert set(merged.sparse) == set(merged.held_back) == {"a"}
    assert set(merged.objects["source"]) == {"manual"}
    assert sorted(merged.objects["role"]) == ["held_back", "training"]


def test_images_without_annotations_are_in_the_pseudo_half_only():
    merged = make({"a": annotated([1])}, {"a": cells(), "b": cells()})
    assert set(merged.sparse) == {"a"}
    assert set(merged.pseudo) == {"a", "b"}
    np.testing.assert_array_equal(merged.pseudo["b"] > 0, cells() > 0)


# Which cells are used


def test_a_draw_that_was_saved_is_repeated_exactly_at_another_seed(tmp_path):
    both = {"001": cells(), "NA": cells()}
    first = make(both, {}, fraction=0.4, seed=3, share=0.5, complete=True)
    write_training_labels(tmp_path, first)
    drawn = CellDraw(listed_in=tmp_path / "cells.csv").draw(both, seed=8)
    again = make(both, {}, cells=drawn, complete=True)
    assert used(again) == used(first)
    assert len(again.cells) == 5
    elsewhere = make(both, {}, fraction=0.4, seed=8, complete=True)
    assert used(elsewhere) != used(first)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        ({"listed_in": "cells.csv", "fraction": 0.5}, "Got a list of cells and fraction=0.5"),
        ({"listed_in": "cells.csv", "count": 2}, "count=2"),
        ({"listed_in": "cells.csv", "per_image": True}, "per_image=True"),
        ({"per_image": True}, "Got neither fraction nor count"),
    ],
)
def test_draws_that_contradict_are_refused(draw, message):
    with pytest.raises(InputError, match=message):
        CellDraw(**draw).draw({"a": annotated([1, 2])}, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": {"a": [4]}}, "Got 4 in 'a', which has no such label"),
        ({"cells": {"z": [1]}}, "Got cells of 'z'"),
        ({"held_back": {"a": [4]}}, "among those used. Got 4 in 'a'"),
        ({"held_back": {"z": [1]}}, "among those used. Got 1 in 'z'"),
    ],
)
def test_cells_that_are_not_there_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make({"a": annotated([1, 2])}, {}, **arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,id\na,1\n", r"columns image, label\. Got image, id; label is missing"),
        ("image,label\na,first\n", "2147483647. Got 'first'"),
        ("image,label\na,0\n", "2147483647. Got '0'"),
        ("image,label\na,1.5\n", r"2147483647\. Got '1\.5'"),
        ("image,label\na,\n", "2147483647. Got ''"),
        (f"image,label\na,{2**31}\n", f"2147483647. Got '{2**31}'"),
        ("image,label\na,inf\n", "2147483647. Got 'inf'"),
        ("image,label\n", "name at least one cell"),
        ("", "can't be read as a table"),
        ("image,label\na,1,2,3\nb,1\nc,1,2,3,4,5\n", "can't be read as a table"),
        ("image,label\na,1,2\n", "can't be read as a table"),
        (None, "can't be read as a table"),
    ],
)
def test_lists_of_cells_that_say_something_else_are_refused(tmp_path, text, message):
    path = tmp_path / "cells.csv"
    if text is not None:  # of None there is no file
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_cells(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_of_cells_may_have_other_columns_any_order_and_large_ids(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text(f"role,label,image\nx,{2**31 - 1},b\nx,3,001\nx,70000,b\nx,3,001\n")
    assert read_cells(path) == {"001": [3], "b": [70_000, 2**31 - 1]}


# What is held back


def used_as(labels, role):
    chosen = labels.cells[labels.cells["role"] == role]
    return set(chosen[["image", "label"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("how", ["share", "fold"])
def test_held_back_cells_and_their_surroundings_are_unknown_in_training(how):
    fold = split_folds({"a": list(range(1, 7))}, 3, seed=0)[1]
    chosen = {"share": 0.34} if how == "share" else {"held_back": fold}
    merged = make({"a": cells()}, {"a": cells()}, fraction=1.0, complete=True, **chosen)
    held = merged.cells.query("role == 'held_back'")["label"].tolist()
    assert len(held) == 2
    if how == "fold":
        assert held == fold["a"]
    sparse, judged = merged.sparse["a"], merged.held_back["a"]
    for i in range(1, 7):
        place = cells([i]) > 0
        assert (judged[place] == (i if i in held else -1)).all()
        assert (sparse[place] == (-1 if i in held else i)).all()
    # Whatever is known is known to exactly one of the two.
    assert not ((sparse >= 0) & (judged >= 0)).any()
    assert (judged == 0).any()
    # In the pseudo half the held-back cells are still what the pseudo labels say.
    training = merged.objects.query("role == 'training'")["source"].value_counts()
    assert training.to_dict() == {"manual": 4, "pseudo": 2}


def test_every_known_background_pixel_follows_its_nearest_cell():
    merged = make({"a": cells()}, {}, held_back={"a": [2, 4]}, background_distance=0)
    y, x = np.indices(SHAPE)
    distances = np.stack([np.hypot(y - cy, x - cx) for cy, cx in CENTRES])  # discs of one radius
    first, second = np.sort(distances, axis=0)[:2]
    is_clear = (cells() == 0) & (second - first > 1.5)  # discs of pixels are not quite round
    is_held = np.isin(distances.argmin(axis=0) + 1, [2, 4])
    assert (merged.held_back["a"][is_clear & is_held] == 0).all()
    assert (merged.sparse["a"][is_clear & is_held] == -1).all()
    assert (merged.held_back["a"][is_clear & ~is_held] == -1).all()
    assert (merged.sparse["a"][is_clear & ~is_held] == 0).all()


def test_folds_in_turn_judge_every_cell_once_and_train_on_the_others():
    annotations = {"a": annotated(range(1, 7)), "b": annotated([1, 5])}
    drawn = {"a": list(range(1, 7)), "b": [1, 5]}
    judged = []
    for fold in split_folds(drawn, 3, seed=0):
        merged = make(annotations, {"a": cells()}, held_back=fold)
        judged += sorted(used_as(merged, "held_back"))
        assert used_as(merged, "training") | used_as(merged, "held_back") == used(merged)
        assert set(merged.held_back) == set(fold)
        for stem, labels in merged.held_back.items():
            assert sorted(set(labels[labels > 0].tolist())) == fold[stem]
    assert sorted(judged) == [(stem, label) for stem, ids in drawn.items() for label in ids]


def test_all_cells_may_be_held_back_by_name():
    merged = make({"a": annotated([1])}, {"a": cells()}, held_back={"a": [1]})
    assert merged.sparse == {}
    assert (merged.held_back["a"] == 1).sum() == (cells([1]) == 1).sum()


# Provenance


def test_every_object_has_a_row_with_where_it_came_from():
    merged = make(
        {"a": annotated([1, 2, 3], radius=7), "b": annotated([1])},
        {"a": 10 * cells(), "c": cells([6])},
        held_back={"a": [2]},
        confidence={"a": {20: 0.2, 40: 0.4, 50: 0.5}, "c": {}},
    )
    columns = ["image", "id", "source", "pseudo_id", "confidence", "role"]
    assert merged.objects[columns].to_numpy().tolist() == [
        ["a", 1, "manual", -1, 1.0, "training"],
        ["a", 3, "manual", -1, 1.0, "training"],
        ["a", 4, "pseudo", 20, 0.2, "training"],  # what is known of the held-back cell 2
        ["a", 5, "pseudo", 40, 0.4, "training"],
        ["a", 6, "pseudo", 50, 0.5, "training"],
        ["a", 7, "pseudo", 60, 1.0, "training"],
        ["a", 2, "manual", -1, 1.0, "held_back"],
        ["b", 1, "manual", -1, 1.0, "training"],
        ["c", 1, "pseudo", 6, 1.0, "training"],
    ]
    assert list(merged.objects) == [*columns[:4], "area", "y", "x", *columns[4:]]
    training = merged.pseudo | {"b": merged.sparse["b"]}
    kinds = {"held_back": merged.held_back, "training": training}
    for _, row in merged.objects.iterrows():
        place = np.argwhere(kinds[row["role"]][row["image"]] == row["id"])
        assert (row["area"], row["y"], row["x"]) == (len(place), *place.mean(axis=0))


def test_ids_are_used_once_in_an_image_even_by_held_back_cells():
    merged = make({"a": annotated([1, 4])}, {"a": cells()}, held_back={"a": [4]})
    assert not merged.objects.duplicated(["image", "id"]).any()
    assert merged.objects.query("source == 'pseudo'")["id"].min() > 4


def test_weights_of_objects_are_looked_up_by_id():
    merged = make(
        {"a": annotated([1, 2], radius=7)},
        {"a": cells(), "b": cells([3])},
        held_back={"a": [2]},
        confidence={"a": {2: 0.25, 3: 0.5, 4: 0.75}, "b": {3: 0.125}},
    )
    weights = object_weights(merged, "a")
    places = {1: 1.0, 2: 0.25, 3: 0.5, 4: 0.75, 5: 1.0, 6: 1.0}
    for i, weight in places.items():
        ids = np.unique(merged.pseudo["a"][cells([i], radius=7) > 0])
        assert [weights[one] for one in ids.tolist()] == [weight]
    assert weights.keys() == set(np.unique(merged.pseudo["a"][merged.pseudo["a"] > 0]).tolist())
    assert list(object_weights(merged, "b").values()) == [0.125]


# Files


def run_folder(path, pseudo_labels, *, confidence=None):
    for stem, labels in pseudo_labels.items():
        write_labels(path / "pseudo" / "labels" / f"{stem}.tif", labels)
    (path / "pseudo" / "stage.yaml").write_text("finished: true")
    rows = [
        (stem, label, 0.01 * label)
        for stem, labels in pseudo_labels.items()
        for label in np.unique(labels[labels > 0])
    ]
    table = pd.DataFrame(rows, columns=["image", "label", "confidence"])
    if confidence is not None:
        table["confidence"] = confidence
    table.to_csv(path / "pseudo" / "objects.csv", index=False)
    return path


def image_set(*stems):
    images = {stem: np.zeros((*SHAPE, 1), np.float32) for stem in stems}
    return ImageSet({stem: None for stem in stems}, images)


def test_pseudo_labels_come_with_their_confidences(tmp_path):
    run = run_folder(tmp_path, {"001": cells(), "b": cells([2]), "NA": cells([4])})
    read = read_pseudo_labels(run, image_set("001", "NA"))
    confidences = read.confidence
    assert set(read.labels) == {"001", "NA"}
    assert confidences["001"] == {i: pytest.approx(0.01 * i) for i in range(1, 7)}
    assert confidences["NA"] == {4: pytest.approx(0.04)}
    assert set(confidences) == {"001", "NA"}


def test_without_a_table_or_its_confidences_none_are_read(tmp_path):
    run = run_folder(tmp_path, {"a": cells()})
    table = pd.read_csv(run / "pseudo" / "objects.csv")
    table.drop(columns="confidence").to_csv(run / "pseudo" / "objects.csv", index=False)
    assert read_pseudo_labels(run, image_set("a")).confidence == {}
    (run / "pseudo" / "objects.csv").unlink()
    assert read_pseudo_labels(run, image_set("a")).confidence == {}


@pytest.mark.parametrize(
    ("confidence", "message"),
    [(1.5, "lie from 0 to 1. Got 1.5 instead"), ("sure", "must hold numbers: .*sure")],
)
def test_confidences_out_of_range_are_refused(tmp_path, confidence, message):
    run = run_folder(tmp_path, {"a": cells([1])}, confidence=confidence)
    with pytest.raises(InputError, match=message):
        read_pseudo_labels(run, image_set("a"))


def test_reading_pseudo_labels_needs_finished_ones_of_these_images(tmp_path):
    run = run_folder(tmp_path, {"a": cells()})
    with pytest.raises(InputError, match=r"such as x\.tif"):
        read_pseudo_labels(run, image_set("x"))
    (run / "pseudo" / "stage.yaml").unlink()
    with pytest.raises(InputError, match="Got no pseudo/labels in it"):
        read_pseudo_labels(run, image_set("a"))
    with pytest.raises(InputError, match="Got no pseudo/labels in it"):
        merge_run(tmp_path / "other", tmp_path)


def test_writing_again_leaves_no_label_of_an_earlier_merge(tmp_path):
    both = {"a": annotated([1, 2]), "b": annotated([3, 4])}
    first = make(both, {}, share=0.5)
    write_training_labels(tmp_path, first)
    second = make({"b": both["b"]}, {})
    (tmp_path / "sparse" / "notes.txt").write_text("mine")
    write_training_labels(tmp_path, second)
    written = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["b.tif", "cells.csv", "notes.txt", "objects.csv"]


def test_merging_a_run_writes_labels_provenance_and_drawn_cells(tmp_path):
    run = run_folder(tmp_path / "run", {"a": cells(), "b": cells()})
    write_labels(tmp_path / "annotations" / "a_masks.tif", cells([3], radius=9))
    merge_run(run, tmp_path / "annotations", config=NEAR)
    training = run / "training"
    sparse = read_labels(training / "sparse" / "a.tif")
    assert sparse.max() == 3
    assert sparse[95, 5] == -1
    assert not (training / "sparse" / "b.tif").exists()
    assert len(np.unique(read_labels(training / "pseudo" / "a.tif"))) == 7
    objects = pd.read_csv(training / "objects.csv")
    assert objects.query("source == 'manual'")[["image", "id"]].values.tolist() == [["a", 3]]
    assert len(objects) == 12
    pseudo = objects.query("source == 'pseudo'")
    np.testing.assert_allclose(pseudo["confidence"], 0.01 * pseudo["pseudo_id"])
    assert pd.read_csv(training / "cells.csv").values.tolist() == [["a", 3, "training"]]


def test_merging_a_run_repeats_the_draw_of_another(tmp_path):
    run = run_folder(tmp_path / "run", {"a": cells(), "b": cells()})
    for stem in ("a", "b"):
        write_labels(tmp_path / "annotations" / f"{stem}.tif", cells())
    first = merge_run(
        run, tmp_path / "annotations", cells=CellDraw(count=3), config=NEAR.replace(seed=1)
    )
    assert len(first.cells) == 3
    # Few annotations are simulated: only background near the drawn cells is known.
    assert all((labels == -1).mean() > 0.5 for labels in first.sparse.values())
    saved = tmp_path / "saved.csv"
    saved.write_bytes((run / "training" / "cells.csv").read_bytes())
    again = merge_run(
        run, tmp_path / "annotations", cells=CellDraw(listed_in=saved), config=NEAR.replace(seed=2)
    )
    for stem, labels in first.sparse.items():
        np.testing.assert_array_equal(again.sparse[stem], labels)


def test_merging_a_run_passes_on_what_the_annotations_say(tmp_path, caplog):
    run = run_folder(tmp_path / "run", {"a": cells()})
    for stem in ("a", "stray"):
        write_labels(tmp_path / "annotations" / f"{stem}.tif", cells([1]))
    with caplog.at_level(logging.WARNING, logger="oce2stardist"):
        merge_run(run, tmp_path / "annotations")
    assert "stray" in caplog.text


def merge(*arguments):
    return CliRunner().invoke(main, ["merge", *map(str, arguments)])


def test_the_command_draws_by_number_from_the_set_or_from_every_image(tmp_path):
    run = run_folder(tmp_path / "run", {"a": cells(), "b": cells()})
    for stem in ("a", "b"):
        write_labels(tmp_path / "masks" / f"{stem}.tif", cells())
    of_set = merge(run, "--annotations", tmp_path / "masks", "--cells", 1)
    assert of_set.output == (
        f"1 annotated cell and 11 pseudo objects in 2 images: {run}/training\n"
    )
    saved = (run / "training" / "cells.csv").rename(tmp_path / "saved.csv")
    of_each = merge(run, "--annotations", tmp_path / "masks", "--cells", 2, "--per-image")
    assert of_each.output.startswith("4 annotated cells and 8 pseudo objects in 2 images")
    again = merge(run, "--annotations", tmp_path / "masks", "--use-cells", saved, "--seed", 5)
    assert again.output == of_set.output
    assert (run / "training" / "cells.csv").read_bytes() == saved.read_bytes()


def test_the_command_takes_the_overlap_from_the_config(tmp_path):
    run = run_folder(tmp_path / "run", {"a": np.roll(cells([2]), 12, axis=1)})
    write_labels(tmp_path / "masks" / "a.tif", annotated([2]))
    (tmp_path / "lenient.yaml").write_text("merge: {overlap: 0.5}")
    strict = merge(run, "--annotations", tmp_path / "masks")
    lenient = merge(run, "--annotations", tmp_path / "masks", "--config", tmp_path / "lenient.yaml")
    assert "and 0 pseudo objects" in strict.output
    assert "and 1 pseudo object " in lenient.output


def test_the_command_refuses_draws_that_contradict_in_one_line(tmp_path):
    run = run_folder(tmp_path / "run", {"a": cells()})
    write_labels(tmp_path / "masks" / "a.tif", cells())
    refused = merge(run, "--annotations", tmp_path / "masks", "--cells", 2, "--fraction", 0.5)
    assert refused.exit_code == 2
    assert refused.output.endswith("Got fraction=0.5 and count=2; leave one out.\n")
    assert refused.output.count("\n") == 1
