"""Draw training patches of stacks, augment them, and turn them into StarDist3D targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.labels import UNLABELLED, renumber
from oce2stardist.stardist_model.backend import Rays_Base
from oce2stardist.stardist_model.patches import Batch, BatchStream
from oce2stardist.stardist_model.volume_targets import (
    Labels,
    Weights,
    known_in_plane_only,
    volume_targets,
)

Stack = NDArray[np.float32]  # (Z, Y, X, C)
Sides = tuple[int, int, int]


@dataclass(frozen=True)
class VolumePatch:
    """A patch of a stack; see `volume_targets` for flat, weights and radii.

    `labels` and `flat` have `margin` planes more than the image on either side: a cell is often
    higher than what is left of it in the patch, and its targets are those of the whole cell.
    """

    image: Stack
    labels: Labels
    flat: NDArray[np.bool_]
    weights: Weights
    radii: NDArray[np.float32]
    margin: int


class VolumeSource:
    """Draw patches from stacks of which some voxels may be unlabelled.

    Parameters
    ----------
    stacks : sequence of float32 arrays of shape (Z, Y, X, C)
        Normalised. Sides shorter than a patch are padded: the stack by reflection, the labels with
        -1.
    labels : sequence of int32 arrays of shape (Z, Y, X)
        Instances > 0, background 0, unlabelled -1. At least one voxel of the set is known.
    weights : sequence of mappings of int to float, optional
        Of the objects of each stack, by their id, in [0, 1]; 1 where not given.
    radii : sequence of mappings of int to float
        Of the cells of each stack, by id, voxels in y and x.
    usual_radius : float > 0
        Of cells that `radii` has not.
    sides : (z, y, x)
        Of a patch.
    margin : int, >= 0
        Planes of labels above and below a patch that its targets are made with.
    around_objects : float, in [0, 1]
        Share of the patches that hold an object, every object of the set being equally likely; the
        others are drawn around a known voxel: on a plane that nobody annotated there is nothing to
        learn.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        labels: Sequence[Labels],
        weights: Sequence[Mapping[int, float]] | None,
        radii: Sequence[Mapping[int, float]],
        *,
        usual_radius: float,
        sides: Sides,
        margin: int,
        around_objects: float,
    ) -> None:
        self._patches: list[VolumePatch] = []  # whole stacks, of which patches are cut
        self._boxes: list[tuple[int, tuple[slice, ...]]] = []
        for index, drawn in enumerate(labels):
            if not (drawn != UNLABELLED).any():
                continue
            numbered, ids = renumber(drawn)
            image, padded = _padded(stacks[index], numbered, sides)
            given = weights[index] if weights is not None else {}
            own = [radii[index].get(label, usual_radius) for label in ids.tolist()]
            boxes = ndi.find_objects(np.maximum(padded, 0))
            self._boxes += [(len(self._patches), box) for box in boxes if box is not None]
            above = [(margin, margin), (0, 0), (0, 0)]
            self._patches.append(
                VolumePatch(
                    image,
                    np.pad(padded, above, constant_values=UNLABELLED),
                    np.pad(known_in_plane_only(padded), above),
                    np.array([1.0, *(given.get(label, 1.0) for label in ids.tolist())], np.float32),
                    np.array([usual_radius, *own], np.float32),
                    margin,
                )
            )
        self._sides, self._around_objects = sides, around_objects
        self._drawn = [one.labels[margin : margin + len(one.image)] for one in self._patches]
        # (stacks, planes): known voxels
        self._known = [(drawn != UNLABELLED).sum(axis=(1, 2)) for drawn in self._drawn]

    def draw(self, rng: np.random.Generator) -> VolumePatch:
        """Draw one patch; the objects of every stack are numbered anew, 1..n."""
        if self._boxes and rng.random() < self._around_objects:
            index, box = self._boxes[rng.integers(len(self._boxes))]
            middle = [(side.start + side.stop) // 2 for side in box]
        else:
            by_stack = np.array([counts.sum() for counts in self._known], float)
            index = int(rng.choice(len(by_stack), p=by_stack / by_stack.sum()))
            counts = self._known[index]
            plane = int(rng.choice(len(counts), p=counts / counts.sum()))
            rows, columns = np.nonzero(self._drawn[index][plane] != UNLABELLED)
            at = rng.integers(len(rows))
            middle = [plane, int(rows[at]), int(columns[at])]
        whole = self._patches[index]
        corner = [
            int(np.clip(place - rng.integers(size), 0, side - size))
            for place, size, side in zip(middle, self._sides, whole.image.shape, strict=False)
        ]
        window = tuple(
            slice(start, start + size) for start, size in zip(corner, self._sides, strict=True)
        )
        planes = slice(window[0].start, window[0].stop + 2 * whole.margin)
        return VolumePatch(
            whole.image[window],
            whole.labels[planes, window[1], window[2]],
            whole.flat[planes, window[1], window[2]],
            whole.weights,
            whole.radii,
            whole.margin,
        )


def _padded(image: Stack, labels: Labels, sides: Sides) -> tuple[Stack, Labels]:
    missing = [max(0, size - side) for size, side in zip(sides, labels.shape, strict=True)]
    if not any(missing):
        return image, labels
    pad = [(gap // 2, gap - gap // 2) for gap in missing]
    return (
        np.pad(image, [*pad, (0, 0)], mode="symmetric"),
        np.pad(labels, pad, constant_values=UNLABELLED),
    )


def augment_volume(
    patch: VolumePatch, *, intensity: float, rng: np.random.Generator
) -> VolumePatch:
    """Flip along every axis and turn by quarters in the plane, at random; change the intensity.

    Intensities change as `patches.augment` changes them.
    """
    turns, flips = int(rng.integers(4)), rng.integers(2, size=2).astype(bool)
    axes = tuple(int(axis) for axis in np.flatnonzero(flips))
    image, labels, flat = (
        np.flip(np.rot90(part, turns, axes=(1, 2)), axes)
        for part in (patch.image, patch.labels, patch.flat)
    )
    if intensity > 0:
        gain = np.exp(intensity * rng.uniform(np.log(0.6), np.log(1.6)))
        offset = intensity * rng.uniform(-0.2, 0.2)
        noise = intensity * rng.uniform(0.0, 0.04)
        image = gain * image + offset + noise * rng.standard_normal(image.shape, dtype=np.float32)
    return VolumePatch(
        np.ascontiguousarray(image, np.float32),
        np.ascontiguousarray(labels),
        np.ascontiguousarray(flat),
        patch.weights,
        patch.radii,
        patch.margin,
    )


class VolumeStream(BatchStream):
    """Make batches of stacks ahead of the network, the same at any speed; see `BatchStream`."""

    def __init__(
        self,
        sparse: VolumeSource | None,
        pseudo: VolumeSource | None,
        *,
        n_sparse: int,
        n_pseudo: int,
        rays: Rays_Base,
        grid: Sides,
        anisotropy: float,
        intensity: float,
        seed: int,
    ) -> None:
        self._volumes = [  # one for each patch
            source
            for source, count in ((sparse, n_sparse), (pseudo, n_pseudo))
            for _ in range(count)
            if source is not None
        ]
        self._rays, self._sizes, self._anisotropy = rays, grid, anisotropy
        self._intensity, self._seed = intensity, seed

    def batch(self, step: int) -> Batch:
        """Make the batch of one step."""
        rng = np.random.default_rng([self._seed, step])
        images, rows = [], []
        for source in self._volumes:
            patch = augment_volume(source.draw(rng), intensity=self._intensity, rng=rng)
            images.append(patch.image)
            targets = volume_targets(
                patch.labels,
                patch.flat,
                patch.weights,
                rays=self._rays,
                grid=self._sizes,
                anisotropy=self._anisotropy,
                radii=patch.radii,
            )
            above, planes = (size // self._sizes[0] for size in (patch.margin, len(patch.image)))
            rows.append([part[above : above + planes] for part in targets])
        prob, dist, weight, flat = (np.stack(parts) for parts in zip(*rows, strict=True))
        return Batch(np.stack(images), prob, dist, weight, flat)
