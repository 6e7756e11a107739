"""Named test scenes, drawn from geometry so that tests can compute their answers."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree


def disc(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> NDArray[np.bool_]:
    """Return True within `radius` pixels of `centre`; a ball for a shape (Z, Y, X)."""
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    squared = sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True))
    return np.asarray(squared <= radius**2)


def two_touching_discs() -> NDArray[np.int32]:
    """Return labels (48, 80): discs 1 and 2 of radius 12, mirror images that share an edge."""
    left = disc((48, 80), (24, 27), 12)
    labels = left.astype(np.int32)
    labels[disc((48, 80), (24, 52), 12)] = 2
    return labels


def empty_image() -> NDArray[np.int32]:
    """Return labels (48, 80) that are background everywhere."""
    return np.zeros((48, 80), np.int32)


def discs_scene(
    n: int, shape: tuple[int, int], radius: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw `n` bright, slightly textured ellipses, none touching another or the edge.

    Returns
    -------
    image : float32 array of shape (Y, X)
        Ground around 0.1, cells around 0.4 to 1, noise of about 0.04.
    labels : int32 array of shape (Y, X)
        Ids 1 to n.
    """
    rng = np.random.default_rng(seed)
    semi_axes = rng.uniform(0.8, 1.2, (n, 2)) * radius
    centres = _spread_out(n, shape, 1.2 * radius + 1, rng)
    angles = rng.uniform(0, np.pi, n)

    # Ellipses stay within 1.2 radii of centres more than 2.4 apart, so the only one
    # that can hold a pixel is that of the nearest centre.
    pixels = np.indices(shape).reshape(2, -1).T
    _, nearest = cKDTree(centres).query(pixels)
    dy, dx = (pixels - centres[nearest]).T
    cos, sin = np.cos(angles[nearest]), np.sin(angles[nearest])
    a, b = semi_axes[nearest].T
    r = np.hypot((cos * dy + sin * dx) / a, (cos * dx - sin * dy) / b)  # 1 on the outline
    labels = np.where(r <= 1, nearest + 1, 0).reshape(shape).astype(np.int32)

    texture = ndi.gaussian_filter(rng.normal(size=shape), 2)
    brightness = rng.uniform(0.5, 0.9, n)[nearest] * (1 - 0.25 * r**2)
    cells = brightness.reshape(shape) * (1 + 0.1 * texture / texture.std())
    image = ndi.gaussian_filter(0.1 + np.where(labels > 0, cells, 0), 0.8)
    return (image + rng.normal(0, 0.04, shape)).astype(np.float32), labels


def _spread_out(
    n: int, shape: tuple[int, int], margin: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw `n` centres (n, 2), at least `margin` from edges and twice that from each other."""
    centres = np.empty((0, 2))
    for centre in rng.uniform(margin, np.array(shape) - 1 - margin, (500 * n, 2)):
        if len(centres) == n:
            break
        if np.all(np.hypot(*(centres - centre).T) >= 2 * margin):
            centres = np.vstack([centres, centre])
    if len(centres) < n:
        raise ValueError(
            f"shape must have room for n cells. Only {len(centres)} of {n} fit into {shape}; "
            "ask for fewer or smaller cells."
        )
    return centres
