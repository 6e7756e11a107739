"""The offset network, its loss against a plain reading of Eq. 5, training and inference."""

import numpy as np
import pytest
import torch
from scenes import discs_scene

from oce2stardist.config import EmbeddingConfig
from oce2stardist.embeddings.checkpoint import read_state, read_weights, write_state, write_weights
from oce2stardist.embeddings.cpu_network import phase_kernel
from oce2stardist.embeddings.device import (
    bf16_pays,
    choose_computation,
    fixed_sums,
    resolve_precision,
    torch_device,
)
from oce2stardist.embeddings.loss import dense_pair_loss, sampled_pair_loss
from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork
from oce2stardist.embeddings.predict import PredictionSettings, predict_offsets
from oce2stardist.embeddings.sampling import displacements_within, draw_displacements, draw_pairs
from oce2stardist.embeddings.train import train_offsets, training_steps
from oce2stardist.errors import InputError
from oce2stardist.images.normalise import normalise_percentiles

SETTINGS = EmbeddingConfig(
    feature_maps=6, crop_size=60, batch_size=2, steps=6, learning_rate=4e-3, kappa=8.0,
    precision="fp32",
)  # fmt: skip
PLAIN_LOSS = {"regularisation": 0.0, "reduction": "mean"}


def train(images, **changes):
    """Train with SETTINGS, but for some of them; options of `train_offsets` pass through."""
    options = {
        name: changes.pop(name) for name in ("save", "resume", "should_stop") if name in changes
    }
    settings = EmbeddingConfig(**SETTINGS.model_dump() | changes)
    return train_offsets(images, settings, device="cpu", seed=3, **options)


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


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sigma", ["paper", "code"])
def test_sampled_loss_is_equation_5(sigma, reduction):
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
        reduction=reduction,
        reference_gradient=True,
    )
    pairs = list(zip(anchors.tolist(), references.tolist(), strict=True))
    wanted = plain_loss(offsets, pairs, temperature=10.0, sigma=sigma, regularisation=0.01)
    assert float(loss) == pytest.approx(wanted * (2 * len(pairs) if reduction == "sum" else 1))


@pytest.mark.parametrize("sigma", ["paper", "code"])
def test_dense_loss_is_equation_5_over_every_shifted_pair(sigma):
    rng = np.random.default_rng(1)
    offsets = rng.normal(0, 3, (1, 2, 9, 11))
    steps = np.array([[0, 2], [3, -1]])
    common = {"temperature": 5.0, "sigma": sigma, "regularisation": 0.0}
    loss = dense_pair_loss(torch.tensor(offsets), steps, **common, reduction="mean")
    means = []
    for dy, dx in steps:
        pairs = [
            ((y, x), (y + dy, x + dx))
            for y in range(9)
            for x in range(11)
            if 0 <= y + dy < 9 and 0 <= x + dx < 11
        ]
        means.append(plain_loss(offsets, pairs, temperature=5.0, sigma=sigma, regularisation=0))
    assert float(loss) == pytest.approx(np.mean(means))
    summed = dense_pair_loss(torch.tensor(offsets), steps, **common, reduction="sum")
    assert float(summed) == pytest.approx(np.mean(means) * (9 * 9 + 6 * 10))


@pytest.mark.parametrize("sigma", ["paper", "code"])
def test_dense_gradient_is_the_slope_of_the_loss(sigma):
    torch.manual_seed(0)
    offsets = (2 * torch.randn(2, 2, 6, 7, dtype=torch.float64)).requires_grad_()
    steps = np.array([[0, 2], [3, -1], [1, 1]])
    assert torch.autograd.gradcheck(
        lambda field: dense_pair_loss(
            field, steps, temperature=5.0, sigma=sigma, regularisation=0.1, reduction="mean"
        ),
        offsets,
    )


def test_dense_gradient_is_that_of_the_same_pairs_sampled():
    torch.manual_seed(0)
    offsets = torch.randn(1, 2, 12, 12, dtype=torch.float64, requires_grad=True)
    y, x = np.mgrid[:9, :10]
    anchors = np.stack([y.ravel(), x.ravel()], axis=1)
    common = {"temperature": 10.0, "sigma": "paper", "regularisation": 0.1, "reduction": "mean"}
    dense = dense_pair_loss(offsets, np.array([[3, 2]]), **common)
    sampled = sampled_pair_loss(
        offsets, anchors, anchors + np.array([3, 2]), reference_gradient=True, **common
    )
    gradients = [torch.autograd.grad(loss, offsets)[0] for loss in (dense, sampled)]
    torch.testing.assert_close(*gradients)


def test_dense_and_sampled_losses_estimate_the_same_number():
    rng = np.random.default_rng(2)
    smooth = np.cumsum(rng.normal(0, 0.5, (1, 2, 120, 120)), axis=-1)
    offsets = torch.tensor(smooth)
    common = {"temperature": 10.0, "sigma": "paper"} | PLAIN_LOSS
    dense = dense_pair_loss(offsets, draw_displacements(6.0, 1000, rng, ndim=2), **common)
    pairs = draw_pairs((120, 120), kappa=6.0, density=0.5, rng=rng)
    sampled = sampled_pair_loss(offsets, *pairs, reference_gradient=True, **common)
    assert float(dense) == pytest.approx(float(sampled), abs=5e-3)


def test_loss_is_least_when_a_disc_embeds_to_its_centre():
    y, x = np.mgrid[:20, :20].astype(np.float32)
    to_centre = torch.tensor(np.stack([9.5 - y, 9.5 - x]))[None]
    steps = displacements_within(5.0, ndim=2)
    common = {"temperature": 10.0, "sigma": "code"} | PLAIN_LOSS
    losses = [
        float(dense_pair_loss(factor * to_centre, steps, **common)) for factor in (0.0, 0.5, 1.0)
    ]
    assert losses[0] > losses[1] > losses[2] == pytest.approx(0.0, abs=1e-6)


def test_reference_gradient_can_be_stopped():
    offsets = torch.randn(1, 2, 30, 30, requires_grad=True)
    anchors, references = np.array([[12, 12]]), np.array([[14, 15]])
    sampled_pair_loss(
        offsets, anchors, references, temperature=10.0, sigma="code", reference_gradient=False,
        **PLAIN_LOSS,
    ).backward()  # fmt: skip
    touched = torch.nonzero(offsets.grad.abs().sum(dim=(0, 1))).tolist()
    assert touched == [[12, 12]]


def test_displacements_are_those_of_a_disc():
    steps = displacements_within(2.0, ndim=2)
    assert {tuple(step) for step in steps} == {
        (-2, 0), (-1, -1), (-1, 0), (-1, 1), (0, -2), (0, -1), (0, 1), (0, 2), (1, -1), (1, 0),
        (1, 1), (2, 0),
    }  # fmt: skip


def test_every_displacement_of_a_half_plane_is_drawn_equally_often():
    counts = {}
    rng = np.random.default_rng(0)
    for _ in range(3000):
        for step in draw_displacements(4.0, 6, rng, ndim=2).tolist():
            counts[tuple(step)] = counts.get(tuple(step), 0) + 1
    half = len(displacements_within(4.0, ndim=2)) // 2
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


@pytest.mark.parametrize(("channels", "growth", "shape"), [(1, 1, (36, 44)), (3, 2, (18, 18))])
def test_the_network_written_out_for_the_cpu_is_the_plain_network(channels, growth, shape):
    net = network(channels=channels, growth=growth, feature_maps=5).double()
    image = torch.rand(2, channels, *shape, dtype=torch.float64, requires_grad=True)
    results = []
    for forward in (net.forward, net.forward_plain):
        offsets = forward(image)
        inputs = [image, *net.parameters()]
        results.append([offsets, *torch.autograd.grad(offsets.sin().sum(), inputs)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_in_single_precision_the_two_forwards_differ_by_rounding_only():
    net = network(feature_maps=24).to(memory_format=torch.channels_last)
    image = torch.rand(2, 1, 60, 60)
    with torch.no_grad():
        torch.testing.assert_close(net(image), net.forward_plain(image), rtol=1e-4, atol=1e-4)


def test_phase_kernels_on_coarse_pixels_equal_the_kernel_on_the_magnified_image():
    torch.manual_seed(0)
    image, kernel = torch.randn(1, 2, 5, 6), torch.randn(3, 2, 3, 3)
    magnified = image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    wanted = torch.nn.functional.conv2d(magnified, kernel)
    phases = torch.nn.functional.conv2d(image, phase_kernel(kernel)).view(2, 2, 3, 4, 5)
    for row in range(2):
        for column in range(2):
            torch.testing.assert_close(phases[row, column], wanted[0, :, row::2, column::2])


def test_wide_initialisation_starts_from_longer_offsets():
    image, lengths = torch.rand(1, 1, 60, 60), {}
    for initialisation in ("default", "wide"):
        net = network(initialisation=initialisation, feature_maps=24)
        with torch.no_grad():
            lengths[initialisation] = float(net(image).norm(dim=1).mean())
    assert lengths["default"] < 0.5 < 1 < lengths["wide"]


def test_output_is_16_pixels_smaller():
    assert network()(torch.zeros(2, 1, 40, 52)).shape == (2, 2, 24, 36)


def test_training_learns_the_centres_of_discs():
    image, labels = discs_scene(9, (130, 130), 12, seed=0)
    scene = normalise_percentiles(image[..., None])
    run = train([scene], steps=250, batch_size=4, feature_maps=12)
    losses = [row["loss"] for row in run.history]
    assert run.finished
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.03
    settings = PredictionSettings(copies=2, noise=0.01, tile_size=512, precision="fp32", seed=0)
    predicted = predict_offsets(run.network, scene, settings, device="cpu")
    pixels = np.stack(np.nonzero(labels))
    embeddings = pixels + predicted.offsets[:, labels > 0]
    ids = labels[labels > 0]
    gathered = np.mean([embeddings[:, ids == i].std(axis=1).mean() for i in range(1, 10)])
    spatial = np.mean([pixels[:, ids == i].std(axis=1).mean() for i in range(1, 10)])
    assert gathered < 0.6 * spatial


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    image, _ = discs_scene(4, (110, 110), 10, seed=1)
    scene = [normalise_percentiles(image[..., None])]
    whole = train(scene, steps=8)
    stop = iter([False] * 3 + [True])
    first = train(
        scene,
        steps=8,
        save=lambda state: write_state(tmp_path / "state.pt", state),
        should_stop=lambda: next(stop),
    )
    assert not first.finished
    assert len(first.history) == 3
    second = train(scene, steps=8, resume=read_state(tmp_path / "state.pt"))
    for one, other in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [row["loss"] for row in whole.history] == [row["loss"] for row in second.history]


def test_small_images_and_several_channels_can_be_trained_on():
    rng = np.random.default_rng(0)
    images = [rng.random((30, 90, 3), dtype=np.float32), rng.random((25, 20, 3), dtype=np.float32)]
    changes = {"pairs": "sampled", "schedule": "steps", "drop_at": (0.5,), "optimiser": "adam"}
    run = train(images, steps=2, **changes)
    assert run.finished
    assert [row["learning_rate"] for row in run.history] == pytest.approx([4e-3, 4e-4])


@pytest.fixture
def one_thread():
    """Torch uses one thread during a test, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_crops_at_once_do_not_change_the_training(monkeypatch, one_thread):
    image, _ = discs_scene(4, (110, 110), 10, seed=1)
    scene = [normalise_percentiles(image[..., None])]
    losses = []
    for cache in (1.0, 1e12):
        monkeypatch.setattr("oce2stardist.embeddings.device._CACHE", cache)
        run = train(scene, steps=6, batch_size=3)
        losses.append([row["loss"] for row in run.history])
        assert run.computation.crops_at_once == (1 if cache == 1.0 else 3)
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_threads_do_not_change_the_training(one_thread):
    image, _ = discs_scene(4, (110, 110), 10, seed=1)
    scene = [normalise_percentiles(image[..., None])]
    losses = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        run = train(scene, steps=6, batch_size=4)
        losses.append([row["loss"] for row in run.history])
        assert run.computation.passes == threads
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_sums_of_fixed_order_give_the_same_bits_with_any_number_of_threads(one_thread, batch_size):
    image, _ = discs_scene(4, (110, 110), 10, seed=1)
    scene = [normalise_percentiles(image[..., None])]
    networks = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        with fixed_sums(True):
            run = train(scene, steps=3, batch_size=batch_size)
        assert run.computation.passes == batch_size
        networks.append(run.network)
    assert not torch.are_deterministic_algorithms_enabled()
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(one, other)


def test_the_paper_s_training_learns_on_both_of_its_losses():
    image, _ = discs_scene(4, (110, 110), 12, seed=1)
    scene = [normalise_percentiles(image[..., None])]
    # The text's form, then that of the code, whose sum Adam scales away.
    forms = [("paper", "mean", True), ("code", "sum", False)]
    for sigma, reduction, reference_gradient in forms:
        changes = {
            "pairs": "sampled", "optimiser": "adam", "schedule": "steps", "drop_at": (0.4, 0.6),
            "sigma": sigma, "reduction": reduction, "reference_gradient": reference_gradient,
            "centring": 0.0, "augment": False, "feature_maps": 12,
        }  # fmt: skip
        run = train(scene, steps=120, **changes)
        losses = [row["loss"] for row in run.history]
        assert np.mean(losses[-10:]) < 0.97 * np.mean(losses[:10])


def test_an_epoch_covers_the_pixels_of_all_images_once():
    images = [np.zeros((100, 100, 1), np.float32), np.zeros((50, 200, 1), np.float32)]
    common = {"crop_size": 50, "batch_size": 3, "epochs": 10}
    # 20,000 pixels are 8 crops of 50 x 50, which are 3 batches.
    assert training_steps(images, EmbeddingConfig(**common)) == 30
    assert training_steps(images, EmbeddingConfig(steps=7, **common)) == 7


@pytest.mark.parametrize("batch_size", [1, 2, 8, 13])
def test_passes_on_the_cpu_fit_into_the_cache(batch_size):
    common = {"precision": "fp32", "batch_size": batch_size}
    cpu = torch.device("cpu")
    fast = choose_computation(cpu, crop=140**2, maps=24, **common)
    paper = choose_computation(cpu, crop=252**2, maps=64, **common)
    assert paper.crops_at_once == 1 <= fast.crops_at_once <= min(4, batch_size)
    gpu = choose_computation(torch.device("cuda"), crop=252**2, maps=64, **common)
    assert gpu.crops_at_once == batch_size


def test_auto_trains_in_float32_and_predicts_in_bfloat16_where_that_pays(monkeypatch):
    monkeypatch.delenv("OCE2STARDIST_PRECISION", raising=False)
    device, common = torch.device("cpu"), {"crop": 140**2, "batch_size": 8, "maps": 24}
    for has, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("oce2stardist.embeddings.device.bf16_pays", lambda device, has=has: has)
        assert resolve_precision(device, "auto") == wanted
        assert choose_computation(device, precision="auto", **common).precision == "fp32"
    chosen = choose_computation(device, precision="bf16", **common)
    assert (chosen.precision, chosen.reason) == ("bf16", "bf16 was asked for")


@pytest.mark.parametrize(
    ("has", "limit", "wanted"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, None, True),
        ({"amx_bf16": True, "avx512_bf16": True}, "ALL", True),
        ({"amx_bf16": True, "avx512_bf16": True}, "AVX512_CORE_AMX", True),
        ({"amx_bf16": True, "avx512_bf16": True}, "avx512_core_bf16", False),
        ({"amx_bf16": True, "avx512_bf16": True}, "AVX2", False),
        ({"amx_bf16": False, "avx512_bf16": True}, None, False),
        ({"bf16": True}, None, False),
        ({}, None, False),
    ],
)
def test_bfloat16_pays_on_processors_with_amx_that_may_be_used(monkeypatch, has, limit, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert bf16_pays(torch.device("cpu")) is wanted


def test_a_variable_says_what_auto_comes_to(monkeypatch):
    device = torch.device("cpu")
    for asked in ("fp32", "bf16"):
        monkeypatch.setenv("OCE2STARDIST_PRECISION", asked)
        assert resolve_precision(device, "auto") == asked
        assert resolve_precision(device, "fp32") == "fp32"
    monkeypatch.setenv("OCE2STARDIST_PRECISION", "half")
    with pytest.raises(InputError, match=r"must be auto, fp32 or bf16\. Got 'half'"):
        resolve_precision(device, "auto")


def test_weights_come_back_from_disk(tmp_path):
    net = network(channels=2)
    path = tmp_path / "weights.safetensors"
    write_weights(path, net)
    image = torch.rand(1, 2, 32, 32)
    assert torch.equal(read_weights(path)(image), net(image))


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        assert torch_device("cuda").type == "cuda"
        return
    with pytest.raises(InputError, match=r"\(cpu.*\)\. Got cuda instead"):
        torch_device("cuda")
