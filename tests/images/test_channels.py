"""Channels for the network, on scenes whose stains and channels were drawn."""

import numpy as np
import pytest
from scenes import dense_tissue, discs_scene, stained_tissue
from sklearn.metrics import roc_auc_score

from oce2stardist.errors import InputError
from oce2stardist.images.channels import choose_channels, is_brightfield_rgb


def prepare_channels(images, mode="auto"):
    """Return the images as the network sees them, and the choice."""
    chosen = choose_channels(images, mode=mode)
    return [chosen.apply(image) for image in images], chosen


def separate_stains(images):
    return prepare_channels(images, "stains")[0]


def as_bytes(*channels):
    """Stack channels (Y, X), each scaled so that its range becomes 0 to 255."""
    scaled = [(c - c.min()) / np.ptp(c) for c in channels]
    return np.rint(255 * np.stack(scaled, axis=-1)).astype(np.float32)


def three_dyes(seed):
    return as_bytes(*(discs_scene(10, (144, 144), 12, 3 * seed + i)[0] for i in range(3)))


def dense_dyes(seed):
    return as_bytes(*(dense_tissue(3 * seed + i, (144, 144))[0] for i in range(3)))


def grey_stored_as_rgb(seed):
    return as_bytes(*[1 - discs_scene(10, (144, 144), 12, seed)[0]] * 3)


def section(seed):
    return stained_tissue(seed, n=12, shape=(160, 160))[0]


@pytest.mark.parametrize(
    ("draw", "came_to"),
    [
        (section, "stains"),
        (grey_stored_as_rgb, "grey"),
        (three_dyes, "as_is"),
    ],
)
def test_what_auto_comes_to_gives_the_same_when_it_is_asked_for(draw, came_to):
    (image,), chosen = prepare_channels([draw(0)])
    (again,), said = prepare_channels([draw(0)], mode=came_to)
    np.testing.assert_array_equal(image, again)
    assert chosen.mode == said.mode == came_to


def test_a_stained_section_is_bright_field():
    assert is_brightfield_rgb([section(seed) for seed in range(4)])


@pytest.mark.parametrize("draw", [three_dyes, dense_dyes, grey_stored_as_rgb])
def test_fluorescence_and_grey_are_not_bright_field(draw):
    assert not any(is_brightfield_rgb([draw(seed)]) for seed in range(4))


def test_nuclei_in_one_of_three_dyes_and_other_than_eight_bits_are_not_bright_field():
    blue, rgb = np.zeros((144, 144, 3), np.float32), section(0)
    blue[..., 2] = as_bytes(discs_scene(10, (144, 144), 12, 0)[0])[..., 0]
    assert not any(is_brightfield_rgb([image]) for image in (blue, rgb * 257, rgb / 255))


def test_one_blank_field_does_not_change_what_the_set_is():
    blank = np.full((64, 64, 3), 240, np.float32)
    speckled = blank + np.random.default_rng(0).integers(-3, 4, (64, 64, 1)).astype(np.float32)
    assert is_brightfield_rgb([section(0), section(1), blank, speckled])
    assert not is_brightfield_rgb([blank])
    assert not is_brightfield_rgb([])


def test_haematoxylin_is_bright_in_nuclei_and_eosin_outside():
    images, labels = zip(*(stained_tissue(seed) for seed in range(2)), strict=True)
    prepared, chosen = prepare_channels(images)
    assert chosen.reason.endswith("haematoxylin and eosin: the images look like bright-field RGB")
    for stains, nuclei in zip(prepared, labels, strict=True):
        assert stains.dtype == np.float32 and stains.shape == (*nuclei.shape, 2)
        assert stains.min() >= 0 and stains.max() <= 1
        assert roc_auc_score((nuclei > 0).ravel(), stains[..., 0].ravel()) > 0.99
        assert stains[..., 1][nuclei == 0].mean() > stains[..., 1][nuclei > 0].mean()


def test_one_black_speck_does_not_flatten_the_stains():
    image = section(0)
    plain = separate_stains([image])[0]
    image[5, 5] = 0
    assert np.abs(separate_stains([image])[0] - plain)[20:].max() < 0.05


def test_an_unstained_field_has_no_density_and_no_nan():
    white = np.full((32, 32, 3), 255, np.float32)
    np.testing.assert_array_equal(separate_stains([white])[0], np.zeros((32, 32, 2)))


def test_grey_stored_as_rgb_becomes_one_channel_with_the_same_values():
    image = grey_stored_as_rgb(0)
    (grey,), chosen = prepare_channels([image])
    np.testing.assert_allclose(grey, image[..., :1])
    assert chosen.reason == "one channel: the 3 stored channels hold the same grey image"


@pytest.mark.parametrize("count", [1, 5])
def test_fluorescence_keeps_all_channels_untouched(count):
    image = np.concatenate([three_dyes(0), three_dyes(1)], axis=-1)[..., :count]
    (kept,), chosen = prepare_channels([image])
    np.testing.assert_array_equal(kept, image)
    assert chosen.reason == f"{count} channel(s) as stored: every channel may show cells"


def test_one_coloured_image_keeps_the_channels_of_a_grey_set():
    prepared, _ = prepare_channels([grey_stored_as_rgb(0), three_dyes(0)])
    assert [image.shape[-1] for image in prepared] == [3, 3]


def test_a_mode_that_is_asked_for_is_obeyed():
    image = section(0)
    (kept,), _ = prepare_channels([image], mode="as_is")
    np.testing.assert_array_equal(kept, image)
    (grey,), _ = prepare_channels([image], mode="grey")
    np.testing.assert_allclose(grey[..., 0], image.mean(axis=-1), rtol=1e-6)
    (stains,), chosen = prepare_channels([three_dyes(0)], mode="stains")
    assert stains.shape[-1] == 2 and chosen.reason.endswith("asked for")


def test_stains_are_refused_where_there_is_no_rgb():
    with pytest.raises(InputError, match=r"Got 1 channel\(s\) of 7 to 7"):
        prepare_channels([np.full((8, 8, 1), 7, np.float32)], mode="stains")
    with pytest.raises(InputError, match=r"Got 3 channel\(s\) of 0 to 4000"):
        separate_stains([np.linspace(0, 4000, 192, dtype=np.float32).reshape(8, 8, 3)])


def test_different_numbers_of_channels_are_refused():
    images = [np.zeros((8, 8, count), np.float32) for count in (1, 3)]
    with pytest.raises(InputError, match=r"Got \[1, 3\]"):
        prepare_channels(images)
