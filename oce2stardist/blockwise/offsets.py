"""Make pseudo labels block by block: predict and cluster windows, and keep each cell once."""

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
from oce2stardist.pseudo_labels.density import lattice_spacing
from oce2stardist.pseudo_labels.foreground import spread_map
from oce2stardist.pseudo_labels.segment import ImageStatistics, SegmentationSettings, segment_surely

if TYPE_CHECKING:
    from oce2stardist.embeddings.predict import AnyOffsetNetwork, PredictionSettings

_WIDEST_MARGIN = 1024

_SPARE = 1.1
"""How much farther than expected a cell may reach before its block is worked on again."""

# Torch's own threads are what a worker has.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class EmbeddingImage(BlockwiseImage):
    """One image that is segmented by its embeddings.

    Lengths and windows are those of the working scale, but for blocks, which are of stored pixels.
    """

    weights: Path  # of the offset network
    working: RescaledImage
    prediction: "PredictionSettings"
    spread: Literal["log", "linear"]
    smoothing: float  # of the spread
    threshold: float  # pixels whose smoothed spread is below are foreground
    settings: SegmentationSettings
    whole: ImageStatistics
    variants: int  # other bandwidths that the confidence is measured with

    @property
    def identity(self) -> list[Any]:
        working, prediction, spread = self.working, self.prediction, self.spread
        numbers = (
            *(working.factor, working.channels, working.levels, prediction, spread),
            *(self.smoothing, self.threshold, self.settings, self.whole, self.variants),
        )
        return [digest([self.weights]), *map(repr, numbers)]

    def find(self, block: Block, reach: float) -> float:
        shape = self.working.shape[:2]
        core = self.working.to_working(block.core)
        expected = reach / self._stored_pixels
        while True:
            wanted = 2 * _SPARE * expected + self.settings.diameter
            margin = min(_WIDEST_MARGIN, int(np.ceil(wanted)))
            # Lattices on which clustering starts, and pooling, fall on the same pixels everywhere.
            align = 2 * lattice_spacing(self.settings.bandwidth)
            window = widen(core, margin, shape, align=align)
            objects = self._find_in(core, window)
            whole = all((w.start, w.stop) == (0, n) for w, n in zip(window, shape, strict=True))
            enough = 2 * objects.reach + self.settings.diameter <= margin
            if whole or margin == _WIDEST_MARGIN or enough:
                break
            expected = objects.reach
        self._write(self.found(block), objects)
        return objects.reach * self._stored_pixels

    def drop_doubles(self, block: Block, reach: float) -> int:
        own = read_masks(self.found(block))
        near = [other for other in self.grid.near(block, 2 * reach) if other != block]
        stays = np.ones(len(own), bool)
        if near:
            around = Masks.join([read_masks(self.found(other)) for other in near])
            stays = drop_double_masks(own, around)
        self._write(self.kept(block), own[stays])
        return int((~stays).sum())

    def draw(self, block: Block, reach: float) -> None:
        rows, columns = (  # stored pixels take the nearest working one
            nearest_pixels(stored, have)[side]
            for side, (stored, have) in zip(block.core, self._lengths, strict=True)
        )
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        blocks = self.grid.near(block, reach + self._stored_pixels)
        objects = Masks.join([read_masks(self.kept(near)) for near in blocks])
        seen = objects.touching(window)
        drawn = draw_masks(objects[seen], self.ids_of(blocks)[seen], window)
        self.write_labels(block, drawn[np.ix_(rows - rows[0], columns - columns[0])])

    def finish(self, output: Path) -> None:
        """Write `<name>.csv`: label, area, equivalent diameter, centroid and confidence.

        Pixels are stored ones; objects come in the order of their labels.
        """
        step_y, step_x = (stored / have for stored, have in self._lengths)
        with replacing(output / f"{self.image.name}.csv") as temporary:
            for row in range(self.grid.rows):
                blocks = list(self.grid.row(row))
                objects = Masks.join([read_masks(self.kept(block)) for block in blocks])
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
    def _lengths(self) -> list[tuple[int, int]]:
        """Pair the height and the width, stored and working pixels."""
        return list(zip(self.image.shape[:2], self.working.shape[:2], strict=True))

    @property
    def _stored_pixels(self) -> float:
        """Count the stored pixels along one of the working scale, at least."""
        return max(stored / have for stored, have in self._lengths)

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

        network, device = _network(self.weights), self.device
        *_, offsets, spread = predict_offsets(
            network, self.working, self.prediction, device=device, region=window
        )
        # As what a run keeps of smaller images: half precision.
        offsets, spread = (
            field.astype(np.float16).astype(np.float32) for field in (offsets, spread)
        )
        levels = spread_map(spread, kind=self.spread, smoothing=self.smoothing)
        return offsets, levels < self.threshold

    def _write(self, path: Path, masks: Masks) -> None:
        pixels = [np.ravel(inside) for inside in masks.pixels] or [np.empty(0, bool)]
        arrays: dict[str, NDArray[Any]] = {
            "points": masks.points,
            "corners": masks.corners,
            "sizes": masks.sizes,
            "confidence": masks.confidence,
            "pixels": np.packbits(np.concatenate(pixels)),
            "reach": np.array(masks.reach * self._stored_pixels),
        }
        write_arrays(path, arrays)


@functools.lru_cache(maxsize=1)
def _network(weights: Path) -> "AnyOffsetNetwork":
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
