"""Choose the settings that turn embeddings into labels: by annotated cells, else by stability."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from oce2stardist.config import PseudoConfig
from oce2stardist.errors import plural
from oce2stardist.evaluation.scores import Scores, pool_scores, score_sparse
from oce2stardist.labels import BACKGROUND, UNLABELLED, Labels, resize_labels
from oce2stardist.pseudo_labels.confidence import agreement
from oce2stardist.pseudo_labels.inputs import Scene
from oce2stardist.pseudo_labels.segment import SegmentationSettings, segment
from oce2stardist.runs.ahead import map_in_threads

BANDWIDTHS = {2: (0.28, 0.33, 0.38, 0.43, 0.5), 3: (0.33, 0.38, 0.43, 0.5, 0.57, 0.65)}
"""By dimensions: shares of the diameter that are tried."""

_LEVELS = (0.25, 0.32, 0.4, 0.46, 0.52)
_SIZES = (1 / 32, 1 / 16, 1 / 8)
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8)
_AT_MOST = 8
"""Images that a choice is made on."""

_GAIN = 0.005
"""By less than this, another value is not better than the default."""

_STABLER = 0.02
"""The same for stability, which knows less of the truth than annotated cells do."""


@dataclass(frozen=True)
class Choice:
    """A setting: how each value tried did, what was taken and why."""

    setting: str
    value: Any
    criterion: str
    tried: dict[Any, float] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The choice in words."""
        if not self.tried:
            return self.criterion
        scores = ", ".join(f"{name}: {score:.3f}" for name, score in self.tried.items())
        return f"{self.criterion} ({scores})"


def segmentation_settings(settings: PseudoConfig, *, ndim: int) -> SegmentationSettings:
    """Take the segmentation that a config asks for; what it leaves open has its default."""
    own = {"ndim", "bandwidth"}
    return SegmentationSettings(
        ndim=ndim,
        diameter=settings.working_diameter,
        bandwidth=settings.kernel_radius,
        **settings.model_dump(
            include={setting.name for setting in fields(SegmentationSettings)} - own
        ),
    )


def choose_by_annotations(
    settings: SegmentationSettings,
    scenes: Mapping[str, Scene],
    annotations: Mapping[str, Labels],
    *,
    free: Sequence[str],
    seed: int,
) -> tuple[SegmentationSettings, list[Choice]]:
    """Choose settings one after the other by F1 on annotated cells.

    The score is the mean F1 over IoU thresholds 0.5, 0.6, 0.7 and 0.8, so that outlines count.
    A value replaces the default only if it is better by 0.005.

    Parameters
    ----------
    settings : SegmentationSettings
        Where the search starts.
    annotations : mapping
        Label images at the original scale. 0 counts as not annotated, so a predicted object
        is a false positive only where it covers annotated cells without matching one.
    free : sequence of str
        Which of bandwidth, level and min_size may change.
    """
    annotated = _annotated_cells(annotations, scenes)
    if not annotated:
        return settings, []
    counts = {stem: len(np.unique(cells)) - 1 for stem, cells in annotated.items()}
    most = sorted(annotated, key=lambda stem: -counts[stem])[:_AT_MOST]
    n_cells = sum(counts[stem] for stem in most)

    def score(tried: SegmentationSettings) -> float:
        def of_image(stem: str) -> list[Scores]:
            labels = resize_labels(_segment(scenes[stem], tried, seed), annotated[stem].shape)
            return score_sparse(labels, annotated[stem], iou_thresholds=_THRESHOLDS)

        by_image = list(map_in_threads(of_image, most))
        return float(np.mean([pool_scores(scores).f1 for scores in zip(*by_image, strict=True)]))

    where = f"{plural(n_cells, 'annotated cell')} of {plural(len(most), 'image')}"
    criterion = f"F1 over IoU 0.5 to 0.8 on {where}"
    return _line_search(settings, free, score, criterion)


def choose_by_stability(
    settings: SegmentationSettings,
    scenes: Mapping[str, Scene],
    *,
    free: Sequence[str],
    seed: int,
) -> tuple[SegmentationSettings, list[Choice]]:
    """Choose the bandwidth at which objects change least when it changes a little.

    Without annotations, nothing else tells a good bandwidth from a bad one: at one that is too
    small cells break up, at one too large neighbours fuse, and in between there is a range in
    which nothing happens. How well this agrees with the truth: benchmarks/TRIALS.md,
    "Choosing without annotations".
    """
    if "bandwidth" not in free or not scenes:
        return settings, []
    stems = list(scenes)[:: max(1, len(scenes) // _AT_MOST)][:_AT_MOST]
    bandwidths = [share * settings.diameter for share in BANDWIDTHS[settings.ndim]]

    def vary(stem: str) -> list[Labels]:
        scene = scenes[stem]
        return [_segment(scene, replace(settings, bandwidth=tried), seed) for tried in bandwidths]

    by_image = list(map_in_threads(vary, stems))
    if not any(labels.any() for variants in by_image for labels in variants):
        why = "the default: at no bandwidth was an object found, so there was nothing to compare"
        return settings, [Choice("bandwidth", settings.bandwidth, why)]
    stable: dict[float, float] = {}
    for at in range(1, len(bandwidths) - 1):
        pooled = np.concatenate(
            [agreement(labels[at], [labels[at - 1], labels[at + 1]]) for labels in by_image]
        )
        stable[round(bandwidths[at], 2)] = float(pooled.mean()) if pooled.size else 0.0
    best = _best(stable, default=round(settings.bandwidth, 2), gain=_STABLER)
    criterion = "mean IoU of objects with those at the next bandwidths"
    return replace(settings, bandwidth=best), [Choice("bandwidth", best, criterion, stable)]


def _segment(scene: Scene, settings: SegmentationSettings, seed: int) -> Labels:
    return segment(scene.offsets, scene.foreground, scene.image, settings, seed=seed)


def _annotated_cells(annotations: Mapping[str, Labels], stems: Container[str]) -> dict[str, Labels]:
    """Take the images among `stems` that have annotated cells; what is no cell is unlabelled."""
    return {
        stem: np.where(labels > BACKGROUND, labels, UNLABELLED)
        for stem, labels in annotations.items()
        if stem in stems and (labels > BACKGROUND).any()
    }


def _line_search(
    settings: SegmentationSettings,
    free: Sequence[str],
    score: Callable[[SegmentationSettings], float],
    criterion: str,
) -> tuple[SegmentationSettings, list[Choice]]:
    values: dict[str, Sequence[float]] = {
        "bandwidth": [round(share * settings.diameter, 2) for share in BANDWIDTHS[settings.ndim]],
        "level": _LEVELS if settings.halo == "contrast" else (),
        "shrink": range(7) if settings.halo == "shrink" else (),
        "min_size": _SIZES,
    }
    choices = []
    for setting, candidates in values.items():
        if setting not in free or not candidates:
            continue
        default = getattr(settings, setting)
        tried = {
            value: score(_with(settings, setting, value))
            for value in sorted({default, *candidates})
        }
        best = _best(tried, default=default)
        settings = _with(settings, setting, best)
        choices.append(Choice(setting, best, criterion, tried))
    return settings, choices


def _with(settings: SegmentationSettings, setting: str, value: Any) -> SegmentationSettings:
    return replace(settings, **{setting: value})


def _best(scores: dict[float, float], *, default: float, gain: float = _GAIN) -> float:
    """Take the value with the highest score, but the default unless that is clearly better."""
    best = max(scores, key=scores.__getitem__)
    if default in scores and scores[best] < scores[default] + gain:
        return default
    return best


def score_annotated(
    labels: Mapping[str, Labels], annotations: Mapping[str, Labels]
) -> float | None:
    """F1 at IoU 0.5 on the annotated cells, 0 counting as not annotated; None without any."""
    scores = [
        score_sparse(labels[stem], annotated, iou_thresholds=(0.5,))[0]
        for stem, annotated in _annotated_cells(annotations, labels).items()
    ]
    return pool_scores(scores).f1 if scores else None
