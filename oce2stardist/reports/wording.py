"""Write numbers, durations and settings in the words of a page."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from oce2stardist.errors import plural
from oce2stardist.labels import Labels, object_sizes

_UNITS = {
    "diameter": "px",
    "scale": "×",
    "bandwidth": "px",
    "shrink": "px",
    "min_cluster": "px²",
    "min_size": "px²",
}


def count_objects(labels: Labels) -> str:
    """Count the objects of a label image, in words."""
    return plural(len(object_sizes(labels)[0]), "object")


def capital(text: str) -> str:
    """Begin with a capital letter, and leave the others alone."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Make a sentence of a clause; nothing stays nothing."""
    return capital(text.rstrip(".")) + "." * bool(text)


def say_range(values: pd.Series) -> str:
    """Write the median with the smallest and the largest."""
    return f"{values.median():g} ({values.min():g} to {values.max():g})"


def say_middle_half(values: pd.Series) -> str:
    """Write the median with the quartiles; a dash where there is no value."""
    if values.empty:
        return "–"
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def say_duration(seconds: float) -> str:
    """Write a duration with the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def say_setting(name: str, parameter: Mapping[str, Any]) -> str:
    """Write a setting with its interval, or the range over the images, where it has one.

    `parameter` is an entry of parameters.yaml: value, and perhaps interval or images.
    """
    unit = _UNITS.get(name, "")
    plain = _say_value(parameter["value"], unit)
    ends = parameter.get("interval") or list(parameter.get("images", {}).values())
    if not ends:
        return plain
    kind = "images" if parameter.get("images") else "90 % interval"
    return f"{plain} ({kind}: {_say_value(min(ends), '')} to {_say_value(max(ends), unit)})"


def _say_value(value: Any, unit: str) -> str:
    """Write a value as a person would: with its unit, and no more digits than matter."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g} {unit}".strip() if isinstance(value, float) else f"{value} {unit}".strip()
