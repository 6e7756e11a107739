"""The start of the offset network, which has seen drawn cells only."""

import numpy as np
import pytest
import torch
from scenes import discs_scene

from oce2stardist.config import EmbeddingConfig, PseudoConfig
from oce2stardist.embeddings.drawn_start import WEIGHTS, begin_drawn
from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork
from oce2stardist.embeddings.train import train_offsets, training_steps
from oce2stardist.images.intensity import compress
from oce2stardist.images.normalise import normalise_percentiles

DIAMETER = 28
EDGE = FIELD_OF_VIEW // 2


@pytest.fixture(scope="module")
def discs():
    """A scene as the network sees it, (Y, X, 1), and its labels."""
    image, labels = discs_scene(9, (200, 220), DIAMETER // 2, seed=1)
    seen = compress(np.asarray(image, np.float32)[..., None], knee=PseudoConfig().knee)
    return normalise_percentiles(seen), labels


def start(channels=1):
    network = OffsetNetwork(channels=channels, feature_maps=24, growth=1)
    begin_drawn(network)
    return network.eval()


def offsets_of(network, image):
    with torch.inference_mode():
        return network(torch.from_numpy(image.transpose(2, 0, 1))[None])[0].numpy()


def test_the_pixels_of_a_disc_point_to_one_place_before_any_training(discs):
    image, labels = discs
    offsets = offsets_of(start(), image)
    inner = labels[EDGE:-EDGE, EDGE:-EDGE]
    places = np.indices(inner.shape)
    before, after = [], []
    for disc in np.unique(inner[inner > 0]):
        inside = inner == disc
        before.append(places[:, inside].std(axis=1).mean())
        after.append((places + offsets)[:, inside].std(axis=1).mean())
    assert np.median(after) < 0.7 * np.median(before)


def test_alike_channels_are_seen_as_one(discs):
    image, _ = discs
    three = offsets_of(start(channels=3), np.repeat(image, 3, axis=-1))
    np.testing.assert_allclose(three, offsets_of(start(), image), atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "drawn", "steps"),
    [({}, True, 150), ({"start": "none"}, False, 600), ({"feature_maps": 8}, False, 600)],
)
def test_a_training_begins_with_it_if_asked_and_if_it_fits(discs, changes, drawn, steps):
    settings = EmbeddingConfig(crop_size=60, batch_size=1, **changes)
    assert training_steps([discs[0]], settings) == steps
    # at this rate, weights stay what they were
    still = settings.model_copy(update={"steps": 1, "learning_rate": 1e-12})
    network = train_offsets([discs[0]], still, device="cpu", seed=3).network
    same = [
        one.shape == other.shape and torch.allclose(one, other, atol=1e-5)
        for one, other in zip(network.parameters(), start().parameters(), strict=True)
    ]
    assert all(same) == drawn


def test_the_weights_are_small_enough_to_travel_with_the_package():
    assert all(path.stat().st_size < 500_000 for path in WEIGHTS.values())
