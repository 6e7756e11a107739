"""Named test scenes, drawn from geometry so that tests can compute their answers."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree
from skimage.color import hed2rgb


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


def grid_of_discs(
    ndim: int, *, per_side: int = 2, radius: float = 7.0, pitch: int = 20
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return labels of equal discs in a square grid, or balls in a cube, and their centres.

    Ids go row after row; neighbours lie `pitch` pixels apart, the outer ones half as far from the
    sides.
    """
    shape = (per_side * pitch,) * ndim
    steps = np.indices((per_side,) * ndim).reshape(ndim, -1).T
    centres = steps * pitch + pitch / 2
    labels = np.zeros(shape, np.int32)
    for number, centre in enumerate(centres, start=1):
        labels[disc(shape, tuple(centre), radius)] = number
    return labels, centres


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


def dense_tissue(
    seed: int, shape: tuple[int, int] = (320, 320), diameter: float = 28.0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw cells that touch everywhere: textured interiors, darker borders, a gap here and there.

    Returns
    -------
    image : float32 array of shape (Y, X)
        Cells around 0.4 to 0.9, borders around 0.3, gaps around 0.1, noise of 0.03.
    labels : int32 array of shape (Y, X)
        Cells meet without a pixel between them; under 5 % is background.
    """
    rng = np.random.default_rng(seed)
    centres = _jittered_grid(shape, diameter, rng)
    pixels = np.indices(shape).reshape(2, -1).T
    # Borders of Voronoi cells are straight; looking from displaced pixels bends them.
    bent = pixels + np.stack([_smooth_noise(shape, 6, rng).ravel() for _ in range(2)], axis=1)
    distances, nearest = cKDTree(centres).query(bent, k=2)
    labels = (nearest[:, 0] + 1).reshape(shape).astype(np.int32)
    gaps = rng.choice(len(centres), max(1, len(centres) // 40), replace=False) + 1
    labels[np.isin(labels, gaps)] = 0

    to_border = (distances[:, 1] - distances[:, 0]).reshape(shape) / 2
    membrane = np.exp(-((to_border / 2.5) ** 2))
    brightness = rng.uniform(0.5, 0.9, len(centres))[nearest[:, 0]].reshape(shape)
    cells = brightness * (1 - 0.6 * membrane) * (1 + 0.08 * _smooth_noise(shape, 2, rng))
    image = np.where(labels > 0, cells, 0.1 + 0.01 * _smooth_noise(shape, 2, rng))
    image = ndi.gaussian_filter(image, 0.8) * (1 + 0.08 * _smooth_noise(shape, 60, rng))
    return (image + rng.normal(0, 0.03, shape)).astype(np.float32), _number(labels)


def dark_cells(
    seed: int, n: int = 40, shape: tuple[int, int] = (320, 320), radius: float = 14.0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw cells darker than a bright, unevenly lit ground; image (Y, X) and labels (Y, X)."""
    rng = np.random.default_rng(seed + 10_000)
    bright, labels = discs_scene(n, shape, radius, seed)
    light = 1 + 0.08 * _smooth_noise(shape, 60, rng) + 0.02 * _smooth_noise(shape, 3, rng)
    return (light * (1.2 - bright)).astype(np.float32), labels


def stained_tissue(
    seed: int, n: int = 45, shape: tuple[int, int] = (320, 320), radius: float = 13.0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw a bright-field H&E section: purple nuclei on pink fibrous ground, white gaps.

    Stains mix as optical densities with scikit-image's vectors.

    Returns
    -------
    image : float32 array of shape (Y, X, 3)
        Whole numbers 0 to 255, as an 8-bit RGB file holds.
    labels : int32 array of shape (Y, X)
        Nuclei, 1 to n.
    """
    rng = np.random.default_rng(seed + 20_000)
    nuclei, labels = discs_scene(n, shape, radius, seed)
    strength = ndi.gaussian_filter(np.where(labels > 0, nuclei, 0), 0.8)
    fibres = ndi.gaussian_filter(rng.normal(size=shape), (1.5, 8))
    ground = 1 + 0.25 * fibres / fibres.std() + 0.15 * _smooth_noise(shape, 25, rng)
    white = ndi.gaussian_filter((_smooth_noise(shape, 18, rng) > 1.5).astype(float), 1.5)
    white *= ndi.gaussian_filter(labels == 0, 3, output=np.float64)
    hed = np.zeros((*shape, 3))
    # Haematoxylin also tints the ground, and its clumps vary inside the nuclei.
    hed[..., 0] = 0.012 * ground + 0.09 * strength * (1 + 0.15 * _smooth_noise(shape, 2.5, rng))
    hed[..., 1] = 0.055 * ground * (1 - 0.4 * strength)
    hed *= (1 - white)[..., None]
    rgb = 0.96 * hed2rgb(np.maximum(hed, 0)) + rng.normal(0, 0.015, (*shape, 3))
    return np.rint(255 * np.clip(rgb, 0, 1)).astype(np.float32), labels


def nearly_nothing(
    seed: int, n: int = 3, shape: tuple[int, int] = (512, 512), radius: float = 14.0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw a few bright cells on a large ground; with ``n=0``, noise and nothing else."""
    if n:
        return discs_scene(n, shape, radius, seed)
    rng = np.random.default_rng(seed)
    image = 0.1 + rng.normal(0, 0.04, shape)
    return image.astype(np.float32), np.zeros(shape, np.int32)


def _jittered_grid(
    shape: tuple[int, int], spacing: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Place points (n, 2) about `spacing` apart, every other row shifted by half of it."""
    rows, columns = (int(size / spacing) + 3 for size in shape)
    y, x = np.mgrid[:rows, :columns].astype(float)
    points = np.stack([y * spacing * 0.93, (x + 0.5 * (y % 2)) * spacing], axis=-1) - spacing
    return points.reshape(-1, 2) + rng.normal(0, 0.13 * spacing, (rows * columns, 2))


def _smooth_noise(
    shape: tuple[int, int], sigma: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return Gaussian noise of mean 0 and standard deviation 1, smoothed by `sigma` pixels."""
    noise = ndi.gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _number(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the objects the ids 1 to n."""
    _, index = np.unique(np.append(labels, 0), return_inverse=True)
    return index[:-1].reshape(labels.shape).astype(np.int32)
