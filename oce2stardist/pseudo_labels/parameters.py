"""What pseudo labels were made with, and why: the content of pseudo/parameters.yaml.

Each parameter is a mapping with ``value`` and ``reason``, which is for people. Where there is more
to know it stands beside them as data: ``interval`` (of the value itself), ``images`` (the value of
each), ``mode`` (what ``auto`` came to), ``tried`` (score by value, where values were compared),
``rejected`` (an estimate that the value was not taken from).
"""

from collections.abc import Sequence
from typing import Any

from oce2stardist.config import Config, PseudoConfig
from oce2stardist.images.prepare import PreparedImages
from oce2stardist.images.scale import Scales
from oce2stardist.pseudo_labels import Foreground, SegmentationSettings
from oce2stardist.pseudo_labels.choose import Choice
from oce2stardist.pseudo_labels.trust import Trust

Parameter = dict[str, Any]


def list_parameters(
    prepared: PreparedImages,
    config: Config,
    foreground: Foreground,
    settings: SegmentationSettings,
    choices: Sequence[Choice],
    *,
    copies: int,
) -> dict[str, Parameter]:
    """List what was used, and why, in the order of the stages.

    Parameters
    ----------
    prepared : PreparedImages
    config : Config
    foreground : Foreground
    settings : SegmentationSettings
        What the images were segmented with, choices included.
    choices : sequence of Choice
        What was compared; stands in place of what the config says.
    copies : int
        Noisy copies that were predicted.

    Returns
    -------
    dict of name to parameter
        Plain values that YAML holds.
    """
    given = config.pseudo
    return {
        "trained_on": _because(len(prepared.found.images), "images given"),
        "channels": _because(next(iter(prepared.seen.values())).shape[-1], prepared.channels.reason)
        | {"mode": prepared.channels.mode},
        "intensity": _because(given.intensity, _said(given, "intensity", "dim cells count, too")),
        "diameter": _diameter(prepared.scales),
        "scale": _scale(prepared.scales),
        "copies": _because(
            copies, "set in the config" if config.embedding.copies else "by size of the set"
        ),
        "threshold": _because(_thresholds(foreground), foreground.reason),
        **_segmentation(settings, given),
        **{one.setting: _chosen(one, settings) for one in choices},
    }


def describe_trust(trust: Trust) -> Parameter:
    """Write down whether to trust the labels, with what was measured."""
    measures = {name: round(value, 4) for name, value in trust.measures.items()}
    return _because(trust.trusted, trust.verdict) | {"measures": measures}


def _because(value: Any, reason: str) -> Parameter:
    return {"value": value, "reason": reason}


def _said(settings: PseudoConfig, name: str, otherwise: str) -> str:
    default = type(settings)().model_dump()[name]
    return otherwise if getattr(settings, name) == default else "set in the config"


def _diameter(scales: Scales) -> Parameter:
    """Write the diameter; an estimate that it was not taken from stands apart."""
    parameter = _because(round(scales.diameter, 2), scales.reason)
    if scales.low is not None and scales.high is not None:
        return parameter | {"interval": _rounded(scales.low, scales.high)}
    found = scales.estimate
    if found is None or found.diameter is None or found.low is None or found.high is None:
        return parameter
    rejected = {"value": round(found.diameter, 2), "interval": _rounded(found.low, found.high)}
    return parameter | {"rejected": rejected}


def _rounded(low: float, high: float) -> list[float]:
    return [round(low, 2), round(high, 2)]


def _scale(scales: Scales) -> Parameter:
    parameter = _because(round(scales.median, 4), "brings the diameter to the working diameter")
    if len(set(scales.factors.values())) == 1:
        return parameter
    return parameter | {"images": {stem: round(one, 4) for stem, one in scales.factors.items()}}


def _thresholds(foreground: Foreground) -> float | str:
    distinct = set(foreground.thresholds)
    return round(float(distinct.pop()), 4) if len(distinct) == 1 else "one for each image"


def _segmentation(settings: SegmentationSettings, given: PseudoConfig) -> dict[str, Parameter]:
    """List what clustering and clean-up used; sizes in pixels of the working scale."""
    area = settings.cell_area
    return {
        "bandwidth": _because(
            settings.bandwidth, "set in the config" if given.bandwidth else "the default"
        ),
        "halo": _because(settings.halo, _said(given, "halo", "the default")),
        "level": _because(settings.level, _said(given, "level", "the default")),
        "min_unity": _because(settings.min_unity, _said(given, "min_unity", "the default")),
        "min_cluster": _because(
            round(settings.min_cluster * area, 1),
            f"{settings.min_cluster:g} of the area of a median cell; even a speck has a halo",
        ),
        "max_ratio": _because(
            settings.max_ratio, "objects whose pixels do not come together are background"
        ),
        "min_size": _because(
            round(settings.min_size * area, 1),
            f"{settings.min_size:g} of the area of a median cell",
        ),
    }


def _chosen(choice: Choice, settings: SegmentationSettings) -> Parameter:
    """Write a choice with its scores, the values tried in the unit of the value."""
    unit = settings.cell_area if choice.setting == "min_size" else 1.0

    def in_unit(value: Any) -> float:
        return round(float(value * unit), 4)

    parameter = _because(in_unit(choice.value), choice.reason)
    if not choice.tried:
        return parameter
    tried = {in_unit(value): round(score, 4) for value, score in choice.tried.items()}
    return parameter | {"tried": tried}
