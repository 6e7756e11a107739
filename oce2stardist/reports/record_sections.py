"""Make the sections that end every page: training, settings with their reasons, time taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from oce2stardist.reports.drawing.page import Cell, Section
from oce2stardist.reports.drawing.plots import loss_plot
from oce2stardist.reports.run_files import read_record
from oce2stardist.reports.wording import capital, say_duration, say_setting

_ABOUT_UNITS = (
    "Pixels (px) are those of the working scale, original pixels times scale; those of the "
    "diameter are original ones."
)


def embedding_training_section(run: Path, heading: str = "Training") -> Section:
    """Plot the loss of the embeddings, or say whose network was used."""
    trained = read_record(run / "run.yaml")["inputs"].get("trained")
    if trained is not None:
        return Section(heading, f"Nothing was trained: the network is that of the run {trained}.")
    history = pd.read_csv(run / "oce" / "history.csv")
    caption = "Loss of the embeddings: every step (thin) and their running mean (bold)."
    return Section(heading, panels=[(caption, loss_plot(history, {"loss": "loss"}))])


def settings_section(
    heading: str, parameters: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> Section:
    """List parameters by the stage that chose them; a single stage needs no name."""
    rows: list[tuple[Cell, ...]] = [
        ("" if row else stage, name, say_setting(name, one), one["reason"])
        for stage, chosen in parameters.items()
        for row, (name, one) in enumerate(chosen.items())
    ]
    header: tuple[Cell, ...] = ("stage", "setting", "value", "why")
    skipped = 1 if len(parameters) == 1 else 0
    about = _ABOUT_UNITS if any("scale" in chosen for chosen in parameters.values()) else ""
    return Section(heading, about, table=[row[skipped:] for row in (header, *rows)])


def times_section(seconds: Mapping[str, float], heading: str = "Time taken") -> Section:
    """List what each step took, and all together."""
    rows = [
        (capital(name.replace("_", " ")), say_duration(taken)) for name, taken in seconds.items()
    ]
    together = ("Together", say_duration(sum(seconds.values())))
    return Section(heading, table=[("step", "time"), *rows, together])
