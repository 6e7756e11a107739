"""Foreground, halo, gathering and size on offsets whose answer is known from geometry."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import disc
from scipy import ndimage as ndi
from sklearn.metrics import adjusted_rand_score

from oce2stardist.config import PseudoConfig
from oce2stardist.pseudo_labels.choose import segmentation_settings
from oce2stardist.pseudo_labels.foreground import foreground_threshold, smooth_log_spread
from oce2stardist.pseudo_labels.gathering import gathering, remove_ungathered
from oce2stardist.pseudo_labels.halo import HaloSettings, remove_halo, remove_small, split_parts
from oce2stardist.pseudo_labels.segment import segment

SHAPE = (90, 120)
CENTRES = [(30, 30), (30, 62), (60, 90)]


def discs(radius):
    labels = np.zeros(SHAPE, np.int32)
    for index, centre in enumerate(CENTRES, start=1):
        labels[disc(SHAPE, centre, radius)] = index
    return labels


def offsets_to_centres(labels, *, noise=0.0):
    """Offsets that take every pixel of a disc to its centre, up to noise."""
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 20, (2, *SHAPE))
    for index, centre in enumerate(CENTRES, start=1):
        pixels = np.argwhere(labels == index)
        offsets[:, labels == index] = (np.array(centre) - pixels).T
    offsets[:, labels > 0] += rng.normal(0, noise, (2, (labels > 0).sum())) if noise else 0
    return offsets.astype(np.float32)


def without_halo(labels, image, *, method, shrink=3.0):
    settings = HaloSettings(method, shrink, level=0.46, reach=4.0, diameter=28.0)
    return remove_halo(labels, image, None, settings)


def test_one_threshold_serves_crowded_and_empty_images():
    rng = np.random.default_rng(0)
    crowded, nearly_empty = discs(20) > 0, disc(SHAPE, (20, 20), 9)
    maps = [
        smooth_log_spread(np.exp(rng.normal(np.where(cells, -2.0, 1.0), 0.5)), smoothing=1.0)
        for cells in (crowded, nearly_empty)
    ]
    threshold = foreground_threshold(maps)
    for level, cells in zip(maps, (crowded, nearly_empty), strict=True):
        inner = ndi.binary_erosion(cells, iterations=3)
        outer = ~ndi.binary_dilation(cells, iterations=3)
        assert (level[inner] < threshold).mean() > 0.99
        assert (level[outer] >= threshold).mean() > 0.99


def test_log_spread_is_finite_where_copies_agree():
    assert np.isfinite(smooth_log_spread(np.zeros((5, 5)), smoothing=2.0)).all()


def test_shrinking_takes_off_the_given_width():
    labels = discs(14)
    trimmed = without_halo(labels, np.zeros((*SHAPE, 1)), method="shrink", shrink=3.0)
    areas = np.bincount(trimmed.ravel())[1:]
    assert areas == pytest.approx(np.pi * 11**2, rel=0.06)


def test_otsu_takes_off_the_dark_rim():
    true, fat = discs(10), discs(15)
    rng = np.random.default_rng(0)
    image = ndi.gaussian_filter((true > 0).astype(float), 1.0) + rng.normal(0, 0.03, SHAPE)
    trimmed = without_halo(fat, image[..., None], method="otsu")
    radii = np.sqrt(np.bincount(trimmed.ravel())[1:] / np.pi)
    assert len(radii) == 3
    np.testing.assert_allclose(radii, 10, atol=1.0)


def test_otsu_separates_cells_that_were_one_cluster():
    true = np.where(discs(10) > 2, 0, discs(10))
    fused = ndi.binary_dilation(true > 0, iterations=8).astype(np.int32)
    assert split_parts(fused).max() == 1
    image = (true > 0)[..., None].astype(float)
    assert without_halo(fused, image, method="otsu").max() == 2


@pytest.mark.parametrize("method", ["none", "otsu"])
def test_no_removal_and_constant_intensity_keep_every_pixel(method):
    labels = discs(14)
    same = without_halo(labels, np.zeros((*SHAPE, 1)), method=method)
    np.testing.assert_array_equal(same > 0, labels > 0)


def test_segment_leads_from_fat_cut_and_false_objects_to_the_outlines_of_cells():
    # Embeddings of fat discs; the third is cut into halves that embed 16 px apart, and a
    # patch of background is taken for foreground although it embeds nowhere in particular.
    true, fat = discs(10), discs(14)
    rng = np.random.default_rng(0)
    offsets = offsets_to_centres(fat, noise=1.0)
    sides = np.where(np.arange(SHAPE[1]) < 90, -8.0, 8.0)
    offsets[1] += np.where(fat == 3, sides[None], 0).astype(np.float32)
    patch = np.zeros(SHAPE, bool)
    patch[70:88, 5:40] = True
    image = ndi.gaussian_filter((true > 0).astype(float), 1.0) + rng.normal(0, 0.03, SHAPE)
    given = PseudoConfig(working_diameter=20, level=0.5, min_unity=0.5)
    segmentation = segmentation_settings(given, ndim=2)
    found = segment(offsets, (fat > 0) | patch, image[..., None], segmentation, seed=0)
    assert found.max() == 3
    assert adjusted_rand_score(true.ravel(), found.ravel()) > 0.97
    apart = replace(segmentation, min_unity=1.0)
    unjoined = segment(offsets, (fat > 0) | patch, image[..., None], apart, seed=0)
    assert unjoined.max() == 4


def test_gathering_is_0_for_a_perfect_cell_and_1_where_offsets_are_constant():
    labels = discs(14)
    offsets = offsets_to_centres(labels)
    offsets[:, labels == 3] = 4.0
    offsets[:, labels == 2] *= 0.5
    ids, ratios = gathering(labels, offsets)
    assert ids.tolist() == [1, 2, 3]
    assert ratios == pytest.approx([0.0, 0.5, 1.0], abs=1e-5)
    kept = remove_ungathered(labels, offsets, max_ratio=0.8)
    np.testing.assert_array_equal(np.unique(kept), [0, 1, 2])


def test_small_objects_go_and_the_rest_is_numbered_from_one():
    labels = np.zeros((20, 20), np.int32)
    labels[:2, :2], labels[5:10, 5:10], labels[12:18, 12:18] = 3, 70_000, 9
    kept = remove_small(labels, min_size=5)
    assert sorted(np.unique(kept)) == [0, 1, 2]
    assert (kept > 0).sum() == 25 + 36
    np.testing.assert_array_equal(remove_small(labels, min_size=0) > 0, labels > 0)
