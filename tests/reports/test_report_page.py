"""Pages: all that they are given comes out of them, escaped, and they need no other file."""

import base64
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
from colours import SKY
from pages import SCRIPT, Page, assert_self_contained
from run_folders import history

from oce2stardist.reports.drawing import plots
from oce2stardist.reports.drawing.page import Notice, Part, Rich, Section, write_page


def b_plot():
    return plots.loss_plot(history(3), {"loss": "total"})


def page_of(tmp_path, section, **changes):
    """Write a page of one section and open it."""
    given = {"title": "", "lead": "", "sections": [section]} | changes
    return Page(write_page(tmp_path / "a.html", **given))


def decoded(picture, kind):
    """What a browser shows of a picture on a page."""
    encoded = base64.b64decode(picture["src"].removeprefix(f"data:image/{kind};base64,"))
    decode = {"png": imagecodecs.png_decode, "jpeg": imagecodecs.jpeg8_decode}[kind]
    return decode(encoded)


def test_everything_a_page_is_given_is_escaped(tmp_path):
    picture = np.zeros((4, 5, 3), np.uint8)
    section = Section(
        SCRIPT,
        SCRIPT,
        table=[(SCRIPT,), (SCRIPT,)],
        panels=[(SCRIPT + '"', picture), (SCRIPT, b_plot())],
        legends=[(SCRIPT, picture)],
    )
    run = {"command": SCRIPT}
    page = page_of(tmp_path, section, title=SCRIPT, lead=SCRIPT, runs={SCRIPT: run})
    assert_self_contained(page)
    assert SCRIPT not in page.source
    assert page.texts["h2"] == page.texts["td"] == [SCRIPT]
    assert page.pictures[1]["alt"] == SCRIPT + '"'


@pytest.mark.parametrize("is_grey", [True, False])
def test_pictures_come_out_of_the_page_as_they_went_in(tmp_path, is_grey):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    if is_grey:
        picture = np.repeat(picture[..., :1], 3, axis=-1)
    (shown,) = page_of(tmp_path, Section("a", panels=[("b", picture)])).pictures
    # Grey takes a third of the space.
    expected = picture[..., 0] if is_grey else picture
    np.testing.assert_array_equal(decoded(shown, "png"), expected)
    assert (shown["width"], shown["height"]) == ("7", "9")


def test_large_noisy_pictures_are_compressed_but_outlines_keep_their_colour(tmp_path):
    grey = np.random.default_rng(0).integers(0, 120, (400, 400, 1), np.uint8)
    picture = np.repeat(grey, 3, axis=-1)
    picture[200, 50:350] = SKY  # one pixel wide
    section = Section("a", panels=[("b", picture), ("c", np.repeat(grey, 3, axis=-1))])
    coloured, plain = (decoded(shown, "jpeg") for shown in page_of(tmp_path, section).pictures)
    assert plain.shape == (400, 400)
    line = coloured[200, 60:340].astype(int)
    assert np.median(line[:, 2] - line[:, 0]) > 0.7 * (SKY[2] - SKY[0])


def test_opaque_sheets_are_not_turned_dark_and_can_be_enlarged(tmp_path):
    sheet = imagecodecs.png_encode(np.full((20, 30, 4), 255, np.uint8))
    page = page_of(tmp_path, Section("a", panels=[("sheet", bytes(sheet)), ("plot", b_plot())]))
    sheet, plot = page.pictures
    assert "class" not in sheet and plot["class"] == "plot"
    assert page.source.count("<label>") == page.source.count('<figure class="sheet">') == 1


@pytest.mark.parametrize("is_warning", [True, False])
def test_notices_stand_first_and_are_escaped(tmp_path, is_warning):
    page = page_of(tmp_path, Section("first"), notice=Notice(SCRIPT, is_warning=is_warning))
    assert_self_contained(page)
    assert page.texts["p"][2].endswith(SCRIPT)
    assert ("Warning" in page.texts["p"][2]) == is_warning
    assert page.source.index("&lt;script") < page.source.index("<h2>")


def test_numbers_are_written_alike_and_aligned_right(tmp_path):
    table = [("name", "count", "F1"), ("a", 12345, 0.5), ("b", 7, None), ("c", 8, float("nan"))]
    page = page_of(tmp_path, Section("Scores", "One.\n\nTwo.", table=table))
    assert page.texts["td"] == ["a", "12,345", "0.500", "b", "7", "–", "c", "8", "–"]
    assert page.source.count('class="number"') == 8
    assert page.texts["p"][-2:] == ["One.", "Two."]


def test_importing_the_report_loads_no_framework_and_no_plot_style():
    code = (
        "import sys, oce2stardist.reports;"
        "print([m for m in ('torch', 'tensorflow', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_page_runs_no_script_and_shows_cells_of_parts(tmp_path):
    table = [("a", "b"), (0.5, Rich([Part("<x>", is_bold=True, href="../c")]))]
    source = page_of(tmp_path, Section("s", table=table)).source
    assert "default-src 'none';" in source and "<script" not in source
    assert '<a href="../c"><strong>&lt;x&gt;</strong></a>' in source


@pytest.mark.parametrize("href", ["javascript:alert(1)", "https://x", "/etc", "\\\\x", "//x"])
def test_links_lead_to_files_beside_the_page_only(href):
    with pytest.raises(ValueError, match=r"href must be a path relative to the page\. Got"):
        Part("x", href=href)
