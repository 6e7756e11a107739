"""The contact sheet: lines lie where objects end, and every panel is there."""

import imagecodecs
import numpy as np
import pytest
from colours import ORANGE, SKY, YELLOW
from scenes import disc, two_touching_discs

from oce2stardist.suggestion.picture import SuggestionPanel, outlines, suggestion_picture


def panel(**changes):
    labels = two_touching_discs()
    values = {
        "title": "1  scene",
        "reason": "2 only found by the model",
        "image": (labels > 0).astype(np.float32)[..., None],
        "window": (8, 8, 40, 40),
        "model": labels,
        "nearly": None,
        "pseudo": labels,
        "annotations": None,
    }
    return SuggestionPanel(**{**values, **changes})


def area(line):
    """The area within a closed line, by the shoelace formula."""
    x, y = line.T
    return abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


def pixels_of_colour(png, colour):
    return int(
        (np.abs(imagecodecs.png_decode(png)[..., :3].astype(int) - colour).max(-1) < 4).sum()
    )


def test_an_outline_closes_around_each_object_also_at_the_edge():
    radius = 12
    labels = disc((40, 60), (20, 20), radius).astype(np.int32)
    labels[disc((40, 60), (20, 59.5), radius)] = 2**20  # half of it is cut off
    labels[0, 0] = -1
    whole, half = outlines(labels)
    for line, expected in ((whole, np.pi * radius**2), (half, np.pi * radius**2 / 2)):
        np.testing.assert_array_equal(line[0], line[-1])
        assert area(line) == pytest.approx(expected, rel=0.08)
    np.testing.assert_allclose(whole.mean(axis=0), (20, 20), atol=0.5)
    assert half[:, 0].max() == pytest.approx(59.5)


def test_every_side_has_its_own_colour_and_only_if_it_is_there():
    labels = two_touching_discs()
    sheet = suggestion_picture([panel(nearly=None)])
    with_nearly = suggestion_picture([panel(nearly=labels, model=0 * labels)])
    without_pseudo = suggestion_picture([panel(pseudo=None)])
    assert pixels_of_colour(sheet, SKY) > 100 and pixels_of_colour(sheet, ORANGE) > 100
    assert pixels_of_colour(sheet, YELLOW) == 0
    assert pixels_of_colour(with_nearly, YELLOW) > 30  # dotted
    assert pixels_of_colour(without_pseudo, ORANGE) == 0


def test_annotated_cells_are_filled():
    labels = two_touching_discs()
    plain = suggestion_picture([panel()])
    filled = suggestion_picture([panel(annotations=np.where(labels == 1, 1, -1))])
    assert plain != filled
    # The dark image turns reddish purple there: less green than red and blue.
    picture = imagecodecs.png_decode(filled)[..., :3].astype(int)
    assert ((picture[..., 0] - picture[..., 1] > 20) & (picture[..., 2] > picture[..., 1])).any()


def test_the_sheet_grows_by_rows_of_five():
    def size(n):
        return imagecodecs.png_decode(suggestion_picture([panel()] * n)).shape[:2]

    assert size(5)[1] == size(6)[1] == size(10)[1]
    assert size(5)[0] < size(6)[0] == size(10)[0]


def test_the_same_panels_give_the_same_bytes():
    assert suggestion_picture([panel()]) == suggestion_picture([panel()])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_of_any_channels_and_names_like_mathematics_can_be_shown(channels):
    image = np.zeros((48, 80, channels), np.float32)
    name = {"title": "1  $x^2$ and \\alpha_$", "reason": "a_$^"}
    assert suggestion_picture([panel(image=image, **name)])


def test_nothing_to_draw_is_our_mistake():
    with pytest.raises(ValueError, match="at least one region"):
        suggestion_picture([])


def test_labels_of_another_shape_are_our_mistake():
    with pytest.raises(ValueError, match=r"Got \(5, 6\) \(pseudo\) and \(48, 80\) for 1  scene"):
        suggestion_picture([panel(pseudo=np.zeros((5, 6), np.int32))])
