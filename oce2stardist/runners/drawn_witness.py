"""Ask the network that has seen drawn cells about the images of a `pseudo` run."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from oce2stardist.config import Config
from oce2stardist.drawn import DIAMETER
from oce2stardist.errors import plural
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.prepare import PreparedImages, prepare_images
from oce2stardist.labels import FoundObjects
from oce2stardist.reports import choose_evenly
from oce2stardist.runs.determinism import fixed_threads
from oce2stardist.runs.progress import Reporter
from oce2stardist.stardist_model import drawn_start

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D

_MEASURED = 9
"""Images in which cells are measured."""


@dataclass(frozen=True)
class DrawnWitness:
    """The network that has seen drawn cells, asked about the images of a run."""

    images: ImageSet
    config: Config
    reporter: Reporter

    @cached_property
    def model(self) -> "SparseStarDist2D":
        from oce2stardist.stardist_model.network import open_to_label, prepare_tensorflow

        threads = fixed_threads(self.config.deterministic)
        prepare_tensorflow(self.config.device, threads=threads)
        stored = list(self.images.images.values())
        folder = drawn_start.folder_for(stored, device=self.config.device, threads=threads)
        return open_to_label(folder, self.config.stardist.precision)

    def measure(self) -> tuple[float | None, int]:
        """Measure the median diameter of the cells in a few images, and in how many it could."""
        from oce2stardist.stardist_model.predict import measure_diameter

        stems = choose_evenly(self.images.images, _MEASURED)
        seen = (normalise_percentiles(self.images.images[stem]) for stem in stems)
        with self.reporter.task("Measuring cells with the drawn start", len(stems)) as advance:
            found = []
            for done, image in enumerate(seen, start=1):
                found.append(measure_diameter(self.model, image, DIAMETER))
                advance(done, f"{found[-1] or 0:.3g} px")
        measured = [one for one in found if one is not None]
        return (float(np.median(measured)) if measured else None), len(measured)

    def label(self, prepared: PreparedImages) -> FoundObjects:
        """Label the images at the scale of the run."""
        from oce2stardist.stardist_model.witness import label_images as label_with_start

        stored = self.images.images
        seen = ((stem, normalise_percentiles(image)) for stem, image in stored.items())
        relative = DIAMETER / self.config.pseudo.working_diameter
        scales = {stem: relative * factor for stem, factor in prepared.scales.factors.items()}
        with self.reporter.task("Asking the drawn start", len(stored)) as advance:
            return label_with_start(self.model, seen, scales, advance)

    def measure_again(self, prepared: PreparedImages) -> PreparedImages:
        """Bring the images to the scale that the start measures, where none could be trusted.

        Not under torchrun: its processes must agree on the scale to the last digit.
        """
        scales = prepared.scales
        alone = os.environ.get("WORLD_SIZE", "1") == "1"
        if scales.trusted or scales.estimate is None or not alone:
            return prepared
        diameter, count = self.measure()
        if diameter is None:
            return prepared
        again = prepare_images(self.images, self.config, diameter=diameter)
        reason = (
            f"the drawn start measures {diameter:.1f} px in {plural(count, 'image')}; without it "
            f"{scales.reason}"
        )
        changed = replace(again.scales, reason=reason, estimate=scales.estimate)
        return replace(again, scales=changed)
