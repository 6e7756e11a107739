"""Prediction in tiles over noisy copies, against the same thing computed plainly."""

import gc
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork
from oce2stardist.embeddings.noise import choose_copies, copies_per_cycle, noise_turns
from oce2stardist.embeddings.predict import (
    NOISE_VALUES,
    PredictionSettings,
    predict_offsets,
    predict_tiles,
)

COMMON = PredictionSettings(copies=2, noise=0.05, tile_size=64, precision="fp32", seed=5)
MARGIN = FIELD_OF_VIEW // 2


def network(channels=1):
    torch.manual_seed(0)
    return OffsetNetwork(channels=channels, feature_maps=4, growth=2).eval()


def predict(net, image, **changes):
    return predict_offsets(net, image, replace(COMMON, **changes), device="cpu")


def tiles_of(net, image, **changes):
    return predict_tiles(net, image, replace(COMMON, **changes), device="cpu")


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def plain_copies(net, image, *, copies, noise, seed):
    """Predict every noisy copy of the whole image at once: (copies, 2, Y, X)."""
    height, width = image.shape[:2]
    padded = np.pad(
        image,
        [(MARGIN, MARGIN + height % 2), (MARGIN, MARGIN + width % 2), (0, 0)],
        mode="symmetric",
    )
    rows, columns = (slice(-MARGIN, length - MARGIN) for length in padded.shape[:2])
    predicted = []
    for copy in range(copies):
        cycle, turn = divmod(copy, copies_per_cycle(noise))
        hit = noise_turns((rows, columns), noise=noise, seed=seed, cycle=cycle) == turn
        noisy = np.where(hit[..., None], np.float32(NOISE_VALUES[copy % 2]), padded)
        with torch.no_grad():
            predicted.append(net(torch.from_numpy(noisy.transpose(2, 0, 1)[None]))[0].numpy())
    return np.stack(predicted)[:, :, :height, :width]


# One rounding of a bfloat16 is a share of 2**-8; offsets here are up to some pixels long. Two
# tiles differ by a few roundings at most, where a tile without its margin differs by pixels.
@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-4), ("bf16", 0.05)])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("shape", [(131, 103), (64, 17), (65, 3)])
def test_tiles_of_any_size_give_what_one_tile_gives(shape, channels, precision, apart):
    image = random_image(*shape, channels)
    whole, *tiled = (
        predict(network(channels), image, copies=3, tile_size=size, precision=precision)
        for size in (512, 64, 99, 256)
    )
    assert whole.offsets.shape == (2, *shape)
    assert whole.spread.shape == shape
    for other in tiled:
        np.testing.assert_allclose(other.offsets, whole.offsets, atol=apart)
        np.testing.assert_allclose(other.spread, whole.spread, atol=apart)


def test_offsets_in_half_precision_are_not_rounded_to_its_steps():
    # bfloat16 has steps of 1/16 px between 8 and 16 px, and of 1/2 px from 64 px on.
    net, image = network(), random_image(40, 40, 1)
    with torch.no_grad():
        net.head[-1].bias += 100.0
    exact, half = (
        predict(net, image, copies=1, noise=0.0, precision=precision)
        for precision in ("fp32", "bf16")
    )
    np.testing.assert_allclose(half.offsets, exact.offsets, atol=0.1)


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_mean_and_spread_are_those_of_the_copies_computed_one_by_one(noise):
    # At a noise of 0.3 the copies run through several cycles of 3.
    image = random_image(61, 84, 2)
    copies = plain_copies(network(2), image, copies=8, noise=noise, seed=5)
    predicted = predict(network(2), image, copies=8, tile_size=32, noise=noise)
    np.testing.assert_allclose(predicted.offsets, copies.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(predicted.spread, np.std(copies, axis=0).sum(axis=0), atol=1e-5)


def test_long_offsets_do_not_drown_a_small_spread():
    net, image = network(), random_image(40, 40, 1)
    before = predict(net, image, copies=6)
    with torch.no_grad():
        net.head[-1].bias += 100.0
    after = predict(net, image, copies=6)
    np.testing.assert_allclose(after.offsets, before.offsets + 100, rtol=1e-5)
    np.testing.assert_allclose(after.spread, before.spread, rtol=1e-3, atol=1e-4)


def test_tiles_cover_the_image_once_and_in_order():
    image = random_image(70, 45, 1)
    covered = np.zeros((70, 45), int)
    corners = []
    for (rows, columns), offsets, spread in tiles_of(network(), image, tile_size=32):
        covered[rows, columns] += 1
        corners.append((rows.start, columns.start))
        assert offsets.shape == (2, *spread.shape) == (2, *covered[rows, columns].shape)
    assert (covered == 1).all()
    assert corners == sorted(corners)


def test_no_more_than_a_tile_with_its_margin_is_read():
    class Recorder:
        def __init__(self, pixels):
            self.pixels, self.shape, self.read = pixels, pixels.shape, []

        def __getitem__(self, window):
            self.read.append(self.pixels[window].shape[:2])
            return self.pixels[window].astype(np.float64)

    image = random_image(130, 75, 1)
    recorder = Recorder(image)
    from_recorder = predict(network(), recorder, tile_size=32)
    assert len(recorder.read) == 5 * 3  # 130 and 75 pixels in parts of up to 32
    assert np.max(recorder.read) <= 32 + FIELD_OF_VIEW
    np.testing.assert_array_equal(
        from_recorder.offsets, predict(network(), image, tile_size=32).offsets
    )


def traced_peak(call):
    """Run something, first to warm up, and return the least that it allocates in three runs, bytes.

    When garbage is collected, and what other threads of the machine do meanwhile, is chance.
    """
    call()
    peaks = []
    for _ in range(3):
        gc.collect()
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return min(peaks)


def flat_image(height, width):
    """Return an image (Y, X, 1) that takes no memory: one pixel, seen everywhere."""
    return np.broadcast_to(np.float32(0.5), (height, width, 1))


def test_memory_does_not_grow_with_the_image():
    def consume(height):
        image = flat_image(height, 128)
        for _ in tiles_of(network(), image, tile_size=128):
            pass

    # The image grows by 0.7 MB; torch leaves some garbage behind in every tile. The smaller one
    # has more tiles, too, than are under way at a time.
    assert traced_peak(lambda: consume(2048)) < traced_peak(lambda: consume(768)) + 200_000


def test_results_are_all_that_is_held_of_a_whole_image():
    def hold(height):
        return predict(network(), flat_image(height, 128), tile_size=128)

    grown = traced_peak(lambda: hold(2048)) - traced_peak(lambda: hold(768))
    results = 3 * 4 * (2048 - 768) * 128  # two offsets and the spread, float32
    assert grown == pytest.approx(results, abs=200_000)


def test_a_window_of_noise_is_the_same_wherever_its_drawing_starts():
    everywhere = noise_turns((slice(-20, 300), slice(-20, 290)), noise=0.01, seed=3)
    part = noise_turns((slice(101, 260), slice(-7, 133)), noise=0.01, seed=3)
    np.testing.assert_array_equal(part, everywhere[121:280, 13:153])


def test_noise_far_from_the_origin_is_drawn_without_what_lies_between():
    far = slice(10**9, 10**9 + 5)
    turns = noise_turns((far, far), noise=0.01, seed=0)
    assert turns.shape == (5, 5)


def test_noise_differs_between_places_seeds_and_cycles():
    here, there = slice(0, 128), slice(128, 256)
    drawn = [
        noise_turns((rows, columns), noise=0.01, seed=seed, cycle=cycle)
        for rows, columns, seed, cycle in [
            (here, here, 0, 0), (there, here, 0, 0), (here, there, 0, 0), (here, here, 1, 0),
            (here, here, 0, 1),
        ]
    ]  # fmt: skip
    for index, one in enumerate(drawn):
        for other in drawn[:index]:
            assert np.mean(one == other) == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.3, 0.7])
def test_every_copy_replaces_the_given_share_of_pixels(noise):
    turns = noise_turns((slice(0, 512), slice(0, 512)), noise=noise, seed=0)
    counts = np.bincount(turns.ravel())[: copies_per_cycle(noise)]
    deviation = np.sqrt(noise * (1 - noise) / turns.size)
    np.testing.assert_allclose(counts / turns.size, noise, atol=5 * deviation)


@pytest.mark.parametrize(("noise", "copies"), [(0.01, 100), (0.05, 20), (0.3, 3), (0.7, 1)])
def test_a_cycle_lasts_while_pixels_can_be_replaced_once(noise, copies):
    assert copies_per_cycle(noise) == copies


def test_there_is_a_spread_with_noise_alone():
    still, noisy = (
        predict(network(), random_image(40, 40, 1), copies=4, noise=noise).spread
        for noise in (0.0, 0.2)
    )
    assert still.max() == 0 < 1e-3 < noisy.mean()


def test_tiles_smaller_than_the_field_of_view_are_refused():
    with pytest.raises(ValueError, match=r"at least 16 pixels\. Got 15"):
        next(tiles_of(network(), random_image(40, 40, 1), tile_size=15))


def test_a_tile_size_just_too_small_leaves_no_narrow_strip():
    tiles = tiles_of(network(), random_image(66, 40, 1), copies=1)
    assert [tile.spread.shape for tile in tiles] == [(34, 40), (32, 40)]


def test_small_sets_get_more_copies_and_no_set_fewer_than_8():
    chosen = [choose_copies(megapixels) for megapixels in (0.01, 1, 5, 10, 30, 1e5)]
    assert chosen == [16, 16, 16, 12, 8, 8]
