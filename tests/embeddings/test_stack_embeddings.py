"""The offset network, its loss and its noise in stacks, against plain readings."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import grid_of_discs

from oce2stardist.config import Config
from oce2stardist.embeddings.checkpoint import read_weights, write_weights
from oce2stardist.embeddings.drawn_start import begin_drawn
from oce2stardist.embeddings.loss import dense_pair_loss, sampled_pair_loss
from oce2stardist.embeddings.noise import noise_turns
from oce2stardist.embeddings.predict import PredictionSettings, predict_offsets
from oce2stardist.embeddings.sampling import displacements_within, draw_displacements, draw_pairs
from oce2stardist.embeddings.train import train_offsets, training_steps
from oce2stardist.embeddings.volume_network import VolumeOffsetNetwork

LOSS = {"temperature": 2.5, "sigma": "paper", "regularisation": 0.1, "reduction": "mean"}
PREDICTION = PredictionSettings(copies=4, noise=0.1, tile_size=16, precision="fp32", seed=5)
SHORT = (
    Config()
    .for_stacks()
    .embedding.model_copy(update={"steps": 4, "batch_size": 2, "feature_maps": 4, "start": "none"})
)


def network():
    torch.manual_seed(0)
    return VolumeOffsetNetwork(channels=1, feature_maps=4, growth=2).eval()


def stack(*shape):
    return np.random.default_rng(0).random((*shape, 1), dtype=np.float32)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_of_a_stack_is_that_of_a_plain_reading(reduction):
    offsets = np.random.default_rng(1).normal(0, 2, (6, 6, 6, 3))
    steps = [(1, 0, -2), (0, 2, 1)]
    means, pairs = [], 0
    for step in steps:
        costs = []
        for at in itertools.product(range(6), repeat=3):
            other = tuple(np.add(at, step))
            if all(0 <= place < 6 for place in other):
                way = np.add(step, offsets[other] - offsets[at])
                costs.append(1 / (1 + np.exp(-(way @ way) / 2.5)))
        means.append(np.mean(costs))
        pairs += len(costs)
    expected = np.mean(means) + 0.1 * np.linalg.norm(offsets, axis=-1).mean()
    field = torch.tensor(np.moveaxis(offsets, -1, 0)[None])
    found = dense_pair_loss(field, np.array(steps), **LOSS | {"reduction": reduction})
    assert float(found) == pytest.approx(expected * (pairs if reduction == "sum" else 1))


def test_dense_and_sampled_gradients_of_the_same_pairs_agree():
    offsets = torch.randn(1, 3, 6, 7, 8, dtype=torch.float64, requires_grad=True)
    step = np.array([1, 2, 3])
    anchors = np.argwhere(np.ones((5, 5, 5)))
    dense = dense_pair_loss(offsets, step[None], **LOSS)
    sampled = sampled_pair_loss(offsets, anchors, anchors + step, reference_gradient=True, **LOSS)
    gradients = [torch.autograd.grad(loss, offsets)[0] for loss in (dense, sampled)]
    torch.testing.assert_close(*gradients)


def test_displacements_are_those_of_a_ball_and_one_of_each_pair_is_drawn():
    ball = displacements_within(2.0, ndim=3)
    assert len(ball) == 32  # 6 + 12 + 8 + 6 of squared lengths 1 to 4
    drawn = draw_displacements(2.0, 100, np.random.default_rng(0), ndim=3)
    assert len(drawn) == 16
    both = {tuple(step) for step in np.concatenate([drawn, -drawn]).tolist()}
    assert both == {tuple(step) for step in ball.tolist()}


def test_as_many_references_are_drawn_as_the_share_of_a_ball():
    rng = np.random.default_rng(0)
    anchors, references = draw_pairs((20, 22, 24), kappa=5.0, density=0.01, rng=rng)
    assert len(anchors) == round(0.01 * 20 * 22 * 24) * round(0.01 * 4 / 3 * np.pi * 125)
    assert np.linalg.norm(references - anchors, axis=1).max() <= 5
    assert (references >= 0).all() and (references < (20, 22, 24)).all()


def test_an_output_voxel_sees_eight_voxels_a_side_and_no_other():
    net, seen = network(), torch.randn(1, 1, 24, 24, 24, requires_grad=True)
    net(seen)[0, :, 8, 8, 8].sum().backward()
    touched = np.argwhere(seen.grad[0, 0].numpy() != 0)
    assert np.ptp(touched, axis=0).max() + 1 <= net.field_of_view + 2
    assert touched.mean(axis=0) == pytest.approx(np.full(3, 8 + net.field_of_view / 2), abs=1)


@pytest.mark.parametrize("shape", [(20, 30, 26), (19, 17, 33)])
def test_tiles_of_any_size_predict_what_one_pass_does(shape):
    net, image = network(), stack(*shape)
    small = predict_offsets(net, image, PREDICTION, device="cpu")
    whole = predict_offsets(net, image, replace(PREDICTION, tile_size=64), device="cpu")
    assert small.offsets.shape == (3, *shape)
    np.testing.assert_allclose(small.offsets, whole.offsets, atol=1e-4)
    np.testing.assert_allclose(small.spread, whole.spread, atol=1e-4)


def test_noise_belongs_to_the_voxel_and_not_to_the_window():
    everywhere = noise_turns((slice(-9, 70),) * 3, noise=0.1, seed=3)
    part = noise_turns((slice(30, 66), slice(-5, 9), slice(0, 40)), noise=0.1, seed=3)
    np.testing.assert_array_equal(everywhere[39:75, 4:18, 9:49], part)
    assert np.mean(everywhere == 0) == pytest.approx(0.1, abs=0.003)


def test_weights_of_a_stack_network_come_back(tmp_path):
    net = network()
    write_weights(tmp_path / "w.safetensors", net)
    again = read_weights(tmp_path / "w.safetensors")
    assert isinstance(again, VolumeOffsetNetwork)
    image = torch.randn(1, 1, 12, 12, 12)
    torch.testing.assert_close(again(image), net(image))


def test_an_interrupted_training_on_stacks_ends_as_one_that_was_not():
    images = [stack(40, 44, 42), stack(30, 60, 50)]
    whole = train_offsets(images, SHORT, device="cpu", seed=1)
    kept = []
    stops = iter([False, False, True])
    train_offsets(
        images, SHORT, device="cpu", seed=1, save=kept.append, should_stop=lambda: next(stops)
    )
    again = train_offsets(images, SHORT, device="cpu", seed=1, resume=kept[-1])
    assert kept[-1]["step"] == 2 and again.finished
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_an_epoch_of_stacks_covers_their_voxels():
    settings = SHORT.model_copy(update={"steps": None, "epochs": 3})
    assert training_steps([stack(80, 80, 80)], settings) == 3 * 8 / 2


@pytest.mark.slow
def test_the_drawn_start_sends_voxels_to_the_middle_of_their_ball():
    labels, centres = grid_of_discs(3, per_side=3)
    image = (labels > 0) + np.random.default_rng(0).normal(0, 0.1, labels.shape)
    net = VolumeOffsetNetwork(channels=1, feature_maps=24, growth=1)
    begin_drawn(net.eval())
    seen = np.float32(image[..., None])
    offsets = predict_offsets(net, seen, replace(PREDICTION, copies=1, noise=0.01), device="cpu")
    inside = labels > 0
    own = centres[labels[inside] - 1] - np.argwhere(inside)  # the way to the middle
    found = offsets.offsets[:, inside].T
    found = found - found.mean(axis=0) + own.mean(axis=0)
    assert np.linalg.norm(found - own, axis=1).mean() < 0.7 * np.linalg.norm(own, axis=1).mean()


def test_of_several_channels_the_drawn_start_sees_the_mean():
    image = torch.rand(1, 2, 14, 14, 14)
    two = VolumeOffsetNetwork(channels=2, feature_maps=24, growth=1)
    one = VolumeOffsetNetwork(channels=1, feature_maps=24, growth=1)
    begin_drawn(two)
    begin_drawn(one)
    torch.testing.assert_close(two(image), one(image.mean(dim=1, keepdim=True)))
