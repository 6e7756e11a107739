"""Pictures of arrays: the right pixels have the right colours."""

import imagecodecs
import numpy as np
import pytest
from colours import ORANGE, SKY, VERMILLION, WHITE, YELLOW, pixels_of
from run_folders import history
from scenes import disc, discs_scene
from scipy import ndimage as ndi

from oce2stardist.objects.overlay import draw_image, draw_overlay
from oce2stardist.reports import strip
from oce2stardist.reports.drawing import pictures, plots


def flat_image(shape=(48, 80)):
    """A grey image, with a black and a white corner, in which pictures draw on equal ground."""
    image = np.full((*shape, 1), 0.5, np.float32)
    image[:5, :20], image[:5, -20:] = 0, 1
    return image


# --- shrinking


def test_shrinking_averages_images_and_picks_labels():
    values = np.arange(12.0).reshape(3, 4)
    blocks = np.kron(values, np.ones((5, 5)))
    np.testing.assert_allclose(pictures.shrink_image(blocks[..., None], 4)[..., 0], values)
    np.testing.assert_array_equal(pictures.shrink_labels(blocks.astype(int), 4), values)
    # What is small enough is not touched.
    np.testing.assert_array_equal(pictures.shrink_image(blocks, 20), blocks)
    np.testing.assert_array_equal(pictures.shrink_labels(blocks, 20), blocks)


@pytest.mark.parametrize("shape", [(1500, 900), (701, 3), (699, 2000)])
def test_shrunk_images_and_labels_are_small_enough_and_cover_each_other(shape):
    labels = disc(shape, (shape[0] / 2, shape[1] / 2), shape[1] / 3).astype(np.int32)
    small = pictures.shrink_labels(labels)
    image = pictures.shrink_image(labels[..., None])[..., 0]
    assert max(small.shape) == 700 and small.shape == image.shape
    np.testing.assert_allclose(small.shape, np.array(shape) * 700 / max(shape), atol=0.5)
    # They may only differ where a block lies across the outline.
    assert ((image > 0.5) != small)[(image == 0) | (image == 1)].sum() == 0
    assert image.mean() == pytest.approx(labels.mean(), abs=0.01)


# --- pictures


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_every_picture_is_rgb_bytes_of_the_size_of_the_image(channels):
    _, labels = discs_scene(4, (60, 70), 8, seed=0)
    image = np.random.default_rng(0).random((60, 70, channels))
    offsets = np.random.default_rng(1).normal(size=(2, 60, 70))
    for picture in (
        pictures.picture_of_image(image),
        pictures.picture_of_labels(image, labels),
        pictures.picture_of_offsets(offsets),
        pictures.picture_of_offsets(offsets, labels > 0),
        pictures.picture_of_spread(np.abs(offsets[0])),
        pictures.picture_of_training_labels(image, labels),
        pictures.picture_of_errors(image, labels, labels),
    ):
        assert (picture.shape, picture.dtype) == ((60, 70, 3), np.uint8)


def test_labels_are_outlined_as_in_overlay_files():
    image = np.random.default_rng(0).random((60, 70, 3)).astype(np.float32)
    _, labels = discs_scene(4, (60, 70), 8, seed=0)
    shown, expected = pictures.picture_of_labels(image, labels), draw_overlay(image, labels)
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_dark_images_are_brightened_and_others_are_not():
    bright = np.random.default_rng(0).random((60, 70, 1)).astype(np.float32)
    assert pictures.picture_of_image(bright**4).mean() > draw_image(bright**4).mean() + 20
    assert np.abs(pictures.picture_of_image(bright) - draw_image(bright).astype(int)).max() <= 1


def test_offsets_that_meet_in_the_middle_show_every_hue_around_a_dark_centre():
    rows, columns = np.indices((41, 41)) - 20.0
    picture = pictures.picture_of_offsets(-np.stack([rows, columns])).astype(int)
    assert picture[20, 20].max() == 0
    left, right, top, bottom = picture[20, 0], picture[20, 40], picture[0, 20], picture[40, 20]
    assert left.argmax() == 0  # points to the right: red, as in the legend
    for colour, opposite in ((left, right), (top, bottom)):
        assert np.abs(colour - opposite).max() > 100
    legend = pictures.colour_wheel(41)
    shown = [left / left.max(), bottom / bottom.max()]
    np.testing.assert_allclose(shown, legend[[20, 0], [40, 20]] / 255, atol=0.01)


def test_confidence_colours_outlines_and_hatches_what_is_unsure():
    labels = (disc((48, 120), (24, 20), 10) * 7 + disc((48, 120), (24, 60), 10) * 2).astype(int)
    labels += disc((48, 120), (24, 100), 10) * 4
    confidence = np.array([np.nan, np.nan, 0.5, np.nan, 0.0, np.nan, np.nan, 1.0])
    picture = pictures.picture_of_confidence(flat_image(labels.shape), labels, confidence)
    for colour, label, hatched in ((SKY, 7, False), (VERMILLION, 4, True)):
        where = pixels_of(picture, colour)
        assert where.any() and not where[labels != label].any()
        inside = where & ndi.binary_erosion(labels == label, iterations=3)
        assert inside.any() == hatched
    yellow = np.abs(picture[labels == 2].astype(int) - YELLOW).max(axis=1) <= 2
    assert 30 < yellow.sum() < 100
    legend = pictures.confidence_bar(101)[0]
    np.testing.assert_allclose(legend[[0, 50, 100]], [VERMILLION, YELLOW, SKY], atol=2)


def test_confidence_is_plotted_where_it_lies():
    png = imagecodecs.png_decode(plots.confidence_plot(np.array([0.99] * 30 + [0.01] * 10)))
    assert png[0, 0, 3] == 0
    solid = png[..., 3] == 255
    blue, red = (
        solid & (np.abs(png[..., :3].astype(int) - colour).max(axis=-1) < 12)
        for colour in (SKY, VERMILLION)
    )
    assert np.argwhere(blue)[:, 1].min() > np.argwhere(red)[:, 1].max()
    assert blue.any(axis=1).sum() == pytest.approx(3 * red.any(axis=1).sum(), rel=0.15)
    assert plots.confidence_plot(np.zeros(0))


@pytest.mark.parametrize("at_most", [40, 700])
def test_maps_can_be_shrunk_further(at_most):
    offsets = np.random.default_rng(0).normal(size=(2, 60, 80))
    shape = (min(60, at_most * 60 // 80), min(80, at_most), 3)
    assert pictures.picture_of_offsets(offsets, at_most=at_most).shape == shape
    assert pictures.picture_of_spread(offsets[0], at_most=at_most).shape == shape


def test_shifting_all_offsets_changes_nothing():
    offsets = np.random.default_rng(0).normal(size=(2, 30, 40))
    shifted = offsets + np.array([7.0, -3.0])[:, None, None]
    drawn, again = pictures.picture_of_offsets(offsets), pictures.picture_of_offsets(shifted)
    np.testing.assert_array_equal(drawn, again)


def test_offsets_are_centred_on_the_foreground_and_dimmed_outside():
    foreground = np.zeros((20, 20), bool)
    foreground[:8] = True
    offsets = np.zeros((2, 20, 20))
    offsets[1, :4], offsets[1, 4:8] = -1, 1  # median 0 in the foreground
    offsets[1, 8:] = 1
    picture = pictures.picture_of_offsets(offsets, foreground).astype(int)
    np.testing.assert_allclose(picture[15, 5], 0.35 * picture[6, 5], atol=1)
    nowhere = pictures.picture_of_offsets(offsets, np.zeros_like(foreground))
    np.testing.assert_array_equal(nowhere, pictures.picture_of_offsets(offsets))


def test_spread_is_shown_on_a_logarithmic_scale():
    spread = np.array([[1.0, 10.0, 100.0, 0.0, 1000.0]])
    dark, middle, bright, below, above = pictures.picture_of_spread(spread, (1, 100))[0].tolist()
    viridis = pictures.colour_bar(101)[0].tolist()
    assert (dark, middle, bright) == (viridis[0], viridis[50], viridis[-1])
    assert (below, above) == (dark, bright)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_spread_can_be_shown(value):
    assert pictures.picture_of_spread(np.full((5, 6), value)).shape == (5, 6, 3)


def test_training_labels_tell_cells_background_unknown_and_held_back_apart():
    labels = np.full((48, 80), -1, np.int32)
    labels[:, :40] = 0
    cell, judge = disc(labels.shape, (24, 20), 8), disc(labels.shape, (24, 60), 8)
    labels[cell] = 9
    picture = pictures.picture_of_training_labels(flat_image(), labels, judge.astype(np.int32))
    outlined = pixels_of(picture, ORANGE)
    assert outlined.any() and not outlined[~cell].any()
    assert picture[24, 20].tolist() == [128, 128, 128]  # inside, the image itself
    red, _, blue = picture[40, 20].astype(int)
    assert blue > red + 30
    unknown = picture[30:, 45:50].max(axis=-1)
    assert unknown.max() < 120 and len(np.unique(unknown)) > 1  # dark, with lines
    assert pixels_of(picture, WHITE)[judge].any() and picture[24, 60].min() > 150


def three_discs():
    """Truth and prediction that share one disc; one more is true only, one predicted only."""
    shape = (48, 120)
    both, true, false = (disc(shape, (24, x), 10) for x in (20, 60, 100))
    return (both * 5 + true * 3).astype(np.int32), (both * 3 + false * 8).astype(np.int32)


def errors_of(truth, predicted):
    return pictures.picture_of_errors(flat_image(truth.shape), predicted, truth)


def test_errors_have_three_colours():
    picture = errors_of(*three_discs())
    for colour, middle in ((SKY, 20), (VERMILLION, 60), (YELLOW, 100)):
        where = np.argwhere(pixels_of(picture, colour))
        assert len(where) > 20
        assert np.hypot(*(where - [24, middle]).T).max() <= 10


def test_predictions_where_truth_is_unknown_are_no_errors():
    truth, predicted = three_discs()
    truth[:, 80:] = -1
    assert not pixels_of(errors_of(truth, predicted), YELLOW).any()


@pytest.mark.parametrize("has", [(True, False), (False, True), (False, False)])
def test_errors_can_be_shown_without_objects(has):
    picture = errors_of(*(labels * shown for labels, shown in zip(three_discs(), has, strict=True)))
    shown = [bool(pixels_of(picture, colour).any()) for colour in (SKY, VERMILLION, YELLOW)]
    assert shown == [False, *has]


def test_errors_are_judged_before_large_images_are_shrunk():
    truth = np.zeros((60, 2100), np.int32)
    truth[20:26, 100:106] = 1
    predicted = np.roll(truth, (3, 1), (0, 1))  # IoU 15 / 57, though close when shrunk
    picture = errors_of(truth, predicted)
    assert picture.shape == (20, 700, 3)
    assert pixels_of(picture, YELLOW).any() and not pixels_of(picture, SKY).any()


def test_loss_plot_is_a_transparent_png_with_a_second_axis_for_scores():
    plain = plots.loss_plot(history(), {"loss": "total"})
    with_scores = history(score=[np.nan, 0.5] * 25, score_error=0.1, other=0.3)
    scored = plots.loss_plot(with_scores, {"loss": "total", "other": "half"})
    images = [imagecodecs.png_decode(png) for png in (plain, scored)]
    assert all(image.shape[2] == 4 and image[0, 0, 3] == 0 for image in images)
    assert len(images[1]) > len(images[0])
    assert plain == plots.loss_plot(history(score=np.nan, score_error=np.nan), {"loss": "total"})


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_loss_can_be_plotted_after_few_steps(steps):
    assert plots.loss_plot(history(steps), {"loss": "total"})


def test_strip_joins_captioned_pictures_of_one_height():
    red = np.broadcast_to(np.array([255, 0, 0], np.uint8), (30, 60, 3))
    blue = np.broadcast_to(np.array([0, 0, 255], np.uint8), (90, 90, 3))
    row = strip._join([("one", red), ("two\nlines", blue)], height=45)
    assert (row.dtype, row.shape[1]) == (np.uint8, 90 + 45 + 3 * 8)
    assert pixels_of(row, (255, 0, 0)).sum() == 45 * 90
    assert pixels_of(row, (0, 0, 255)).sum() == 45 * 45
    assert row[:-55].min() < 100 and pixels_of(row, WHITE)[0, 0]  # captions on white
