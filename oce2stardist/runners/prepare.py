"""What the offset network sees: channels, scale and intensities of a set of images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from oce2stardist.channels import prepare_channels
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.intensity import compress
from oce2stardist.io import normalise_percentiles
from oce2stardist.runners.inputs import Image, ImageSet, Labels
from oce2stardist.runners.scale import Scales, choose_scales, to_working_scale

_SMALLEST_SIDE = 18
"""Pixels at working scale: one more than the field of view, rounded up to even."""


@dataclass(frozen=True)
class Prepared:
    """Images at working scale: as the network sees them, and with linear intensities."""

    found: ImageSet
    scales: Scales
    channels: str
    seen: dict[str, Image]
    linear: dict[str, Image]


def prepare_images(
    found: ImageSet,
    config: Config,
    *,
    diameter: float | str | Path | None = None,
    annotations: Mapping[str, Labels] | None = None,
    scales: Scales | None = None,
) -> Prepared:
    """Choose channels and scale, and bring every image to it.

    Takes the parameters of `oce2stardist.runners.pseudo.make_pseudo_labels`; annotations as arrays.
    Where `scales` are given they are taken as they are, and nothing is chosen from the others.

    Raises
    ------
    InputError
        If an image is too small at working scale, or a diameter or annotation is not usable.
    """
    settings = config.pseudo
    arrays, channels = prepare_channels(list(found.images.values()), mode=settings.channels)
    found = replace(found, images=dict(zip(found.images, arrays, strict=True)))
    scales = scales or choose_scales(
        found,
        working=settings.working_diameter,
        mode=settings.scale,
        diameter=diameter,
        annotations=annotations,
        seed=config.seed,
    )
    seen, linear = {}, {}
    for stem, image in found.images.items():
        scaled = to_working_scale(image, scales.factors[stem])
        if min(scaled.shape[:2]) < _SMALLEST_SIDE:
            raise InputError(
                f"images must measure at least {_SMALLEST_SIDE} pixels a side at working scale. "
                f"Got {scaled.shape[0]}x{scaled.shape[1]} for {stem} at scale "
                f"{scales.factors[stem]:.3g}; leave it out or check --diameter."
            )
        linear[stem] = normalise_percentiles(scaled)
        seen[stem] = (
            normalise_percentiles(compress(scaled, knee=settings.knee))
            if settings.intensity == "compressed"
            else linear[stem]
        )
    return Prepared(found, scales, channels, seen, linear)
