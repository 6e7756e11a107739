"""Name a method and style its line: never by colour alone."""

import math
from collections.abc import Mapping
from typing import Any

ALL = "(all)"
"""The group that holds every image."""

# Okabe and Ito without yellow, which is too pale for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))

_NAMES = {
    "pseudo": "pseudo labels",
    "finetune": "StarDist, fine-tuned",
    "classical": "classical",
    "stardist": "StarDist, pretrained",
    "cellpose": "Cellpose",
    "oracle": "oracle: picked with the truth",
}


def name_method(method: str) -> str:
    """Write a method as people do: "stardist:2D_versatile_fluo" has a model's name in it."""
    kind, _, model = method.partition(":")
    name = _NAMES.get(kind, kind)
    return f"{name} ({model})" if model else name


def name_series(row: Mapping[Any, Any]) -> str:
    """Name what a row of a summary was made by: its method, alpha, fraction and scale.

    What does not apply (NaN) or is the same for every such row (scale 1, alpha of pseudo
    labels alone) is left out.
    """
    parts = [name_method(str(row["method"]))]
    if row["method"] == "finetune":
        parts += [f"alpha {row['alpha']:g}"] * (not is_missing(row["alpha"]))
        parts += [say_fraction(row["fraction"])] * (not is_missing(row["fraction"]))
    if not is_missing(row.get("scale")) and row["scale"] != 1:
        parts.append(f"scale {row['scale']:g}")
    return ", ".join(parts)


def say_fraction(fraction: float) -> str:
    """Write a share in per cent: 0.0025 is "0.25 %"."""
    return f"{100 * fraction:.3g} %"


def say_group(group: str) -> str:
    """Name a group of images as people do."""
    return "all images" if group == ALL else group


def is_missing(value: Any) -> bool:
    """Tell whether there is no value: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def line_style(position: int, variant: int = 0) -> dict[str, Any]:
    """Choose colour and marker by the first position, dashes by the second."""
    return {
        "color": _COLOURS[position % len(_COLOURS)],
        "marker": _MARKERS[position % len(_MARKERS)],
        "linestyle": _DASHES[variant % len(_DASHES)],
        "linewidth": 1.6,
        "markersize": 5,
    }


def level_style(position: int) -> dict[str, Any]:
    """Choose colour and dashes of a horizontal line; the first is black and dashed."""
    return {
        "color": _COLOURS[::-1][position % len(_COLOURS)],
        "linestyle": _DASHES[1:][position % (len(_DASHES) - 1)],
        "linewidth": 1.4,
    }


def plain(text: str) -> str:
    """Keep matplotlib from reading a dollar sign as mathematics."""
    return text.replace("$", r"\$")
