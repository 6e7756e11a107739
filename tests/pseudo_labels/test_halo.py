"""Outlines drawn by contrast, on blurred discs whose radius is known."""

import numpy as np
import pytest
from scenes import disc
from scipy import ndimage as ndi

from oce2stardist.pseudo_labels.halo import (
    HaloSettings,
    far_from,
    find_signal,
    remove_halo,
    trim_by_contrast,
)

SHAPE = (100, 140)
DIAMETER = 24.0
RADIUS = 12
CENTRES = [(30, 30), (30, 80), (70, 55), (70, 110)]


def discs(radius, centres=CENTRES):
    labels = np.zeros(SHAPE, np.int32)
    for index, centre in enumerate(centres, start=1):
        labels[disc(SHAPE, centre, radius)] = index
    return labels


def scene(brightness=(1.0, 1.0, 1.0, 1.0), *, ground=0.0, noise=0.02, seed=0):
    """Draw blurred discs of radius 12 on noise; an image of shape (Y, X, 1)."""
    table = np.array([ground, *brightness])
    image = ndi.gaussian_filter(table[discs(RADIUS)], 1.0)
    return (image + np.random.default_rng(seed).normal(0, noise, SHAPE))[..., None]


def settings(method="contrast", *, level=0.5, reach=3.0):
    return HaloSettings(method, 3.0, level, reach, DIAMETER)


def cell_signal(labels, image):
    found = find_signal([(labels, image)], diameter=DIAMETER)
    return None if found is None else found.of(image)


def by_contrast(labels, image):
    signal = cell_signal(labels, image)
    return remove_halo(labels, image, signal, settings(reach=0.14 * DIAMETER))


def distance_between_outlines(labels, radius, centres=CENTRES):
    """Largest distance, pixels, of a pixel on one side from the other side's outline."""
    found, true = labels > 0, discs(radius, centres) > 0
    signed = ndi.distance_transform_edt(true) - ndi.distance_transform_edt(~true)
    return np.abs(signed[found != true]).max(initial=0.0)


@pytest.mark.parametrize("halo", [-2, 0, 3, 6], ids=lambda halo: f"halo {halo:+d} px")
@pytest.mark.parametrize(("ground", "cell"), [(0.0, 1.0), (1.0, 0.0)], ids=["bright", "dark"])
def test_outlines_of_blurred_discs_are_drawn_within_a_pixel(halo, ground, cell):
    # At half the contrast a blurred edge is where the sharp one was.
    trimmed = by_contrast(discs(RADIUS + halo), scene((cell,) * 4, ground=ground))
    assert trimmed.max() == 4
    assert distance_between_outlines(trimmed, RADIUS) <= 1.5  # a pixel, centre to centre


def test_dim_cells_beside_bright_ones_keep_their_outline():
    trimmed = by_contrast(discs(RADIUS + 4), scene((1.0, 0.15, 0.2, 1.0)))
    assert trimmed.max() == 4
    assert distance_between_outlines(trimmed, RADIUS) <= 1.5


def test_what_is_only_noise_goes():
    trimmed = by_contrast(discs(RADIUS + 3), scene((1.0, 0.0, 1.0, 1.0)))
    assert trimmed.max() == 3
    assert not trimmed[discs(RADIUS + 6) == 2].any()


def test_cells_without_background_around_them_are_kept_whole():
    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 36).reshape(5, 7), np.ones((20, 20), int)).astype(np.int32)
    signal = rng.uniform(0, 1, SHAPE)
    kept = trim_by_contrast(labels, signal, settings())
    np.testing.assert_array_equal(kept, labels)


def test_holes_are_filled_but_not_with_a_cell_that_lies_in_them():
    ring = disc(SHAPE, (50, 60), 20) & ~disc(SHAPE, (50, 60), 5)
    labels = ring.astype(np.int32)
    signal = ring.astype(float)
    full = trim_by_contrast(labels, signal, settings(reach=0.0))
    np.testing.assert_array_equal(full > 0, disc(SHAPE, (50, 60), 20))
    labels[disc(SHAPE, (50, 60), 5)] = 2
    full = trim_by_contrast(labels, (labels > 0).astype(float), settings(reach=0.0))
    np.testing.assert_array_equal(full, labels)


def test_outlines_grow_no_further_than_the_reach():
    # A small object in the middle of a bright square: nothing but the reach stops it.
    image = np.zeros(SHAPE)
    image[39:62, 59:82] = 1.0
    labels = disc(SHAPE, (50, 70), 4).astype(np.int32)
    grown = trim_by_contrast(labels, image, settings(reach=4.0))
    np.testing.assert_array_equal(grown > 0, ndi.distance_transform_edt(labels == 0) <= 4.0)


def three_channels(seed=0):
    """Cells are bright in the first channel, dark in the second, not there in the third."""
    rng = np.random.default_rng(seed)
    cells = ndi.gaussian_filter((discs(RADIUS) > 0).astype(float), 1.0)
    means = np.stack([cells, 0.5 - 0.4 * cells, np.zeros(SHAPE)], axis=-1)
    return means + rng.normal(0, 0.1, means.shape)


@pytest.mark.parametrize("gains", [(3.0, 3.0, 3.0), (0.1, 20.0, 5.0), (1.0, -1.0, -7.0)])
def test_gains_and_offsets_of_channels_change_the_unit_of_the_signal_alone(gains):
    labels, image = discs(RADIUS + 3), three_channels()
    plain = cell_signal(labels, image)
    other = cell_signal(labels, image * np.array(gains) + (4.0, -9.0, 0.5))
    np.testing.assert_allclose(other / other.std(), plain / plain.std(), atol=1e-6)
    np.testing.assert_array_equal(
        *(trim_by_contrast(labels, one, settings(level=0.4)) for one in (plain, other))
    )


def test_in_the_signal_cells_are_bright_and_background_is_0():
    labels = discs(RADIUS + 3)
    signal = cell_signal(labels, three_channels())
    assert np.median(signal[far_from(labels, DIAMETER / 7)]) == pytest.approx(0, abs=0.01)
    inner = ndi.binary_erosion(discs(RADIUS) > 0, iterations=3)
    assert np.quantile(signal[inner], 0.01) > np.quantile(signal[labels == 0], 0.99)


def test_there_is_no_signal_where_no_channel_tells_cells_or_one_side_is_missing():
    noise = np.random.default_rng(0).normal(size=(*SHAPE, 2))
    for labels in (discs(RADIUS), np.zeros(SHAPE, np.int32), np.ones(SHAPE, np.int32)):
        assert cell_signal(labels, noise) is None
    assert cell_signal(discs(RADIUS), np.ones((*SHAPE, 1))) is None


def test_without_a_signal_cells_shrink_towards_background_and_not_from_each_other():
    labels = np.zeros(SHAPE, np.int32)
    labels[20:60, 20:60], labels[20:60, 60:100] = 1, 2
    trimmed = remove_halo(labels, np.zeros((*SHAPE, 1)), None, settings())
    expected = np.zeros(SHAPE, np.int32)
    expected[23:57, 23:60], expected[23:57, 60:97] = 1, 2
    np.testing.assert_array_equal(trimmed, expected)


def test_without_background_nothing_shrinks():
    labels = np.ones(SHAPE, np.int32)
    labels[:, 70:] = 2
    trimmed = remove_halo(labels, np.zeros((*SHAPE, 1)), None, settings())
    np.testing.assert_array_equal(trimmed, labels)


def test_far_from_is_a_distance_to_the_nearest_object():
    labels = np.zeros((30, 30), np.int32)
    labels[15, 15] = 3
    y, x = np.indices(labels.shape) - 15
    np.testing.assert_array_equal(far_from(labels, 6.0), np.hypot(y, x) > 6.0)
    assert far_from(np.zeros((4, 5), np.int32), 6.0).all()


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"none, shrink, otsu, contrast\. Got 'intensity'"):
        settings("intensity")


@pytest.mark.parametrize("method", ["none", "shrink", "otsu", "contrast"])
def test_every_method_takes_an_image_without_objects(method):
    nothing = np.zeros(SHAPE, np.int32)
    found = remove_halo(nothing, np.zeros((*SHAPE, 1)), None, settings(method))
    assert found.dtype == np.int32
    assert not found.any()
