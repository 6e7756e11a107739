"""Choose the rays of StarDist3D so that some lie in every plane of a stack."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from oce2stardist.stardist_model.backend import Rays_Explicit, reorder_faces

_GOLDEN_ANGLE = (3.0 - np.sqrt(5.0)) * np.pi


def rays_with_plane(*, n_rays: int, n_in_plane: int, anisotropy: float) -> Rays_Explicit:
    """Return rays of which `n_in_plane` lie in the xy plane, evenly; the others in both halves.

    Every ray stands for about the same part of the sphere, as those of stardist's
    `Rays_GoldenSpiral` do. Of these none but by chance lies in a plane, so that an outline on one
    plane would say nothing about any of their distances.

    Parameters
    ----------
    n_rays : int
        In all; ``n_rays - n_in_plane`` must be even.
    anisotropy : float > 0
        How many times as many voxels a cell has in y and x as in z: rays are closer to each other
        where it is flat.

    Notes
    -----
    The ring in the plane stands for the band of the unit sphere |z| < n_in_plane / n_rays; by
    Archimedes, parts of equal height have equal areas. Above it points lie on a golden spiral that
    ends in the pole; below it is the mirror image.
    """
    around = 2 * np.pi * np.arange(n_in_plane) / n_in_plane
    ring = np.stack([np.zeros(n_in_plane), np.sin(around), np.cos(around)], axis=1)
    n_above = (n_rays - n_in_plane) // 2
    band = n_in_plane / n_rays
    z = np.linspace(band + 0.5 * (1 - band) / n_above, 1.0, n_above)
    rho, phi = np.sqrt(1.0 - z**2), _GOLDEN_ANGLE * np.arange(n_above)
    above = np.stack([z, rho * np.sin(phi), rho * np.cos(phi)], axis=1)
    vertices = np.concatenate([ring, above, above * (-1.0, 1.0, 1.0)])  # (n_rays, 3)
    vertices = vertices / (anisotropy, 1.0, 1.0)
    # faces of the cell's own shape, before the rays are brought to length 1: as stardist does
    faces = reorder_faces(vertices, ConvexHull(vertices).simplices)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    return Rays_Explicit(vertices.tolist(), np.asarray(faces).tolist())


def lie_in_plane(vertices: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which rays (n_rays, 3), in the order z, y, x, stay in their xy plane."""
    return np.asarray(vertices[:, 0] == 0)
