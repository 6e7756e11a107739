"""Pieces of one cell are joined and neighbours are not, on shapes known from geometry."""

import numpy as np
import pytest
from scenes import disc, two_touching_discs

from oce2stardist.pseudo_labels.pieces import merge_pieces

SHAPE = (60, 90)
DIAMETER = 24.0


def joined(labels, offsets, signal=None, *, diameter=DIAMETER, min_unity=0.67):
    return merge_pieces(labels, offsets, signal, diameter=diameter, min_unity=min_unity)


def ellipse(centre=(30, 45), semi_axes=(10, 20)):
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return ((y - centre[0]) / semi_axes[0]) ** 2 + ((x - centre[1]) / semi_axes[1]) ** 2 <= 1


def cut(cell, *columns):
    """Cut a cell by lines between columns; pieces are numbered from left to right."""
    piece = 1 + np.searchsorted(np.array(columns), np.arange(cell.shape[1]), side="right")
    return np.where(cell, piece[None], 0).astype(np.int32)


def to_one_place(labels):
    """Offsets that take every pixel of the image to its middle."""
    middle = (np.array(labels.shape) - 1) / 2
    return middle[:, None, None] - np.indices(labels.shape)


def to_own_centres(labels):
    """Offsets that take the pixels of every object to its centre."""
    pixels = np.indices(labels.shape)
    offsets = np.zeros((2, *labels.shape))
    for index in np.unique(labels[labels > 0]):
        inside = labels == index
        offsets[:, inside] = pixels[:, inside].mean(axis=1)[:, None] - pixels[:, inside]
    return offsets


def seam_signal(labels, brightness):
    """Cells of brightness 1 on ground 0, and what lies between pieces as bright as asked."""
    signal = (labels > 0).astype(float)
    touching = (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] > 0) & (labels[:, 1:] > 0)
    signal[:, :-1][touching] = brightness
    signal[:, 1:][touching] = brightness
    return signal


@pytest.mark.parametrize("cell", [disc(SHAPE, (30, 45), 12), ellipse()], ids=["disc", "ellipse"])
def test_the_halves_of_a_convex_cell_come_together(cell):
    halves = cut(cell, 45)
    assert halves.max() == 2
    merged = joined(halves, to_one_place(halves))
    np.testing.assert_array_equal(merged, cell.astype(np.int32))


def test_three_pieces_of_one_cell_become_one_with_the_smallest_label():
    pieces = cut(ellipse(), 38, 52)
    named = np.array([0, 70, 5, 900], np.int32)[pieces]
    merged = joined(named, to_one_place(pieces))
    assert np.unique(merged).tolist() == [0, 5]


def test_two_touching_discs_stay_apart():
    labels = two_touching_discs()
    merged = joined(labels, to_own_centres(labels))
    np.testing.assert_array_equal(merged, labels)


def test_pieces_that_embed_a_cell_apart_are_two_cells():
    # Two rectangles side by side, together as convex as can be.
    labels = np.zeros(SHAPE, np.int32)
    labels[20:40, 20:40], labels[20:40, 40:60] = 1, 2
    together = joined(labels, to_one_place(labels), diameter=20.0)
    apart = joined(labels, to_own_centres(labels), diameter=20.0)
    assert np.unique(together).tolist() == [0, 1]
    np.testing.assert_array_equal(apart, labels)


def test_a_dark_seam_keeps_pieces_apart_that_a_bright_one_joins():
    halves = cut(ellipse(), 45)
    offsets = to_one_place(halves)
    found = [
        joined(halves, offsets, seam_signal(halves, brightness)).max()
        for brightness in (0.0, 1.0, 5.0)
    ]
    assert found == [2, 1, 1]


def test_the_gain_of_the_signal_does_not_matter():
    halves = cut(ellipse(), 45)
    offsets = to_own_centres(halves) * 0.5
    for brightness in np.linspace(0, 1, 6):
        signal = seam_signal(halves, brightness)
        one, other = (joined(halves, offsets, gain * signal) for gain in (1, 0.003))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("max_diameters", [1.0, 1.5, 2.0])
def test_no_union_grows_beyond_the_largest_diameter(monkeypatch, max_diameters):
    monkeypatch.setattr("oce2stardist.pseudo_labels.pieces._MOST_DIAMETERS", max_diameters)
    # A bar in twelve slices that all embed to one place: shape alone sets no limit.
    labels = np.zeros(SHAPE, np.int32)
    labels[25:37, 10:82] = np.repeat(np.arange(1, 13), 6)
    merged = joined(labels, to_one_place(labels), diameter=14.0)
    areas = np.bincount(merged.ravel())[1:]
    largest = np.pi / 4 * (14.0 * max_diameters) ** 2
    assert areas.max() <= largest
    # Two neighbours that could still be joined would have been.
    left = areas[areas > 0]
    assert (left[:-1] + left[1:] > largest).all()


def test_unity_of_one_changes_nothing():
    halves = cut(ellipse(), 45)
    merged = joined(halves, to_one_place(halves), min_unity=1.0)
    np.testing.assert_array_equal(merged, halves)


@pytest.mark.parametrize("labels", [np.zeros(SHAPE, np.int32), disc(SHAPE, (30, 30), 9) * 4])
def test_without_neighbours_nothing_is_joined(labels):
    merged = joined(labels.astype(np.int32), to_one_place(labels))
    np.testing.assert_array_equal(merged, labels)
    assert merged.dtype == np.int32


def mosaic(seed=0):
    """A field of pieces around random points, with offsets and signal that decide some pairs."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, SHAPE, (30, 2))
    pixels = np.indices(SHAPE)
    squared = ((pixels[:, None] - points.T[:, :, None, None]) ** 2).sum(axis=0)
    labels = (np.argmin(squared, axis=0) + 1).astype(np.int32)
    labels[np.min(squared, axis=0) > 81] = 0
    targets = np.concatenate([[[0, 0]], points + rng.normal(0, 3, points.shape)])
    offsets = (targets[labels].transpose(2, 0, 1) - pixels) * 0.6
    return labels, offsets, (labels > 0) * rng.uniform(0.5, 1, SHAPE)


def partition(labels):
    """The objects as sets of pixels, whatever their names."""
    return {frozenset(np.flatnonzero(labels == index)) for index in np.unique(labels) if index}


def test_names_of_the_pieces_do_not_matter():
    labels, offsets, signal = mosaic()
    expected = partition(joined(labels, offsets, signal, diameter=16.0))
    assert 1 < len(expected) < labels.max()  # some are joined, and not all
    names = np.random.default_rng(1).permutation(100)[: labels.max()] + 1
    renamed = np.concatenate([[0], names])[labels].astype(np.int32)
    assert partition(joined(renamed, offsets, signal, diameter=16.0)) == expected


def test_a_quarter_turn_does_not_matter():
    labels, offsets, signal = mosaic()
    merged = joined(labels, offsets, signal, diameter=16.0)
    turned = np.rot90(offsets, axes=(1, 2))
    turned = np.stack([-turned[1], turned[0]])  # what pointed right points up, y less than 0
    again = joined(np.rot90(labels), turned, np.rot90(signal), diameter=16.0)
    np.testing.assert_array_equal(np.rot90(again, -1), merged)
