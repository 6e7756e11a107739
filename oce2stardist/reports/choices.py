"""Show what other settings would have found, on a few cells of the fullest image of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class _Variant:
    """A settings with one setting changed, as it is called, and how it did if it was tried."""

    name: str
    settings: SegmentationSettings
    score: float | None = None


def write_choices(
    path: Path,
    *,
    scenes: SegmentationInputs,
    labels: Mapping[str, Labels],
    settings: SegmentationSettings,
    choices: Sequence[Choice],
    seed: int,
) -> Path | None:
    """Draw what other settings would have found, on a few cells of the fullest image.

    Parameters
    ----------
    path : Path
        The PNG file.
    scenes : SegmentationInputs
        Of the run.
    labels : mapping of image stem to int32 array of shape (Y, X)
        What the run found, at the original scale.
    settings : SegmentationSettings
        What it was found with.
    choices : sequence of Choice
        The values that were compared; their scores stand with the pictures.
    seed : int

    Returns
    -------
    Path or None
        `path`; None where no object was found, and nothing is written.

    Notes
    -----
    Only the window shown and two diameters around it are segmented, so what depends on the
    whole image, such as the weights of channels, may differ a little from the labels.
    """
    counts = {stem: len(object_sizes(labels[stem])[0]) for stem in sorted(labels)}
    stem = max(counts, key=lambda one: counts[one])
    if counts[stem] == 0:
        return None
    level, scene = scenes.levels[stem], scenes[stem]
    shown, outer = _crowded_window(
        _centres(labels[stem], level.shape), level.shape, settings.diameter
    )
    cut = Scene(scene.offsets[:, outer[0], outer[1]], scene.foreground[outer], scene.image[outer])
    foregrounds = _foreground_panels(level[outer], scenes.thresholds[stem])
    rows = {"Foreground: pixels whose arrows are steady under noise": foregrounds}
    for title, variants in _variants(settings, choices).items():
        rows[title] = [_segmented(cut, one, settings, seed=seed) for one in variants]
    write_bytes(path, choices_picture([_row(title, cut, rows[title], shown) for title in rows]))
    return path


def _centres(labels: Labels, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Find the centroids (objects, 2) of objects, in pixels of an image of another shape."""
    ids = object_sizes(labels)[0]
    centres = np.array(ndi.center_of_mass(labels > 0, labels, ids))
    return centres * (np.array(shape) / labels.shape)


def _crowded_window(
    centres: NDArray[np.float64], shape: tuple[int, ...], diameter: float
) -> tuple[_Slices, _Slices]:
    """Find a window in which objects are dense; returns it within the crop, and the crop.

    The crop reaches further than the window on all sides, as far as the image does.
    """
    side, margin = round(_WINDOW * diameter), round(_MARGIN * diameter)
    points = np.zeros(shape)
    at = np.clip(centres.astype(int), 0, np.array(shape) - 1)
    np.add.at(points, tuple(at.T), 1.0)
    crowd = ndi.gaussian_filter(points, side / 4, mode="constant")
    middle = np.unravel_index(crowd.argmax(), shape)
    shown, outer = [], []
    for centre, size in zip(middle, shape, strict=True):
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
    others = [round(share * settings.diameter, 2) for share in BANDWIDTHS]
    others = [one for one in others if abs(one / settings.bandwidth - 1) > 0.01]
    shown = {others[0], others[len(others) // 2], others[-1], settings.bandwidth}
    return [
        _Variant(
            f"{one:.4g} px ({one / settings.diameter:.2f})",
            replace(settings, bandwidth=one),
            scores.get(one),
        )
        for one in sorted(shown)
    ]


def _contrasts(settings: SegmentationSettings, scores: Mapping[float, float]) -> list[_Variant]:
    """Take three levels of contrast, the chosen one in place of that most like it."""
    levels = list(_LEVELS)
    if settings.halo == "contrast":
        levels.remove(min(levels, key=lambda one: abs(one - settings.level)))
        levels.append(settings.level)
    return [
        _Variant(
            f"contrast, level {one:g}",
            replace(settings, halo="contrast", level=one),
            scores.get(one),
        )
        for one in sorted(levels)
    ]


def _other_halos(settings: SegmentationSettings, scores: Mapping[float, float]) -> list[_Variant]:
    """Take one width to shrink by, none, and the one chosen if it is neither."""
    width = settings.shrink if settings.halo == "shrink" else PseudoConfig().shrink
    shrunk = replace(settings, halo="shrink", shrink=width)
    variants = [
        _Variant(f"shrink {width:g} px", shrunk, scores.get(width)),
        _Variant("none", replace(settings, halo="none")),
    ]
    return variants + [_Variant("otsu", settings)] * (settings.halo == "otsu")


def _unities(settings: SegmentationSettings) -> list[_Variant]:
    """Take the one chosen beside none, or beside the default."""
    other = PseudoConfig().min_unity if settings.min_unity == 1 else 1.0
    return [
        _Variant("off (1)" if one == 1 else f"{one:g}", replace(settings, min_unity=one))
        for one in (other, settings.min_unity)
    ]


def _segmented(
    scene: Scene, variant: _Variant, chosen: SegmentationSettings, *, seed: int
) -> ChoicePanel:
    labels = segment(scene.offsets, scene.foreground, scene.image, variant.settings, seed=seed)
    return ChoicePanel(variant.name, labels, chosen=variant.settings == chosen, score=variant.score)


def _row(title: str, scene: Scene, panels: Sequence[ChoicePanel], shown: _Slices) -> ChoiceRow:
    """Cut a row to the window shown."""
    cropped = [replace(panel, labels=panel.labels[shown]) for panel in panels]
    return ChoiceRow(title, scene.image[shown], cropped)
