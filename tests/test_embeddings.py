"""The offset network, its loss against a plain reading of Eq. 5, training and inference."""

import numpy as np
import pytest
import torch
from scenes import discs_scene

from oce2stardist.embeddings.checkpoint import read_state, read_weights, write_state, write_weights
from oce2stardist.embeddings.device import torch_device
from oce2stardist.embeddings.loss import dense_pair_loss, sampled_pair_loss
from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork
from oce2stardist.embeddings.predict import predict_offsets
from oce2stardist.embeddings.sampling import displacements_within, draw_displacements, draw_pairs
from oce2stardist.embeddings.train import train_offsets
from oce2stardist.errors import InputError
from oce2stardist.io import normalise_percentiles

SETTINGS = {
    "feature_maps": 6,
    "growth": 1,
    "crop_size": 60,
    "batch_size": 2,
    "optimiser": "adamw",
    "learning_rate": 4e-3,
    "schedule": "one_cycle",
    "drop_at": (),
    "pairs": "dense",
    "displacements_per_step": 16,
    "density": 0.1,
    "kappa": 8.0,
    "temperature": 10.0,
    "sigma": "paper",
    "reference_gradient": True,
    "regularisation": 1e-5,
    "centring": 1e-3,
    "augment": True,
    "precision": "fp32",
    "device": "cpu",
    "seed": 3,
}


def network(**changes):
    torch.manual_seed(0)
    return OffsetNetwork(**{"channels": 1, "feature_maps": 4, "growth": 2} | changes).eval()


def plain_loss(offsets, pairs, *, temperature, sigma, regularisation):
    """Eq. 5 read aloud: embeddings, distances, penalty, mean; plus the mean offset length."""
    total = []
    for image in offsets:
        for (y, x), (v, u) in pairs:
            anchor = np.array([y, x]) + image[:, y, x]
            reference = np.array([v, u]) + image[:, v, u]
            squared = ((anchor - reference) ** 2).sum()
            if sigma == "paper":
                total.append(1 / (1 + np.exp(-squared / temperature)))
            else:
                total.append(1 - np.exp(-squared / temperature))
    return np.mean(total) + regularisation * np.mean(np.sqrt((offsets**2).sum(axis=1)))


@pytest.mark.parametrize("sigma", ["paper", "code"])
def test_sampled_loss_is_equation_5(sigma):
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 3, (2, 2, 24, 30))
    anchors, references = draw_pairs((24, 30), kappa=4.0, density=0.05, rng=rng)
    loss = sampled_pair_loss(
        torch.tensor(offsets),
        anchors,
        references,
        temperature=10.0,
        sigma=sigma,
        regularisation=0.01,
    )
    pairs = list(zip(anchors.tolist(), references.tolist(), strict=True))
    wanted = plain_loss(offsets, pairs, temperature=10.0, sigma=sigma, regularisation=0.01)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("sigma", ["paper", "code"])
def test_dense_loss_is_equation_5_over_every_shifted_pair(sigma):
    rng = np.random.default_rng(1)
    offsets = rng.normal(0, 3, (1, 2, 9, 11))
    steps = np.array([[0, 2], [3, -1]])
    loss = dense_pair_loss(torch.tensor(offsets), steps, temperature=5.0, sigma=sigma)
    means = []
    for dy, dx in steps:
        pairs = [
            ((y, x), (y + dy, x + dx))
            for y in range(9)
            for x in range(11)
            if 0 <= y + dy < 9 and 0 <= x + dx < 11
        ]
        means.append(plain_loss(offsets, pairs, temperature=5.0, sigma=sigma, regularisation=0))
    assert float(loss) == pytest.approx(np.mean(means), rel=1e-5)


def test_dense_and_sampled_losses_estimate_the_same_number():
    rng = np.random.default_rng(2)
    smooth = np.cumsum(rng.normal(0, 0.5, (1, 2, 120, 120)), axis=-1)
    offsets = torch.tensor(smooth)
    common = {"temperature": 10.0, "sigma": "paper"}
    dense = dense_pair_loss(offsets, draw_displacements(6.0, 1000, rng), **common)
    pairs = draw_pairs((120, 120), kappa=6.0, density=0.5, rng=rng)
    sampled = sampled_pair_loss(offsets, *pairs, **common)
    assert float(dense) == pytest.approx(float(sampled), abs=5e-3)


def test_loss_is_least_when_a_disc_embeds_to_its_centre():
    y, x = np.mgrid[:20, :20].astype(np.float32)
    to_centre = torch.tensor(np.stack([9.5 - y, 9.5 - x]))[None]
    steps = displacements_within(5.0)
    losses = [
        float(dense_pair_loss(factor * to_centre, steps, temperature=10.0, sigma="code"))
        for factor in (0.0, 0.5, 1.0)
    ]
    assert losses[0] > losses[1] > losses[2] == pytest.approx(0.0, abs=1e-6)


def test_reference_gradient_can_be_stopped():
    offsets = torch.randn(1, 2, 30, 30, requires_grad=True)
    anchors, references = np.array([[12, 12]]), np.array([[14, 15]])
    sampled_pair_loss(
        offsets, anchors, references, temperature=10.0, sigma="code", reference_gradient=False
    ).backward()
    touched = torch.nonzero(offsets.grad.abs().sum(dim=(0, 1))).tolist()
    assert touched == [[12, 12]]


def test_displacements_are_those_of_a_disc():
    steps = displacements_within(2.0)
    assert {tuple(step) for step in steps} == {
        (-2, 0), (-1, -1), (-1, 0), (-1, 1), (0, -2), (0, -1), (0, 1), (0, 2), (1, -1), (1, 0),
        (1, 1), (2, 0),
    }  # fmt: skip


def test_every_displacement_of_a_half_plane_is_drawn_equally_often():
    counts = {}
    rng = np.random.default_rng(0)
    for _ in range(3000):
        for step in draw_displacements(4.0, 6, rng).tolist():
            counts[tuple(step)] = counts.get(tuple(step), 0) + 1
    half = len(displacements_within(4.0)) // 2
    assert len(counts) == half
    expected = 3000 * 6 / half
    assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(expected)


def test_pairs_stay_within_kappa_and_inside_the_image():
    anchors, references = draw_pairs((40, 50), kappa=7.0, density=0.1, rng=np.random.default_rng(0))
    assert np.hypot(*(anchors - references).T).max() <= 7.0
    assert references.min() >= 0
    assert (references < [40, 50]).all()


def test_pairs_need_an_image_larger_than_twice_kappa():
    with pytest.raises(ValueError, match=r"Got \(20, 50\) and kappa 10"):
        draw_pairs((20, 50), kappa=10.0, density=0.1, rng=np.random.default_rng(0))


def test_one_output_pixel_sees_16_to_18_input_pixels_around_it():
    net = network(feature_maps=16)
    torch.manual_seed(1)
    image = torch.randn(1, 1, 60, 60, requires_grad=True)
    extents = []
    for row in (20, 21):
        (gradient,) = torch.autograd.grad(net(image)[0, :, row, row].square().sum(), image)
        seen = torch.nonzero(gradient[0, 0])[:, 0]
        extents.append(int(seen.max() - seen.min()) + 1)
        centre = (int(seen.max()) + int(seen.min())) / 2
        assert centre == pytest.approx(row + FIELD_OF_VIEW / 2, abs=1)
    assert 16 <= min(extents) <= max(extents) <= 18


def test_output_is_16_pixels_smaller():
    assert network()(torch.zeros(2, 1, 40, 52)).shape == (2, 2, 24, 36)


def test_training_learns_the_centres_of_discs():
    image, labels = discs_scene(9, (130, 130), 12, seed=0)
    scene = normalise_percentiles(image[..., None])
    run = train_offsets([scene], steps=250, **SETTINGS | {"batch_size": 4, "feature_maps": 12})
    losses = [row["loss"] for row in run.history]
    assert run.finished
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.03
    predicted = predict_offsets(
        run.network, scene, copies=2, noise=0.01, tile_size=512, precision="fp32",
        device="cpu", seed=0,
    )  # fmt: skip
    pixels = np.stack(np.nonzero(labels))
    embeddings = pixels + predicted.offsets[:, labels > 0]
    ids = labels[labels > 0]
    gathered = np.mean([embeddings[:, ids == i].std(axis=1).mean() for i in range(1, 10)])
    spatial = np.mean([pixels[:, ids == i].std(axis=1).mean() for i in range(1, 10)])
    assert gathered < 0.6 * spatial


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    image, _ = discs_scene(4, (110, 110), 10, seed=1)
    scene = [normalise_percentiles(image[..., None])]
    whole = train_offsets(scene, steps=8, **SETTINGS)
    stop = iter([False] * 3 + [True])
    first = train_offsets(
        scene,
        steps=8,
        save=lambda state: write_state(tmp_path / "state.pt", state),
        should_stop=lambda: next(stop),
        **SETTINGS,
    )
    assert not first.finished
    assert len(first.history) == 3
    second = train_offsets(scene, steps=8, resume=read_state(tmp_path / "state.pt"), **SETTINGS)
    for one, other in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [row["loss"] for row in whole.history] == [row["loss"] for row in second.history]


def test_small_images_and_several_channels_can_be_trained_on():
    rng = np.random.default_rng(0)
    images = [rng.random((30, 90, 3), dtype=np.float32), rng.random((25, 20, 3), dtype=np.float32)]
    changes = {"pairs": "sampled", "schedule": "steps", "drop_at": (0.5,), "optimiser": "adam"}
    run = train_offsets(images, steps=2, **SETTINGS | changes)
    assert run.finished
    assert [row["learning_rate"] for row in run.history] == pytest.approx([4e-3, 4e-4])


@pytest.mark.parametrize("shape", [(50, 60), (51, 61)])
def test_tiles_do_not_change_the_prediction(shape):
    image = np.random.default_rng(0).random((*shape, 1), dtype=np.float32)
    common = {"copies": 4, "noise": 0.05, "precision": "fp32", "device": "cpu", "seed": 5}
    whole = predict_offsets(network(), image, tile_size=512, **common)
    tiled = predict_offsets(network(), image, tile_size=32, **common)
    assert whole.offsets.shape == (2, *shape)
    np.testing.assert_allclose(whole.offsets, tiled.offsets, atol=1e-5)
    np.testing.assert_allclose(whole.spread, tiled.spread, atol=1e-4)


def test_spread_is_zero_without_noise_and_positive_with_it():
    image = np.random.default_rng(0).random((40, 40, 1), dtype=np.float32)
    common = {"copies": 4, "tile_size": 64, "precision": "fp32", "device": "cpu", "seed": 0}
    assert predict_offsets(network(), image, noise=0.0, **common).spread.max() < 1e-4
    assert predict_offsets(network(), image, noise=0.2, **common).spread.mean() > 1e-3


def test_weights_come_back_from_disk(tmp_path):
    net = network(channels=2)
    path = tmp_path / "weights.safetensors"
    write_weights(path, net, channels=2, feature_maps=4, growth=2)
    image = torch.rand(1, 2, 32, 32)
    assert torch.equal(read_weights(path)(image), net(image))


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        assert torch_device("cuda").type == "cuda"
        return
    with pytest.raises(InputError, match=r"\(cpu.*\)\. Got cuda instead"):
        torch_device("cuda")
