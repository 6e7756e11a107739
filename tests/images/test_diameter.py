"""Diameters: discs of known size are measured right, whatever the image does to them."""

import math
import re

import numpy as np
import pytest
from scenes import disc, discs_scene
from scipy import ndimage as ndi
from skimage.measure import regionprops_table

from oce2stardist.images.diameter import estimate_diameter, find_cells
from oce2stardist.labels import median_diameter


def scene(diameter, seed=0, n=20, shape=(320, 320)):
    """Draw ellipses of about a diameter; returns the image (Y, X, 1) and its true median."""
    image, labels = discs_scene(n, shape, diameter / 2, seed)
    return image[..., None], median_diameter([labels])


def packed_discs(diameter, shape=(360, 360), noise=0.03):
    """Draw discs on a hexagonal lattice, each touching its six neighbours.

    They are domes, at the rim half as bright as in the middle.
    """
    image = np.zeros(shape, np.float32)
    row_height = diameter * math.sqrt(3) / 2
    for row in range(int(shape[0] / row_height) + 1):
        for column in range(int(shape[1] / diameter) + 2):
            centre = (row * row_height, (column + row % 2 / 2) * diameter)
            y, x = np.ogrid[: shape[0], : shape[1]]
            squared = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (diameter / 2) ** 2
            image = np.maximum(image, np.where(squared <= 1, 1 - 0.5 * squared, 0))
    image = ndi.gaussian_filter(image, 1)
    return add_noise(image[..., None], noise)


def add_noise(image, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return (image + noise).astype(np.float32)


@pytest.mark.parametrize("diameter", [12, 20, 28, 50, 80])
def test_diameter_is_that_of_drawn_cells(diameter):
    n, side = (20, 20 * diameter) if diameter < 50 else (12, 10 * diameter)
    image, true = scene(diameter, n=n, shape=(side, side))
    before = image.copy()
    estimate = estimate_diameter([image])
    assert estimate.diameter == pytest.approx(true, rel=0.1)
    assert estimate.trusted
    np.testing.assert_array_equal(image, before)


def test_enlarging_the_images_enlarges_the_diameter_as_much():
    image, _ = scene(18)
    small = estimate_diameter([image]).diameter
    large = estimate_diameter([image.repeat(2, axis=0).repeat(2, axis=1)]).diameter
    assert large == pytest.approx(2 * small, rel=0.1)


def test_cells_that_touch_on_all_sides_are_told_apart():
    estimate = estimate_diameter([packed_discs(24)])
    assert estimate.diameter == pytest.approx(24, rel=0.2)
    assert estimate.trusted


@pytest.mark.parametrize(
    "change",
    [
        lambda image: 4000 * image + 300,
        lambda image: -image,
        lambda image: image.repeat(3, axis=2) * np.float32([200, 10, 1]),
        lambda image: 255 - 100 * image.repeat(3, axis=2),
        lambda image: np.concatenate([image, np.ones_like(image)], axis=2),
        lambda image: image[::-1].transpose(1, 0, 2),
    ],
    ids=["other unit", "dark", "channels", "bright field", "constant channel", "turned"],
)
def test_unit_polarity_channels_and_orientation_do_not_matter(change):
    image, true = scene(24)
    assert estimate_diameter([change(image)]).diameter == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("disturb", ["slope", "debris", "clump", "noise", "dim cells"])
def test_diameter_withstands(disturb):
    image, true = scene(24, n=30, shape=(400, 400))
    if disturb == "slope":
        image = image + np.linspace(0, 1.5, 400, dtype=np.float32)[:, None]
    elif disturb == "debris":
        for at in np.random.default_rng(1).integers(20, 380, (12, 2)):
            image[disc((400, 400), tuple(at), 2)] = 50
    elif disturb == "clump":
        image[disc((400, 400), (320, 320), 75)] = 0.8
    elif disturb == "noise":
        image = add_noise(image, 0.15)
    else:  # most cells are bright, those of the right third a quarter as bright
        image[:, 266:] = 0.1 + (image[:, 266:] - 0.1) / 4
    assert estimate_diameter([image]).diameter == pytest.approx(true, rel=0.15)


def test_dark_can_be_given():
    image, true = scene(24)
    assert find_cells(-image, dark=True).median == pytest.approx(true, rel=0.1)
    assert estimate_diameter([-image], dark=True).diameter == pytest.approx(true, rel=0.1)


def test_each_image_has_its_own_diameter():
    images, true = zip(*(scene(size, shape=(400, 400)) for size in (14, 20, 36)), strict=True)
    estimate = estimate_diameter(images)
    np.testing.assert_allclose(estimate.per_image, true, rtol=0.1)
    assert min(true) < estimate.diameter < max(true)


def test_circles_lie_on_the_cells():
    image, labels = discs_scene(20, (320, 320), 14, 3)
    cells = find_cells(image[..., None])
    table = regionprops_table(labels, properties=("centroid",))
    true = np.stack([table["centroid-0"], table["centroid-1"]], axis=1)
    away = np.hypot(*(cells.centres[:, None] - true).transpose(2, 0, 1)).min(axis=1)
    assert len(away) >= 18 and away.max() < 1.5
    assert cells.steady


def test_centres_are_those_of_the_whole_image_where_only_its_middle_is_measured():
    image = np.zeros((2200, 2200, 1), np.float32)
    middle, _ = scene(24, shape=(320, 320))
    image[900:1220, 900:1220] = middle
    inside = find_cells(image).centres
    np.testing.assert_allclose(inside.mean(axis=0), (1060, 1060), atol=40)
    assert len(inside) >= 16


@pytest.mark.parametrize(
    "image",
    [np.zeros((128, 128, 1)), np.full((128, 128, 3), 7.0), np.zeros((6, 6, 1)), np.ones((1, 9, 1))],
    ids=["zeros", "constant RGB", "tiny", "one row"],
)
def test_nothing_to_measure_gives_none_and_says_so(image):
    estimate = estimate_diameter([image.astype(np.float32)])
    assert (estimate.diameter, estimate.low, estimate.high) == (None, None, None)
    assert not estimate.trusted and "no cell was found" in estimate.reason
    assert math.isnan(estimate.per_image[0])


@pytest.mark.parametrize("smooth", [0, 1, 2])
def test_noise_is_not_trusted(smooth):
    noise = [add_noise(np.zeros((256, 256, 1)), 1.0, seed) for seed in (0, 1)]
    images = [ndi.gaussian_filter(image, (smooth, smooth, 0)) for image in noise]
    assert not estimate_diameter(images).trusted


def test_few_cells_are_not_trusted():
    image, true = scene(24, n=6, shape=(200, 200))
    estimate = estimate_diameter([image])
    assert estimate.diameter == pytest.approx(true, rel=0.15)
    assert not estimate.trusted
    assert re.fullmatch(r"only [3-6] cells measured in 1 image; 10 are needed", estimate.reason)


def test_an_empty_image_among_others_changes_nothing():
    image, true = scene(24)
    estimate = estimate_diameter([np.zeros_like(image), image])
    assert estimate.diameter == pytest.approx(true, rel=0.1)
    assert math.isnan(estimate.per_image[0]) and estimate.trusted


def test_interval_holds_the_estimate_and_widens_when_images_differ():
    alike = estimate_diameter([scene(24, seed)[0] for seed in range(4)])
    mixed = estimate_diameter([scene(size, shape=(400, 400))[0] for size in (14, 18, 26, 36)])
    for one in (alike, mixed):
        assert one.low <= one.diameter <= one.high
    assert alike.high / alike.low < 1.2 < 1.5 < mixed.high / mixed.low
    assert not mixed.trusted and "sizes differ" in mixed.reason


def test_same_seed_same_estimate_and_only_so_many_images_are_looked_at():
    images = [scene(20, seed, n=12, shape=(200, 200))[0] for seed in range(6)]
    first, second = (estimate_diameter(images, at_most=3, seed=5) for _ in range(2))
    assert (first.diameter, first.low, first.high) == (second.diameter, second.low, second.high)
    looked_at = [cells is not None for cells in first.cells]
    assert sum(looked_at) == 3 and np.isfinite(first.per_image).tolist() == looked_at


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "images must hold at least one image. Got none instead."),
        ([np.zeros((8, 9), np.float32)], {}, r"\(Z, Y, X, C\). Got \(8, 9\) instead."),
        ([np.zeros((8, 9, 1), np.float32)], {"at_most": 0}, "at_most must be above 0. Got 0"),
    ],
)
def test_wrong_arguments_are_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_diameter(images, **options)
