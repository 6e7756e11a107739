"""Pages: all that they are given comes out of them, escaped, and they need no other file."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from colours import SKY
from pages import SCRIPT, Page, assert_self_contained
from run_folders import history

from oce2stardist.reports.drawing import plots
from oce2stardist.reports.drawing.page import (
    DOCUMENTATION,
    Guide,
    Part,
    Rich,
    Section,
    Step,
    Verdict,
    write_page,
)

PLAIN = Verdict("green", "All is well.", [Step("Go on.")], Guide("images.html", "Images"))


def b_plot():
    return plots.loss_plot(history(3), {"loss": "total"})


def page_of(tmp_path, section, **changes):
    """Write a page of one section and open it."""
    given = {"title": "", "lead": "", "verdict": PLAIN, "sections": [section]} | changes
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
    given = {"title": SCRIPT, "lead": SCRIPT, "runs": {SCRIPT: {"command": SCRIPT}}}
    verdict = Verdict("red", SCRIPT, [Step(SCRIPT, SCRIPT)], Guide("images.html", SCRIPT))
    page = page_of(tmp_path, section, verdict=verdict, **given)
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


@pytest.mark.parametrize("light", ["green", "amber", "red"])
def test_the_verdict_stands_first_and_then_what_to_do(tmp_path, light):
    steps = [Step("First this:", "oce2stardist doctor"), Step("Then that.")]
    verdict = Verdict(light, "It went so.", steps, Guide("by-picture.html", "Pictures"))
    page = page_of(tmp_path, Section("pictures"), verdict=verdict)
    assert_self_contained(page)
    assert page.texts["p"][1] == f"● {light.capitalize()} It went so."
    assert page.texts["li"] == ["First this: oce2stardist doctor", "Then that."]
    assert page.texts["code"] == ["oce2stardist doctor"]
    assert page.source.index("Then that.") < page.source.index("<h2>")


def test_numbers_are_written_alike_and_aligned_right(tmp_path):
    table = [("name", "count", "F1"), ("a", 12345, 0.5), ("b", 7, None), ("c", 8, float("nan"))]
    page = page_of(tmp_path, Section("Scores", "One.\n\nTwo.", table=table))
    assert page.texts["td"] == ["a", "12,345", "0.500", "b", "7", "–", "c", "8", "–"]
    assert page.source.count('class="number"') == 8
    assert page.texts["p"][-2:] == ["One.", "Two."]


def test_pages_link_to_the_documentation_that_the_package_names():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    (address,) = re.findall(r'^Documentation = "(.+)"', text, re.MULTILINE)
    assert DOCUMENTATION.startswith(f"{address}/")


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
