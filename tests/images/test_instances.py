"""Scenes of discs as label images, and what people save in their place."""

import numpy as np
import pytest
from scenes import disc, two_touching_discs

from oce2stardist.errors import InputError
from oce2stardist.images.instances import as_instances, number_pieces, why_no_instances

SIDE = 120
CENTRES = [(y, x) for y in range(15, SIDE, 30) for x in range(15, SIDE, 30)]  # 16 cells


def cells(centres=CENTRES, *, side=SIDE, radius=7):
    labels = np.zeros((side, side), np.int32)
    for number, centre in enumerate(centres, start=1):
        labels[disc(labels.shape, centre, radius)] = number
    return labels


def many_cells(count=300):
    side = 6 * 20
    centres = [(y, x) for y in range(3, side, 6) for x in range(3, side, 6)][:count]
    return cells(centres, side=side, radius=2)


def halved(values):
    """Make an image half as large by the mean of four pixels, as resizing does."""
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) // 4


def noise(*, mean, spread):
    rng = np.random.default_rng(0)
    return rng.normal(mean, spread, (SIDE, SIDE)).round().clip(0).astype(np.int32)


def ring_of_ground():
    labels = cells() + 1
    labels[0] = 1  # the cells at the rim do not touch it
    return labels


NOT_INSTANCES = {
    "0 and 255": (255 * (cells() > 0), "label 255 in 16 pieces: a foreground mask"),
    "0 and 1": ((cells() > 0) * 1, "label 1 in 16 pieces"),
    "0 and 255, two cells side by side": (
        255 * (cells([(30, 30), (30, 50)]) > 0),
        "label 255 in 2 pieces",
    ),
    "two cells far apart": ((cells([(20, 20), (90, 90)]) > 0) * 1, "label 1 in 2 pieces"),
    "classes 1 and 2": (1 + (cells() > 0), "label 2 in 16 pieces"),
    "two classes of cells": ((cells() > 0) * (1 + cells() % 2), "label 1 in 8 pieces"),
    "grey rims": (halved(255 * (cells() > 0)), "of 4 labels in pieces far apart: grey rims"),
    "numbers interpolated": (halved(cells() * 10), "in pieces far apart: .* interpolated"),
    "the image": (noise(mean=500, spread=60), "or the image itself"),
    "the image, of many values": (noise(mean=30_000, spread=15_000), "labels of at most 2 pixels"),
    "numbers modulo 256": (many_cells() % 256, "1 to 4. several times and nothing above 255"),
    "numbers modulo 256, some missing": (
        np.where(many_cells(390) % 7 > 1, many_cells(390), 0) % 256,
        r"1 to 1\d\d several times and nothing above 25.: higher numbers began again",
    ),
    "numbers cut at 255": (many_cells().clip(0, 255), "many cells of number 255"),
    "the background has a number": (ring_of_ground(), r"label 1 on \d\d% of the image"),
    "one number everywhere": (np.full((9, 9), 255), "label 255 on 100% of the image"),
}


def cut_by_the_border():
    """A cell that is bent out of the image and comes back: two pieces of it are seen."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[:9, 40:50] = labels[:9, 58:68] = 1
    return labels


def with_slips():
    """Two of 16 cells have the number of another, as people slip."""
    labels = cells()
    labels[labels == 16] = 1
    labels[labels == 15] = 2
    return labels


def crossed():
    """A long cell over which another lies."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[50:56, 10:110] = 1
    labels[20:100, 55:65] = 2
    return labels


INSTANCES = {
    "cells": cells(),
    "none": np.zeros((9, 9), np.int32),
    "one cell": cells([(60, 60)]),
    "one cell of number 255": 255 * cells([(60, 60)]),
    "a few of many, unknown else": np.where(cells() > 3, -1, cells()),
    "a cell cut in two by the border": cut_by_the_border(),
    "a cell under another": crossed(),
    "slips": with_slips(),
    "exactly 255 cells": many_cells(255),
    "more than 255 cells": many_cells(300),
    "single pixels": np.eye(20, dtype=np.int32) * np.arange(1, 21),
    "a cell larger than the image, corners free": np.pad(np.ones((60, 60), int), 0)
    - disc((60, 60), (0, 0), 20)
    - disc((60, 60), (59, 59), 20),
}


@pytest.mark.parametrize("name", NOT_INSTANCES)
def test_what_numbers_no_cells_is_refused_and_says_what_it_is(name):
    labels, message = NOT_INSTANCES[name]
    with pytest.raises(InputError, match=rf"a.tif must have one number .* Got .*{message}"):
        as_instances(labels.astype(np.int32), instances="auto", what="a.tif")
    kept = as_instances(labels.astype(np.int32), instances="labels", what="a.tif")
    np.testing.assert_array_equal(kept, labels)


@pytest.mark.parametrize("name", INSTANCES)
def test_labels_of_cells_pass_as_they_are(name):
    labels = INSTANCES[name].astype(np.int32)
    assert why_no_instances(labels) is None
    assert as_instances(labels, instances="auto", what="a.tif") is labels


@pytest.mark.parametrize("name", ["0 and 255", "two classes of cells", "classes 1 and 2"])
def test_every_piece_of_a_mask_is_a_cell_on_request(name):
    labels, _ = NOT_INSTANCES[name]
    found = as_instances(labels.astype(np.int32), instances="components", what="a.tif")
    assert len(np.unique(found)) == 17
    np.testing.assert_array_equal(found > 0, cells() > 0)
    assert len(np.unique(np.stack([found, cells()])[:, cells() > 0], axis=1).T) == 16


def test_grey_rims_are_cut_at_half_of_the_highest_value():
    large = cells([(60, 60), (60, 180), (180, 60)], side=240, radius=25)
    grey = halved(halved(255 * (large > 0)))
    found = as_instances(grey, instances="components", what="a.tif")
    np.testing.assert_array_equal(found > 0, grey > 127)
    assert found.max() == 3


def test_touching_cells_are_parted_at_their_neck_and_round_ones_are_not():
    pair = two_touching_discs()
    found = number_pieces((pair > 0).astype(np.int32), what="a.tif")
    both = found[pair > 0]
    assert found.max() == 2
    agree = np.mean((both == both[0]) == (pair[pair > 0] == pair[pair > 0][0]))
    assert agree > 0.97
    for radius in (2, 5, 12, 30):
        assert number_pieces(cells([(60, 60)], radius=radius), what="a.tif").max() == 1


def test_unknown_pixels_stay_and_cells_with_numbers_of_their_own_too():
    labels = np.where(cells() > 12, -1, cells())
    found = as_instances(labels, instances="components", what="a.tif")
    assert found is labels  # twelve numbers that can be cells are no mask
    mask = np.minimum(labels, 1)
    np.testing.assert_array_equal(number_pieces(mask, what="a.tif") == -1, labels == -1)


def test_a_mask_that_nothing_tells_from_its_background_is_refused():
    halves = np.repeat([[1, 2]], 40, axis=0).repeat(20, axis=1).astype(np.int32)
    with pytest.raises(InputError, match=r"a.tif must have 0 for the background .* Got 1, 2 and"):
        number_pieces(halves, what="a.tif")


def test_an_image_is_no_mask_even_on_request():
    image = noise(mean=500, spread=200) * (noise(mean=500, spread=200) > 300)
    with pytest.raises(InputError, match=r"a.tif must be a mask .* is it the image itself"):
        as_instances(image, instances="components", what="a.tif")
