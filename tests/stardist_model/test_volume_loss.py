"""Targets and loss of stacks of which only a plane is known, against a plain reading."""

import numpy as np
import pytest
from scenes import disc

from oce2stardist.stardist_model.backend import edt_prob, star_dist3D, tf
from oce2stardist.stardist_model.loss import half_loss, weighted_loss
from oce2stardist.stardist_model.rays import lie_in_plane, rays_with_plane
from oce2stardist.stardist_model.volume_targets import (
    cut_prob,
    known_in_plane_only,
    volume_targets,
)

RAYS = rays_with_plane(n_rays=24, n_in_plane=8, anisotropy=1.0)
IN_PLANE = lie_in_plane(RAYS.vertices)
PLANE = 3


def one_annotated_plane():
    """A stack (6, 6, 6): of plane 3 a cell, background, and a corner that nobody looked at."""
    labels = np.full((6, 6, 6), -1, np.int32)
    labels[PLANE] = 0
    labels[PLANE, 1:4, 1:5] = 7
    labels[PLANE, :2, 5] = -1
    return labels


def targets_of(labels, weights=None, *, grid=(1, 1, 1), radius=3.0):
    radii = np.full(max(1, labels.max() + 1), radius, np.float32)
    flat = known_in_plane_only(labels)
    return volume_targets(labels, flat, weights, rays=RAYS, grid=grid, anisotropy=1.0, radii=radii)


def predictions(seed=0, shape=(6, 6, 6)):
    rng = np.random.default_rng(seed)
    prob = rng.uniform(0.05, 0.95, (1, *shape, 1)).astype(np.float32)
    return prob, rng.uniform(-1, 4, (1, *shape, len(RAYS))).astype(np.float32)


# Rays


@pytest.mark.parametrize("anisotropy", [1.0, 2.5])
def test_some_rays_lie_in_the_plane_and_all_have_length_1(anisotropy):
    rays = rays_with_plane(n_rays=64, n_in_plane=16, anisotropy=anisotropy)
    vertices = rays.vertices.astype(np.float64)
    assert np.allclose(np.linalg.norm(vertices, axis=1), 1, atol=1e-6)
    assert lie_in_plane(vertices).sum() == 16
    above, below = vertices[vertices[:, 0] > 0], vertices[vertices[:, 0] < 0]
    assert np.array_equal(above, below * (-1, 1, 1))
    # the hull of a ball has 2 n - 4 triangles (Euler)
    assert rays.faces.shape == (2 * 64 - 4, 3)


@pytest.mark.parametrize("size", [0.5, 0.25])
def test_rays_stand_for_equal_parts_of_the_sphere(size):
    vertices = rays_with_plane(n_rays=400, n_in_plane=100, anisotropy=1.0).vertices
    # Archimedes: between two heights lies a share of the sphere that is their difference
    upper = vertices[:, 0] > 1 - size
    assert upper.mean() == pytest.approx(size / 2, abs=0.01)


def test_rays_of_a_ball_enclose_nearly_its_volume():
    volume = 4 / 3 * np.pi * 10**3
    rays = rays_with_plane(n_rays=64, n_in_plane=16, anisotropy=1.0)
    assert rays.volume(np.full(64, 10.0)) == pytest.approx(volume, rel=0.12)


# Targets


def test_the_middle_plane_of_a_ball_has_the_probability_of_the_whole_ball():
    ball = 2 * disc((31, 31, 31), (15, 15, 15), 12).astype(np.int32)
    whole, radii = edt_prob(ball), np.array([0, 0, 12])
    assert np.abs(cut_prob(ball[15], radii) - whole[15]).max() < 0.03
    # nearer to the pole cuts are smaller, and so is their probability
    peaks = [cut_prob(ball[plane], radii).max() for plane in (15, 9, 5)]
    assert peaks == pytest.approx(
        [1, np.sqrt(12**2 - 6**2) / 12, np.sqrt(12**2 - 10**2) / 12], abs=0.1
    )
    assert cut_prob(np.zeros((4, 4), np.int32), radii).max() == 0


def test_a_cut_larger_than_its_cell_is_taken_for_the_middle():
    cut = disc((41, 41), (20, 20), 15).astype(np.int32)
    assert cut_prob(cut, np.array([0, 5])).max() == pytest.approx(1)
    assert cut_prob(np.ones((5, 5), np.int32), np.array([0, 2])).max() == pytest.approx(1)


def test_labels_that_are_whole_have_the_targets_of_stardist():
    rng = np.random.default_rng(0)
    labels = np.zeros((12, 20, 20), np.int32)
    labels[2:9, 3:12, 4:11], labels[4:12, 13:, 2:9] = 70_000, 5
    labels[rng.random(labels.shape) < 0.02] = 0
    prob, dist, weight, flat = targets_of(labels, grid=(2, 2, 2))
    objects = (labels == 70_000) + 2 * (labels == 5)
    assert np.array_equal(prob[..., 0], edt_prob(objects).astype(np.float32)[::2, ::2, ::2])
    assert np.array_equal(dist, star_dist3D(objects, RAYS, grid=(2, 2, 2)))
    assert weight.min() == 1 and flat.max() == 0


def test_a_patch_without_background_and_weights_of_objects():
    labels = np.ones((6, 6, 6), np.int32)
    labels[:, :, 3:] = 2
    prob, dist, weight, _ = targets_of(labels, np.array([1, 0.25, 0.5], np.float32))
    assert np.array_equal(weight[..., 0], np.where(labels == 1, 0.25, 0.5).astype(np.float32))
    assert dist.min() > 0
    full = targets_of(np.ones((6, 6, 6), np.int32))
    assert full[0].max() == 1 and prob.max() == 1


def test_of_a_plane_its_cells_and_its_background_are_known_in_the_plane_only():
    labels = one_annotated_plane()
    assert np.array_equal(known_in_plane_only(labels), labels >= 0)
    labels[PLANE + 1, :, 0] = 0  # background above: known on two planes
    flat = known_in_plane_only(labels)
    assert not flat[PLANE, :, 0].any() and not flat[PLANE + 1].any()
    assert flat[PLANE, 1:4, 1:5].all()
    labels[PLANE + 1, 2, 2] = 7  # now the cell is on planes that follow each other
    assert not known_in_plane_only(labels)[PLANE, 1:4, 1:5].any()


# The loss


def plain_loss(labels, prob, dist, *, radius, loss_weights, background_reg):
    """The loss of one plane read off its definition: loops over pixels and rays, no stardist."""
    _, rows, columns = labels.shape
    plane = labels[PLANE]
    cut_radius = 2.0  # the cell has 3 x 4 pixels: its middle is 2 from the next pixel outside
    entropies, errors, shares, pulls = [], [], [], []
    for y in range(rows):
        for x in range(columns):
            if plane[y, x] < 0:
                continue
            p = float(prob[0, PLANE, y, x, 0])
            true = 0.0
            if plane[y, x] > 0:
                depth = min(
                    np.hypot(y - j, x - i)
                    for j in range(rows)
                    for i in range(columns)
                    if plane[j, i] != plane[y, x]
                )
                true = depth / max(radius, cut_radius)
            entropies.append(-true * np.log(p) - (1 - true) * np.log(1 - p))
            predicted = dist[0, PLANE, y, x][IN_PLANE].astype(float)
            lengths = []
            for _, dy, dx in RAYS.vertices[IN_PLANE].astype(float):
                step = j = i = 0
                while plane[y, x] > 0:
                    step += 1
                    j, i = round(step * dy), round(step * dx)
                    inside = 0 <= y + j < rows and 0 <= x + i < columns
                    if not inside or plane[y + j, x + i] != plane[y, x]:
                        break
                lengths.append(np.hypot(j, i))  # to the middle of the first voxel outside
            errors.append(true * np.abs(predicted - lengths).mean())
            shares.append(true)
            pulls.append((1 - true) * np.abs(predicted).mean())
    distances = sum(errors) / sum(shares) + background_reg * sum(pulls) / len(pulls)
    return loss_weights[0] * np.mean(entropies) + loss_weights[1] * distances


@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_the_loss_of_one_annotated_plane_is_that_of_a_plain_reading(radius):
    labels = one_annotated_plane()
    prob, dist = predictions()
    settings = {"loss_weights": (1.0, 0.3), "background_reg": 0.05}
    target = [part[None] for part in targets_of(labels, radius=radius)]
    loss = half_loss(prob, dist, *target, **settings, in_plane=IN_PLANE)
    expected = plain_loss(labels, prob, dist, radius=radius, **settings)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 2, 2)])
def test_unknown_voxels_and_rays_out_of_the_plane_move_no_gradient(grid):
    labels = one_annotated_plane()
    target = [part[None] for part in targets_of(labels, grid=grid)]
    shape = target[0].shape[1:4]
    known = (labels >= 0)[:: grid[0], :: grid[1], :: grid[2]]
    prob, dist = map(tf.constant, predictions(shape=shape))
    with tf.GradientTape() as tape:
        tape.watch([prob, dist])
        loss = half_loss(
            prob, dist, *target, loss_weights=(1.0, 1.0), background_reg=0.1, in_plane=IN_PLANE
        )
    of_prob, of_dist = (np.asarray(part)[0] for part in tape.gradient(loss, [prob, dist]))
    assert np.all(of_prob[~known] == 0) and np.all(of_prob[known] != 0)
    assert np.all(of_dist[~known] == 0)
    assert np.all(of_dist[..., ~IN_PLANE] == 0)
    assert np.all(of_dist[known][:, IN_PLANE] != 0)


def test_whole_labels_have_the_loss_without_planes():
    labels = np.zeros((6, 6, 6), np.int32)
    labels[1:5, 1:5, 2:5] = 1
    prob, dist = predictions()
    target = [part[None] for part in targets_of(labels)]
    settings = {"loss_weights": (1.0, 0.2), "background_reg": 1e-4}
    mixed = half_loss(prob, dist, *target, **settings, in_plane=IN_PLANE)
    assert float(mixed) == pytest.approx(
        float(half_loss(prob, dist, *target[:3], **settings)), rel=1e-5
    )


def test_alpha_mixes_the_plane_with_the_pseudo_labels():
    prob, dist = (np.concatenate([part, part]) for part in predictions())
    pseudo = np.zeros((6, 6, 6), np.int32)
    pseudo[2:5, 1:5, 2:5] = 3
    halves = [targets_of(one_annotated_plane()), targets_of(pseudo)]
    target = tuple(np.stack(parts) for parts in zip(*halves, strict=True))
    settings = {"loss_weights": (1.0, 0.2), "background_reg": 1e-4, "in_plane": IN_PLANE}
    total, of_plane, of_pseudo = weighted_loss(
        (prob, dist), target, n_sparse=1, alpha=0.25, **settings
    )
    alone = [
        half_loss(prob[:1], dist[:1], *(part[None] for part in half), **settings) for half in halves
    ]
    assert [float(of_plane), float(of_pseudo)] == pytest.approx([float(one) for one in alone])
    assert float(total) == pytest.approx(0.75 * float(alone[0]) + 0.25 * float(alone[1]))
