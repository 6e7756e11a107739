"""Read what a model folder or a run of pseudo labels knows of each of its images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.records import read_yaml_if_there
from oce2stardist.files.tables import read_objects
from oce2stardist.images.find import find_images, image_stem
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_image
from oce2stardist.labels import UNLABELLED, Image, Labels

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D


@dataclass(frozen=True)
class ImageEvidence:
    """All that is known of one image: arrays of shape (Y, X), and the image (Y, X, C)."""

    image: Image
    model: Labels | None
    """Objects 1..n of at least half the model's probability threshold."""
    probabilities: NDArray[np.float32] | None  # (n,)
    pseudo: Labels | None
    confidence: Mapping[int, float]
    """Of pseudo labels, in [0, 1]."""
    annotations: Labels
    """Cells > 0, known background 0, -1 elsewhere; also cells held back to judge."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Annotated pixels, cells and background."""
        return self.annotations > UNLABELLED


class SuggestionRun:
    """Read a model folder of `finetune` or a run folder of `pseudo`, image by image.

    Images are by default where run.yaml says that they were, of the axes that the run was told.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        images: str | Path | None = None,
        axes: str | None = None,
        device: str = "auto",
    ) -> None:
        self.folder = Path(run)
        self.has_model = (self.folder / "config.json").exists()
        if not self.has_model and not (self.folder / "pseudo" / "stage.yaml").exists():
            raise InputError(
                f"{run} must be a model folder of `oce2stardist finetune` or a run folder of "
                "`oce2stardist pseudo`. Got neither a config.json nor finished pseudo labels in "
                "it; pass what -o named there."
            )
        self.paths = {image_stem(path): path for path in _find_images(self.folder, images)}
        self._axes = axes or _recorded_axes(self.folder)
        self._confidence = _read_confidence(self.folder, model=self.has_model)
        self._network: SparseStarDist2D | None = None
        if self.has_model:
            from oce2stardist.stardist_model.network import open_model, prepare_tensorflow

            prepare_tensorflow(device)
            self._network = open_model(self.folder)

    @property
    def prob_thresh(self) -> float:
        """The model's own threshold on the object probability."""
        return 0.5 if self._network is None else float(self._network.thresholds.prob)

    def view(self, stem: str) -> ImageEvidence:
        """Read one image and its labels, and predict it where there is a model."""
        path = self.paths[stem]
        image = read_image(path, axes=self._axes)
        shape = (image.shape[0], image.shape[1])
        where = ("training", "pseudo") if self.has_model else ("pseudo", "labels")
        labels = self.folder.joinpath(*where, f"{stem}.tif")
        pseudo = read_labels(labels, shape=shape, image=path) if labels.exists() else None
        model, probabilities = self._predict(image, path)
        return ImageEvidence(
            image,
            model,
            probabilities,
            pseudo,
            self._confidence.get(stem, {}),
            self.annotations(stem, shape),
        )

    def annotations(self, stem: str, shape: tuple[int, int]) -> Labels:
        """Read what is annotated in one image, to train on and held back; -1 elsewhere."""
        known = np.full(shape, UNLABELLED, np.int32)
        for kind in ("sparse", "held_back"):
            path = self.folder / "training" / kind / f"{stem}.tif"
            if path.exists():
                labels = read_labels(path, shape=shape, image=self.paths[stem])
                known = np.maximum(known, labels)
        return known

    def _predict(
        self, image: Image, path: Path
    ) -> tuple[Labels | None, NDArray[np.float32] | None]:
        if self._network is None:
            return None, None
        from oce2stardist.stardist_model.predict import predict_objects

        if image.shape[-1] != self._network.config.n_channel_in:
            raise InputError(
                f"images must have the model's {self._network.config.n_channel_in} channels. Got "
                f"{image.shape[-1]} in {path.name}; pass images like those it was trained on."
            )
        return predict_objects(
            self._network, normalise_percentiles(image), prob_thresh=self.prob_thresh / 2
        )


def _find_images(folder: Path, images: str | Path | None) -> list[Path]:
    """List the images given, or those that run.yaml names."""
    if images is not None:
        return find_images(images)
    recorded = read_yaml_if_there(folder / "run.yaml").get("inputs", {}).get("images_from")
    if recorded is None:
        raise InputError(
            f"{folder / 'run.yaml'} must say where the images are (inputs: images_from). Got "
            "nothing there; pass --images."
        )
    try:
        return find_images(recorded)
    except InputError as error:
        raise InputError(
            f"the images of {folder} must still be at {recorded}, as run.yaml says. "
            f"Got none there; pass --images."
        ) from error


def _recorded_axes(folder: Path) -> str | None:
    """Read which axes the run was told that its images have."""
    for stage in (folder / "stage.yaml", folder / "oce" / "stage.yaml"):
        axes = read_yaml_if_there(stage).get("settings", {}).get("axes")
        if axes is not None:
            return str(axes)
    return None


def _read_confidence(folder: Path, *, model: bool) -> dict[str, dict[int, float]]:
    """Read the confidence of pseudo objects, by image and label."""
    path = folder / ("training" if model else "pseudo") / "objects.csv"
    if not path.exists():
        return {}
    table = read_objects(path)
    if "confidence" not in table:
        return {}
    label = "id" if model else "label"
    return {
        str(stem): dict(zip(rows[label].astype(int), rows["confidence"].astype(float), strict=True))
        for stem, rows in table.groupby("image")
    }
