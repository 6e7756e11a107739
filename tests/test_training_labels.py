"""Annotations and pseudo labels become training labels: what is known, held back, recorded."""

import numpy as np
import pandas as pd
import pytest
from scenes import disc

from oce2stardist.errors import InputError
from oce2stardist.io import read_labels, write_labels
from oce2stardist.runners.training_labels import make_training_labels, merge_run

SHAPE = (100, 160)
CENTRES = [(20, 20), (20, 60), (20, 100), (70, 30), (70, 80), (70, 130)]
SETTINGS = {
    "fraction": None,
    "zero": "auto",
    "held_back": 0.0,
    "background_distance": 15.0,
    "seed": 0,
}


def cells(ids=range(1, 7), radius=8):
    labels = np.zeros(SHAPE, np.int32)
    for i in ids:
        labels[disc(SHAPE, CENTRES[i - 1], radius)] = i
    return labels


def test_zero_is_unlabelled_unless_said_otherwise():
    merged = make_training_labels({"a": cells([2])}, {"a": cells()}, **SETTINGS)
    sparse = merged.sparse["a"]
    assert (sparse[cells([2]) > 0] == 2).all()
    assert sparse[20, 60 + 12] == 0  # near, and no cell of either kind
    assert sparse[20, 100] == -1  # a cell that only the pseudo labels know
    assert sparse[95, 5] == -1  # far away


def test_zero_can_mean_background_everywhere():
    merged = make_training_labels(
        {"a": cells([2])}, {"a": cells()}, **SETTINGS | {"zero": "background"}
    )
    np.testing.assert_array_equal(merged.sparse["a"], cells([2]))
    assert (merged.objects["source"] == "manual").all()


def test_a_fraction_of_complete_annotations_knows_only_background_near_the_drawn_cells():
    merged = make_training_labels({"a": cells(), "b": cells()}, {}, **SETTINGS | {"fraction": 0.25})
    assert len(merged.cells) == 3
    for stem, group in merged.cells.groupby("image"):
        kept = cells(group["label"])
        sparse = merged.sparse[stem]
        np.testing.assert_array_equal(np.where(sparse > 0, sparse, 0), kept)
        others = (cells() > 0) & (kept == 0)
        assert (sparse[others] == -1).all()
        assert (sparse == 0).any()


def test_rising_fractions_are_nested():
    drawn = []
    for fraction in (0.1, 0.3, 0.6, 1.0):
        merged = make_training_labels(
            {"a": cells(), "b": cells()}, {}, **SETTINGS | {"fraction": fraction}
        )
        drawn.append(set(merged.cells[["image", "label"]].itertuples(index=False, name=None)))
    assert drawn[0] < drawn[1] < drawn[2] < drawn[3]
    assert len(drawn[3]) == 12


def test_held_back_cells_and_their_surroundings_are_unknown_in_training():
    merged = make_training_labels(
        {"a": cells()}, {"a": cells()}, **SETTINGS | {"held_back": 0.34, "fraction": 1.0}
    )
    held = merged.cells.query("role == 'held_back'")["label"].tolist()
    assert len(held) == 2
    sparse, judged = merged.sparse["a"], merged.held_back["a"]
    for i in range(1, 7):
        place = cells([i]) > 0
        assert (judged[place] == (i if i in held else -1)).all()
        assert (sparse[place] == (-1 if i in held else i)).all()
    # Whatever is known is known to exactly one of the two.
    assert not ((sparse >= 0) & (judged >= 0)).any()
    assert (judged == 0).any()
    # In the pseudo half the held-back cells are still what the pseudo labels say.
    sources = merged.objects["source"].value_counts()
    assert sources.to_dict() == {"manual": 4, "pseudo": 2}


def test_a_single_cell_is_not_held_back():
    merged = make_training_labels({"a": cells([1])}, {}, **SETTINGS | {"held_back": 0.5})
    assert merged.cells["role"].tolist() == ["training"]
    assert merged.held_back == {}


def test_images_without_annotations_are_in_the_pseudo_half_only():
    merged = make_training_labels({"a": cells([1])}, {"a": cells(), "b": cells()}, **SETTINGS)
    assert set(merged.sparse) == {"a"}
    assert set(merged.pseudo) == {"a", "b"}
    np.testing.assert_array_equal(merged.pseudo["b"] > 0, cells() > 0)


def test_merging_a_run_writes_labels_provenance_and_drawn_cells(tmp_path):
    for stem in ("a", "b"):
        write_labels(tmp_path / "run" / "pseudo" / "labels" / f"{stem}.tif", cells())
    write_labels(tmp_path / "annotations" / "a_masks.tif", cells([3], radius=9))
    merge_run(tmp_path / "run", tmp_path / "annotations", background_distance=15.0)
    training = tmp_path / "run" / "training"
    assert read_labels(training / "sparse" / "a.tif").max() == 3
    assert not (training / "sparse" / "b.tif").exists()
    assert len(np.unique(read_labels(training / "pseudo" / "a.tif"))) == 7
    objects = pd.read_csv(training / "objects.csv")
    assert objects.query("source == 'manual'")[["image", "id"]].values.tolist() == [["a", 3]]
    assert len(objects) == 12
    assert pd.read_csv(training / "cells.csv").values.tolist() == [["a", 3, "training"]]


def test_merging_needs_pseudo_labels(tmp_path):
    with pytest.raises(InputError, match="Got no pseudo/labels in it"):
        merge_run(tmp_path, tmp_path)
