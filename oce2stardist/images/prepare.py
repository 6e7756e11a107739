"""What the offset network sees: channels, scale and intensities of a set of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.images.channels import ChannelChoice, choose_channels
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.intensity import compress
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.scale import ScaleMode, Scales, choose_scales, to_working_scale
from oce2stardist.images.working import RescaledImage
from oce2stardist.labels import Image, Labels
from oce2stardist.runs.ahead import map_in_threads

_SMALLEST_SIDE = {2: 18, 3: 10}
"""By dimensions, pixels at working scale: one more than the field of view, rounded up to even."""

_SMALLEST_DIAMETER = 16
"""Pixels at working scale: the field of view in images."""

_THINNEST = 2.0
"""Planes in a cell below which a stack does not show it in three dimensions (taste)."""


@dataclass(frozen=True)
class PreparedImages:
    """Images by stem at working scale: as the network sees them, and with linear intensities.

    Where they are crops of larger images, `image_of` names these by crop, and `whole` holds
    them, on which the network trains.
    """

    found: ImageSet  # at the original scale, channels as the network sees them
    scales: Scales
    channels: ChannelChoice
    seen: dict[str, Image]
    linear: dict[str, Image]
    image_of: Mapping[str, str] = field(default_factory=dict)
    whole: Mapping[str, RescaledImage] = field(default_factory=dict)

    @property
    def training_images(self) -> list[Image] | list[RescaledImage]:
        """What the offset network trains on."""
        return list(self.whole.values()) if self.whole else list(self.seen.values())


def prepare_images(
    image_set: ImageSet,
    config: Config,
    *,
    diameter: float | str | Path | None = None,
    annotations: Mapping[str, Labels] | None = None,
    scales: Scales | None = None,
) -> PreparedImages:
    """Choose channels and scale, and bring every image to it.

    Takes the parameters of `oce2stardist.runners.pseudo.make_pseudo_labels`; annotations as arrays.
    Where `scales` are given they are taken as they are, and nothing is chosen from the others.
    """
    settings = config.pseudo
    if not image_set.are_stacks and settings.working_diameter <= _SMALLEST_DIAMETER:
        raise InputError(
            f"pseudo.working_diameter must be above {_SMALLEST_DIAMETER} in images without planes: "
            f"the network sees so much. Got {settings.working_diameter:g}; leave it out."
        )
    image_set, channels, scales = choose_channels_and_scales(
        image_set, config, settings.scale, diameter, annotations, scales
    )

    if image_set.are_stacks:
        check_planes(image_set, scales)

    def prepare(stem: str) -> tuple[Image, Image]:
        sides = image_set.sides(stem)
        scaled = to_working_scale(image_set.images[stem], scales.factors[stem], sides)
        check_size(stem, scaled.shape, scales.factors[stem])
        own = normalise_percentiles(scaled)
        if settings.intensity == "compressed":
            return normalise_percentiles(compress(scaled, knee=settings.knee)), own
        return own, own

    stems = list(image_set.images)
    prepared = dict(zip(stems, map_in_threads(prepare, stems), strict=True))
    seen = {stem: image for stem, (image, _) in prepared.items()}
    linear = {stem: image for stem, (_, image) in prepared.items()}
    return PreparedImages(image_set, scales, channels, seen, linear)


def choose_channels_and_scales(
    image_set: ImageSet,
    config: Config,
    mode: ScaleMode,
    diameter: float | str | Path | None,
    annotations: Mapping[str, Labels] | None,
    scales: Scales | None,
) -> tuple[ImageSet, ChannelChoice, Scales]:
    """Choose channels, to which the images are brought, and the scales unless they are given."""
    channels = choose_channels(list(image_set.images.values()), mode=config.pseudo.channels)
    mixed = {stem: channels.apply(image) for stem, image in image_set.images.items()}
    image_set = replace(image_set, images=mixed)
    scales = scales or choose_scales(
        image_set,
        working=config.pseudo.working_diameter,
        mode=mode,
        diameter=diameter,
        annotations=annotations,
        seed=config.seed,
    )
    return image_set, channels, scales


def check_size(name: str, shape: tuple[int, ...], factor: float) -> None:
    """Refuse an image that the network's field of view does not fit into."""
    smallest = _SMALLEST_SIDE[len(shape) - 1]
    if min(shape[:-1]) < smallest:
        raise InputError(
            f"images must measure at least {smallest} pixels a side at working scale. "
            f"Got {'x'.join(map(str, shape[:-1]))} for {name} at scale "
            f"{factor:.3g}; leave it out or check --diameter."
        )


def check_planes(image_set: ImageSet, scales: Scales) -> None:
    """Refuse stacks whose planes lie too far apart to show a cell in more than one or two."""
    for stem in image_set.images:
        planes = scales.diameter / image_set.sides(stem)[0]
        if planes < _THINNEST:
            raise InputError(
                f"planes of a stack must lie at most half a cell apart. Got {planes:.1f} planes in "
                f"a cell of {scales.diameter:.4g} px in {stem}; check --voxel-size and --diameter, "
                "or pass the planes as images of their own."
            )
