"""Draws of annotated cells: nested, seeded, and complete when they are divided into folds."""

import math
from collections import Counter
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scenes import discs_scene, empty_image, two_touching_discs

from oce2stardist.errors import InputError
from oce2stardist.training_labels.draw_cells import (
    check_cells,
    draw_cells,
    draw_held_back,
    nest_cells,
    split_folds,
)


@pytest.fixture(scope="module")
def images():
    """Ten images of eight cells each; ids have gaps, and two images have no cell."""
    cells = {f"image{k}": discs_scene(8, (80, 80), 6, seed=k)[1] * (k + 2) for k in range(10)}
    return cells | {"empty": empty_image(), "unlabelled": empty_image() - 1}


def row_of_cells(count, *, first=1, step=1):
    """Cells of one pixel each, with regular gaps between their ids."""
    labels = np.full((1, count + 1), -1, np.int32)
    labels[0, :count] = first + step * np.arange(count)
    return labels


def pairs(drawn):
    return {(name, i) for name, ids in drawn.items() for i in ids}


def sizes(drawn):
    return {name: len(ids) for name, ids in drawn.items()}


# draw_cells


@pytest.mark.parametrize(
    ("how", "amounts", "of_set", "of_each"),
    [
        ("fraction", (0.001, 0.2, 0.3, 0.5, 1), [1, 16, 24, 40, 80], [10, 20, 20, 40, 80]),
        ("count", (1, 2, 5, 8), [1, 2, 5, 8], [10, 20, 50, 80]),
    ],
)
def test_draws_are_nested_as_they_grow(images, how, amounts, of_set, of_each):
    for per_image, expected in ((False, of_set), (True, of_each)):
        draws = [
            pairs(draw_cells(images, **{how: amount}, per_image=per_image, seed=5))
            for amount in amounts
        ]
        assert [len(draw) for draw in draws] == expected
        assert all(smaller <= larger for smaller, larger in pairwise(draws))


def test_counts_and_fractions_draw_the_same_cells(images):
    for n in (1, 8, 80):
        of_count = draw_cells(images, count=n, seed=5)
        assert of_count == draw_cells(images, fraction=n / 80, seed=5)
    of_count = draw_cells(images, count=2, per_image=True, seed=5)
    assert of_count == draw_cells(images, fraction=0.25, per_image=True, seed=5)


@pytest.mark.parametrize("per_image", [False, True])
def test_drawn_cells_are_cells_and_every_image_is_listed(images, per_image):
    drawn = draw_cells(images, fraction=1, per_image=per_image, seed=0)
    assert drawn == {
        name: np.unique(labels[labels > 0]).tolist() for name, labels in images.items()
    }
    assert drawn["empty"] == drawn["unlabelled"] == []
    assert all(type(i) is int for ids in drawn.values() for i in ids)


@pytest.mark.parametrize("per_image", [False, True])
def test_draws_depend_on_the_seed_and_not_on_the_order_of_images(images, per_image):
    def draw(images, seed):
        return draw_cells(images, count=4, per_image=per_image, seed=seed)

    assert draw(images, 1) == draw(dict(reversed(images.items())), 1)
    assert draw(images, 1) != draw(images, 2)


def test_cells_are_drawn_over_the_set_unless_per_image(images):
    # ten of eighty cells in ten images of eight
    assert max(sizes(draw_cells(images, count=10, seed=0)).values()) > 1
    each = sizes(draw_cells(images, fraction=0.1, per_image=True, seed=0))
    assert each == {name: int("image" in name) for name in images}


def test_images_of_one_set_are_drawn_from_independently():
    same = {name: row_of_cells(50) for name in ("a", "b")}
    drawn = draw_cells(same, count=25, per_image=True, seed=0)
    assert drawn["a"] != drawn["b"]
    assert draw_cells({"b": same["b"]}, count=25, per_image=True, seed=0)["b"] == drawn["b"]


def test_an_image_with_fewer_cells_than_asked_for_gives_all():
    images = {"few": row_of_cells(3), "many": row_of_cells(9)}
    drawn = draw_cells(images, count=5, per_image=True, seed=0)
    assert sizes(drawn) == {"few": 3, "many": 5}


def test_ids_up_to_the_largest_of_int32_are_drawn():
    labels = row_of_cells(3, first=2**31 - 3)
    assert draw_cells({"a": labels}, fraction=1, seed=0) == {"a": [2**31 - 3, 2**31 - 2, 2**31 - 1]}


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
        ({"count": 3, "per_image": True}, "the 2 annotated cells of the fullest image. Got 3;"),
    ],
)
def test_draws_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        draw_cells({"discs": two_touching_discs()}, **arguments, seed=0)


@pytest.mark.parametrize("per_image", [False, True])
def test_drawing_from_no_cell_is_refused(per_image):
    with pytest.raises(InputError, match="Got none in 1 image;"):
        draw_cells({"empty": empty_image()}, fraction=1, per_image=per_image, seed=0)


# check_cells


def test_named_cells_take_the_form_of_a_draw(images):
    drawn = draw_cells(images, count=20, seed=3)
    assert check_cells(images, drawn) == drawn
    backwards = {name: ids[::-1] for name, ids in drawn.items() if ids}
    assert check_cells(images, backwards) == drawn


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"a": [1, 9]}, "Got 9 in 'a', which has no such label"),
        ({"a": [0]}, "Got 0 in 'a'"),
        ({"a": [1], "b": [2]}, "Got cells of 'b', which has no annotations"),
        ({"a": [], "b": []}, "at least one annotated cell. Got none"),
    ],
)
def test_named_cells_that_are_not_annotated_are_refused(cells, message):
    with pytest.raises(InputError, match=message):
        check_cells({"a": row_of_cells(3)}, cells)


# draw_held_back


@pytest.mark.parametrize(
    ("n_cells", "share", "held"),
    [
        (10, 0.2, 2),
        (10, 0.0, 0),
        (10, 0.01, 1),  # at least one
        (2, 0.1, 1),
        (2, 0.9, 1),  # at least one is left
        (1, 0.5, 0),
        (0, 0.5, 0),
    ],
)
def test_a_share_is_held_back_but_neither_none_nor_all(n_cells, share, held):
    drawn = {"a": list(range(1, n_cells + 1)), "b": []}
    chosen = draw_held_back(drawn, share=share, seed=0)
    assert len(pairs(chosen)) == held
    assert pairs(chosen) <= pairs(drawn)


@pytest.mark.parametrize(
    "draw", [partial(draw_held_back, share=0.3), partial(split_folds, n_folds=3)]
)
def test_draws_of_drawn_cells_depend_on_the_seed_and_not_on_the_order_of_images(draw):
    drawn = {"a": list(range(1, 30)), "b": list(range(5, 50))}
    again = {"b": drawn["b"][::-1], "a": drawn["a"]}
    assert draw(drawn, seed=1) == draw(again, seed=1)
    assert draw(drawn, seed=1) != draw(drawn, seed=2)


@pytest.mark.parametrize("share", [1, -0.1, math.nan])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(InputError, match=f"below 1. Got {share};"):
        draw_held_back({"a": [1, 2]}, share=share, seed=0)


# split_folds


@pytest.mark.parametrize("n_folds", [2, 3, 7])
def test_folds_hold_every_cell_once_and_are_even_in_all_and_in_each_image(n_folds):
    drawn = {"a": [3, 5, 70_000, 2**31 - 1], "b": [], "c": list(range(1, 15)), "d": [8]}
    folds = split_folds(drawn, n_folds, seed=0)
    assert len(folds) == n_folds
    cells = Counter(cell for fold in folds for cell in pairs(fold))
    assert cells == Counter(pairs(drawn))
    in_all = [len(pairs(fold)) for fold in folds]
    assert max(in_all) - min(in_all) <= 1
    for name in drawn:
        of_image = [len(fold.get(name, [])) for fold in folds]
        assert max(of_image) - min(of_image) <= 1
    assert all(ids == sorted(ids) and ids for fold in folds for ids in fold.values())


@pytest.mark.parametrize("n_folds", [0, 1, 4])
def test_numbers_of_folds_out_of_range_are_refused(n_folds):
    with pytest.raises(InputError, match=f"number of cells, 3. Got {n_folds};"):
        split_folds({"a": [1, 2, 3]}, n_folds, seed=0)


def test_parts_lie_within_each_other_and_are_as_large_as_asked(images):
    drawn = draw_cells(images, fraction=1, seed=0)
    parts = [pairs(part) for part in nest_cells(drawn, (0.01, 0.25, 0.5, 1.0), 3)]
    assert [len(part) for part in parts] == [1, 20, 40, 80]
    assert all(smaller < larger for smaller, larger in pairwise(parts))
    assert parts[-1] == pairs(drawn)
    backwards = nest_cells(dict(reversed(drawn.items())), (0.25,), 3)[0]
    assert pairs(backwards) == parts[1]
    assert pairs(nest_cells(drawn, (0.25,), 4)[0]) != parts[1]
