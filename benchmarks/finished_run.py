"""What clustering started from in a finished run of `oce2stardist pseudo`."""

from dataclasses import dataclass
from pathlib import Path

from oce2stardist.config import Config
from oce2stardist.images.image_set import ImageSet, read_images
from oce2stardist.images.prepare import PreparedImages
from oce2stardist.pseudo_labels.inputs import SegmentationInputs
from oce2stardist.runners.finished_run import read_finished_run


@dataclass(frozen=True)
class RunWithImages:
    """A run: its config, the images as they are stored and as it saw them, its predictions."""

    config: Config
    images: ImageSet
    prepared: PreparedImages
    scenes: SegmentationInputs


def read_run(run: Path, images: Path) -> RunWithImages:
    """Read a run with the images that it was run on, at the scale that it worked at."""
    finished = read_finished_run(run)
    found = read_images(images, axes=finished.axes)
    prepared = finished.prepare_own(found)
    return RunWithImages(finished.config, found, prepared, finished.read_scenes(prepared))
