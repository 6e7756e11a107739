"""List what pseudo labels were made with, and why: the content of pseudo/parameters.yaml.

Each parameter is a mapping with ``value`` and ``reason``, which is for people. Where there is more
to know it stands beside them as data: ``interval`` (of the value itself), ``images`` (the value of
each), ``mode`` (what ``auto`` came to), ``tried`` (score by value, where values were compared),
``rejected`` (an estimate that the value was not taken from).
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from oce2stardist.config import Config, PseudoConfig
from oce2stardist.images.prepare import PreparedImages
from oce2stardist.images.scale import Scales
from oce2stardist.pseudo_labels.choose import Choice
from oce2stardist.pseudo_labels.foreground import Foreground
from oce2stardist.pseudo_labels.segment import SegmentationSettings
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
    """List what was used, and why, in the order of the stages; plain values that YAML holds.

    `settings` are those that the images were segmented with, choices included; what was chosen
    stands in place of what the config says. So many noisy copies were predicted.
    """
    given = config.pseudo
    channels = next(iter(prepared.seen.values())).shape[-1]
    thresholds = set(foreground.thresholds)
    threshold = round(float(thresholds.pop()), 4) if len(thresholds) == 1 else "one for each image"
    of_copies = "set in the config" if config.embedding.copies else "by size of the set"
    return {
        "trained_on": _because(len(prepared.found.images), "images given"),
        "channels": _because(channels, prepared.channels.reason) | {"mode": prepared.channels.mode},
        "intensity": _because(given.intensity, _said(given, "intensity", "dim cells count, too")),
        "diameter": _diameter(prepared.scales),
        **_voxel_sizes(prepared),
        "scale": _scale(prepared.scales),
        "copies": _because(copies, of_copies),
        "threshold": _because(threshold, foreground.reason),
        **_segmentation(settings, given),
        **{choice.setting: _chosen(choice, settings) for choice in choices},
    }


def describe_trust(trust: Trust) -> Parameter:
    """Write down whether to trust the labels, with what was measured."""
    measures = {name: round(value, 4) for name, value in trust.measures.items()}
    described = _because(trust.trusted, trust.verdict) | {"measures": measures}
    return described | ({"overruled": list(trust.overruled)} if trust.overruled else {})


def _because(value: Any, reason: str) -> Parameter:
    return {"value": value, "reason": reason}


def is_default(settings: PseudoConfig, name: str) -> bool:
    """Tell whether a setting has its default."""
    return bool(getattr(settings, name) == type(settings).model_fields[name].default)


def _said(settings: PseudoConfig, name: str, otherwise: str = "the default") -> str:
    return otherwise if is_default(settings, name) else "set in the config"


def _diameter(scales: Scales) -> Parameter:
    """Write the diameter; an estimate that it was not taken from stands apart."""
    parameter = _because(round(scales.diameter, 2), scales.reason)
    if scales.low is not None and scales.high is not None:
        return parameter | {"interval": _rounded(scales.low, scales.high)}
    guess = scales.estimate
    if guess is None or guess.diameter is None or guess.low is None or guess.high is None:
        return parameter
    rejected = {"value": round(guess.diameter, 2), "interval": _rounded(guess.low, guess.high)}
    return parameter | {"rejected": rejected}


def _voxel_sizes(prepared: PreparedImages) -> dict[str, Parameter]:
    """Write the size of a voxel of stacks, (z, y, x); nothing of images."""
    sizes = {
        stem: [round(side, 6) for side in own] for stem, own in prepared.found.voxel_sizes.items()
    }
    if not sizes:
        return {}
    value = next(iter(sizes.values()))
    if all(own == value for own in sizes.values()):
        return {"voxel_size": _because(value, "z, y, x, as the files or --voxel-size say")}
    parameter = _because("one for each stack", "z, y, x, as the files say")
    return {"voxel_size": parameter | {"images": sizes}}


def _rounded(low: float, high: float) -> list[float]:
    return [round(low, 2), round(high, 2)]


def _scale(scales: Scales) -> Parameter:
    parameter = _because(round(scales.median, 4), "brings the diameter to the working diameter")
    if len(set(scales.factors.values())) == 1:
        return parameter
    factors = {stem: round(factor, 4) for stem, factor in scales.factors.items()}
    return parameter | {"images": factors}


def _segmentation(settings: SegmentationSettings, given: PseudoConfig) -> dict[str, Parameter]:
    """List what clustering and clean-up used; sizes in pixels of the working scale."""
    area = settings.cell_area
    of_cell = f"of the {'area' if settings.ndim == 2 else 'volume'} of a median cell"
    reasons = {
        **{name: _said(given, name) for name in ("bandwidth", "halo", "level", "min_unity")},
        "min_cluster": f"{settings.min_cluster:g} {of_cell}; even a speck has a halo",
        "max_ratio": "objects whose pixels do not come together are background",
        "min_size": f"{settings.min_size:g} {of_cell}",
    }
    values = asdict(settings)
    values |= {name: round(values[name] * area, 1) for name in ("min_cluster", "min_size")}
    return {name: _because(values[name], reason) for name, reason in reasons.items()}


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
