"""The drawn start measures cells where nothing else could, and labels at the scale of a run."""

from dataclasses import replace

import pytest
from scenes import discs_scene

from oce2stardist.config import Config
from oce2stardist.evaluation.scores import score_image
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.prepare import prepare_images
from oce2stardist.runners.drawn_witness import DrawnWitness
from oce2stardist.runs.progress import SilentReporter

pytestmark = pytest.mark.slow

RADIUS = 21


@pytest.fixture(scope="module")
def truth():
    return discs_scene(8, (300, 340), RADIUS, seed=1)


@pytest.fixture(scope="module")
def witness(truth):
    images = ImageSet.from_arrays({"a": truth[0]})
    return DrawnWitness(images, Config(), SilentReporter())


@pytest.fixture
def doubtful(witness):
    """Images at the scale of cells of 28 px, which nothing speaks for."""
    prepared = prepare_images(witness.images, witness.config)
    scales = replace(
        prepared.scales, factors={"a": 1.0}, diameter=28.0, reason="28 px is assumed", trusted=False
    )
    return replace(prepared, scales=scales)


def test_it_measures_where_the_estimate_can_not_be_trusted(witness, doubtful):
    prepared = witness.measure_again(doubtful)
    assert prepared.scales.diameter == pytest.approx(2 * RADIUS, rel=0.12)
    assert prepared.scales.factors["a"] == pytest.approx(28 / prepared.scales.diameter)
    assert prepared.seen["a"].shape[0] < 300
    assert "the drawn start measures" in prepared.scales.reason
    assert prepared.scales.reason.endswith("px in 1 image; without it 28 px is assumed")


def test_an_estimate_that_is_trusted_stays(witness):
    prepared = prepare_images(witness.images, witness.config, diameter=40.0)
    assert witness.measure_again(prepared) is prepared


def test_processes_that_train_together_are_not_measured_for(witness, doubtful, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert witness.measure_again(doubtful) is doubtful


def test_it_labels_at_the_scale_of_the_run(witness, truth):
    prepared = prepare_images(witness.images, witness.config, diameter=2.0 * RADIUS)
    found = witness.label(prepared)
    assert found.labels["a"].shape == truth[1].shape
    scores = score_image(found.labels["a"], truth[1])
    assert scores.f1 > 0.9 and scores.seg > 0.75
    assert all(0.5 < sure <= 1 for sure in found.confidence["a"].values())
