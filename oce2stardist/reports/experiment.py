"""Write the page of an experiment: answers, tables, figures, pictures, and what failed."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from oce2stardist.datasets.labelled import LabelledImages
from oce2stardist.errors import plural
from oce2stardist.reports.drawing.figure_files import FORMATS, encode_figure, save_figure
from oce2stardist.reports.drawing.figures import curves_figure, fractions_figure, scales_figure
from oce2stardist.reports.drawing.page import Cell, Panel, Part, Rich, Section, write_page
from oce2stardist.reports.drawing.picture_figures import scored_figure
from oce2stardist.reports.drawing.series import ALL
from oce2stardist.reports.experiment_files import CellOutcome, link_to, read_outcomes, read_table
from oce2stardist.reports.experiment_pictures import (
    best_run,
    middle_row,
    percentile_rows,
    pipeline_strip,
)
from oce2stardist.reports.experiment_tables import outcomes_table, pivot_table, summary_table
from oce2stardist.reports.run_files import read_record
from oce2stardist.reports.verdicts import experiment_verdict

_TABLES = ("results.csv", "summary.csv", "curves.csv")

_ABOUT_TABLE = (
    "F1 counts cells found at an IoU of 0.5 or more; SEG is the segmentation score of the Cell "
    "Tracking Challenge. Both are between 0 and 1. ± is the standard deviation over repeats. The "
    "best of each data set is bold, but never the oracle: its parameters were picked with the "
    "truth, so it is an upper bound and no result."
)
_ABOUT_FRACTIONS = (
    "Lines are means over repeats with their standard deviation. Alpha is the weight of the "
    "pseudo labels in training: 0 is without any. Horizontal lines saw no annotated cell."
)
_ABOUT_CURVES = (
    "How close an outline must be to count: the further right, the stricter. Lines are means "
    "over repeats, of all images."
)
_ABOUT_SCALES = (
    "All images were resized by the factor before training, and scored at their own size. At 1 "
    "cells have the diameter that the network is made for."
)
_ABOUT_PERCENTILES = (
    "Of the images sorted by F1, those at even distances, from the worst to the best; the "
    "method is the one with the best mean F1 on the data set, but for the oracle. Colours of "
    "outlines only tell neighbours apart. Where embeddings are shown, colour is the direction "
    "of the arrow and brightness its length."
)
_ABOUT_STRIP = (
    "From an image to pseudo labels, in the image of median F1. Embeddings: colour is the "
    "direction of the arrow at each pixel, brightness its length. The spread under noise is "
    "small (dark) in cells, which makes the foreground; where arrows end close together, pixels "
    "form a cluster; taking off the halo leaves the labels."
)


@dataclass(frozen=True)
class _Experiment:
    """What is on the page."""

    folder: Path
    results: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    outcomes: Sequence[CellOutcome]
    test_images: Mapping[str, LabelledImages]

    @property
    def studies(self) -> set[str]:
        return set(self.summary["study"])

    @property
    def data_sets(self) -> list[str]:
        return list(dict.fromkeys(self.summary["data_set"]))


def write_experiment_report(
    folder: Path,
    *,
    title: str,
    lead: str,
    answers: Sequence[str],
    test_images: Mapping[str, LabelledImages],
) -> Path:
    """Write report/index.html of an experiment, and its figures as SVG, PDF and PNG.

    Parameters
    ----------
    folder : Path
        Of the experiment, with results.csv, summary.csv, curves.csv, run.yaml and cells.
    title, lead : str
        Plain text.
    answers : sequence of str
        What came out, in words; a paragraph each.
    test_images : mapping of data set to LabelledImages
        Few of them are read, to be shown. A data set that is left out is not pictured, and
        the page says so.

    Raises
    ------
    InputError
        If a table or run.yaml is not there.
    """
    record = read_record(folder / "run.yaml")
    results, summary, curves = (read_table(folder / name) for name in _TABLES)
    outcomes = read_outcomes(folder, results["run"].unique())
    content = _Experiment(folder, results, summary, curves, outcomes, test_images)
    shutil.rmtree(folder / "report" / "figures", ignore_errors=True)  # of an earlier page
    unfinished = [outcome for outcome in outcomes if outcome.status != "finished"]
    return write_page(
        folder / "report" / "index.html",
        title=title,
        lead=lead,
        verdict=experiment_verdict([outcome.status for outcome in unfinished]),
        sections=[
            Section("In words", "\n\n".join(answers)),
            *_tables(content),
            *_score_figures(content),
            *_picture_sections(content),
            _outcomes_section(content, unfinished),
            _files_section(content),
        ],
        runs={"experiment": record},
    )


def _tables(content: _Experiment) -> list[Section]:
    if content.summary.empty:
        return [Section("Scores", "No run of the grid has scores yet.")]
    rows = summary_table(content.summary, content.results)
    if content.studies == {"unsupervised"}:
        pivoted = pivot_table(content.summary)
        return [
            Section("Scores: F1 / SEG", _ABOUT_TABLE, table=pivoted),
            Section("Every method and its runs", table=rows, level=3),
        ]
    return [Section("Scores", _ABOUT_TABLE, table=rows)]


def _score_figures(content: _Experiment) -> list[Section]:
    """Draw what the study has scores for."""
    summary, sections = content.summary, []
    if "fractions" in content.studies:
        panels = []
        for at, data_set in enumerate(content.data_sets, start=1):
            own = summary[summary["data_set"] == data_set]
            figure = fractions_figure(own, title=data_set)
            caption = f"F1 and SEG over the number of annotated cells, {data_set}"
            panels.append(_panel(content, figure, f"fractions-{at}", caption, is_plot=True))
        sections.append(Section("How many cells to annotate", _ABOUT_FRACTIONS, panels=panels))
    if "scales" in content.studies and summary["scale"].notna().any():
        figure, caption = scales_figure(summary), "F1 and SEG over scale"
        panel = _panel(content, figure, "scales", caption, is_plot=True)
        sections.append(Section("How large cells should be", _ABOUT_SCALES, panels=[panel]))
    if (content.curves["group"] == ALL).any():
        figure = curves_figure(content.curves)
        caption = "F1 and SEG over the IoU that a match needs"
        panel = _panel(content, figure, "curves", caption, is_plot=True)
        sections.append(Section("How exact the outlines are", _ABOUT_CURVES, panels=[panel]))
    return sections


def _panel(
    content: _Experiment, figure: Figure, name: str, caption: str, *, is_plot: bool = False
) -> Panel:
    """Save a figure, and show it: a plot on light and dark pages alike, photographs opaque."""
    save_figure(figure, content.folder / "report" / "figures", name)
    return caption, encode_figure(figure, "svg" if is_plot else "png", transparent=is_plot)


def _picture_sections(content: _Experiment) -> list[Section]:
    if not content.data_sets:
        return []
    return [
        _each_data_set(
            content, "Worst, middling and best images", _ABOUT_PERCENTILES, _percentile_panel
        ),
        _each_data_set(content, "How pseudo labels come about", _ABOUT_STRIP, _strip_panel),
        *([_gallery(content)] if len(content.data_sets) > 1 else []),
    ]


def _each_data_set(
    content: _Experiment,
    heading: str,
    about: str,
    draw: Callable[[_Experiment, int, str, LabelledImages], Panel | None],
) -> Section:
    """Draw a panel for every data set, and name those that there is nothing to draw of."""
    panels, without = [], []
    for at, data_set in enumerate(content.data_sets, start=1):
        images = content.test_images.get(data_set)
        panel = None if images is None else draw(content, at, data_set, images)
        if panel is None:
            without.append(data_set)
        else:
            panels.append(panel)
    text = about if panels else ""
    if without:
        text += f"\n\nNot shown, because what it takes was not kept: {', '.join(without)}."
    return Section(heading, text, panels=panels)


def _percentile_panel(
    content: _Experiment, at: int, data_set: str, images: LabelledImages
) -> Panel | None:
    shown = best_run(content.summary, content.results, data_set)
    if shown is None:
        return None
    pseudo = best_run(content.summary, content.results, data_set, method="pseudo")
    also = [] if pseudo is None else [pseudo.run]
    rows = percentile_rows(content.folder, shown, images, also=also)
    if not rows:
        return None
    caption = f"{data_set}, {shown.name}: {plural(len(shown.scores), 'image')} in all"
    return _panel(content, scored_figure(rows), f"percentiles-{at}", caption)


def _strip_panel(
    content: _Experiment, at: int, data_set: str, images: LabelledImages
) -> Panel | None:
    shown = best_run(content.summary, content.results, data_set, method="pseudo")
    figure = None if shown is None else pipeline_strip(content.folder, shown, images)
    return None if figure is None else _panel(content, figure, f"pipeline-{at}", data_set)


def _gallery(content: _Experiment) -> Section:
    rows = []
    for data_set, images in content.test_images.items():
        shown = best_run(content.summary, content.results, data_set)
        if shown is not None:
            rows += middle_row(content.folder, shown, images)
    heading = "One image of each data set"
    if not rows:
        return Section(heading, "No labels were kept to show.")
    about = "The image of median F1 of each data set, under the method that is best on it."
    panel = _panel(content, scored_figure(rows), "gallery", "Image, labels and truth")
    return Section(heading, about, panels=[panel])


def _outcomes_section(content: _Experiment, unfinished: Sequence[CellOutcome]) -> Section:
    count = len(content.outcomes)
    text = f"{count - len(unfinished)} of {plural(count, 'run')} of the grid finished."
    table = outcomes_table(unfinished) if unfinished else None
    return Section("Runs that failed or are missing", text, table=table)


def _files_section(content: _Experiment) -> Section:
    """Link to the tables and to every figure in every format."""
    rows: list[list[Cell]] = [["file", "formats"]]
    for name in _TABLES:
        rows.append([name, Rich([Part("csv", href=link_to(name))])])
    figures = content.folder / "report" / "figures"
    for name in sorted({path.stem for path in figures.glob("*.svg")}):
        parts = [Part(kind, href=link_to(f"report/figures/{name}.{kind}")) for kind in FORMATS]
        spaced = [piece for part in parts for piece in (part, Part(" "))][:-1]
        rows.append([name, Rich(spaced)])
    return Section("Files", table=rows)
