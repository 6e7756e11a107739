"""Pages and pictures: the right pixels have the right colours, and a page needs no other file."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file
from scenes import disc, discs_scene
from scipy import ndimage as ndi

from oce2stardist.config import Config, PseudoConfig
from oce2stardist.errors import InputError
from oce2stardist.io import draw_image, draw_overlay, write_labels
from oce2stardist.report import pictures
from oce2stardist.report.page import Notice, Section, write_page
from oce2stardist.runners import report
from oce2stardist.runners.inputs import ImageSet
from oce2stardist.runners.prepare import prepare_images
from oce2stardist.runners.pseudo_labels import describe_objects
from oce2stardist.runners.recipe import Choice
from oce2stardist.runners.run_folder import write_run_file
from oce2stardist.runners.training_labels import make_training_labels, write_training_labels

SCRIPT = "<script>alert(1)</script>"
SKY, VERMILLION, YELLOW = (86, 180, 233), (213, 94, 0), (240, 228, 66)
ORANGE, WHITE = (230, 159, 0), (255, 255, 255)


def flat_image(shape=(48, 80), channels=1):
    """A grey image, with a black and a white corner, in which pictures draw on equal ground."""
    image = np.full((*shape, channels), 0.5, np.float32)
    image[:5, :20], image[:5, -20:] = 0, 1
    return image


def pixels_of(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(axis=-1)


# --- shrinking


def test_shrinking_averages_images_and_picks_labels():
    values = np.arange(12.0).reshape(3, 4)
    blocks = np.kron(values, np.ones((5, 5)))
    np.testing.assert_allclose(pictures.shrink_image(blocks[..., None], 4)[..., 0], values)
    np.testing.assert_array_equal(pictures.shrink_labels(blocks.astype(int), 4), values)


@pytest.mark.parametrize("shape", [(1500, 900), (701, 3), (699, 2000)])
def test_shrunk_images_and_labels_are_small_enough_and_cover_each_other(shape):
    labels = disc(shape, (shape[0] / 2, shape[1] / 2), shape[1] / 3).astype(np.int32)
    small = pictures.shrink_labels(labels)
    image = pictures.shrink_image(labels[..., None])[..., 0]
    assert max(small.shape) == 700
    assert small.shape == image.shape
    np.testing.assert_allclose(small.shape, np.array(shape) * 700 / max(shape), atol=0.5)
    # They may only differ where a block lies across the outline.
    assert ((image > 0.5) != small)[(image == 0) | (image == 1)].sum() == 0
    assert image.mean() == pytest.approx(labels.mean(), abs=0.01)


def test_what_is_small_enough_is_not_touched():
    image, labels = discs_scene(5, (90, 80), 8, seed=0)
    np.testing.assert_array_equal(pictures.shrink_image(image), image)
    np.testing.assert_array_equal(pictures.shrink_labels(labels), labels)


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
        assert picture.shape == (60, 70, 3)
        assert picture.dtype == np.uint8


def test_labels_are_outlined_as_in_overlay_files():
    image = np.random.default_rng(0).random((60, 70, 3)).astype(np.float32)
    _, labels = discs_scene(4, (60, 70), 8, seed=0)
    shown, expected = pictures.picture_of_labels(image, labels), draw_overlay(image, labels)
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_dark_images_are_brightened_and_others_are_not():
    bright = np.random.default_rng(0).random((60, 70, 1)).astype(np.float32)
    dark = bright**4
    assert pictures.picture_of_image(dark).mean() > draw_image(dark).mean() + 20
    assert np.abs(pictures.picture_of_image(bright) - draw_image(bright).astype(int)).max() <= 1


def test_offsets_that_meet_in_the_middle_show_every_hue_around_a_dark_centre():
    rows, columns = np.indices((41, 41)) - 20.0
    picture = pictures.picture_of_offsets(-np.stack([rows, columns])).astype(int)
    assert picture[20, 20].max() == 0
    left, right, top, bottom = picture[20, 0], picture[20, 40], picture[0, 20], picture[40, 20]
    assert left.argmax() == 0  # points to the right: red, as in the legend
    for one, opposite in ((left, right), (top, bottom)):
        assert np.abs(one - opposite).max() > 100
    legend = pictures.colour_wheel(41)
    np.testing.assert_allclose(left / left.max(), legend[20, 40] / 255, atol=0.01)
    np.testing.assert_allclose(bottom / bottom.max(), legend[0, 20] / 255, atol=0.01)


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
    middle = picture[labels == 2].astype(int)
    yellow = np.abs(middle - YELLOW).max(axis=1) <= 2
    assert 30 < yellow.sum() < 100
    legend = pictures.confidence_bar(101)[0]
    np.testing.assert_allclose(legend[[0, 50, 100]], [VERMILLION, YELLOW, SKY], atol=2)


def test_confidence_is_plotted_where_it_lies():
    png = imagecodecs.png_decode(pictures.confidence_plot(np.array([0.99] * 30 + [0.01] * 10)))
    assert png[0, 0, 3] == 0
    solid = png[..., 3] == 255
    blue, red = (
        solid & (np.abs(png[..., :3].astype(int) - colour).max(axis=-1) < 12)
        for colour in (SKY, VERMILLION)
    )
    assert np.argwhere(blue)[:, 1].min() > np.argwhere(red)[:, 1].max()
    assert blue.any(axis=1).sum() == pytest.approx(3 * red.any(axis=1).sum(), rel=0.15)
    assert pictures.confidence_plot(np.zeros(0))


@pytest.mark.parametrize("at_most", [40, 700])
def test_maps_can_be_shrunk_further(at_most):
    offsets = np.random.default_rng(0).normal(size=(2, 60, 80))
    shape = (min(60, at_most * 60 // 80), min(80, at_most), 3)
    assert pictures.picture_of_offsets(offsets, at_most=at_most).shape == shape
    assert pictures.picture_of_spread(offsets[0], at_most=at_most).shape == shape


def test_shifting_all_offsets_changes_nothing():
    offsets = np.random.default_rng(0).normal(size=(2, 30, 40))
    shifted = offsets + np.array([7.0, -3.0])[:, None, None]
    np.testing.assert_array_equal(
        pictures.picture_of_offsets(offsets), pictures.picture_of_offsets(shifted)
    )


def test_offsets_are_centred_on_the_foreground_and_dimmed_outside():
    foreground = np.zeros((20, 20), bool)
    foreground[:8] = True
    offsets = np.zeros((2, 20, 20))
    offsets[1, :4], offsets[1, 4:8] = -1, 1  # median 0 in the foreground
    offsets[1, 8:] = 1
    picture = pictures.picture_of_offsets(offsets, foreground).astype(int)
    np.testing.assert_allclose(picture[15, 5], 0.35 * picture[6, 5], atol=1)
    none = np.zeros_like(foreground)
    np.testing.assert_array_equal(
        pictures.picture_of_offsets(offsets, none), pictures.picture_of_offsets(offsets)
    )


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


def test_errors_have_three_colours():
    truth, predicted = three_discs()
    picture = pictures.picture_of_errors(flat_image(truth.shape), predicted, truth)
    for colour, middle in ((SKY, 20), (VERMILLION, 60), (YELLOW, 100)):
        where = np.argwhere(pixels_of(picture, colour))
        assert len(where) > 20
        assert np.hypot(*(where - [24, middle]).T).max() <= 10


def test_predictions_where_truth_is_unknown_are_no_errors():
    truth, predicted = three_discs()
    truth[:, 80:] = -1
    picture = pictures.picture_of_errors(flat_image(truth.shape), predicted, truth)
    assert not pixels_of(picture, YELLOW).any()


@pytest.mark.parametrize("has", [(True, False), (False, True), (False, False)])
def test_errors_can_be_shown_without_objects(has):
    truth, predicted = (part * one for part, one in zip(three_discs(), has, strict=True))
    picture = pictures.picture_of_errors(flat_image(truth.shape), predicted, truth)
    assert not pixels_of(picture, SKY).any()
    assert pixels_of(picture, VERMILLION).any() == has[0]
    assert pixels_of(picture, YELLOW).any() == has[1]


def test_errors_are_judged_before_large_images_are_shrunk():
    truth = np.zeros((60, 2100), np.int32)
    truth[20:26, 100:106] = 1
    predicted = np.roll(truth, (3, 1), (0, 1))  # IoU 15 / 57, though close when shrunk
    picture = pictures.picture_of_errors(np.ones((60, 2100, 1)), predicted, truth)
    assert picture.shape == (20, 700, 3)
    assert pixels_of(picture, YELLOW).any() and not pixels_of(picture, SKY).any()


def history(steps=50, **columns):
    step = np.arange(1, steps + 1)
    return pd.DataFrame({"step": step, "loss": 0.2 + 1 / step, **columns})


def test_loss_plot_is_a_transparent_png_with_a_second_axis_for_scores():
    plain = pictures.loss_plot(history(), {"loss": "total"})
    scored = pictures.loss_plot(
        history(score=[np.nan, 0.5] * 25, other=0.3), {"loss": "total", "other": "half"}
    )
    heights = []
    for png in (plain, scored):
        image = imagecodecs.png_decode(png)
        assert image.shape[2] == 4
        assert image[0, 0, 3] == 0
        heights.append(image.shape[0])
    assert heights[1] > heights[0]
    assert plain == pictures.loss_plot(history(score=np.nan), {"loss": "total"})


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_loss_can_be_plotted_after_few_steps(steps):
    assert pictures.loss_plot(history(steps), {"loss": "total"})


def test_strip_joins_captioned_pictures_of_one_height():
    red = np.broadcast_to(np.array([255, 0, 0], np.uint8), (30, 60, 3))
    blue = np.broadcast_to(np.array([0, 0, 255], np.uint8), (90, 90, 3))
    row = pictures.strip([("one", red), ("two\nlines", blue)], height=45)
    assert row.dtype == np.uint8
    assert row.shape[1] == 90 + 45 + 3 * 8
    assert pixels_of(row, (255, 0, 0)).sum() == 45 * 90
    assert pixels_of(row, (0, 0, 255)).sum() == 45 * 45
    captions = row[: row.shape[0] - 55]
    assert captions.min() < 100 and pixels_of(row, WHITE)[0, 0]


# --- pages


class Page(HTMLParser):
    """What is on a page: tags, attributes and the text of chosen elements."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.links, self.pictures = [], [], []
        self.texts = {name: [] for name in ("h2", "h3", "figcaption", "td", "th", "p", "pre")}
        self._open = None
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "srcset")]
        if tag == "img":
            self.pictures.append(dict(attributes))
        if tag in self.texts:
            self._open = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        if tag == self._open:
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.texts[self._open][-1] += data


def assert_self_contained(page):
    assert "script" not in page.tags
    assert page.links and all(link.startswith("data:") for link in page.links)
    assert not re.search(r"url\(|@import|https?://", page.source)


def test_everything_a_page_is_given_is_escaped(tmp_path):
    section = Section(
        SCRIPT,
        SCRIPT,
        table=[(SCRIPT,), (SCRIPT,)],
        panels=[(SCRIPT + '"', np.zeros((4, 5, 3), np.uint8)), (SCRIPT, b_plot())],
        legends=[(SCRIPT, np.zeros((4, 5, 3), np.uint8))],
    )
    path = write_page(
        tmp_path / "a.html",
        title=SCRIPT,
        lead=SCRIPT,
        sections=[section],
        runs={SCRIPT: {"command": SCRIPT}},
    )
    page = Page(path)
    assert_self_contained(page)
    assert SCRIPT not in page.source
    assert page.texts["h2"] == page.texts["td"] == [SCRIPT]
    assert page.pictures[1]["alt"] == SCRIPT + '"'


def b_plot():
    return pictures.loss_plot(history(3), {"loss": "total"})


@pytest.mark.parametrize("is_grey", [True, False])
def test_pictures_come_out_of_the_page_as_they_went_in(tmp_path, is_grey):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    if is_grey:
        picture = np.repeat(picture[..., :1], 3, axis=-1)
    section = Section("a", panels=[("b", picture)])
    shown = Page(write_page(tmp_path / "a.html", title="", lead="", sections=[section])).pictures[0]
    png = base64.b64decode(shown["src"].removeprefix("data:image/png;base64,"))
    decoded = imagecodecs.png_decode(png)
    assert decoded.ndim == (2 if is_grey else 3)  # grey takes a third of the space
    np.testing.assert_array_equal(decoded, picture[..., 0] if is_grey else picture)
    assert (shown["width"], shown["height"]) == ("7", "9")


def test_large_noisy_pictures_are_compressed_but_outlines_keep_their_colour(tmp_path):
    grey = np.random.default_rng(0).integers(0, 120, (400, 400, 1), np.uint8)
    picture = np.repeat(grey, 3, axis=-1)
    picture[200, 50:350] = SKY  # one pixel wide
    section = Section("a", panels=[("b", picture), ("c", np.repeat(grey, 3, axis=-1))])
    shown = Page(write_page(tmp_path / "a.html", title="", lead="", sections=[section])).pictures
    coloured, plain = (
        imagecodecs.jpeg8_decode(
            base64.b64decode(one["src"].removeprefix("data:image/jpeg;base64,"))
        )
        for one in shown
    )
    assert plain.shape == (400, 400)
    line = coloured[200, 60:340].astype(int)
    assert np.median(line[:, 2] - line[:, 0]) > 0.7 * (SKY[2] - SKY[0])


def test_opaque_sheets_are_not_turned_dark_and_can_be_enlarged(tmp_path):
    sheet = imagecodecs.png_encode(np.full((20, 30, 4), 255, np.uint8))
    section = Section("a", panels=[("sheet", bytes(sheet)), ("plot", b_plot())])
    page = Page(write_page(tmp_path / "a.html", title="", lead="", sections=[section]))
    sheet, plot = page.pictures
    assert "class" not in sheet and plot["class"] == "plot"
    assert page.source.count("<label>") == page.source.count('<figure class="sheet">') == 1


@pytest.mark.parametrize("is_warning", [True, False])
def test_notices_stand_first_and_are_escaped(tmp_path, is_warning):
    page = Page(
        write_page(
            tmp_path / "a.html",
            title="",
            lead="the lead",
            sections=[Section("first")],
            notice=Notice(SCRIPT, is_warning=is_warning),
        )
    )
    assert_self_contained(page)
    assert page.texts["p"][2].endswith(SCRIPT)
    assert ("Warning" in page.texts["p"][2]) == is_warning
    assert page.source.index("&lt;script") < page.source.index("<h2>")


def test_numbers_are_written_alike_and_aligned_right(tmp_path):
    table = [("name", "count", "F1"), ("a", 12345, 0.5), ("b", 7, None)]
    section = Section("Scores", "One.\n\nTwo.", table=table)
    page = Page(write_page(tmp_path / "a.html", title="", lead="", sections=[section]))
    assert page.texts["td"] == ["a", "12,345", "0.500", "b", "7", "–"]
    assert page.source.count('class="number"') == 6
    assert page.texts["p"][-2:] == ["One.", "Two."]


def test_importing_the_report_loads_no_framework_and_no_plot_style():
    code = (
        "import sys, oce2stardist.runners.report;"
        "print([m for m in ('torch', 'tensorflow', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- reports of runs


def image_set(tmp_path, stems, shape=(60, 90)):
    """Images of six discs each, and their labels."""
    scenes = {stem: discs_scene(6, shape, 7, seed=i) for i, stem in enumerate(stems)}
    images = {stem: image[..., None] for stem, (image, _) in scenes.items()}
    found = ImageSet({stem: tmp_path / f"{stem}.tif" for stem in stems}, images)
    return found, {stem: labels for stem, (_, labels) in scenes.items()}


def parameters(**values):
    chosen = {name: {"value": value, "reason": f"why {name}"} for name, value in values.items()}
    return yaml.safe_dump(chosen, sort_keys=False)


def pseudo_run(folder, labels, command="oce2stardist pseudo x"):
    """Write what `make_pseudo_labels` writes, at half the scale of the labels."""
    write_run_file(folder, command=command, config=Config(seed=7), inputs={})
    (folder / "times.yaml").write_text("embedding_training: 125.4\ninference: 6.5\n")
    (folder / "oce" / "predicted").mkdir(parents=True)
    history().to_csv(folder / "oce" / "history.csv", index=False)
    rng = np.random.default_rng(0)
    for stem, image in labels.items():
        shape = (image.shape[0] // 2, image.shape[1] // 2)
        arrays = {
            "offsets": rng.normal(size=(2, *shape)).astype(np.float16),
            "spread": rng.uniform(0.1, 5, shape).astype(np.float16),
        }
        save_file(arrays, folder / "oce" / "predicted" / f"{stem}.safetensors")
        write_labels(folder / "pseudo" / "labels" / f"{stem}.tif", image)
    objects = pd.concat([describe_objects(stem, image) for stem, image in labels.items()])
    objects.to_csv(folder / "pseudo" / "objects.csv", index=False)
    (folder / "pseudo" / "parameters.yaml").write_text(
        parameters(scale=0.5, bandwidth=14.0, halo="intensity", trained_on=len(labels))
    )
    return folder


def finetuned(folder, annotations, pseudo, alpha=0.5):
    """Write what `finetune_stardist` writes; returns the training labels."""
    labels = make_training_labels(
        annotations,
        pseudo,
        fraction=None,
        zero="auto",
        held_back=0.5,
        background_distance=10,
        seed=0,
    )
    write_run_file(folder, command="oce2stardist finetune x", config=Config(), inputs={})
    write_training_labels(folder / "training", labels)
    (folder / "times.yaml").write_text("training: 61.0\n")
    (folder / "parameters.yaml").write_text(parameters(alpha=alpha, held_back_score=None))
    losses = history(loss_sparse=0.4, loss_pseudo=0.3 if pseudo else 0.0, score=np.nan)
    losses.to_csv(folder / "history.csv", index=False)
    return labels


def two_annotated(labels):
    """Cells 1 and 2 are annotated, the rest is unknown."""
    return np.where((labels == 1) | (labels == 2), labels, -1).astype(np.int32)


def test_images_are_chosen_at_even_quantiles_of_their_number_of_objects():
    counts = pd.Series({"a": 9, "b": 0, "c": 4, "d": 4, "e": 100})
    assert report.choose_by_count(counts) == ["b", "c", "d", "a", "e"]
    assert report.choose_by_count(counts, 3) == ["b", "d", "e"]
    assert len(set(report.choose_by_count(pd.Series(range(80))))) == 12


def test_pseudo_report_shows_twelve_images_evenly_and_counts_all(tmp_path):
    stems = [f"{i:02d}" for i in range(23)]
    images, labels = image_set(tmp_path, stems)
    page = Page(report.write_pseudo_report(pseudo_run(tmp_path / "run", labels), images))
    assert page.source.startswith("<!doctype html>")
    assert_self_contained(page)
    assert page.texts["h3"][:12] == [f"{i:02d}" for i in range(0, 23, 2)]
    assert "What was learned and found: 12 of 23 images" in page.texts["h2"]
    assert page.texts["p"][0].startswith("138 objects found in 23 images;")
    assert page.texts["figcaption"].count("Pseudo labels: 6 objects") == 12
    assert {"6 (6 to 6)", "0.5 ×", "14 px", "why halo", "2 min 5 s", "6.5 s", "2 min 12 s"} < set(
        page.texts["td"]
    )
    record = yaml.safe_load(page.texts["pre"][0])
    assert (record["command"], record["seed"]) == ("oce2stardist pseudo x", 7)
    assert "numpy" in record["versions"]


def test_pseudo_report_of_images_without_objects_says_so(tmp_path):
    images, labels = image_set(tmp_path, ["a", "b"])
    labels = {stem: np.zeros_like(image) for stem, image in labels.items()}
    page = Page(report.write_pseudo_report(pseudo_run(tmp_path / "run", labels), images))
    assert page.texts["p"][0].startswith("0 objects found in 2 images;")
    assert "–" in page.texts["td"]


def test_file_names_and_commands_cannot_inject_html(tmp_path):
    stem = "<img src=x onerror=alert(1)>&amp;"
    images, labels = image_set(tmp_path, [stem])
    run = pseudo_run(tmp_path / "run", labels, command=f"pseudo '{SCRIPT}'")
    page = Page(report.write_pseudo_report(run, images))
    assert_self_contained(page)
    assert page.texts["h3"][0] == stem
    assert SCRIPT in page.texts["pre"][0]


def change_parameters(run, **changes):
    path = run / "pseudo" / "parameters.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))


@pytest.mark.parametrize("trusted", [True, False])
def test_pseudo_report_says_first_whether_to_trust_the_labels(tmp_path, trusted):
    images, labels = image_set(tmp_path, ["a"])
    run = pseudo_run(tmp_path / "run", labels)
    reason = f"these can't be trusted: {SCRIPT}"
    measures = {"separation": 0.123, "alike": 0.9}
    change_parameters(run, trust={"value": trusted, "reason": reason, "measures": measures})
    page = Page(report.write_pseudo_report(run, images))
    assert_self_contained(page)
    notice = page.texts["p"][2]
    assert "separation 0.12, alike 0.90" in notice
    assert ("Warning" in notice) != trusted
    assert (SCRIPT in notice) != trusted
    assert ('class="notice warning"' in page.source) != trusted
    assert "trust" not in page.texts["td"]


def test_settings_show_intervals_and_ranges_over_images(tmp_path):
    images, labels = image_set(tmp_path, ["a"])
    run = pseudo_run(tmp_path / "run", labels)
    change_parameters(
        run,
        diameter={"value": 26.12, "reason": "measured", "interval": [25.03, 26.7]},
        scale={"value": 0.5, "reason": "sizes differ", "images": {"a": 0.25, "b": 1.5}},
    )
    cells = Page(report.write_pseudo_report(run, images)).texts["td"]
    assert "26.12 px (90 % interval: 25.03 to 26.7 px)" in cells
    assert "0.5 × (images: 0.25 to 1.5 ×)" in cells


def test_pseudo_report_shows_the_pictures_that_the_run_made(tmp_path):
    images, labels = image_set(tmp_path, ["a"])
    run = pseudo_run(tmp_path / "run", labels)
    without = Page(report.write_pseudo_report(run, images))
    assert "How large a cell is" not in without.texts["h2"]
    change_parameters(run, diameter={"value": 26.0, "reason": "428 cells measured"})
    for i, name in enumerate(("diameter", "choices")):
        sheet = np.full((10 + i, 20, 3), 200, np.uint8)
        (run / "pseudo" / f"{name}.png").write_bytes(imagecodecs.png_encode(sheet))
    page = Page(report.write_pseudo_report(run, images))
    headings = page.texts["h2"]
    assert headings.index("How large a cell is") + 1 == headings.index(
        "What each choice looks like"
    )
    assert "428 cells measured." in page.texts["p"]
    assert {"10", "11"} < {one["height"] for one in page.pictures}


def test_confidence_is_shown_by_colour_plot_and_words(tmp_path):
    images, labels = image_set(tmp_path, ["a"])
    run = pseudo_run(tmp_path / "run", labels)
    table = pd.read_csv(run / "pseudo" / "objects.csv")
    table["confidence"] = [0.2, 1, 1, 1, 1, 1]
    table.to_csv(run / "pseudo" / "objects.csv", index=False)
    page = Page(report.write_pseudo_report(run, images))
    assert "Confidence of the 6 objects; 17% are below 0.5." in page.texts["figcaption"]
    assert any("orange-red (confidence 0" in one for one in page.texts["figcaption"])
    shown = next(one for one in page.pictures if one["alt"] == "Pseudo labels: 6 objects")
    png = imagecodecs.png_decode(base64.b64decode(shown["src"].partition(",")[2]))
    assert pixels_of(png, SKY)[labels["a"] > 1].any()
    assert not pixels_of(png, SKY)[labels["a"] == 1].any()
    table.drop(columns="confidence").to_csv(run / "pseudo" / "objects.csv", index=False)
    old = Page(report.write_pseudo_report(run, images))
    assert "How sure it is" not in old.texts["h2"]


# --- choices


def tuned_run(tmp_path, shape=(200, 260), choice=None, **changes):
    """A run whose offsets point to the middles of discs: every sound setting finds these."""
    image, labels = discs_scene(8, shape, 14, seed=3)
    found = ImageSet({"a": tmp_path / "a.tif"}, {"a": image[..., None]})
    run = pseudo_run(tmp_path / "run", {"a": labels})
    offsets = np.zeros((2, *shape), np.float32)
    offsets += np.random.default_rng(0).uniform(-15, 15, offsets.shape)
    middles = ndi.center_of_mass(labels > 0, labels, np.arange(1, labels.max() + 1))
    for label, middle in enumerate(middles, start=1):
        inside = np.nonzero(labels == label)
        for axis in (0, 1):
            offsets[axis][inside] = middle[axis] - inside[axis]
    spread = np.where(labels > 0, 0.2, 5.0).astype(np.float16)
    arrays = {"offsets": offsets.astype(np.float16), "spread": spread}
    save_file(arrays, run / "oce" / "predicted" / "a.safetensors")
    settings = PseudoConfig(**changes)
    change_parameters(
        run,
        threshold={"value": 0.0, "reason": "Otsu"},
        bandwidth={"value": 9.24, "reason": choice.reason if choice else "the default"},
        level={"value": settings.level, "reason": "the default"},
        min_size={"value": 38.5, "reason": "0.0625 of the area of a median cell"},
    )
    config = Config(seed=7, pseudo=settings)
    return run, prepare_images(found, config, diameter=28.0), config


def rows_drawn(monkeypatch, *run):
    """What `write_choices` gives to the picture: panels by the first word of their row."""
    drawn = {}

    def keep(rows):
        drawn.update({re.split(r"\W", row.setting)[0]: row for row in rows})
        return b"picture"

    monkeypatch.setattr(report, "choices_picture", keep)
    path = report.write_choices(*run)
    assert path.name == "choices.png" and path.read_bytes() == b"picture"
    return drawn


def test_choices_are_shown_on_five_diameters_and_one_of_each_setting_is_chosen(
    tmp_path, monkeypatch
):
    rows = rows_drawn(monkeypatch, *tuned_run(tmp_path))
    assert [len(row.panels) for row in rows.values()] == [3, 4, 5, 2]
    for row in rows.values():
        assert [panel.chosen for panel in row.panels].count(True) == 1
        assert row.image.shape == (140, 140, 1)
    chosen = [next(p for p in row.panels if p.chosen) for row in rows.values()]
    assert [panel.value for panel in chosen[1:]] == [
        "9.24 px (0.33)",
        f"contrast, level {PseudoConfig().level:g}",
        f"{PseudoConfig().min_unity:g}",
    ]
    for panel in chosen[2:]:
        np.testing.assert_array_equal(panel.labels, chosen[1].labels)


def test_chosen_panel_shows_the_objects_of_the_window_and_halo_changes_their_size(
    tmp_path, monkeypatch
):
    rows = rows_drawn(monkeypatch, *tuned_run(tmp_path))
    panels = {panel.value: panel.labels for panel in rows["Halo"].panels}
    bright = rows["Halo"].image[..., 0] > 0.5
    chosen = panels[f"contrast, level {PseudoConfig().level:g}"] > 0
    assert (chosen & bright).sum() / (chosen | bright).sum() > 0.8
    assert (panels["shrink 3 px"] > 0).sum() < (panels["none"] > 0).sum()


def test_thresholds_below_and_above_the_chosen_one_are_shown(tmp_path, monkeypatch):
    row = rows_drawn(monkeypatch, *tuned_run(tmp_path))["Foreground"]
    low, chosen, high = ((panel.labels > 0).sum() for panel in row.panels)
    assert low < chosen < high
    assert row.panels[1].value == "threshold 0.00"


def test_foregrounds_with_a_threshold_for_each_image_are_shown_as_they_are(tmp_path, monkeypatch):
    run, prepared, config = tuned_run(tmp_path, threshold="per_image")
    change_parameters(run, threshold={"value": "one for each image", "reason": "Otsu"})
    (panel,) = rows_drawn(monkeypatch, run, prepared, config)["Foreground"].panels
    assert panel.chosen and (panel.labels > 0).any()


def test_scores_stand_with_the_values_that_were_compared(tmp_path, monkeypatch):
    tried = {9.24: 0.9512, 10.64: 0.25, 12.04: 1.0}
    choice = Choice("bandwidth", 9.24, "mean IoU of objects with those at 0.5", tried)
    panels = rows_drawn(monkeypatch, *tuned_run(tmp_path, choice=choice))["Bandwidth"].panels
    assert {panel.value: panel.score for panel in panels} == {
        "7.84 px (0.28)": None,
        "9.24 px (0.33)": 0.951,
        "12.04 px (0.43)": 1.0,
        "14 px (0.50)": None,
    }


@pytest.mark.parametrize(
    ("changes", "halo", "joining"),
    [
        ({"halo": "shrink", "shrink": 5.0}, "shrink 5 px", "0.675"),
        ({"halo": "otsu"}, "otsu", "0.675"),
        ({"halo": "none", "min_unity": 1.0}, "none", "off (1)"),
    ],
)
def test_settings_of_the_config_are_those_framed(tmp_path, monkeypatch, changes, halo, joining):
    rows = rows_drawn(monkeypatch, *tuned_run(tmp_path, **changes))
    for name, value in (("Halo", halo), ("Joining", joining)):
        assert [panel.value for panel in rows[name].panels if panel.chosen] == [value]


def test_small_images_are_shown_whole(tmp_path, monkeypatch):
    rows = rows_drawn(monkeypatch, *tuned_run(tmp_path, shape=(120, 260)))
    assert rows["Halo"].image.shape == (120, 140, 1)


def test_without_objects_there_is_no_contact_sheet(tmp_path):
    run, prepared, config = tuned_run(tmp_path)
    table = pd.read_csv(run / "pseudo" / "objects.csv")
    table[:0].to_csv(run / "pseudo" / "objects.csv", index=False)
    assert report.write_choices(run, prepared, config) is None
    assert not (run / "pseudo" / "choices.png").exists()


def test_unfinished_runs_and_foreign_images_are_refused(tmp_path):
    images, labels = image_set(tmp_path, ["a"])
    with pytest.raises(InputError, match=r"needs a finished run\. Got no .*parameters\.yaml;"):
        report.write_pseudo_report(tmp_path / "nothing", images)
    with pytest.raises(InputError, match=r"needs a finished run\. Got no .*parameters\.yaml;"):
        report.write_finetune_report(tmp_path / "nothing", images, labels)
    others, _ = image_set(tmp_path, ["b"])
    run = pseudo_run(tmp_path / "run", labels)
    with pytest.raises(InputError, match=r"must be those of the run\. Got none of .*such as b;"):
        report.write_pseudo_report(run, others)


def test_finetune_report_shows_annotated_images_first(tmp_path):
    images, labels = image_set(tmp_path, [f"{i:02d}" for i in range(8)])
    annotations = {stem: two_annotated(labels[stem]) for stem in ("03", "05")}
    model = tmp_path / "model"
    training = finetuned(model, annotations, labels)
    page = Page(report.write_finetune_report(model, images, labels, held_back=training.held_back))
    assert_self_contained(page)
    assert page.texts["h3"][:6] == ["03", "05", "00", "02", "04", "07"]
    assert "What it learned from and finds: 6 of 8 images" in page.texts["h2"]
    assert (
        page.texts["p"][0]
        == "Trained on 2 annotated cells, judged by 2 others, in a set of 8 images."
    )
    assert page.texts["td"][:6] == [
        "annotated, trained on",
        "2",
        "annotated, held back to judge",
        "2",
        "from pseudo labels, trained on",
        str((training.objects["source"] == "pseudo").sum()),
    ]
    captions = page.texts["figcaption"]
    assert "A cell held back to judge" in captions
    assert sum(one.startswith("Pseudo training labels") for one in captions) == 6
    assert captions.count("Prediction: 6 objects") == 6


@pytest.mark.parametrize("has_pseudo", [False, True])
def test_finetune_report_at_alpha_0_shows_no_pseudo_labels(tmp_path, has_pseudo):
    images, labels = image_set(tmp_path, ["a"])
    model = tmp_path / "model"
    annotations = {"a": two_annotated(labels["a"])}
    finetuned(model, annotations, labels if has_pseudo else {}, alpha=0.0)
    page = Page(report.write_finetune_report(model, images, labels))
    captions = page.texts["figcaption"]
    assert page.texts["td"][5] == "0"
    assert "Sparse training labels: 1 annotated cell, 1 held back" in captions
    assert not any(one.startswith("Pseudo") for one in captions)


@pytest.mark.parametrize("saw_test", [False, True])
def test_demo_report_tells_the_story_in_order(tmp_path, saw_test):
    train, upper = image_set(tmp_path, ["train"], shape=(96, 120))
    test, lower = image_set(tmp_path, ["test"], shape=(60, 120))
    labels = upper | lower
    annotations = two_annotated(labels["train"])
    pseudo = pseudo_run(tmp_path / "pseudo", labels)
    models = {"alone": tmp_path / "m0", "both": tmp_path / "m5"}
    finetuned(models["alone"], {"train": annotations}, labels, alpha=0.0)
    finetuned(models["both"], {"train": annotations}, labels if saw_test else upper)
    score = {"f1": 0.875, "seg": 0.5, "n_true": 6, "n_predicted": 6}
    path = report.write_demo_report(
        tmp_path,
        images=train.images | test.images,
        annotations=annotations,
        pseudo=pseudo,
        models=models,
        predictions=dict.fromkeys(("pseudo labels alone", *models), labels["test"]),
        truth=labels["test"],
        scores=[{"name": name, **score} for name in models],
        seconds={"pseudo": 61.0},
    )
    page = Page(path)
    assert_self_contained(page)
    assert [heading[:2] for heading in page.texts["h2"]] == [f"{i}." for i in range(1, 10)]
    captions = page.texts["figcaption"]
    order = ["Embeddings", "Upper part: 6 objects", "Truth: 6 objects", "Both: 6 objects"]
    assert [one for one in captions if one in order] == order
    assert "A cell held back to judge" in captions
    assert {"0.875", "1 min 1 s"} < set(page.texts["td"])
    assert ("StarDist never saw this part" in page.source) != saw_test
    assert ("in the training of: both." in page.source) == saw_test
    strip = imagecodecs.png_decode((tmp_path / "report" / "strip.png").read_bytes())
    assert strip.shape[2] == 3
    assert 1100 < strip.shape[1] < 1300
    assert 200 < strip.shape[0] < 280
