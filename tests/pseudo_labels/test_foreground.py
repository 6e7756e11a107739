"""Thresholds on spread and offsets drawn from the geometry of scenes; nothing is trained."""

import numpy as np
import pytest
from scenes import dark_cells, dense_tissue, discs_scene, empty_image, nearly_nothing
from scipy import ndimage as ndi
from scipy.stats import norm
from skimage.segmentation import find_boundaries
from sklearn.metrics import roc_auc_score

from oce2stardist.labels import cell_size
from oce2stardist.pseudo_labels.foreground import (
    choose_foreground,
    cue_agreement,
    foreground_threshold,
    gathering_density,
    gathering_threshold,
    outlier_threshold,
    smooth_log_spread,
)

DIAMETER = 28.0


def offsets_of(labels, *, seed=0, shift=(0.0, 0.0)):
    """Cells embed to their centroids, up to a pixel; background to where it is, up to two."""
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 2, (2, *labels.shape))
    ids = np.arange(1, labels.max() + 1)
    if len(ids):
        centres = np.array(ndi.center_of_mass(labels > 0, labels, ids))  # (n, 2)
        inside = labels > 0
        pull = centres[labels[inside] - 1].T - np.argwhere(inside).T
        offsets[:, inside] = pull + rng.normal(0, 1, pull.shape)
    return (offsets + np.array(shift)[:, None, None]).astype(np.float32)


def spread_of(labels, *, cells=-1.0, ground=2.0, seed=0):
    """Smoothed log spread around `cells` in cells and `ground` elsewhere."""
    rng = np.random.default_rng(seed + 100)
    level = np.where(labels > 0, cells, ground)
    return smooth_log_spread(np.exp(rng.normal(level, 0.5)), smoothing=2.0)


def choose(label_images, maps=None, **how):
    maps = maps or [spread_of(labels, seed=i, **how) for i, labels in enumerate(label_images)]
    offsets = (offsets_of(labels, seed=i) for i, labels in enumerate(label_images))
    chosen = choose_foreground(maps, offsets, diameter=DIAMETER)
    return chosen, [one < t for one, t in zip(maps, chosen.thresholds, strict=True)]


def test_two_modes_keep_otsus_threshold():
    labels = [discs_scene(20, (256, 256), 14, seed)[1] for seed in range(2)]
    maps = [spread_of(one, seed=i) for i, one in enumerate(labels)]
    chosen, _ = choose(labels, maps)
    assert chosen.cue == "spread"
    assert chosen.thresholds == (foreground_threshold(maps),) * 2
    assert chosen.separation > 0.9
    assert chosen.gathered_below > 0.8 and chosen.gathered_above < 0.1


def test_dense_tissue_is_foreground_although_otsu_splits_its_cells():
    labels = dense_tissue(0)[1]
    # Half of the cells are dim and their spread is a mode of its own.
    dim = np.isin(labels, np.arange(0, labels.max(), 2)) & (labels > 0)
    level = np.where(labels == 0, 2.5, np.where(dim, 1.0, -1.0))
    noise = np.random.default_rng(0).normal(0, 0.4, labels.shape)
    smoothed = smooth_log_spread(np.exp(level + noise), smoothing=2.0)
    assert (smoothed < foreground_threshold([smoothed])).mean() < 0.6
    chosen, (foreground,) = choose([labels], [smoothed])
    assert chosen.cue == "gathering"
    assert foreground[labels > 0].mean() > 0.95
    assert "nearly all is cell" in chosen.reason
    assert chosen.separation > 0.8


def test_a_few_cells_among_much_noise_are_all_that_is_found():
    labels = [nearly_nothing(seed, n)[1] for seed, n in ((0, 3), (1, 2), (2, 0))]
    _, foregrounds = choose(labels, cells=0.0, ground=1.0)
    for cells, foreground in zip(labels, foregrounds, strict=True):
        inner = ndi.binary_erosion(cells > 0, iterations=4)
        assert np.count_nonzero(foreground[inner]) >= 0.95 * inner.sum()
        far = ~ndi.binary_dilation(cells > 0, iterations=8)
        assert foreground[far].mean() < 0.001


def test_pure_background_has_no_foreground():
    chosen, foregrounds = choose([empty_image(), empty_image()])
    assert chosen.thresholds == (float("-inf"),) * 2
    assert not np.any(foregrounds)
    assert "nearly nothing is cell" in chosen.reason
    assert chosen.separation < 0.2


def test_one_empty_image_with_a_spread_of_its_own_does_not_become_foreground():
    # Normalising pure noise stretches it, and the spread on it can be as low as in cells.
    labels = [*(discs_scene(20, (256, 256), 14, seed)[1] for seed in range(3)), empty_image()]
    maps = [spread_of(one, seed=i) for i, one in enumerate(labels[:3])]
    maps.append(spread_of(labels[3], ground=-1.0))
    assert (maps[3] < foreground_threshold(maps)).mean() > 0.9
    chosen, foregrounds = choose(labels, maps)
    assert chosen.cue == "spread"
    assert foregrounds[3].mean() == 0
    assert chosen.thresholds[:3] == (foreground_threshold(maps),) * 3
    assert "in 1 of 4 images that is not so" in chosen.reason


def test_an_image_of_one_cell_everywhere_is_all_foreground():
    labels = dense_tissue(1)[1]
    labels[labels == 0] = 1
    chosen, (foreground,) = choose([labels])
    assert chosen.cue == "gathering"
    assert foreground.mean() > 0.98


def test_density_of_embeddings_is_one_where_offsets_are_constant():
    density = gathering_density(np.full((2, 120, 150), 3.5), diameter=DIAMETER)
    np.testing.assert_allclose(density[15:-15, 15:-15], 1.0, rtol=1e-3)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (17.0, -40.0)])
def test_density_of_embeddings_follows_from_the_area_of_a_cell(shift):
    y, x = np.mgrid[:150, :150]
    cell = np.hypot(y - 75, x - 75) <= DIAMETER / 2
    offsets = np.zeros((2, 150, 150))
    offsets[:, cell] = (75 - np.argwhere(cell)).T
    density = gathering_density(offsets + np.array(shift)[:, None, None], diameter=DIAMETER)
    area_under_kernel = cell.sum() / (2 * np.pi * (DIAMETER / 9) ** 2)
    assert density[75, 75] == pytest.approx(area_under_kernel, rel=0.02)
    assert density[75, 80] == density[75, 75]


def test_the_threshold_is_where_half_of_the_pixels_gather():
    rng = np.random.default_rng(0)
    spread = rng.uniform(-3, 3, 50_000)
    gathers = rng.random(50_000) < norm.sf(spread, loc=0.7, scale=1.0)
    assert gathering_threshold(spread, gathers) == pytest.approx(0.7, abs=0.15)
    assert gathering_threshold(spread, np.ones(50_000, bool)) == float("inf")
    assert gathering_threshold(spread, np.zeros(50_000, bool)) == float("-inf")


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("share", [0.5, 0.02])
def test_agreement_of_cues_follows_from_the_distance_of_two_gaussians(distance, share):
    rng = np.random.default_rng(0)
    gathers = rng.random(200_000) < share
    spread = rng.normal(np.where(gathers, 0, distance), 1.0)
    expected = 2 * norm.cdf(distance / np.sqrt(2)) - 1  # the area under the ROC curve
    assert cue_agreement(spread, gathers) == pytest.approx(expected, abs=0.02)
    spread = np.round(spread, 1)  # many are equal
    area = roc_auc_score(gathers, -spread)
    assert cue_agreement(spread, gathers) == pytest.approx(2 * area - 1, abs=1e-9)


def test_cues_that_know_nothing_of_each_other_do_not_agree():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=20_000)
    assert cue_agreement(spread, rng.random(20_000) < 0.3) < 0.02
    assert cue_agreement(spread, spread > 0) == 0
    assert cue_agreement(spread, np.zeros(20_000, bool)) == 0
    assert cue_agreement(spread, np.ones(20_000, bool)) == 0


def test_outliers_lie_six_deviations_of_the_upper_half_below_the_median():
    rng = np.random.default_rng(0)
    one = rng.normal(3, 0.5, (200, 200))
    one[:20, :20] = -5  # 400 pixels, more than an eighth of a cell
    assert outlier_threshold(one, cell=cell_size(DIAMETER, ndim=2)) == pytest.approx(0, abs=0.1)
    one[:20, :20] = 3
    one[:5, :10] = -5  # 50 pixels, fewer
    assert outlier_threshold(one, cell=cell_size(DIAMETER, ndim=2)) == float("-inf")


def test_the_same_input_gives_the_same_choice():
    labels = [discs_scene(10, (200, 200), 14, 0)[1]]
    assert choose(labels)[0] == choose(labels)[0]


def test_maps_and_offsets_must_belong_together():
    one = np.zeros((30, 40), np.float32)
    with pytest.raises(ValueError, match=r"\(2, 40, 30\) and \(30, 40\)"):
        choose_foreground([one], [np.zeros((2, 40, 30))], diameter=DIAMETER)
    with pytest.raises(ValueError, match="shorter"):
        choose_foreground([one, one], [np.zeros((2, 30, 40))], diameter=DIAMETER)
    with pytest.raises(ValueError, match="Got none"):
        choose_foreground([], [], diameter=DIAMETER)


def test_the_scenes_are_what_they_say():
    image, labels = dense_tissue(0)
    assert (labels == 0).mean() < 0.05
    borders = find_boundaries(labels, mode="thick")
    assert image[borders].mean() < 0.7 * image[~borders & (labels > 0)].mean()
    image, labels = dark_cells(0)
    assert image[labels > 0].mean() < 0.7 * image[labels == 0].mean()
    for n in (0, 2, 3):
        image, labels = nearly_nothing(0, n)
        assert labels.max() == n and (labels > 0).mean() < 0.02
        assert image.dtype == np.float32 and labels.dtype == np.int32
