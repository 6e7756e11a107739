"""Figures show the numbers they are given, and their files are the same each time."""

import itertools

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from experiment_folders import fractions_summary, labelled_images, summary_row
from matplotlib.colors import to_hex

from oce2stardist.reports.drawing.figure_files import FORMATS, encode_figure, save_figure
from oce2stardist.reports.drawing.figures import (
    curves_figure,
    fractions_figure,
    order_groups,
    scales_figure,
)
from oce2stardist.reports.drawing.picture_figures import (
    ScoredImage,
    scored_figure,
    strip_figure,
)
from oce2stardist.reports.drawing.series import name_series

GROUPS = ("IMMUNE", "LUNG", "(all)")


def lines_of(axes):
    """The drawn lines with a name, as name -> (x, y); error bars carry the name of their line."""
    named = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    named |= {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
    return {name: np.array(line.get_data(), float) for name, line in named.items()}


def panels_of(figure, title):
    """F1 and SEG axes of the column with this title."""
    titles = [axes.get_title() for axes in figure.axes]
    first = figure.axes[titles.index(title)]
    places = {axes: axes.get_subplotspec().colspan for axes in figure.axes}
    column = [axes for axes, place in places.items() if place == places[first]]
    return first, column[column.index(first) + 1]


def scales_summary():
    return pd.DataFrame(
        summary_row(study="scales", data_set=name, scale=scale, f1_mean=0.8 - at - (scale - 1) ** 2)
        for at, name in enumerate(("one", "two"))
        for scale in (1.5, 0.5, 1.0)  # not in order
    )


def curves(methods=("pseudo", "classical"), data_sets=("one", "two")):
    """F1 falls with the threshold, and by 0.1 from the first seed to the second."""
    return pd.DataFrame(
        {
            "data_set": data_set, "method": method, "fraction": np.nan, "alpha": np.nan,
            "scale": np.nan, "seed": seed, "oracle": method == "oracle", "group": group,
            "iou": iou, "f1": 0.9 - 0.1 * seed - iou / 2, "seg_at": 0.5 - iou / 2,
        }
        for data_set in data_sets
        for method, seed, group in itertools.product(methods, (0, 1), ("(all)", "LUNG"))
        for iou in (0.5, 0.75, 0.95)
    )  # fmt: skip


@pytest.mark.parametrize("groups", [("(all)",), GROUPS, ("a", "b", "c", "d", "e", "(all)")])
def test_fractions_figure_plots_the_summary(groups):
    summary = fractions_summary(groups)
    figure = fractions_figure(summary, title="")
    for group in groups:
        panels = figure.axes
        if len(groups) > 1:
            panels = panels_of(figure, group if group != "(all)" else "all images")
        rows = summary[(summary["group"] == group)]
        for measure, axes in zip(("f1", "seg"), panels, strict=True):
            drawn = lines_of(axes)
            for alpha in (0.0, 0.5):
                own = rows[(rows["method"] == "finetune") & (rows["alpha"] == alpha)]
                expected = own[["cells", f"{measure}_mean"]].to_numpy(float).T
                line = drawn[f"StarDist, fine-tuned, alpha {alpha:g}"]
                np.testing.assert_array_equal(line, expected)
            pseudo = rows.loc[rows["method"] == "pseudo", f"{measure}_mean"].item()
            assert set(drawn["pseudo labels"][1]) == {pseudo}
            assert axes.get_xscale() == "log"
    assert all(len(axes.containers) == 2 for axes in figure.axes if axes.containers)


def test_error_bars_are_one_standard_deviation():
    summary = fractions_summary()
    bars = fractions_figure(summary, title="").axes[0].containers[0].lines[2][0].get_segments()
    own = summary[(summary["method"] == "finetune") & (summary["alpha"] == 0)]
    np.testing.assert_allclose([np.ptp(bar[:, 1]) / 2 for bar in bars], own["f1_sd"])


def test_pseudo_labels_alone_are_dashed_and_ticks_name_cells_and_their_share():
    axes = fractions_figure(fractions_summary(), title="").axes[1]
    (dashed,) = (line for line in axes.lines if line.get_label() == "pseudo labels")
    assert dashed.is_dashed()
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["50\n0.25 %", "200\n1 %", "2,000\n10 %", "20,000\n100 %"]


def test_repeats_without_deviation_and_one_fraction_can_be_drawn():
    summary = fractions_summary().query("fraction in (0.01, 0)").assign(f1_sd=np.nan)
    drawn = lines_of(fractions_figure(summary, title="").axes[0])
    assert drawn["StarDist, fine-tuned, alpha 0"].shape == (2, 1)


@pytest.mark.parametrize(("names", "said"), [([], "none"), (["one", "two"], "one, two")])
def test_fractions_figure_refuses_other_than_one_data_set(names, said):
    summary = fractions_summary()
    sets = [summary.assign(data_set=name) for name in names] or [summary[:0]]
    with pytest.raises(ValueError, match=f"Got {said};"):
        fractions_figure(pd.concat(sets), title="")


def test_scales_figure_plots_the_summary_in_order_of_scale():
    figure = scales_figure(scales_summary())
    for measure, axes in zip(("f1", "seg"), figure.axes, strict=True):
        for name, own in scales_summary().sort_values("scale").groupby("data_set"):
            expected = own[["scale", f"{measure}_mean"]].to_numpy().T
            np.testing.assert_array_equal(lines_of(axes)[name], expected)


def test_curves_figure_averages_repeats_of_all_images():
    figure = curves_figure(curves())
    for title in ("one", "two"):
        f1, seg = (lines_of(axes) for axes in panels_of(figure, title))
        assert list(f1) == ["pseudo labels", "classical"]
        np.testing.assert_allclose(f1["classical"], [[0.5, 0.75, 0.95], [0.6, 0.475, 0.375]])
        np.testing.assert_allclose(seg["classical"][1], [0.25, 0.125, 0.025])


def test_figures_need_a_scale_and_scores_of_all_images():
    with pytest.raises(ValueError, match=r"row of group \(all\) with a scale\. Got none"):
        scales_figure(pd.DataFrame([summary_row()]))
    with pytest.raises(ValueError, match=r"row of group \(all\)\. Got none"):
        curves_figure(curves().query("group == 'LUNG'"))


def test_no_two_lines_differ_in_colour_only():
    methods = ["pseudo", "classical", "oracle", *(f"stardist:{i}" for i in range(12))]
    lines = curves_figure(curves(methods, ["one"])).axes[0].lines
    shapes = {(line.get_marker(), line.get_linestyle()) for line in lines[:10]}
    looks = {(to_hex(line.get_color()), line.get_marker()) for line in lines}
    assert len(shapes) == 10 and len(looks) == len(lines) == 15


def test_names_say_what_applies():
    row = summary_row(method="finetune", alpha=0.5, fraction=0.0025, scale=1.0)
    assert name_series(row) == "StarDist, fine-tuned, alpha 0.5, 0.25 %"
    row = summary_row(alpha=1.0, fraction=0.0, scale=0.5)
    assert name_series(row) == "pseudo labels, scale 0.5"
    assert name_series(summary_row(method="cellpose:cyto3")) == "Cellpose (cyto3)"


def test_all_images_are_the_last_group():
    assert order_groups(["SKIN", "(all)", "LUNG", "LUNG"]) == ["LUNG", "SKIN", "(all)"]
    assert order_groups(["(all)", ""]) == ["(all)"]


def scored(n=2, **changes):
    """Images whose labels are the truth, the first with embeddings."""
    return [
        ScoredImage(**({
            "title": f"costs $ and {one.stem}$", "image": one.image, "labels": one.labels,
            "truth": one.labels, "f1": 0.5, "seg": np.nan,
            "offsets": np.ones((2, 30, 45), np.float32) if at == 0 else None,
        } | changes))
        for at, one in enumerate(labelled_images([str(i) for i in range(n)]))
    ]  # fmt: skip


def test_picture_figures_have_a_panel_for_each_picture_and_captions_with_scores():
    figure = scored_figure(scored())
    texts = [text.get_text() for text in figure.texts]
    assert texts[:4] == ["Image", "Embeddings", "Labels", "Truth"]
    assert texts[4] == r"costs \$ and 0\$   F1 0.500   SEG –"
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0, 1, 1]
    assert len(scored_figure(scored(offsets=None)).axes) == 6


def test_long_titles_are_cut_and_their_scores_kept():
    (row,) = scored(1, title="long" * 50, f1=0.25, offsets=None)
    assert row.caption.startswith("longlong") and row.caption.endswith("…   F1 0.250   SEG –")
    figure = scored_figure([row])
    figure.draw_without_rendering()
    assert figure.texts[-1].get_window_extent().x1 < figure.bbox.x1


def test_scored_figure_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"at least one image\. Got none"):
        scored_figure([])
    with pytest.raises(ValueError, match=r"Got \(4, 5\) and \(60, 90\) for costs"):
        scored_figure(scored(truth=np.zeros((4, 5), np.int32)))


@pytest.mark.parametrize("with_steps", [True, False])
def test_strip_figure_shows_the_steps_it_is_given(with_steps):
    (image,) = scored(1)
    small = image.labels[::2, ::2]
    steps = (small > 0, small) if with_steps else None
    spread = np.where(small > 0, 0.1, 2.0)
    figure = strip_figure(image.image, image.offsets, spread, image.labels, steps)
    names = [text.get_text()[3:] for text in figure.texts]
    steps = ["Foreground", "Clusters"] * with_steps
    assert names == ["Image", "Embeddings", "Spread under noise", *steps, "Labels"]


@pytest.mark.parametrize("draw", ["scores", "pictures"])
def test_a_figure_saved_twice_has_the_same_bytes_and_opens(tmp_path, draw):
    def make():
        if draw == "scores":
            return fractions_figure(fractions_summary(GROUPS), title="")
        return scored_figure(scored())

    figure = make()
    for folder, drawn in (("a", figure), ("b", figure), ("c", make())):
        paths = save_figure(drawn, tmp_path / folder / "new", "name")
        assert [path.name for path in paths] == [f"name.{kind}" for kind in FORMATS]
        assert len(list(paths[0].parent.iterdir())) == 3  # no temporary file is left
        for path in paths:
            assert path.read_bytes() == (tmp_path / "a" / "new" / path.name).read_bytes()
    svg, pdf, png = (path.read_bytes() for path in paths)
    assert b"</svg>" in svg[-10:] and b"<script" not in svg and b"date" not in svg
    assert pdf.startswith(b"%PDF-") and b"%%EOF" in pdf[-8:] and b"CreationDate" not in pdf
    shape = imagecodecs.png_decode(png).shape
    np.testing.assert_allclose(shape[1::-1], 200 * figure.get_size_inches(), atol=1)


def test_transparent_figures_have_no_ground():
    figure = scales_figure(scales_summary())
    pixels = imagecodecs.png_decode(encode_figure(figure, "png", transparent=True))
    assert pixels[0, 0, 3] == 0
    assert imagecodecs.png_decode(encode_figure(figure, "png"))[0, 0].tolist() == [255] * 4
