"""Plot a training, a learning curve, and how sure objects are, as small PNGs for a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from oce2stardist.reports.drawing.figure_files import small_png
from oce2stardist.reports.drawing.pictures import CONFIDENCE


def confidence_plot(confidences: NDArray[np.floating]) -> bytes:
    """Plot how many objects have which confidence, 0 to 1; a transparent PNG."""
    figure = Figure(figsize=(4.4, 1.7), dpi=110, layout="constrained")
    axes = figure.subplots()
    counts, edges = np.histogram(confidences, bins=20, range=(0, 1))
    middles = (edges[1:] + edges[:-1]) / 2
    axes.bar(middles, counts, 0.045, color=CONFIDENCE(middles), edgecolor="#333", linewidth=0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("confidence (0 to 1)")
    axes.set_ylabel("objects")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    return small_png(figure, transparent=True)


def loss_plot(history: pd.DataFrame, columns: Mapping[str, str]) -> bytes:
    """Plot losses over training steps and, where there are any, the scores at checks.

    `history` has a row per ``step``; ``score`` and ``score_error`` are optional and NaN between
    checks. `columns` are those of the losses, with their names in the legend: every step is
    drawn thin, the running mean over 1/25 of the steps bold. A transparent PNG.
    """
    has_scores = "score" in history
    scores = history[["step", "score", "score_error"]].dropna() if has_scores else pd.DataFrame()
    figure = Figure(figsize=(7.2, 4.8 if len(scores) else 3.2), dpi=150, layout="constrained")
    ratios = [2, 1] if len(scores) else [1]
    axes = figure.subplots(len(ratios), sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    window = max(1, len(history) // 25)
    values = history[list(columns)].to_numpy(float)
    for column, colour in zip(columns, ("#000000", "#0072B2", "#D55E00", "#009E73"), strict=False):
        smooth = history[column].rolling(window, center=True, min_periods=1).mean()
        axes[0].plot(history["step"], history[column], color=colour, alpha=0.25, linewidth=0.6)
        axes[0].plot(history["step"], smooth, color=colour, linewidth=1.8, label=columns[column])
    # On a linear scale the first steps would press the rest of such a curve flat.
    if 0 < values.min() < values.max() / 10:
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("loss (no unit)")
    if len(columns) > 1:
        axes[0].legend(frameon=False)
    if len(scores):
        axes[1].errorbar(
            scores["step"], scores["score"], scores["score_error"],
            color="#0072B2", marker="o", linewidth=1, capsize=3,
        )  # fmt: skip
        axes[1].set_ylabel("score\n(mean F1, 0 to 1)")
        axes[1].set_ylim(-0.05, 1.05)
    axes[-1].set_xlabel("training step")
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.2)
    figure.align_ylabels()
    return small_png(figure, transparent=True)


def learning_curve_plot(
    cells: Sequence[int], f1: Sequence[float], ahead: Sequence[Mapping[str, Any]]
) -> bytes:
    """Plot F1 over the number of annotated cells trained on, and what more would bring.

    `ahead` are points from the last of `cells` on: cells, f1, and its 90 % interval. A transparent
    PNG.
    """
    figure = Figure(figsize=(4.4, 2.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    numbers = [point["cells"] for point in ahead]
    low, high = zip(*(point["interval"] for point in ahead), strict=True)
    axes.fill_between(numbers, low, high, color="#0072B2", alpha=0.2, linewidth=0)
    axes.plot(numbers, [point["f1"] for point in ahead], color="#0072B2", linestyle="--")
    axes.plot(cells, f1, color="#0072B2", marker="o")
    axes.set_xscale("log")
    axes.set_xticks([*cells, numbers[-1]], [str(number) for number in [*cells, numbers[-1]]])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("annotated cells trained on")
    axes.set_ylabel("F1 at IoU 0.5")
    lowest = min([*low, *f1])
    axes.set_ylim(max(-0.02, lowest - 0.05), min(1.02, max([*high, *f1]) + 0.05))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    return small_png(figure, transparent=True)
