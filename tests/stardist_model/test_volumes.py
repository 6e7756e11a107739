"""StarDist3D on stacks: scale, patches, training that goes on, and plain stardist."""

import json
import signal
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from scenes import disc

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.evaluation.held_back import count_matches, find_windows
from oce2stardist.pseudo_labels.files import PseudoLabels
from oce2stardist.runs.interruption import Interrupted
from oce2stardist.runs.progress import SilentReporter
from oce2stardist.stardist_model.volume_fit import VolumeJob, train_volume_network
from oce2stardist.stardist_model.volume_scale import (
    CellShape,
    VolumeScale,
    choose_volume_scale,
    measure_cells,
    read_volume_scale,
    write_volume_scale,
    zoom_stack,
    zoom_stack_labels,
)
from oce2stardist.training_labels.make import make_training_labels

SHAPE = (20, 48, 48)


def balls(radius=6, shape=SHAPE):
    """Labels (Z, Y, X): four balls, none touching another or the surface."""
    labels = np.zeros(shape, np.int32)
    for number, place in enumerate([(10, 12, 12), (9, 12, 34), (10, 34, 14), (11, 34, 36)], 1):
        labels[disc(shape, place, radius)] = number
    return labels


def stack_of(labels, seed=0):
    """A normalised stack (Z, Y, X, 1) in which objects are bright."""
    rng = np.random.default_rng(seed)
    return ((labels > 0) + 0.1 * rng.standard_normal(labels.shape)).astype(np.float32)[..., None]


def planes_of(labels, *planes):
    annotations = np.full(labels.shape, -1, np.int32)
    annotations[list(planes)] = labels[list(planes)]
    return annotations


# Scale


@pytest.mark.parametrize("flat", [1, 2])
def test_cells_are_measured_by_volume_and_planes(flat):
    labels = balls()[::flat]
    cell = measure_cells([labels])
    n_planes = np.median([np.ptp(np.nonzero(labels == i)[0]) + 1 for i in range(1, 5)])
    assert cell.planes == n_planes
    assert cell.diameter == pytest.approx(12, abs=0.5)


def test_cuts_tell_a_diameter_where_nothing_else_does():
    labels = np.zeros((60, 40, 40), np.int32)
    ball = disc((60, 40, 40), (30, 20, 20), 12)
    # every third plane, as if each were of another cell
    for number, plane in enumerate(range(18, 43, 2), 1):
        labels[plane][ball[plane]] = number
    assert measure_cells([labels]).diameter == pytest.approx(24, rel=0.1)
    assert measure_cells([np.zeros((3, 4, 4), np.int32)]) is None


def test_planes_are_never_made_more_than_there_are():
    scale = choose_volume_scale(CellShape(diameter=28, planes=4), 14)
    assert scale.factors == (1.0, 0.5, 0.5)
    assert choose_volume_scale(CellShape(28, 20), 14).factors == (0.7, 0.5, 0.5)
    assert choose_volume_scale(CellShape(14.3, 20), None).is_one
    assert choose_volume_scale(None, 14).is_one


def test_known_planes_survive_the_zoom_where_stardist_puts_them():
    labels = np.full((21, 30, 30), -1, np.int32)
    labels[[2, 10, 17]] = 0
    labels[10, 5:20, 5:20] = 3
    zoomed = zoom_stack_labels(labels, VolumeScale((0.5, 0.5, 0.5)))
    assert (
        zoomed.shape
        == zoom_stack(np.zeros((21, 30, 30, 1), np.float32), VolumeScale((0.5,) * 3)).shape[:3]
    )
    known = np.flatnonzero((zoomed >= 0).all(axis=(1, 2)))
    assert len(known) == 3
    # corner to corner: plane 10 of 21 is the middle of what is left
    assert known[1] == pytest.approx((zoomed.shape[0] - 1) / 2, abs=0.5)
    assert (zoomed == 3).sum() == pytest.approx(15 * 15 / 4, rel=0.15)


def test_a_scale_is_read_as_it_was_written_and_bad_ones_are_refused(tmp_path):
    scale = VolumeScale((1.0, 0.5, 0.5), 14.0, "measured")
    assert read_volume_scale(tmp_path) == VolumeScale()
    write_volume_scale(tmp_path, scale)
    read = read_volume_scale(tmp_path)
    assert (read.factors, read.working_diameter) == (scale.factors, 14.0)
    for bad in (
        '{"scale": 2, "working_diameter": 3}',
        '{"scale": [0, 1, 1], "working_diameter": 3}',
        "x",
    ):
        (tmp_path / "scale.json").write_text(bad)
        with pytest.raises(InputError, match="three numbers"):
            read_volume_scale(tmp_path)


# Judging


def test_a_cut_is_judged_on_its_plane_and_a_whole_cell_in_all():
    labels = balls()
    windows = find_windows({"a": planes_of(labels, 10)}, multiple_of=(4, 8, 8), at_most=9, seed=0)
    # right on the plane, wrong beyond it: nobody knows that
    predicted = [window.cut(np.where(labels > 0, labels, 0)) for window in windows]
    assert count_matches(windows, predicted)[:, 0].tolist() == [[1, 0, 0]] * 4
    thin = [window.cut(planes_of(labels, 10).clip(0)) for window in windows]
    assert count_matches(windows, thin)[:, 0].tolist() == [[1, 0, 0]] * 4
    whole = find_windows({"a": labels}, multiple_of=(4, 8, 8), at_most=9, seed=0)
    thin = [window.cut(planes_of(labels, 10).clip(0)) for window in whole]
    assert count_matches(whole, thin)[:, 0, 0].sum() == 0


# Patches


def test_patches_hold_an_object_or_something_known_and_turn_as_one():
    from oce2stardist.stardist_model.volume_patches import VolumeSource, augment_volume

    labels = balls()
    known = planes_of(labels, 4, 10)
    image = labels.astype(np.float32)[..., None]
    for share in (0.0, 1.0):
        source = VolumeSource(
            [image], [known], [{1: 0.25}], [{2: 9.0}],
            usual_radius=5.0, sides=(8, 24, 24), margin=3, around_objects=share,
        )  # fmt: skip
        rng = np.random.default_rng(0)
        for _ in range(20):
            patch = source.draw(rng)
            assert patch.image.shape == (8, 24, 24, 1) and patch.labels.shape == (14, 24, 24)
            inside = patch.labels[3:-3]
            assert (inside >= 0).any() and (share == 0 or (inside > 0).any())
            turned = augment_volume(patch, intensity=0.0, rng=rng)
            inside = turned.labels[3:-3]
            is_cell = inside > 0
            assert np.array_equal(turned.image[..., 0][is_cell], inside[is_cell])
            assert np.array_equal(turned.flat, turned.labels >= 0)
            assert patch.weights.tolist() == [1, 0.25, 1, 1, 1]
            assert patch.radii.tolist() == [5, 5, 9, 5, 5]


def test_a_small_stack_is_padded_with_what_nobody_knows():
    from oce2stardist.stardist_model.volume_patches import VolumeSource

    labels = np.ones((3, 10, 10), np.int32)
    source = VolumeSource(
        [np.ones((3, 10, 10, 1), np.float32)], [labels], None, [{}],
        usual_radius=5.0, sides=(8, 16, 16), margin=0, around_objects=1.0,
    )  # fmt: skip
    patch = source.draw(np.random.default_rng(0))
    assert patch.image.min() == 1
    assert np.array_equal(np.argwhere(patch.labels == 1)[[0, -1]], [[2, 3, 3], [4, 12, 12]])
    assert (patch.labels == -1).sum() == 8 * 16 * 16 - 300


def test_targets_in_a_patch_are_those_of_whole_cells():
    from oce2stardist.stardist_model.backend import star_dist3D
    from oce2stardist.stardist_model.rays import rays_with_plane
    from oce2stardist.stardist_model.volume_patches import VolumeSource, VolumeStream

    labels = np.zeros((40, 24, 24), np.int32)
    labels[disc(labels.shape, (20, 12, 12), 8)] = 1
    image = np.arange(labels.size, dtype=np.float32).reshape(*labels.shape, 1)
    source = VolumeSource(
        [image], [labels], None, [{}],
        usual_radius=8.0, sides=(4, 24, 24), margin=17, around_objects=1.0,
    )  # fmt: skip
    rays = rays_with_plane(n_rays=16, n_in_plane=4, anisotropy=1.0)
    whole = star_dist3D(labels, rays, grid=(1, 2, 2))
    stream = VolumeStream(
        None, source, n_sparse=0, n_pseudo=1, rays=rays, grid=(1, 2, 2), anisotropy=1.0,
        intensity=0.0, seed=0,
    )  # fmt: skip
    stretches = 0
    for step in range(20):
        (own,), (dist,) = stream.batch(step).images, stream.batch(step).target[1]
        # flips and turns move the ball onto itself, but for half a voxel and the order of rays
        first = int(own.min()) // (24 * 24)
        longest = whole[first : first + 4].max(axis=(1, 2, 3))
        assert np.allclose(np.sort(dist.max(axis=(1, 2, 3))), np.sort(longest), atol=2.0)
        stretches += longest.max() > 8
    assert stretches > 10  # rays that leave the patch


# Training


def job_in(folder, *, steps=6, **settings):
    labels = balls()
    small = {
        "width": 4, "features": 8, "n_rays": 16, "patch_planes": 8, "patch_size": 32,
        "batch_size": 2, "steps": steps, "checks": 2, **settings,
    }  # fmt: skip
    config = Config().for_stacks()
    config = config.replace(**{f"stardist.{name}": value for name, value in small.items()})
    cell = measure_cells([labels])
    folder.mkdir(parents=True, exist_ok=True)
    scale = choose_volume_scale(cell, config.stardist.working_diameter)
    return VolumeJob(folder, {"a": stack_of(labels)}, config, SilentReporter(), False, scale, cell)


def training_labels(held_back=(4,)):
    labels = balls()
    return make_training_labels(
        {"a": planes_of(labels, 10)},
        PseudoLabels({"a": np.where(disc(SHAPE, (10, 24, 24), 30), labels, 0)}, {}),
        {"a": [1, 2, 3, 4]},
        held_back={"a": list(held_back)},
        complete=False,
        background_distance=0.0,
        overlap=0.0,
    )


def train(job, **options):
    return train_volume_network(job, training_labels(), job.folder, alpha=0.5, title="t", **options)


class Stopping(SilentReporter):
    """Asks for a stop once so many steps are done, as Ctrl-C does."""

    def __init__(self, after):
        self.after = after

    def task(self, title, total):

        @contextmanager
        def stopping():
            def advance(done, note=""):
                if done == self.after:
                    signal.raise_signal(signal.SIGINT)

            yield advance

        return stopping()


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path):
    whole = train(job_in(tmp_path / "whole"))
    job = job_in(tmp_path / "stopped")
    # the network was judged at step 3: what stardist does to Ctrl-C there must not matter
    with pytest.raises(Interrupted, match="step 4 of 6"):
        train(replace(job, reporter=Stopping(4)))
    assert (job.folder / "state.safetensors").exists()
    resumed = train(job)
    assert len(resumed.history) == 6
    for one, other in zip(
        whole.model.keras_model.get_weights(), resumed.model.keras_model.get_weights(), strict=True
    ):
        assert np.array_equal(one, other)
    assert np.array_equal(whole.history["loss"], resumed.history["loss"])


@pytest.mark.slow
def test_a_scene_is_learned_from_a_plane_and_pseudo_labels_and_plain_stardist_agrees(tmp_path):
    from stardist.models import StarDist3D

    from oce2stardist.stardist_model.checkpoint import write_thresholds
    from oce2stardist.stardist_model.volume_network import open_volume_model
    from oce2stardist.stardist_model.volume_predict import predict_volume

    job = job_in(tmp_path / "model", steps=600, width=8, features=16, n_rays=32, learning_rate=3e-3)
    trained = train(job)
    assert trained.history["loss"].iloc[-10:].mean() < trained.history["loss"].iloc[:10].mean() / 2
    write_thresholds(job.folder, prob=0.5, nms=0.3)
    write_volume_scale(job.folder, job.scale)
    stack = stack_of(balls(), seed=3)
    labels, probabilities = predict_volume(open_volume_model(job.folder), stack)
    assert labels.dtype == np.int32 and len(probabilities) >= 4
    # A network this small finds a scrap here and there, by processor, but of less probability;
    # a ball, which is higher than a patch, is whole.
    for number in range(1, 5):
        truth = balls() == number
        best = max(range(1, 5), key=lambda label: (truth & (labels == label)).sum())
        found = labels == best
        assert (truth & found).sum() / (truth | found).sum() > 0.6
    factors = json.loads((job.folder / "scale.json").read_text())["scale"]
    plain = StarDist3D(None, name="model", basedir=str(tmp_path))
    theirs, _ = plain.predict_instances(
        stack, axes="ZYXC", scale=None if factors == [1, 1, 1] else (*factors, 1)
    )
    assert np.array_equal(labels, theirs)
