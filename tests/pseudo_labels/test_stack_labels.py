"""The steps from offsets to labels: each does in stacks what it does in images."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import disc, grid_of_discs

from oce2stardist.config import Config
from oce2stardist.labels import cell_size, equivalent_diameter, resize_labels
from oce2stardist.pseudo_labels.choose import choose_by_stability, segmentation_settings
from oce2stardist.pseudo_labels.clustering import (
    ClusteringSettings,
    cluster_embeddings,
)
from oce2stardist.pseudo_labels.foreground import choose_foreground, gathering_density
from oce2stardist.pseudo_labels.gathering import gathering
from oce2stardist.pseudo_labels.halo import HaloSettings, find_signal, remove_halo
from oce2stardist.pseudo_labels.inputs import Scene
from oce2stardist.pseudo_labels.label_images import describe_objects
from oce2stardist.pseudo_labels.pieces import merge_pieces
from oce2stardist.pseudo_labels.segment import segment_surely
from oce2stardist.pseudo_labels.sizes import warn_of_giants

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
RADIUS, DIAMETER = 7.0, 14.0


def scene(ndim, *, noise=0.5):
    """Offsets to the middle of discs or balls, a halo of background included; labels; image."""
    labels, centres = grid_of_discs(ndim)
    halo, _ = grid_of_discs(ndim, radius=RADIUS + 2)
    rng = np.random.default_rng(0)
    ways = centres[np.maximum(halo, 1) - 1] - np.moveaxis(np.indices(labels.shape), 0, -1)
    offsets = np.where(halo > 0, np.moveaxis(ways, -1, 0), rng.normal(0, 3, (ndim, *labels.shape)))
    offsets = offsets + rng.normal(0, noise, offsets.shape)
    image = (labels > 0) + rng.normal(0, 0.05, labels.shape)
    return offsets, halo, labels, np.float32(image[..., None])


@DIMENSIONS
def test_embeddings_of_a_cell_become_one_object(ndim):
    offsets, halo, _, _ = scene(ndim)
    settings = ClusteringSettings(6.0, "density", True, 0.1, 0)
    found = cluster_embeddings(offsets, halo > 0, settings)
    pairs = np.unique(np.stack([found[halo > 0], halo[halo > 0]]), axis=1)
    assert pairs.shape[1] == 2**ndim
    assert sorted(pairs[0]) == sorted(pairs[1]) == list(range(1, 2**ndim + 1))


@DIMENSIONS
def test_both_clusterings_find_the_same_objects(ndim):
    offsets, halo, _, _ = scene(ndim)
    settings = ClusteringSettings(6.0, "density", True, 0.3, 0)
    found = [
        cluster_embeddings(offsets, halo > 0, replace(settings, method=method))
        for method in ("density", "mean_shift")
    ]
    pairs = np.unique(np.stack([one[halo > 0] for one in found]), axis=1)
    assert pairs.shape[1] == 2**ndim


@DIMENSIONS
def test_the_density_is_high_where_a_cell_embeds_and_one_where_nothing_moves(ndim):
    offsets, halo, _, _ = scene(ndim)
    density = gathering_density(offsets, diameter=DIAMETER)
    assert np.median(density[halo > 0]) > 5 > 2.5 > np.median(density[halo == 0])
    still = gathering_density(np.zeros((ndim, *[60] * ndim)), diameter=DIAMETER)
    assert still[(slice(20, 40),) * ndim] == pytest.approx(1, abs=0.02)


@DIMENSIONS
def test_low_spread_that_gathers_is_foreground(ndim):
    offsets, halo, _, _ = scene(ndim)
    level = np.where(halo > 0, -2.0, 1.0) + np.random.default_rng(0).normal(0, 0.2, halo.shape)
    chosen = choose_foreground([level], [offsets], diameter=DIAMETER)
    assert chosen.cue == "spread" and chosen.separation > 0.9
    assert np.mean((level < chosen.thresholds[0]) == (halo > 0)) > 0.999


@DIMENSIONS
def test_an_object_gathers_by_its_embeddings_over_its_pixels(ndim):
    offsets, halo, _, _ = scene(ndim, noise=0.0)
    ids, ratios = gathering(halo, offsets)
    assert len(ids) == 2**ndim and ratios == pytest.approx(0, abs=1e-6)
    assert gathering(halo, np.zeros_like(offsets))[1] == pytest.approx(1)


@DIMENSIONS
def test_the_halo_is_taken_off(ndim):
    _, halo, labels, image = scene(ndim)
    signal = find_signal([(halo, image)], diameter=DIAMETER)
    settings = HaloSettings("contrast", 1.0, 0.46, 2.0, DIAMETER)
    found = remove_halo(halo, image, signal.of(image), settings)
    assert np.mean((found > 0) == (labels > 0)) > 0.98


@DIMENSIONS
def test_shrinking_takes_off_a_rim(ndim):
    labels, _ = grid_of_discs(ndim)
    image = np.zeros((*labels.shape, 1), np.float32)
    found = remove_halo(labels, image, None, HaloSettings("shrink", 2.0, 0.5, 0, DIAMETER))
    expected, _ = grid_of_discs(ndim, radius=RADIUS - 2)
    assert np.mean((found > 0) == (expected > 0)) > 0.98


def two(ndim, gap, radius=8.0):
    """Two discs or balls of which the second replaces the first where they overlap."""
    shape = (40,) * (ndim - 1) + (60,)
    middle = (20.0,) * (ndim - 1)
    labels = np.zeros(shape, np.int32)
    centres = [(*middle, 30 - gap / 2), (*middle, 30 + gap / 2)]
    for number, centre in enumerate(centres, start=1):
        labels[disc(shape, centre, radius)] = number
    return labels, np.array(centres)


@DIMENSIONS
def test_halves_of_one_cell_are_joined_and_neighbours_are_not(ndim):
    whole = disc((40,) * ndim, (20.0,) * ndim, 8)
    halves = np.where(whole, 1 + (np.indices(whole.shape)[-1] > 20), 0).astype(np.int32)
    ways = 20.0 - np.indices(whole.shape)
    common = {"diameter": 16.0, "min_unity": 0.675}
    assert merge_pieces(halves, ways, None, **common).max() == 1
    labels, centres = two(ndim, gap=15.0)
    own = centres[np.maximum(labels, 1) - 1] - np.moveaxis(np.indices(labels.shape), 0, -1)
    apart = merge_pieces(labels, np.moveaxis(own, -1, 0), None, **common)
    np.testing.assert_array_equal(apart, labels)


@DIMENSIONS
def test_cells_come_out_as_they_were_drawn_and_sure(ndim):
    offsets, halo, labels, image = scene(ndim)
    settings = segmentation_settings(Config().for_stacks().pseudo, ndim=ndim)
    found, sure = segment_surely(offsets, halo > 0, image, settings, variants=2, seed=0)
    assert found.max() == 2**ndim and sure.min() > 0.9
    assert np.mean((found > 0) == (labels > 0)) > 0.98


@DIMENSIONS
def test_a_bandwidth_is_chosen_among_those_of_the_dimensions(ndim):
    offsets, halo, _, image = scene(ndim)
    settings = segmentation_settings(Config().for_stacks().pseudo, ndim=ndim)
    scenes = {"a": Scene(np.float32(offsets), halo > 0, image)}
    chosen, (choice,) = choose_by_stability(settings, scenes, free=["bandwidth"], seed=0)
    assert chosen.bandwidth == choice.value
    assert len(choice.tried) == {2: 3, 3: 4}[ndim]


@DIMENSIONS
def test_sizes_and_diameters_undo_each_other(ndim):
    size = cell_size(DIAMETER, ndim=ndim)
    assert equivalent_diameter(np.array([size]), ndim=ndim) == pytest.approx(DIAMETER)
    labels, _ = grid_of_discs(ndim)
    assert np.bincount(labels.ravel())[1:] == pytest.approx(size, rel=0.05)


def test_objects_of_a_stack_are_listed_with_volume_diameter_and_centroid():
    labels, centres = grid_of_discs(3)
    table = describe_objects("a", labels[::2], sides=(2.0, 1.0, 1.0))
    assert list(table) == ["image", "label", "volume", "diameter", "z", "y", "x", "confidence"]
    assert table["diameter"].to_numpy() == pytest.approx(DIAMETER, rel=0.03)
    assert table[["y", "x"]].to_numpy() == pytest.approx(centres[:, 1:], abs=0.01)
    assert table["z"].to_numpy() == pytest.approx(centres[:, 0] / 2, abs=0.3)


def test_an_object_that_fills_a_stack_is_a_giant():
    labels = np.ones((20, 60, 60), np.int32)
    sides = {"a": (3.0, 1.0, 1.0)}
    assert warn_of_giants({"a": labels}, sides, diameter=14.0)
    assert not warn_of_giants({"a": labels}, sides, diameter=30.0)


def test_labels_of_a_stack_are_resized_without_mixing():
    labels, _ = grid_of_discs(3)
    found = resize_labels(labels, (10, 40, 80))
    assert found.shape == (10, 40, 80)
    assert set(np.unique(found)) == set(range(9))
