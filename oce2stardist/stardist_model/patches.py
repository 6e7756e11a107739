"""Draw training patches around cells, augment them, and turn them into StarDist targets."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.labels import UNLABELLED, renumber, resize_labels
from oce2stardist.stardist_model.backend import edt_prob, star_dist

Image = NDArray[np.float32]  # (Y, X, C)
Labels = NDArray[np.int32]  # (Y, X)
Weights = NDArray[np.float32]  # (objects + 1,): of the background and of the objects 1..n


@dataclass(frozen=True)
class Batch:
    """One step's patches, the sparse ones first; see `targets` for the shapes."""

    images: NDArray[np.float32]
    prob: NDArray[np.float32]
    dist: NDArray[np.float32]
    weight: NDArray[np.float32]
    flat: NDArray[np.float32] | None = None  # of stacks; see `volume_targets`

    @property
    def target(self) -> list[NDArray[np.float32]]:
        """What `weighted_loss` takes for the target."""
        target = [self.prob, self.dist, self.weight]
        return target if self.flat is None else [*target, self.flat]


class PatchSource:
    """Draw patches from images of which some pixels may be unlabelled.

    Parameters
    ----------
    images : sequence of float32 arrays of shape (Y, X, C)
        Normalised. Sides shorter than a patch are padded: the image by reflection, the
        labels with -1.
    labels : sequence of int32 arrays of shape (Y, X)
        Instances > 0, background 0, unlabelled -1. At least one pixel of the set is known.
    weights : sequence of mappings of int to float, optional
        Of the objects of each image, by their id, in [0, 1]; 1 where not given.
    around_objects : float, in [0, 1]
        Share of the patches that hold an object, every object of the set being equally
        likely; the others are drawn anywhere in the images that have known pixels.
    zoom : float, in [0, 1]
        Patches are enlarged or made smaller by up to 1 + zoom, at random.
    """

    def __init__(
        self,
        images: Sequence[Image],
        labels: Sequence[Labels],
        weights: Sequence[Mapping[int, float]] | None = None,
        *,
        patch_size: int,
        around_objects: float,
        zoom: float = 0.0,
    ) -> None:
        self._images, self._labels, self._weights = [], [], []
        for index, drawn in enumerate(labels):
            if not (drawn != UNLABELLED).any():
                continue
            numbered, ids = renumber(drawn)
            image, padded = _padded(images[index], numbered, patch_size)
            self._images.append(image)
            self._labels.append(padded)
            given = weights[index] if weights is not None else {}
            of_objects = [given.get(label, 1.0) for label in ids.tolist()]
            self._weights.append(np.array([1.0, *of_objects], np.float32))
        self._patch_size = patch_size
        self._around_objects = around_objects
        self._most_zoom = np.log1p(zoom)
        # (objects, 3): image, centre y, centre x
        self._centres = np.concatenate(
            [_object_centres(known, index) for index, known in enumerate(self._labels)]
            or [np.empty((0, 3), np.int64)]
        )
        areas = np.array([known.size for known in self._labels], dtype=float)
        self._image_share = areas / areas.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Image, Labels, Weights]:
        """Draw one patch: image (P, P, C), labels (P, P), and the weights of its image.

        The objects of every image are numbered anew, 1..n.
        """
        size = self._patch_size
        if self._most_zoom:
            size = round(size / np.exp(rng.uniform(-self._most_zoom, self._most_zoom)))
        if len(self._centres) and rng.random() < self._around_objects:
            index, *centre = self._centres[rng.integers(len(self._centres))]
            shape = self._labels[index].shape
            size = min(size, *shape)
            corner = [
                int(np.clip(middle - rng.integers(size), 0, side - size))
                for middle, side in zip(centre, shape, strict=True)
            ]
        else:
            index = rng.choice(len(self._labels), p=self._image_share)
            shape = self._labels[index].shape
            size = min(size, *shape)
            corner = [int(rng.integers(side - size + 1)) for side in shape]
        window = (slice(corner[0], corner[0] + size), slice(corner[1], corner[1] + size))
        image, labels = self._images[index][window], self._labels[index][window]
        return *_resized(image, labels, self._patch_size), self._weights[index]


def _resized(image: Image, labels: Labels, size: int) -> tuple[Image, Labels]:
    """Bring a square patch to `size`; each pixel of the labels takes the nearest one."""
    if len(labels) == size:
        return image, labels
    factor = size / len(labels)
    zoomed = ndi.zoom(image, (factor, factor, 1), order=1, mode="nearest", grid_mode=True)
    return zoomed, resize_labels(labels, (size, size))


def _padded(image: Image, labels: Labels, size: int) -> tuple[Image, Labels]:
    missing = [max(0, size - side) for side in labels.shape]
    if not any(missing):
        return image, labels
    pad = [(gap // 2, gap - gap // 2) for gap in missing]
    return (
        np.pad(image, [*pad, (0, 0)], mode="symmetric"),
        np.pad(labels, pad, constant_values=UNLABELLED),
    )


def _object_centres(labels: Labels, index: int) -> NDArray[np.int64]:
    windows = [window for window in ndi.find_objects(np.maximum(labels, 0)) if window is not None]
    centres = [[(side.start + side.stop) // 2 for side in window] for window in windows]
    rows = np.array(centres, dtype=np.int64).reshape(-1, 2)
    return np.concatenate([np.full((len(rows), 1), index, np.int64), rows], axis=1)


def augment(
    image: Image, labels: Labels, *, intensity: float, rng: np.random.Generator
) -> tuple[Image, Labels]:
    """Flip and turn by quarters at random; scale, shift and roughen the intensity.

    At `intensity` 0 intensities stay. At 1, gain is 0.6 to 1.6, offset -0.2 to 0.2 of the
    normalised range, and noise has a standard deviation of up to 0.04.
    """
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if flip:
        image, labels = image[::-1], labels[::-1]
    if intensity > 0:
        gain = np.exp(intensity * rng.uniform(np.log(0.6), np.log(1.6)))
        offset = intensity * rng.uniform(-0.2, 0.2)
        noise = intensity * rng.uniform(0.0, 0.04)
        image = gain * image + offset + noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(labels)


def targets(
    labels: Labels, weights: Weights | None = None, *, n_rays: int, grid: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Compute what StarDist is to predict for one patch.

    In `labels` (P, P) unlabelled pixels (-1) end objects as background does. `weights` are those
    of the background and the objects, by id; 1 where not given.

    Returns
    -------
    prob : float32 array of shape (P/grid, P/grid, 1)
        Normalised distance to the object's edge, 0 elsewhere.
    dist : float32 array of shape (P/grid, P/grid, n_rays)
        Distances to the edge along each ray, pixels.
    weight : float32 array of shape (P/grid, P/grid, 1)
        How much each pixel counts: its object's weight, 1 on background, 0 if unlabelled.
    """
    objects = np.maximum(labels, 0)
    thinned = labels[::grid, ::grid]
    prob = _edge_distance(np.maximum(thinned, 0))[..., None]
    dist = star_dist(objects, n_rays, mode="cpp", grid=(grid, grid)).astype(np.float32)
    weight = (thinned != UNLABELLED).astype(np.float32)
    if weights is not None:
        is_object = thinned > 0
        weight[is_object] = weights[thinned[is_object]]
    return prob, dist, weight[..., None]


def _edge_distance(objects: Labels) -> NDArray[np.float32]:
    if (objects == objects.flat[0]).all() and objects.flat[0] > 0:
        # All one object: stardist assumes background around it, too, but warns of it.
        return edt_prob(np.pad(objects, 1))[1:-1, 1:-1].astype(np.float32)
    return edt_prob(objects).astype(np.float32)


class BatchStream:
    """Make batches ahead of the network, in background threads, the same at any speed.

    A batch has `n_sparse` and `n_pseudo` patches of the two sources; batch i is drawn from a
    generator seeded by (seed, i).
    """

    def __init__(
        self,
        sparse: PatchSource | None,
        pseudo: PatchSource | None,
        *,
        n_sparse: int,
        n_pseudo: int,
        n_rays: int,
        grid: int,
        intensity: float,
        seed: int,
    ) -> None:
        self._sources = [  # one for each patch
            source
            for source, count in ((sparse, n_sparse), (pseudo, n_pseudo))
            for _ in range(count)
            if source is not None
        ]
        self._n_rays, self._grid = n_rays, grid
        self._intensity = intensity
        self._seed = seed

    def batch(self, step: int) -> Batch:
        """Make the batch of one step."""
        rng = np.random.default_rng([self._seed, step])
        images, rows = [], []
        for source in self._sources:
            image, labels, weights = source.draw(rng)
            image, labels = augment(image, labels, intensity=self._intensity, rng=rng)
            images.append(image)
            rows.append(targets(labels, weights, n_rays=self._n_rays, grid=self._grid))
        prob, dist, weight = (np.stack(parts) for parts in zip(*rows, strict=True))
        return Batch(np.stack(images), prob, dist, weight)

    def iterate(
        self, start: int, stop: int, *, ahead: int = 6, threads: int = 2
    ) -> Iterator[Batch]:
        """Yield the batches of steps start..stop-1, computed up to `ahead` steps early."""
        with ThreadPoolExecutor(threads) as pool:
            waiting: list[Future[Batch]] = []
            upcoming = iter(range(start, stop))
            try:
                for step in upcoming:
                    waiting.append(pool.submit(self.batch, step))
                    if len(waiting) > ahead:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()
