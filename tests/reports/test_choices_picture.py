"""The contact sheet of choices: every value is drawn, and the chosen one stands out."""

import imagecodecs
import numpy as np
import pytest
from scenes import discs_scene

from oce2stardist.reports.drawing.choices_picture import ChoicePanel, ChoiceRow, choices_picture

VERMILLION = (213, 94, 0)


def row(*chosen, shape=(60, 60)):
    image, labels = discs_scene(2, shape, 8, seed=0)
    panels = [ChoicePanel(f"{i}", labels, chosen=is_it) for i, is_it in enumerate(chosen)]
    return ChoiceRow("a setting", image[..., None], panels)


def decoded(*rows):
    return imagecodecs.png_decode(choices_picture(rows))


def frames(picture):
    """The columns of the picture that are frame, over most of a panel's height."""
    framed = (picture[..., :3] == np.array(VERMILLION, np.uint8)).all(axis=-1)
    return np.flatnonzero(framed.sum(axis=0) > 150)


def test_only_the_chosen_panel_is_framed():
    assert frames(decoded(row(False, False, False))).size == 0
    first, last = (frames(decoded(row(*chosen))) for chosen in ((1, 0, 0), (0, 0, 1)))
    assert first.size == last.size > 0
    (distance,) = np.unique(last - first)  # the same frame, two panels further right
    assert distance == pytest.approx(2 * (1.9 + 0.12) * 110, abs=1)


def test_sheet_is_as_wide_as_its_longest_row_and_opaque():
    one, three = decoded(row(True)), decoded(row(True), row(True, False, False))
    assert three.shape[1] == pytest.approx(3 * one.shape[1], rel=0.05)
    assert three.shape[0] == pytest.approx(2 * one.shape[0], abs=1)
    assert (three[..., 3] == 255).all()


def test_flat_windows_keep_their_shape():
    tall, flat = decoded(row(True)), decoded(row(True, shape=(30, 60)))
    assert tall.shape[0] - flat.shape[0] == pytest.approx(0.95 * 110, abs=1)


def test_captions_say_value_score_and_what_was_chosen():
    labels = np.zeros((3, 3), int)
    assert ChoicePanel("9.24 px", labels).caption == "9.24 px"
    assert ChoicePanel("off", labels, chosen=True).caption == "off\nchosen"
    assert ChoicePanel("1", labels, chosen=True, score=0.5).caption == "1\nscore 0.500, chosen"


def test_outlines_of_other_labels_show():
    image, labels = discs_scene(4, (60, 60), 8, seed=0)
    coloured = []
    for drawn in (labels, np.zeros_like(labels)):
        sheet = decoded(ChoiceRow("a", image[..., None], [ChoicePanel("b", drawn)]))
        coloured.append((np.ptp(sheet[..., :3].astype(int), axis=-1) > 60).sum())
    assert coloured[0] > 200 and coloured[1] == 0


def test_same_choices_give_the_same_bytes_and_dollar_signs_are_text():
    dollars = ChoiceRow("$a$ $", row(True).image, [ChoicePanel("$b^$", row(True).panels[0].labels)])
    assert choices_picture([dollars]) == choices_picture([dollars])


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"Got rows of \[\] panels"):
        choices_picture([])
    with pytest.raises(ValueError, match=r"Got rows of \[1, 0\] panels"):
        choices_picture([row(True), row()])
    image = np.zeros((5, 6, 1))
    with pytest.raises(ValueError, match=r"Got \(6, 5\) and \(5, 6\) for size 7"):
        choices_picture([ChoiceRow("size", image, [ChoicePanel("7", np.zeros((6, 5), int))])])
