"""Read what segmentation needs of every image of a run from its folder, when asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from oce2stardist.config import Config
from oce2stardist.images.prepare import PreparedImages
from oce2stardist.labels import Image
from oce2stardist.pseudo_labels.foreground import (
    Foreground,
    choose_foreground,
    foreground_threshold,
    spread_map,
)
from oce2stardist.runs.ahead import map_in_threads


@dataclass(frozen=True)
class Scene:
    """What `segment` needs of one image, at working scale."""

    offsets: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    image: Image


def predicted_file(folder: Path, stem: str) -> Path:
    """Name the file in which a run keeps the prediction of one image."""
    return folder / "oce" / "predicted" / f"{stem}.safetensors"


def read_predicted(folder: Path, stem: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the offsets (2, Y, X) and the spread (Y, X) of one image, at working scale.

    Of a stack they have shapes (3, Z, Y, X) and (Z, Y, X).
    """
    arrays = load_file(predicted_file(folder, stem))
    return arrays["offsets"].astype(np.float32), arrays["spread"].astype(np.float32)


class SegmentationInputs(Mapping[str, Scene]):
    """Scenes of all images of a run, read from its folder when asked for.

    Attributes
    ----------
    foreground : Foreground
        Chosen for the whole set.
    levels : dict of image stem to float32 array of shape (Y, X)
        The smoothed spread, at working scale.
    thresholds : dict of image stem to float
        Pixels whose level is below are foreground.
    """

    def __init__(self, prepared: PreparedImages, folder: Path, config: Config) -> None:
        self._prepared, self._folder = prepared, folder

        def level(stem: str) -> NDArray[np.float32]:
            spread = read_predicted(folder, stem)[1]
            kind, smoothing = config.pseudo.spread, config.pseudo.smoothing
            return spread_map(spread, kind=kind, smoothing=smoothing)

        stems = list(prepared.seen)
        self.levels = dict(zip(stems, map_in_threads(level, stems), strict=True))
        images = [prepared.image_of.get(stem, stem) for stem in self.levels]
        self.foreground = _choose_foreground(self.levels, images, folder, config)
        self.thresholds = dict(zip(self.levels, self.foreground.thresholds, strict=True))

    def __getitem__(self, stem: str) -> Scene:
        offsets, _ = read_predicted(self._folder, stem)
        foreground = self.levels[stem] < self.thresholds[stem]
        return Scene(offsets, foreground, self._prepared.linear[stem])

    def __iter__(self) -> Iterator[str]:
        return iter(self.levels)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def ndim(self) -> int:
        """Two, of stacks three."""
        return next(iter(self.levels.values())).ndim

    @property
    def foreground_share(self) -> float:
        """Share of the pixels of all images that are foreground."""
        pixels = sum(level.size for level in self.levels.values())
        below = (np.count_nonzero(self.levels[stem] < self.thresholds[stem]) for stem in self)
        return sum(below) / pixels


def _choose_foreground(
    maps: dict[str, NDArray[np.float32]], images: Sequence[str], folder: Path, config: Config
) -> Foreground:
    settings, levels = config.pseudo, list(maps.values())
    offsets = (read_predicted(folder, stem)[0] for stem in maps)
    diameter = settings.working_diameter
    chosen = choose_foreground(levels, offsets, diameter=diameter, images=images)
    if settings.threshold == "auto":
        return chosen
    if settings.threshold == "pooled":
        thresholds = (foreground_threshold(levels),) * len(maps)
        reason = "Otsu on the spread of all images together, set in the config"
    else:
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for name, level in zip(images, levels, strict=True):
            parts.setdefault(name, []).append(level)
        of_image = {name: foreground_threshold(of_part) for name, of_part in parts.items()}
        thresholds = tuple(of_image[name] for name in images)
        reason = "Otsu on the spread of each image, set in the config"
    return replace(chosen, thresholds=thresholds, cue="spread", reason=reason)
