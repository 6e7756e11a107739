"""The classical baseline and the oracle's line search, on scenes whose truth is drawn."""

import numpy as np
import pytest
from scenes import disc, discs_scene, empty_image, two_touching_discs
from scipy import ndimage as ndi

from oce2stardist.config import PseudoConfig
from oce2stardist.evaluation.scores import score_image
from oce2stardist.experiments.baseline import segment_classically
from oce2stardist.experiments.oracle import HALOS, OracleResult, oracle_line_search
from oce2stardist.experiments.scoring import Border
from oce2stardist.pseudo_labels.inputs import Scene

SHAPE = (100, 100)
CENTRES = [(28, 28), (28, 70), (70, 50)]
RADIUS = 14
NO_HALO = [("none", 0.0)]


def discs(radius):
    labels = np.zeros(SHAPE, np.int32)
    for index, centre in enumerate(CENTRES, start=1):
        labels[disc(SHAPE, centre, radius)] = index
    return labels


def predict(labels, *, spread=0.0):
    """What a perfect network would predict; `spread` px between the halves of each cell."""
    offsets = np.zeros((2, *labels.shape), np.float32)
    for index in range(1, labels.max() + 1):
        pixels = np.argwhere(labels == index)
        targets = np.tile(pixels.mean(axis=0), (len(pixels), 1))
        targets[pixels[:, 1] < targets[:, 1], 1] -= spread
        offsets[:, labels == index] = (targets - pixels).T
    return Scene(offsets, labels > 0, np.zeros((*labels.shape, 1)))


def search(predicted, truth, **options):
    """Search images "0", "1" ... all alike, of which there is one unless told."""
    n_images, n_true = options.pop("n_images", 1), options.pop("n_true", 1)
    options = {"settings": PseudoConfig(), "border": Border(), "bandwidths": [12.0]} | options
    scenes = {str(at): predicted for at in range(n_images)}
    return oracle_line_search(scenes, {str(at): truth for at in range(n_true)}, **options)


def predicted_discs(radius):
    return predict(discs(radius))


def as_image(labels, *, noise=0.02):
    rng = np.random.default_rng(0)
    image = ndi.gaussian_filter((labels > 0).astype(float), 1) + rng.normal(0, noise, labels.shape)
    return image[..., None]


def test_baseline_finds_bright_cells():
    image, truth = discs_scene(20, (256, 256), 12, seed=0)
    scores = score_image(segment_classically(image[..., None], 24), truth)
    assert scores.f1 == 1
    assert scores.seg > 0.85


def test_baseline_separates_touching_cells():
    truth = two_touching_discs()
    scores = score_image(segment_classically(as_image(truth), 24), truth)
    assert scores.f1 == 1
    assert scores.seg > 0.8


@pytest.mark.parametrize("factor", [2, 3])
def test_baseline_depends_on_nothing_but_the_diameter(factor):
    truth = two_touching_discs()
    larger = np.kron(truth, np.ones((factor, factor), np.int32))
    scores = score_image(segment_classically(as_image(larger), 24 * factor), larger)
    assert (scores.f1, scores.n_predicted) == (1, 2)


def test_baseline_fills_holes():
    labels = discs(RADIUS)
    dark_middle = (labels > 0) & (discs(4) == 0)
    found = segment_classically(as_image(dark_middle, noise=0), 28)
    assert score_image(found, labels).f1 == 1


def test_baseline_averages_channels():
    image = as_image(discs(RADIUS))
    two = np.concatenate([image * 2, image * 0], axis=-1)
    np.testing.assert_array_equal(segment_classically(two, 28), segment_classically(image, 28))


def test_baseline_finds_nothing_in_a_constant_image():
    assert not segment_classically(empty_image()[..., None].astype(float), 24).any()


@pytest.mark.parametrize("diameter", [0, -1.0])
def test_baseline_refuses_a_diameter_of_nothing(diameter):
    with pytest.raises(ValueError, match=f"diameter must be above 0. Got {diameter} instead"):
        segment_classically(np.zeros((*SHAPE, 1)), diameter)


@pytest.mark.parametrize("halo", [0, 3, 5])
def test_oracle_finds_the_width_of_the_halo(halo):
    result = search(predicted_discs(RADIUS + halo), discs(RADIUS), halos=HALOS[:7])
    assert result.oracle_halo == ("shrink", pytest.approx(halo, abs=1))
    assert result.oracle_scores.f1 == 1
    assert result.oracle_scores.seg > 0.93


def test_oracle_finds_the_bandwidth_that_neither_merges_nor_splits():
    truth = two_touching_discs()
    # Without the limit, merged cells, hardly gathered, would go; with unity, pieces be joined.
    settings = PseudoConfig(max_ratio=1000, min_unity=1)
    options = {"bandwidths": [4.0, 12.0, 60.0], "halos": NO_HALO, "settings": settings}
    result = search(predict(truth, spread=9.0), truth, **options)
    assert result.oracle_bandwidth == 12.0
    counts = result.oracle_table.set_index("bandwidth")["n_predicted"]
    assert counts.to_dict() == {4.0: 4, 12.0: 2, 60.0: 1}


def test_oracle_says_so_in_everything_it_returns():
    options = {"bandwidths": [10.0, 12.0], "n_images": 2, "n_true": 2}
    result = search(predicted_discs(RADIUS), discs(RADIUS), **options)
    assert all(name.startswith("oracle_") for name in OracleResult.__annotations__)
    assert set(result.oracle_table["chosen_by"]) == {"oracle"}
    assert len(result.oracle_table) == 2 * len(HALOS)
    assert result.oracle_scores.n_true == 2 * len(CENTRES)


def test_oracle_labels_are_those_it_scored():
    truth = discs(RADIUS)
    result = search(predicted_discs(RADIUS + 3), truth)
    assert score_image(result.oracle_labels[0], truth) == result.oracle_scores
    assert result.oracle_scores.f1 == result.oracle_table["f1"].max()


def test_oracle_works_at_the_scale_of_the_truth():
    truth = np.kron(discs(RADIUS), np.ones((2, 2), np.int32))
    result = search(predicted_discs(RADIUS), truth, halos=NO_HALO)
    assert result.oracle_labels[0].shape == truth.shape
    assert result.oracle_scores.seg == 1


def test_oracle_leaves_out_objects_at_the_border():
    truth = discs(RADIUS)
    truth[truth == 3] = 0
    for border, tp, fp in ((Border(), 2, 1), (Border(by_centroid=29.5), 0, 0)):
        scores = search(predicted_discs(RADIUS), truth, halos=NO_HALO, border=border).oracle_scores
        assert (scores.tp, scores.fp) == (tp, fp)


def test_oracle_takes_what_it_does_not_search_from_the_settings():
    settings = PseudoConfig(min_cluster=0.9, min_size=0.9, working_diameter=60)
    result = search(predicted_discs(RADIUS), discs(RADIUS), settings=settings)
    assert not result.oracle_labels[0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_true": 2}, r"every image of truth, at least one. Got 0 and 0, 1"),
        ({"bandwidths": []}, r"at least one value. Got 0 and 9"),
    ],
)
def test_oracle_refuses_images_without_truth_and_empty_searches(options, message):
    with pytest.raises(ValueError, match=message):
        search(predicted_discs(RADIUS), discs(RADIUS), **options)
