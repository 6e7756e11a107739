"""Read a finished run of stage one, to use its network and settings on other images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_bytes
from oce2stardist.files.digests import digest
from oce2stardist.files.records import read_yaml
from oce2stardist.images.crops import LargeImages
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.prepare import PreparedImages, prepare_images
from oce2stardist.images.scale import Scales
from oce2stardist.labels import Labels
from oce2stardist.pseudo_labels.choose import Choice, segmentation_settings
from oce2stardist.pseudo_labels.inputs import SegmentationInputs, predicted_file

if TYPE_CHECKING:  # torch is loaded when a run needs it
    from oce2stardist.embeddings.predict import AnyOffsetNetwork

_SEARCHED = ("bandwidth", "level", "shrink", "min_size")
"""Settings of a segmentation that a run may choose itself."""


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run of `make_pseudo_labels` recorded."""

    folder: Path
    config: Config
    """Of the run; its channel mode is the one that ``auto`` came to."""
    parameters: dict[str, Any]
    """The content of pseudo/parameters.yaml."""
    axes: str | None
    scale: float | dict[str, float]
    """One factor for all images, or one for each by stem."""

    @cached_property
    def digest(self) -> str:
        """A hash of the weights of the offset network."""
        return digest([_weights_file(self.folder)])

    def merged_config(self, given: Config) -> Config:
        """Set what the run chose in its config; seed and device are those of the given one."""
        area = segmentation_settings(self.config.pseudo, ndim=2).cell_area
        chosen = {
            f"pseudo.{name}": self.parameters[name]["value"] / (area if name == "min_size" else 1)
            for name in _SEARCHED
            if "tried" in self.parameters.get(name, {})
        }
        return self.config.replace(
            **chosen,
            **{"pseudo.choose": False, "seed": given.seed, "device": given.device},
            deterministic=given.deterministic,
        )

    def explain(self, config: Config) -> list[Choice]:
        """Say of the settings of `merged_config` where they come from."""
        segmentation = segmentation_settings(config.pseudo, ndim=2)
        names = [name for name in _SEARCHED if name != "shrink" or segmentation.halo == "shrink"]
        return [Choice(name, getattr(segmentation, name), f"as in {self.folder}") for name in names]

    def copy_network(self, stage: Path) -> "AnyOffsetNetwork":
        """Copy the weights into the folder of a stage and read the network."""
        from oce2stardist.embeddings.checkpoint import read_weights

        copy = stage / _weights_file(self.folder).name
        write_bytes(copy, _weights_file(self.folder).read_bytes())
        return read_weights(copy)

    def name_ignored(self, given: Config) -> list[str]:
        """Name the settings of a config that are not the default and not those of the run."""
        return [
            f"{stage}.{name}"
            for stage in ("embedding", "pseudo")
            for name, value in getattr(given, stage).model_dump().items()
            if value
            not in (
                getattr(getattr(Config(), stage), name),
                getattr(getattr(self.config, stage), name),
            )
        ]

    def prepare_others(
        self,
        images: ImageSet | LargeImages,
        *,
        diameter: float | str | Path | None,
        annotations: Mapping[str, Labels] | None,
    ) -> PreparedImages:
        """Bring other images to the scale at which their cells are as large as the run's own."""
        one_for_all = not isinstance(self.scale, dict)
        scales = None
        if one_for_all and diameter is None and annotations is None:
            scales = self._scales(images.crops if isinstance(images, LargeImages) else images)
        if isinstance(images, LargeImages):
            prepared = images.prepare(
                self.config, diameter=diameter, annotations=annotations, scales=scales
            )
        else:
            config = self.config
            if not one_for_all:
                config = config.replace(**{"pseudo.scale": "image"})
            prepared = prepare_images(
                images, config, diameter=diameter, annotations=annotations, scales=scales
            )
        channels = self.parameters["channels"]["value"]
        given = next(iter(prepared.seen.values())).shape[-1]
        if given != channels:
            raise InputError(
                f"images must have the {channels} channel(s) that {self.folder} was trained on. "
                f"Got {given}; convert them, or leave out --trained to train on them."
            )
        return prepared

    def prepare_own(self, images: ImageSet) -> PreparedImages:
        """Bring the run's own images to the scale at which it worked."""
        foreign = [stem for stem in images.images if not predicted_file(self.folder, stem).exists()]
        if foreign:
            raise InputError(
                f"the images must be those of the run. Got {foreign[0]!r}, which {self.folder} "
                "does not have; pass the images that it was run on."
            )
        return prepare_images(images, self.config, scales=self._scales(images))

    def read_scenes(self, prepared: PreparedImages) -> SegmentationInputs:
        """Read what clustering started from, for the images of `prepare_own`."""
        return SegmentationInputs(prepared, self.folder, self.config)

    def _scales(self, images: ImageSet) -> Scales:
        """Take the one scale of the run, or that of each of its images."""
        scale, diameter = self.scale, self.parameters["diameter"]["value"]
        factors = {
            stem: scale[stem] if isinstance(scale, dict) else scale for stem in images.images
        }
        return Scales(factors, diameter, f"{diameter:g} px as in {self.folder}")


def read_finished_run(folder: str | Path) -> FinishedRun:
    """Read a finished run folder of `make_pseudo_labels`."""
    folder = Path(folder)
    oce, pseudo = (_read(folder, f"{stage}/stage.yaml") for stage in ("oce", "pseudo"))
    if not (oce["finished"] and pseudo["finished"]) or not _weights_file(folder).exists():
        raise _refuse(folder, "a run that is not finished")
    parameters = _read(folder, "pseudo/parameters.yaml")
    try:
        config = Config.model_validate(_read(folder, "run.yaml")["config"])
        config = config.replace(**{"pseudo.channels": parameters["channels"]["mode"]})
    except (ValidationError, InputError) as error:
        raise _refuse(folder, "a config that this version does not know") from error
    except (KeyError, TypeError) as error:
        raise _refuse(folder, "no mode of channels in pseudo/parameters.yaml") from error
    settings = oce["settings"]
    return FinishedRun(folder, config, parameters, settings["axes"], settings["scale"])


def _weights_file(folder: Path) -> Path:
    return folder / "oce" / "weights.safetensors"


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return read_yaml(folder / name)
    except (OSError, InputError) as error:
        raise _refuse(folder, f"no {name} that can be read") from error


def _refuse(folder: Path, got: str) -> InputError:
    return InputError(
        f"{folder} must be a finished run of oce2stardist pseudo. Got {got}; "
        "run that command to its end, or pass another folder."
    )
