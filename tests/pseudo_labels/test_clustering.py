"""Clustering of embeddings, against geometry, brute force and scikit-learn's mean shift."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scenes import disc
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from oce2stardist.pseudo_labels import clustering, density
from oce2stardist.pseudo_labels.clustering import ClusteringSettings, cluster_embeddings

SHAPE = (100, 130)
CENTRES = [(30, 25), (30, 53), (58, 40), (70, 95), (20, 100)]


def five_discs():
    """Labels 1 to 5; the first three discs touch."""
    labels = np.zeros(SHAPE, np.int32)
    for index, centre in enumerate(CENTRES, start=1):
        labels[disc(SHAPE, centre, 14)] = index
    return labels


def offsets_into(labels, *, pull=1.0, noise=0.0, seed=0):
    """Offsets that take each pixel the share `pull` of its way to its disc's centre."""
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 20, (2, *labels.shape))
    for index, centre in enumerate(CENTRES, start=1):
        inside = labels == index
        offsets[:, inside] = pull * (np.array(centre) - np.argwhere(inside)).T
    offsets[:, labels > 0] += rng.normal(0, 1, (2, (labels > 0).sum())) * noise
    return offsets.astype(np.float32)


def same_objects(one, other):
    """Whether two label images show the same objects, whatever their numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(one)) == len(np.unique(other)))


def cluster(offsets, foreground, **changes):
    settings = ClusteringSettings(12.0, "density", bin_seeding=True, fitted_share=0.1, seed=0)
    return cluster_embeddings(offsets, foreground, replace(settings, **changes))


METHODS = {
    "density": {"method": "density"},
    "mean shift with bins": {"method": "mean_shift"},
    "mean shift as in the paper's code": {"method": "mean_shift", "bin_seeding": False},
    "mean shift on all": {"method": "mean_shift", "fitted_share": 1.0},
}


def test_what_embeds_two_bandwidths_from_every_mode_belongs_to_no_cell():
    labels = five_discs()
    offsets = offsets_into(labels)
    stray = disc(SHAPE, CENTRES[3], 1)  # too few for a mode of their own
    offsets[:, stray] += np.array([[0], [-26]])  # 26 px and more from every centre
    found = cluster(offsets, labels > 0, bandwidth=12.0)
    assert (found[stray] == 0).all()
    assert (found[(labels > 0) & ~stray] > 0).all()


def test_a_window_gives_the_labels_of_the_whole_though_its_rim_has_modes_of_its_own():
    labels = five_discs()
    offsets = offsets_into(labels)
    # Some pixels of disc 1 embed between all modes; what is nearest to them depends on the window.
    stray = disc(SHAPE, CENTRES[0], 1)
    offsets[:, stray] += np.array([[28], [-24]])
    window = np.s_[:50, :70]  # cuts disc 3, so that its mode lies elsewhere
    whole = cluster(offsets, labels > 0, bandwidth=8.0)
    part = cluster(offsets[:, :50, :70], labels[window] > 0, bandwidth=8.0)
    ours = np.isin(labels[window], (1, 2))
    assert same_objects(np.where(ours, whole[window], 0), np.where(ours, part, 0))
    assert (part[stray[window]] == 0).all()


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_every_method_finds_discs_that_gather(options):
    labels = five_discs()
    found = cluster(offsets_into(labels, pull=0.8, noise=1.0), labels > 0, **options)
    assert found.dtype == np.int32
    assert adjusted_rand_score(labels[labels > 0], found[labels > 0]) > 0.98
    assert (found[labels == 0] == 0).all()


@pytest.mark.parametrize(("pull", "noise"), [(0.9, 1.0), (0.6, 2.0), (0.4, 0.0), (0.5, 4.0)])
def test_density_agrees_with_mean_shift_fitted_to_all_pixels(pull, noise):
    labels = five_discs()
    offsets = offsets_into(labels, pull=pull, noise=noise)
    reference = cluster(offsets, labels > 0, method="mean_shift", fitted_share=1.0)
    found = cluster(offsets, labels > 0)
    assert adjusted_rand_score(found[labels > 0], reference[labels > 0]) > 0.98


@pytest.mark.parametrize(("distance", "objects"), [(8, 1), (18, 2)])
def test_places_closer_than_the_bandwidth_are_one_object(distance, objects):
    foreground = np.zeros(SHAPE, bool)
    foreground[40:50, 20:60] = True
    rows, columns = np.indices(SHAPE)
    targets = np.where(columns < 40, 60, 60 + distance)
    offsets = np.stack([45 - rows, targets - columns])
    assert cluster(offsets, foreground).max() == objects


def test_density_has_no_random_choice():
    labels = five_discs()
    offsets = offsets_into(labels, pull=0.5, noise=4.0)
    np.testing.assert_array_equal(
        cluster(offsets, labels > 0, seed=0), cluster(offsets, labels > 0, seed=1)
    )


def test_a_mirrored_image_gives_mirrored_objects():
    labels = five_discs()
    offsets = offsets_into(labels, pull=0.7, noise=2.0)
    mirrored = offsets[:, ::-1] * np.array([-1, 1])[:, None, None]
    found = cluster(mirrored, labels[::-1] > 0)[::-1]
    plain = cluster(offsets, labels > 0)
    assert adjusted_rand_score(plain.ravel(), found.ravel()) > 0.99


def test_a_turned_image_gives_turned_objects():
    labels = five_discs()
    offsets = offsets_into(labels, pull=0.7, noise=2.0)
    found = cluster(offsets[::-1].transpose(0, 2, 1), labels.T > 0).T
    assert adjusted_rand_score(cluster(offsets, labels > 0).ravel(), found.ravel()) > 0.99


def test_a_constant_added_to_all_offsets_changes_nothing():
    labels = five_discs()
    offsets = offsets_into(labels, noise=1.0)
    shifted = offsets + np.array([7.0, -35.0], np.float32)[:, None, None]
    assert same_objects(cluster(offsets, labels > 0), cluster(shifted, labels > 0))


@pytest.mark.parametrize("method", ["density", "mean_shift"])
@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
def test_pixels_without_a_finite_offset_belong_to_no_object(method, wild):
    labels = five_discs()
    offsets = offsets_into(labels)
    offsets[0, 30, 20:24] = wild
    found = cluster(offsets, labels > 0, method=method)
    assert (found[30, 20:24] == 0).all()
    rest = (labels > 0) & np.isfinite(offsets).all(axis=0)
    assert adjusted_rand_score(labels[rest], found[rest]) == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["density", "mean_shift"])
def test_no_foreground_and_no_finite_offset_give_no_object(method):
    for offset, is_foreground in ((0.0, False), (np.nan, True)):
        offsets, foreground = np.full((2, *SHAPE), offset), np.full(SHAPE, is_foreground)
        found = cluster(offsets, foreground, method=method)
        assert found.dtype == np.int32 and not found.any()


def test_wild_offsets_ask_for_no_more_memory_and_make_no_cell():
    labels = five_discs()
    offsets = offsets_into(labels)
    offsets[:, 30, 20:24] = [[1e9, -1e30, 500.0, -77.0]] * 2
    tracemalloc.start()
    found = cluster(offsets, labels > 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.max() == 5
    assert peak < 20e6  # 13,000 pixels
    rest = labels * (np.abs(offsets).max(axis=0) < 60)
    assert adjusted_rand_score(rest[rest > 0], found[rest > 0]) == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["density", "mean_shift"])
def test_one_pixel_is_one_object(method):
    foreground = np.zeros(SHAPE, bool)
    foreground[3, 4] = True
    found = cluster(np.zeros((2, *SHAPE)), foreground, method=method)
    np.testing.assert_array_equal(found, foreground)


@pytest.mark.parametrize("bandwidth", [100.0, 160.0, 1e9])
def test_a_bandwidth_beyond_the_image_makes_one_object(bandwidth):
    labels = five_discs()
    found = cluster(offsets_into(labels), labels > 0, bandwidth=bandwidth)
    np.testing.assert_array_equal(found, labels > 0)


def test_a_small_bandwidth_keeps_small_gathered_cells_apart():
    rows, columns = np.indices((40, 40))
    foreground = np.ones((40, 40), bool)
    offsets = np.stack([rows // 5 * 5 + 2 - rows, columns // 5 * 5 + 2 - columns])
    assert cluster(offsets, foreground, bandwidth=2.0).max() == 64


def test_each_pixel_goes_to_the_nearest_centre():
    rng = np.random.default_rng(0)
    embeddings = rng.uniform(0, 60, (4000, 2))
    centres = rng.uniform(0, 60, (30, 2))
    expected = cdist(embeddings, centres).argmin(axis=1)
    np.testing.assert_array_equal(clustering._nearest(centres, embeddings), expected)


@pytest.mark.parametrize("shape", [(70, 80), (20, 18, 16)])
def test_moments_are_those_of_the_pixels_within_the_kernel(shape):
    rng, radius = np.random.default_rng(0), 7.0 if len(shape) == 2 else 4.0
    counts = rng.poisson(2.0, shape).astype(np.float32)
    found = density._kernel_moments(counts, radius)
    points = np.argwhere(counts)
    for place in [(0,) * len(shape), tuple(size // 2 for size in shape), (*shape[:-1], 3)]:
        place = tuple(np.minimum(place, np.array(shape) - 1))
        ways = points - place
        # the part of a pixel within the disc, or ball: 8 places along each axis
        fine = (np.arange(8) + 0.5) / 8 - 0.5
        grid = np.stack(np.meshgrid(*[fine] * len(shape)), -1).reshape(-1, len(shape))
        share = (np.linalg.norm(ways[:, None] + grid, axis=-1) <= radius).mean(axis=1)
        weights = share * counts[tuple(points.T)]
        expected = [weights.sum(), *(weights @ ways)]
        np.testing.assert_allclose(found[(slice(None), *place)], expected, rtol=0.02, atol=8)


@pytest.mark.parametrize("shape", [(70, 80), (25, 40, 30)])
def test_computing_the_density_in_tiles_changes_nothing(monkeypatch, shape):
    counts = np.random.default_rng(0).poisson(2.0, shape).astype(np.float32)
    whole = density._kernel_moments(counts, 4.0)
    monkeypatch.setattr(density, "_TILE", {2: 16, 3: 16})
    np.testing.assert_allclose(density._kernel_moments(counts, 4.0), whole, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "values"), [("bandwidth", (0.0, -3.0, float("nan"))), ("fitted_share", (0.0, 1.5))]
)
def test_a_number_outside_its_range_is_refused(name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"{name} must be above 0.*Got {value} instead"):
            cluster(np.zeros((2, *SHAPE)), np.ones(SHAPE, bool), **{name: value})
