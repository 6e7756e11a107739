"""Compressed intensities: the order stays, dim cells count, the camera does not matter."""

import numpy as np
import pytest
from scenes import disc

from oce2stardist.images.intensity import compress

SHAPE = (80, 100)
BRIGHT, DIM = disc(SHAPE, (40, 30), 12), disc(SHAPE, (40, 70), 12)


def scene(noise=2.0, seed=0):
    """A bright cell and one ten times dimmer, on ground with noise; shape (Y, X, 2)."""
    rng = np.random.default_rng(seed)
    image = 100 + 1000 * BRIGHT + 100 * DIM + rng.normal(0, noise, SHAPE)
    return np.stack([image, image[::-1] ** 1.1], axis=-1).astype(np.float32)


def test_the_order_of_intensities_stays():
    image = scene()
    compressed = compress(image, knee=20.0)
    assert compressed.dtype == np.float32
    for channel in range(2):
        order = np.argsort(image[..., channel], axis=None, kind="stable")
        assert (np.diff(compressed[..., channel].ravel()[order]) >= 0).all()


def test_dim_cells_count_beside_bright_ones():
    image = scene()[..., :1]
    linear, compressed = (
        (one[DIM].mean() - np.median(one)) / (one[BRIGHT].mean() - np.median(one))
        for one in (image, compress(image, knee=20.0))
    )
    assert linear == pytest.approx(0.1, abs=0.01)
    # asinh(100 / 40) / asinh(1000 / 40), with 40 the knee times the noise of 2
    assert compressed == pytest.approx(np.arcsinh(2.5) / np.arcsinh(25), rel=0.05)


@pytest.mark.parametrize(("gain", "offset"), [(4.0, 0.0), (1.0, 300.0), (0.01, -2.0)])
def test_gain_and_offset_of_the_camera_do_not_matter(gain, offset):
    image = scene()
    np.testing.assert_allclose(
        compress(gain * image + offset, knee=20.0), compress(image, knee=20.0), atol=2e-3
    )


def test_channels_are_independent():
    image = scene()
    both = compress(image, knee=20.0)
    for channel in range(2):
        alone = compress(image[..., channel : channel + 1], knee=20.0)
        np.testing.assert_array_equal(both[..., channel], alone[..., 0])


def test_the_knee_is_in_standard_deviations_of_the_noise():
    rng = np.random.default_rng(0)
    image = rng.normal(50, 3.0, (300, 300, 1)).astype(np.float32)
    compressed = compress(image, knee=20.0)
    np.testing.assert_allclose(np.sinh(compressed) * 20 * 3.0, image - 50, rtol=0.02, atol=0.1)


def test_images_without_noise_or_contrast_stay_finite():
    drawn = (100.0 * BRIGHT + 10 * DIM)[..., None]
    compressed = compress(drawn, knee=20.0)
    # Without noise, a hundredth of the range stands for it: asinh(100 / 1) and asinh(10 / 1).
    assert compressed[BRIGHT].max() == pytest.approx(np.arcsinh(100.0), rel=1e-5)
    assert compressed[DIM].max() == pytest.approx(np.arcsinh(10.0), rel=1e-5)
    np.testing.assert_array_equal(compress(np.full((20, 20, 1), 7.0), knee=20.0), 0.0)
