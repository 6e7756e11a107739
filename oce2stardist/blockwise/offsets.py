"""Pseudo labels block by block: offsets, foreground and clusters of a window, each cell once."""

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.blockwise.image import BlockwiseImage
from oce2stardist.blockwise.masks import Masks, draw_masks, drop_double_masks
from oce2stardist.files.arrays import read_arrays, write_arrays
from oce2stardist.files.atomic import replacing
from oce2stardist.files.digests import digest
from oce2stardist.images.blocks import Block, Window, widen
from oce2stardist.images.working import RescaledImage
from oce2stardist.labels import nearest_pixels
from oce2stardist.pseudo_labels.clustering import lattice_spacing
from oce2stardist.pseudo_labels.foreground import spread_map
from oce2stardist.pseudo_labels.segment import ImageStatistics, SegmentationSettings, segment_surely

if TYPE_CHECKING:
    from oce2stardist.embeddings.network import OffsetNetwork
    from oce2stardist.embeddings.predict import PredictionSettings

_WIDEST_MARGIN = 1024

_SPARE = 1.1
"""How much farther than expected a cell may reach before its block is worked on again."""

# Torch's own threads are what a worker has.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class EmbeddingImage(BlockwiseImage):
    """One image that is segmented by its embeddings.

    Lengths and windows are those of the working scale, but for blocks, which are of stored pixels.

    Attributes
    ----------
    weights : Path
        Of the offset network.
    working : RescaledImage
    prediction : PredictionSettings
    spread : {"log", "linear"}
    smoothing : float
        Of the spread, pixels.
    threshold : float
        Pixels whose smoothed spread is below are foreground.
    settings : SegmentationSettings
    whole : ImageStatistics
    variants : int
        Other bandwidths that the confidence is measured with.
    reach_in_crops : float
        How far cells reach from their centroids in the crops, stored pixels. Labels do not depend
        on it: a block with a cell that reaches farther is worked on again.
    """

    weights: Path
    working: RescaledImage
    prediction: "PredictionSettings"
    spread: Literal["log", "linear"]
    smoothing: float
    threshold: float
    settings: SegmentationSettings
    whole: ImageStatistics
    variants: int
    reach_in_crops: float

    @property
    def identity(self) -> list[Any]:
        """The network and every number that enters."""
        numbers = (
            *(self.working.factor, self.working.channels, self.working.levels, self.prediction),
            *(
                self.spread,
                self.smoothing,
                self.threshold,
                self.settings,
                self.whole,
                self.variants,
            ),
        )
        return [digest([self.weights]), *map(repr, numbers)]

    @property
    def known_reach(self) -> float:
        """How far the cells of crops reach."""
        return self.reach_in_crops

    def find(self, block: Block, reach: float) -> float:
        """Write the objects whose centroids lie in a block; return how far they reach."""
        shape = self.working.shape[:2]
        core = self.working.to_working(block.core)
        expected = reach / self._stored_pixels
        while True:
            wanted = 2 * _SPARE * expected + self.settings.diameter
            margin = min(_WIDEST_MARGIN, int(np.ceil(wanted)))
            # Lattices on which clustering starts, and pooling, fall on the same pixels everywhere.
            align = 2 * lattice_spacing(self.settings.bandwidth)
            window = widen(core, margin, shape, align=align)
            found = self._find_in(core, window)
            whole = all((w.start, w.stop) == (0, n) for w, n in zip(window, shape, strict=True))
            enough = 2 * found.reach + self.settings.diameter <= margin
            if whole or margin == _WIDEST_MARGIN or enough:
                break
            expected = found.reach
        self._write(self.found(block), found)
        return found.reach * self._stored_pixels

    def drop_doubles(self, block: Block, reach: float) -> int:
        """Write those that stay beside what other blocks found; return how many went."""
        own = read_masks(self.found(block))
        near = [one for one in self.grid.near(block, 2 * reach) if one != block]
        stays = np.ones(len(own), bool)
        if near:
            stays = drop_double_masks(
                own, Masks.join([read_masks(self.found(one)) for one in near])
            )
        self._write(self.kept(block), own[stays])
        return int((~stays).sum())

    def draw(self, block: Block, reach: float) -> None:
        """Draw the objects that reach into a block; stored pixels take the nearest working one."""
        rows, columns = (
            nearest_pixels(stored, have)[side]
            for side, stored, have in zip(
                block.core, self.image.shape[:2], self.working.shape[:2], strict=True
            )
        )
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        blocks = self.grid.near(block, reach + self._stored_pixels)
        objects = Masks.join([read_masks(self.kept(one)) for one in blocks])
        seen = objects.touching(window)
        drawn = draw_masks(objects[seen], self.ids_of(blocks)[seen], window)
        labels = drawn[np.ix_(rows - rows[0], columns - columns[0])]
        self.write_labels(block, labels)

    def finish(self, output: Path) -> None:
        """Write `<name>.csv`: label, area, equivalent diameter, centroid and confidence.

        Pixels are stored ones; objects come in the order of their labels.
        """
        shape = zip(self.image.shape[:2], self.working.shape[:2], strict=True)
        step_y, step_x = (stored / have for stored, have in shape)
        with replacing(output / f"{self.image.name}.csv") as temporary:
            for row in range(self.grid.rows):
                blocks = list(self.grid.row(row))
                objects = Masks.join([read_masks(self.kept(one)) for one in blocks])
                area = objects.areas * step_y * step_x
                table = pd.DataFrame(
                    {
                        "label": self.ids_of(blocks),
                        "area": area.round(2),
                        "diameter": np.sqrt(4 * area / np.pi).round(2),
                        "y": ((objects.points[:, 0] + 0.5) * step_y - 0.5).round(2),
                        "x": ((objects.points[:, 1] + 0.5) * step_x - 0.5).round(2),
                        "confidence": objects.confidence.round(2),
                    }
                ).sort_values("label")
                table.to_csv(temporary, index=False, mode="a", header=row == 0)

    @property
    def _stored_pixels(self) -> float:
        """Stored pixels along one of the working scale, at least."""
        return max(
            stored / have
            for stored, have in zip(self.image.shape[:2], self.working.shape[:2], strict=True)
        )

    def _find_in(self, core: Window, window: Window) -> Masks:
        with _one_at_a_time:
            offsets, foreground = self._predict(window)
            labels, confidence = segment_surely(
                offsets,
                foreground,
                self.working.linear(window),
                self.settings,
                variants=self.variants,
                seed=self.prediction.seed,
                whole=self.whole,
            )
        corner = window[0].start, window[1].start
        return Masks.from_labels(labels, confidence, corner=corner, core=core)

    def _predict(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Predict the offsets (2, y, x) of a window, and what is foreground in it."""
        from oce2stardist.embeddings.predict import predict_offsets

        predicted = predict_offsets(
            _network(self.weights),
            self.working,
            self.prediction,
            device=self.device,
            region=window,
        )
        # As what a run keeps of smaller images: half precision.
        offsets, spread = (
            one.astype(np.float16).astype(np.float32)
            for one in (predicted.offsets, predicted.spread)
        )
        levels = spread_map(spread, kind=self.spread, smoothing=self.smoothing)
        return offsets, levels < self.threshold

    def _write(self, path: Path, masks: Masks) -> None:
        pixels = [np.ravel(one) for one in masks.pixels] or [np.empty(0, bool)]
        write_arrays(
            path,
            {
                "points": masks.points,
                "corners": masks.corners,
                "sizes": masks.sizes,
                "confidence": masks.confidence,
                "pixels": np.packbits(np.concatenate(pixels)),
                "reach": np.array(masks.reach * self._stored_pixels),
            },
        )


@functools.lru_cache(maxsize=1)
def _network(weights: Path) -> "OffsetNetwork":
    from oce2stardist.embeddings.checkpoint import read_weights

    return read_weights(weights)


def read_masks(path: Path) -> Masks:
    """Read the objects of a block."""
    stored = read_arrays(path)
    sizes = stored["sizes"]
    ends = np.cumsum(np.prod(sizes, axis=1))
    bits = np.unpackbits(stored["pixels"]).astype(bool)
    pixels = tuple(
        bits[end - height * width : end].reshape(height, width)
        for end, (height, width) in zip(ends, sizes, strict=True)
    )
    return Masks(stored["points"], stored["corners"], stored["confidence"], pixels)
