"""Plot the scores of an experiment over annotated cells, over scale and over thresholds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from oce2stardist.reports.drawing.series import (
    ALL,
    level_style,
    line_style,
    name_method,
    name_series,
    plain,
    say_fraction,
    say_group,
)

_MEASURES = {"f1": "F1 at IoU 0.5", "seg": "SEG"}
_COLUMNS = 4
"""Panels side by side; more wrap."""

_PANEL = (3.3, 2.35)  # inches
_REFERENCE = "_reference"  # a line that shows no score; the underscore keeps it from legends
_SERIES = ["method", "alpha", "fraction", "scale", "oracle"]
_DOTTED = 2  # among the dashes of `line_style`


def fractions_figure(summary: pd.DataFrame, *, title: str) -> Figure:
    """Plot F1 and SEG over the number of annotated cells, one line per alpha.

    `summary` holds rows of summary.csv of one data set; else ValueError. Those of method
    "finetune" with annotated cells make the lines, with their standard deviation over repeats as
    bars; all others, such as pseudo labels alone, are horizontal lines. A column per group, all
    images last.
    """
    _check_one_data_set(summary)
    groups = order_groups(summary["group"])
    names = [say_group(group) for group in groups] if len(groups) > 1 else [""]
    figure, grid = _make_grid(names, list(_MEASURES.values()))
    with_cells = (summary["method"] == "finetune") & (summary["cells"] > 0)
    alphas = sorted(summary.loc[with_cells, "alpha"].unique())
    for column, group in enumerate(groups):
        here = summary["group"] == group
        lines, levels = summary[here & with_cells], summary[here & ~with_cells]
        for measure, axes in zip(_MEASURES, grid[:, column], strict=True):
            for position, alpha in enumerate(alphas):
                rows = lines[lines["alpha"] == alpha].sort_values("cells")
                name = f"{name_method('finetune')}, alpha {alpha:g}"
                _draw_line(axes, rows, "cells", measure, name, line_style(position))
            _draw_levels(axes, levels, measure)
        _label_cells(grid[:, column], lines)
    _finish(figure, grid, "annotated cells (share of all)", title)
    return figure


def scales_figure(summary: pd.DataFrame) -> Figure:
    """Plot F1 and SEG of all images over the scale factor, one line per data set and method.

    Rows of summary.csv without a scale are left out; if none has one, ValueError.
    """
    rows = summary[summary["scale"].notna() & (summary["group"] == ALL)]
    _check_rows(rows, "summary", f"a row of group {ALL} with a scale")
    figure, grid = _make_grid([""], list(_MEASURES.values()))
    n_methods, n_sets = rows["method"].nunique(), rows["data_set"].nunique()
    for measure, axes in zip(_MEASURES, grid[:, 0], strict=True):
        series = rows.groupby(["data_set", "method"], sort=False)
        for position, ((data_set, method), own) in enumerate(series):
            parts = [str(data_set)] * (n_sets > 1 or n_methods == 1)
            parts += [name_method(str(method))] * (n_methods > 1)
            style = line_style(position)
            _draw_line(axes, own.sort_values("scale"), "scale", measure, ": ".join(parts), style)
        _tick_scales(axes, rows["scale"])
    _finish(figure, grid, "scale factor (1: as recommended)", title="")
    return figure


def curves_figure(curves: pd.DataFrame) -> Figure:
    """Plot F1 and SEG of all images over the IoU that a match needs, one line per method.

    Repeats of curves.csv are averaged; fine-tuned models of every alpha and fraction, and every
    scale, have a line of their own. A column per data set. Here SEG counts a cell 0 below the
    threshold. Without a row of all images, ValueError.
    """
    rows = curves[curves["group"] == ALL]
    _check_rows(rows, "curves", f"a row of group {ALL}")
    mean = _average_repeats(rows)
    data_sets = list(mean["data_set"].unique())
    is_single = len(data_sets) == 1
    rows_of_panels = ["F1", "SEG, counted 0\nbelow the threshold"]
    figure, grid = _make_grid([""] if is_single else data_sets, rows_of_panels)
    styles = _curve_styles(mean)
    for column, data_set in enumerate(data_sets):
        here = mean[mean["data_set"] == data_set]
        for measure, axes in zip(("f1", "seg_at"), grid[:, column], strict=True):
            for name, own in here.groupby("name", sort=False):
                own = own.sort_values("iou")
                label = plain(str(name))
                axes.plot(own["iou"], own[measure], label=label, **styles[str(name)])
    title = str(data_sets[0]) if is_single else ""
    _finish(figure, grid, "IoU that a match needs", title)
    return figure


def order_groups(groups: Iterable[str]) -> list[str]:
    """Sort groups, all images last; where there is one group only, it is all images."""
    named = sorted(set(groups) - {ALL, ""})
    return [*named, ALL] if len(named) > 1 or not named else [ALL]


def _check_rows(rows: pd.DataFrame, name: str, needed: str) -> None:
    if rows.empty:
        raise ValueError(f"{name} must hold {needed}. Got none; finish the experiment first.")


def _check_one_data_set(summary: pd.DataFrame) -> None:
    names = sorted(summary["data_set"].unique())
    if len(names) != 1:
        raise ValueError(
            f"summary must hold rows of one data set. Got {', '.join(names) or 'none'}; "
            "draw one figure for each."
        )


def _make_grid(columns: Sequence[str], rows: Sequence[str]) -> tuple[Figure, Any]:
    """Make a panel for each (row, column), wrapped; returns axes of shape (rows, columns).

    The rows of a single column stand side by side.
    """
    if len(columns) == 1:
        figure, every = _new_figure(1, len(rows))
        for axes, name in zip(every[0], rows, strict=True):
            axes.set_ylabel(name)
        return figure, every.T
    blocks = -(-len(columns) // _COLUMNS)
    width = -(-len(columns) // blocks)
    figure, every = _new_figure(blocks * len(rows), width)
    grid = np.empty((len(rows), len(columns)), object)
    for column, name in enumerate(columns):
        block, across = divmod(column, width)
        for row, measure in enumerate(rows):
            axes = grid[row, column] = every[block * len(rows) + row, across]
            axes.set_ylabel(measure if across == 0 else "")
            axes.tick_params(labelleft=across == 0, labelbottom=row == len(rows) - 1)
        grid[0, column].set_title(plain(str(name)), fontsize=10)
    for spare in set(every.ravel()) - set(grid.ravel()):
        spare.set_axis_off()
    return figure, grid


def _new_figure(rows: int, columns: int) -> tuple[Figure, Any]:
    size = (columns * _PANEL[0] + 0.5, rows * _PANEL[1] + 0.9)
    figure = Figure(figsize=size, dpi=100, layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw_line(
    axes: Axes, rows: pd.DataFrame, over: str, measure: str, name: str, style: Mapping[str, Any]
) -> None:
    """Draw means with their standard deviation; a single repeat has no bar."""
    if rows.empty:
        return
    deviation = rows[f"{measure}_sd"].to_numpy(float)
    axes.errorbar(
        rows[over].to_numpy(float), rows[f"{measure}_mean"].to_numpy(float), deviation,
        label=plain(name), capsize=3, elinewidth=1, **style,
    )  # fmt: skip


def _draw_levels(axes: Axes, rows: pd.DataFrame, measure: str) -> None:
    """Draw a horizontal line for each row, with its standard deviation as a band."""
    for position, row in enumerate(rows.to_dict("records")):
        mean, deviation = row[f"{measure}_mean"], row[f"{measure}_sd"]
        if np.isnan(mean):
            continue
        name = name_series(row | {"fraction": np.nan})
        style = level_style(position)
        axes.axhline(mean, label=plain(name), **style)
        if deviation > 0:
            low, high = mean - deviation, mean + deviation
            axes.axhspan(low, high, color=style["color"], alpha=0.1, linewidth=0)


def _label_cells(column: Sequence[Axes], rows: pd.DataFrame) -> None:
    """Give a column a logarithmic axis with a tick at every number of cells that was tried."""
    if rows.empty:
        return
    ticks = rows.groupby("fraction")["cells"].mean().sort_values()
    span = np.log10(ticks.iloc[-1] / ticks.iloc[0]) if len(ticks) > 1 else 1.0
    margin = 10 ** (0.08 * span)
    labels, last = [], -np.inf
    for fraction, cells in ticks.items():
        at = np.log10(cells)
        is_apart = at - last > 0.17 * span
        labels.append(f"{cells:,.0f}\n{say_fraction(float(fraction))}" if is_apart else "")  # type: ignore[arg-type]
        last = at if is_apart else last
    for axes in column:
        axes.set_xscale("log")
        axes.set_xlim(ticks.iloc[0] / margin, ticks.iloc[-1] * margin)
        axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels(labels)


def _tick_scales(axes: Axes, scales: pd.Series) -> None:
    ticks = sorted(scales.unique())
    axes.set_xticks(ticks, [f"{scale:g}" for scale in ticks])
    axes.axvline(1, color="#999999", linewidth=0.8, zorder=0, label=_REFERENCE)


def _average_repeats(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds, and name every line, in the order of first appearance."""
    keys = ["data_set", *_SERIES, "iou"]
    mean = rows.groupby(keys, sort=False, dropna=False)[["f1", "seg_at"]].mean().reset_index()
    return mean.assign(name=[name_series(row) for row in mean.to_dict("records")])


def _curve_styles(mean: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Choose dashes by alpha, dots for the oracle, and colour and marker by what else differs."""
    series = mean.drop_duplicates("name").fillna({"fraction": -1, "scale": -1}).to_dict("records")
    hues = [(row["method"], row["fraction"], row["scale"]) for row in series]
    positions = {hue: position for position, hue in enumerate(dict.fromkeys(hues))}
    alphas = sorted({row["alpha"] for row in series if row["method"] == "finetune"})
    styles = {}
    for row, hue in zip(series, hues, strict=True):
        variant = alphas.index(row["alpha"]) if row["method"] == "finetune" else 0
        styles[str(row["name"])] = line_style(positions[hue], _DOTTED if row["oracle"] else variant)
    return styles


def _finish(figure: Figure, grid: Any, x_label: str, title: str) -> None:
    """Set limits, labels, and one legend for all panels."""
    limits = _choose_limits(grid)
    handles: dict[str, Any] = {}
    for axes in grid.ravel():
        axes.set_ylim(*limits)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.supxlabel(x_label, fontsize=10)
    if handles:
        longest = max(map(len, handles))
        columns = max(1, int(figure.get_figwidth() / (0.6 + 0.075 * longest)))
        lines = -(-len(handles) // columns) + bool(title)
        figure.set_figheight(figure.get_figheight() + 0.19 * (lines - 1))
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper left", frameon=False,
            ncols=min(columns, len(handles)), fontsize=9, handlelength=3, alignment="left",
            title=plain(title) or None, title_fontproperties={"size": 11, "weight": "bold"},
        )  # fmt: skip
    # Laid out anew with every drawing, nothing would be in quite the same place.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _choose_limits(grid: Any) -> tuple[float, float]:
    """Let scores begin at a tenth below the lowest, and end at 1."""
    values = [1.0]
    for axes in grid.ravel():
        scores = (line for line in axes.lines if line.get_label() != _REFERENCE)
        values += [float(y) for line in scores for y in np.ravel(line.get_ydata())]
    lowest = np.nanmin(values) - 0.06
    return (-0.02, 1.02) if lowest < 0.2 else (np.floor(lowest * 10) / 10, 1.01)
