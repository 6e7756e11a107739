"""What clustering started from in a finished run of `oce2stardist pseudo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from oce2stardist.config import Config
from oce2stardist.runners.inputs import ImageSet, read_images
from oce2stardist.runners.prepare import Prepared, prepare_images
from oce2stardist.runners.pseudo_labels import Scenes


@dataclass(frozen=True)
class FinishedRun:
    """A run: its config, the images as they are stored and as it saw them, its predictions."""

    config: Config
    images: ImageSet
    prepared: Prepared
    scenes: Scenes


def read_run(run: Path, images: Path) -> FinishedRun:
    """Read a run with the images that it was run on, at the scale that it worked at.

    Where each image has a scale of its own, these are estimated again, which gives the same
    ones; a run that took them from a CSV file or from annotations can't be read.
    """
    config = Config.model_validate(_read_yaml(run / "run.yaml")["config"])
    settings = _read_yaml(run / "oce" / "stage.yaml")["settings"]
    found = read_images(images, axes=settings["axes"])
    scale = settings["scale"]
    diameter = None if isinstance(scale, dict) else config.pseudo.working_diameter / scale
    prepared = prepare_images(found, config, diameter=diameter)
    if isinstance(scale, dict) and prepared.scales.factors != scale:
        raise SystemExit(f"{run} worked at scales that were given to it; make it without them.")
    return FinishedRun(config, found, prepared, Scenes(prepared, run, config))


def _read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
