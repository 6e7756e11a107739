"""Plot the loss of a training, and how sure objects are, as small PNGs for a page."""

from collections.abc import Mapping

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
