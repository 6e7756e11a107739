"""Show what other settings would have found, on a few cells of the fullest image of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.config import PseudoConfig
from oce2stardist.files.atomic import write_bytes
from oce2stardist.labels import Labels, object_sizes
from oce2stardist.pseudo_labels.choose import BANDWIDTHS, Choice
from oce2stardist.pseudo_labels.inputs import Scene, SegmentationInputs
from oce2stardist.pseudo_labels.segment import SegmentationSettings, segment
from oce2stardist.reports.drawing.choices_picture import ChoicePanel, ChoiceRow, choices_picture

_WINDOW, _MARGIN = 5, 2
"""Sides of what the contact sheet shows, and of what is segmented around it, diameters."""

_STEP = 0.2
"""Share of the spread's usual range by which the thresholds shown differ."""

_LEVELS = (0.25, PseudoConfig().level, 0.65)

_Slices = tuple[slice, ...]
_Variant = tuple[str, SegmentationSettings, float | None]
"""What settings with one of them changed are called, and their score if they were tried."""


def write_choices(
    path: Path,
    *,
    scenes: SegmentationInputs,
    labels: Mapping[str, Labels],
    settings: SegmentationSettings,
    choices: Sequence[Choice],
    seed: int,
) -> None:
    """Draw a PNG of what other settings would have found, on a few cells of the fullest image.

    `labels` are what the run found under `settings`, by image stem, at the original scale;
    nothing is written where they hold no object. The scores of `choices` stand with the
    pictures. Only the window shown and two diameters around it are segmented, so what depends
    on the whole image, such as the weights of channels, may differ a little from the labels.
    """
    counts = {stem: len(object_sizes(labels[stem])[0]) for stem in sorted(labels)}
    stem = max(counts, key=lambda name: counts[name])
    if counts[stem] == 0:
        return
    level, scene = scenes.levels[stem], scenes[stem]
    shown, outer = _crowded_window(labels[stem], level.shape, settings.diameter)
    cut = Scene(scene.offsets[:, outer[0], outer[1]], scene.foreground[outer], scene.image[outer])
    foregrounds = _foreground_panels(level[outer], scenes.thresholds[stem])
    rows = {"Foreground: pixels whose arrows are steady under noise": foregrounds}
    for title, variants in _variants(settings, choices).items():
        rows[title] = []
        for name, changed, score in variants:
            found = segment(cut.offsets, cut.foreground, cut.image, changed, seed=seed)
            rows[title].append(ChoicePanel(name, found, chosen=changed == settings, score=score))
    cropped = {
        title: [replace(panel, labels=panel.labels[shown]) for panel in panels]
        for title, panels in rows.items()
    }
    image = cut.image[shown]
    drawn = choices_picture([ChoiceRow(title, image, cropped[title]) for title in cropped])
    write_bytes(path, drawn)


def _crowded_window(
    labels: Labels, shape: tuple[int, ...], diameter: float
) -> tuple[_Slices, _Slices]:
    """Find a window of an image of another shape in which objects are dense.

    Returns the window within a crop, and the crop, which reaches further on all sides, as far
    as the image does.
    """
    side, margin = round(_WINDOW * diameter), round(_MARGIN * diameter)
    centres = np.array(ndi.center_of_mass(labels > 0, labels, object_sizes(labels)[0]))
    centres = (centres * (np.array(shape) / labels.shape)).astype(int)
    points = np.zeros(shape)
    np.add.at(points, tuple(np.clip(centres, 0, np.array(shape) - 1).T), 1.0)
    crowd = ndi.gaussian_filter(points, side / 4, mode="constant")
    shown, outer = [], []
    for centre, size in zip(np.unravel_index(crowd.argmax(), shape), shape, strict=True):
        start = max(0, min(int(centre) - side // 2, size - side))
        stop = min(start + side, size)
        first = max(0, start - margin)
        outer.append(slice(first, min(size, stop + margin)))
        shown.append(slice(start - first, stop - first))
    return tuple(shown), tuple(outer)


def _foreground_panels(level: NDArray[np.float32], threshold: float) -> list[ChoicePanel]:
    """Outline the foreground at the threshold, and below and above it."""
    if not np.isfinite(threshold):  # everything or nothing is foreground
        whole = ndi.label(level < threshold)[0]
        return [ChoicePanel("threshold of this image", whole, chosen=True)]
    step = _STEP * float(np.ptp(np.percentile(level, (2, 98))))
    return [
        ChoicePanel(f"threshold {at:.2f}", ndi.label(level < at)[0], chosen=chosen)
        for at, chosen in ((threshold - step, False), (threshold, True), (threshold + step, False))
    ]


def _variants(
    settings: SegmentationSettings, choices: Sequence[Choice]
) -> dict[str, list[_Variant]]:
    """List what to segment by the title of its row, one setting at a time changed."""
    scores = {choice.setting: choice.tried for choice in choices}
    return {
        "Bandwidth: how close arrows must end to make one object (px, and share of diameter)": (
            _bandwidths(settings, scores.get("bandwidth", {}))
        ),
        "Halo: how the rim of background around each object is taken off": (
            _contrasts(settings, scores.get("level", {}))
            + _other_halos(settings, scores.get("shrink", {}))
        ),
        "Joining pieces: how much touching pieces must look like one cell (min_unity)": (
            _unities(settings)
        ),
    }


def _bandwidths(settings: SegmentationSettings, scores: Mapping[float, float]) -> list[_Variant]:
    """Take the one chosen and three others from small to large."""
    others = [round(share * settings.diameter, 2) for share in BANDWIDTHS[settings.ndim]]
    others = [width for width in others if abs(width / settings.bandwidth - 1) > 0.01]
    shown = {others[0], others[len(others) // 2], others[-1], settings.bandwidth}
    names = {width: f"{width:.4g} px ({width / settings.diameter:.2f})" for width in sorted(shown)}
    return [
        (name, replace(settings, bandwidth=width), scores.get(width))
        for width, name in names.items()
    ]


def _contrasts(settings: SegmentationSettings, scores: Mapping[float, float]) -> list[_Variant]:
    """Take three levels of contrast, the chosen one in place of that most like it."""
    levels = list(_LEVELS)
    if settings.halo == "contrast":
        levels.remove(min(levels, key=lambda level: abs(level - settings.level)))
        levels.append(settings.level)
    return [
        (f"contrast, level {at:g}", replace(settings, halo="contrast", level=at), scores.get(at))
        for at in sorted(levels)
    ]


def _other_halos(settings: SegmentationSettings, scores: Mapping[float, float]) -> list[_Variant]:
    """Take one width to shrink by, none, and the one chosen if it is neither."""
    width = settings.shrink if settings.halo == "shrink" else PseudoConfig().shrink
    shrunk = replace(settings, halo="shrink", shrink=width)
    variants: list[_Variant] = [
        (f"shrink {width:g} px", shrunk, scores.get(width)),
        ("none", replace(settings, halo="none"), None),
    ]
    return variants + [("otsu", settings, None)] * (settings.halo == "otsu")


def _unities(settings: SegmentationSettings) -> list[_Variant]:
    """Take the one chosen beside none, or beside the default."""
    other = PseudoConfig().min_unity if settings.min_unity == 1 else 1.0
    return [
        ("off (1)" if unity == 1 else f"{unity:g}", replace(settings, min_unity=unity), None)
        for unity in (other, settings.min_unity)
    ]
