"""Train one StarDist3D network into a model folder; resumes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oce2stardist.config import Config, StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.labels import Image, Labels, object_sizes
from oce2stardist.runs.progress import Reporter
from oce2stardist.stardist_model.fit import TrainedNetwork, choose_precision, run_training
from oce2stardist.stardist_model.judge import Judge
from oce2stardist.stardist_model.volume_scale import (
    CellShape,
    VolumeScale,
    zoom_stack,
    zoom_stack_labels,
)
from oce2stardist.training_labels.make import TrainingLabels, object_weights

if TYPE_CHECKING:
    from oce2stardist.stardist_model.patches import BatchStream
    from oce2stardist.stardist_model.volume_network import SparseStarDist3D
    from oce2stardist.stardist_model.volume_patches import VolumeSource


@dataclass(frozen=True)
class VolumeJob:
    """What every training of a run on stacks shares.

    Attributes
    ----------
    folder : Path
    stacks : dict of float32 arrays of shape (Z, Y, X, C)
        Normalised, by stem.
    config, reporter, tensorboard
        As in `TrainingJob`; of the config what `Config.for_stacks` gives.
    scale : VolumeScale
    cell : CellShape
        Of the median cell, in voxels of the stacks.
    """

    folder: Path
    stacks: dict[str, Image]
    config: Config
    reporter: Reporter
    tensorboard: bool
    scale: VolumeScale
    cell: CellShape

    @cached_property
    def zoomed_stacks(self) -> dict[str, Image]:
        """The stacks as the network sees them."""
        return {stem: zoom_stack(stack, self.scale) for stem, stack in self.stacks.items()}

    @property
    def diameter(self) -> float:
        """Of the median cell in y and x, in voxels that the network sees."""
        return self.cell.diameter * self.scale.factors[1]

    @property
    def anisotropy(self) -> float:
        """How many times as many voxels the median cell has in y and x as in z."""
        return round(self.diameter / max(1.0, self.cell.planes * self.scale.factors[0]), 2)

    @property
    def settings(self) -> StarDistConfig:
        """The settings of a training that begins with nothing."""
        return self.config.stardist.filled(from_nothing=True)


def train_volume_network(
    job: VolumeJob, labels: TrainingLabels, folder: Path, *, alpha: float, title: str
) -> TrainedNetwork:
    """Train a network in `folder`, or go on where an interrupted training stopped.

    `labels` are of the stacks' own size. The folder gets what `train_network` writes; held-back
    cells choose the weights that are kept.
    """
    from oce2stardist.stardist_model.volume_network import create_volume_model

    config, settings = job.config, job.settings
    radii = {stem: _own_radii(job, labels.pseudo.get(stem)) for stem in job.stacks}
    labels = labels.changed(lambda _, drawn: zoom_stack_labels(drawn, job.scale))
    model = create_volume_model(
        folder,
        settings,
        anisotropy=job.anisotropy,
        channels=next(iter(job.stacks.values())).shape[-1],
        half_precision=choose_precision(config) == "mixed",
        seed=config.seed,
    )
    model.scale = job.scale
    judge = Judge(job.zoomed_stacks, labels.held_back, multiple=model.multiple, seed=config.seed)
    return run_training(
        folder,
        model,
        judge,
        lambda: _make_batches(job, labels, model, radii, alpha),
        settings=settings,
        alpha=alpha,
        select=bool(judge.windows),
        title=title,
        reporter=job.reporter,
        tensorboard=job.tensorboard,
    )


def _own_radii(job: VolumeJob, pseudo: Labels | None) -> dict[int, float]:
    """Measure the cells of a stack, voxels that the network sees: in y and x, of a ball's shape."""
    if pseudo is None:
        return {}
    ids, sizes = object_sizes(pseudo)
    volumes = sizes * np.prod(job.scale.factors) * job.anisotropy
    return dict(zip(ids.tolist(), np.cbrt(3 * volumes / (4 * np.pi)).tolist(), strict=True))


def _make_batches(
    job: VolumeJob,
    labels: TrainingLabels,
    model: "SparseStarDist3D",
    radii: Mapping[str, Mapping[int, float]],
    alpha: float,
) -> tuple["BatchStream", int]:
    """Connect the labels with the network; also the number of sparse patches in a batch."""
    from oce2stardist.stardist_model.backend import rays_from_json
    from oce2stardist.stardist_model.volume_patches import VolumeStream

    settings = job.settings
    # At alpha 0 and 1 one half would be made in vain; the batch is all of the other.
    n_pseudo = {0.0: 0, 1.0: settings.batch_size}.get(alpha, settings.batch_size // 2)
    n_sparse = settings.batch_size - n_pseudo
    z, y, x = model.config.grid
    batches = VolumeStream(
        _volume_source(job, "sparse", labels, radii) if n_sparse else None,
        _volume_source(job, "pseudo", labels, radii) if n_pseudo else None,
        n_sparse=n_sparse,
        n_pseudo=n_pseudo,
        rays=rays_from_json(model.config.rays_json),
        grid=(z, y, x),
        anisotropy=model.anisotropy,
        intensity=settings.intensity,
        seed=job.config.seed,
    )
    return batches, n_sparse


def _volume_source(
    job: VolumeJob, kind: str, labels: TrainingLabels, radii: Mapping[str, Mapping[int, float]]
) -> "VolumeSource":
    from oce2stardist.stardist_model.volume_patches import VolumeSource

    drawn = labels.sparse if kind == "sparse" else labels.pseudo
    if not drawn:
        raise InputError(
            f"there must be {kind} labels to train on. Got none; "
            "annotate more cells or change --alpha."
        )
    weigh = kind == "pseudo" and job.config.stardist.object_weights
    own = job.settings
    return VolumeSource(
        [job.zoomed_stacks[stem] for stem in drawn],
        list(drawn.values()),
        [object_weights(labels, stem) for stem in drawn] if weigh else None,
        [radii[stem] for stem in drawn],
        usual_radius=job.diameter / 2,
        sides=(own.patch_planes, own.patch_size, own.patch_size),
        margin=math.ceil(job.diameter / job.anisotropy),  # as high as a cell; planes have grid 1
        around_objects=job.config.stardist.around_objects,
    )
