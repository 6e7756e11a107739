"""The alpha-weighted loss, the patches, and training on labels known only in places."""

import gc
from pathlib import Path

import csbdeep.utils
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scenes import discs_scene, two_touching_discs
from small_models import N_RAYS, small_model, stream, train, write_model
from stardist import edt_prob, star_dist
from stardist.matching import matching
from stardist.models import Config2D, StarDist2D
from tensorflow.python.framework.func_graph import FuncGraph

from oce2stardist.config import StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import median_diameter
from oce2stardist.runs.schedule import dropping_rate
from oce2stardist.stardist_model import network
from oce2stardist.stardist_model.checkpoint import (
    read_state,
    write_state,
    write_thresholds,
    write_weights,
)
from oce2stardist.stardist_model.fit import kept_step
from oce2stardist.stardist_model.loss import weighted_loss
from oce2stardist.stardist_model.network import (
    can_compute_in_half_precision,
    continue_from,
    open_model,
)
from oce2stardist.stardist_model.patches import PatchSource, augment, targets
from oce2stardist.stardist_model.predict import predict_labels, predict_patches
from oce2stardist.stardist_model.train import Checks, _Adam, train_stardist


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("models") / "small")


def random_batch(n, *, size=8, known=1.0, seed=0):
    """Predictions and targets of n patches; a share `known` of the pixels is known."""
    rng = np.random.default_rng(seed)
    arrays = (
        rng.uniform(0.01, 0.99, (n, size, size, 1)),
        rng.normal(3, 3, (n, size, size, N_RAYS)),
        rng.random((n, size, size, 1)) * (rng.random((n, size, size, 1)) < 0.5),
        rng.uniform(0, 9, (n, size, size, N_RAYS)),
        rng.random((n, size, size, 1)) < known,
    )
    return [tf.constant(array, tf.float32) for array in arrays]


def loss_of(model, batch, *, n_sparse, alpha):
    return tuple(map(float, losses_of(model, batch, n_sparse=n_sparse, alpha=alpha)))


def losses_of(model, batch, *, n_sparse, alpha):
    return weighted_loss(
        batch[:2],
        batch[2:],
        n_sparse=n_sparse,
        alpha=alpha,
        loss_weights=model.config.train_loss_weights,
        background_reg=model.config.train_background_reg,
    )


def by_hand(weight):
    """A batch of one patch of 8×8 pixels: its first row is a cell, the rest background."""
    prob_true = np.zeros((1, 8, 8, 1))
    prob_true[0, 0] = 0.5
    prob = np.full((1, 8, 8, 1), 0.25)
    dist_true, dist = np.full((1, 8, 8, N_RAYS), 6.0), np.full((1, 8, 8, N_RAYS), 4.0)
    return [tf.constant(one, tf.float32) for one in (prob, dist, prob_true, dist_true, weight)]


CELL = -(0.5 * np.log(0.25) + 0.5 * np.log(0.75))
GROUND = -np.log(0.75)


def test_loss_by_hand_on_8_by_8_pixels(model):
    weight = np.zeros((1, 8, 8, 1))
    weight[0, :4] = 1.0  # 32 known pixels: 8 of the cell, 24 of the background
    cross_entropy = (8 * CELL + 24 * GROUND) / 32
    error = 2.0  # |6 - 4|, whatever the weights
    pull = (8 * 0.5 * 4.0 + 24 * 1.0 * 4.0) / 32  # (1 - prob) * |dist| over known pixels
    wanted = 1.0 * cross_entropy + 0.2 * (error + 1e-4 * pull)
    assert loss_of(model, by_hand(weight), n_sparse=1, alpha=0.0)[0] == pytest.approx(
        wanted, rel=1e-5
    )


def test_an_object_of_half_the_weight_counts_half_by_hand(model):
    weight = np.ones((1, 8, 8, 1))
    weight[0, 0] = 0.5
    cross_entropy = (8 * 0.5 * CELL + 56 * GROUND) / (8 * 0.5 + 56)
    pull = (8 * 0.5 * 0.5 * 4.0 + 56 * 4.0) / (8 * 0.5 + 56)
    wanted = cross_entropy + 0.2 * (2.0 + 1e-4 * pull)
    assert loss_of(model, by_hand(weight), n_sparse=1, alpha=0.0)[0] == pytest.approx(
        wanted, rel=1e-5
    )


def test_on_fully_known_patches_the_loss_is_stock_stardists(model):
    prob, dist, prob_true, dist_true, weight = random_batch(3)
    inside = prob_true  # stock StarDist weighs distances so
    stock = StarDist2D(
        Config2D(n_rays=N_RAYS, train_tensorboard=False, train_background_reg=1e-4),
        name=None,
        basedir=None,
    )
    stock.prepare_for_training()
    losses = [stock.keras_model._compile_loss._user_loss[index] for index in range(2)]
    wanted = float(losses[0](prob_true, prob)) + 0.2 * float(
        np.mean(losses[1](tf.concat([dist_true, inside], axis=-1), dist))
    )
    ours = loss_of(model, [prob, dist, prob_true, dist_true, weight], n_sparse=3, alpha=0.0)
    assert ours[0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("alpha", "half"), [(0.0, slice(0, 2)), (1.0, slice(2, 5))])
def test_alpha_0_and_1_are_the_pure_losses(model, alpha, half):
    batch = random_batch(5, known=0.4)
    alone = [part[half] for part in batch]
    n_alone = alone[0].shape[0]
    pure = loss_of(model, alone, n_sparse=n_alone, alpha=0.0)[0]
    assert loss_of(model, batch, n_sparse=2, alpha=alpha)[0] == pytest.approx(pure, rel=1e-6)


def test_a_sparse_half_weighs_as_much_as_a_dense_one(model):
    batch = random_batch(2, seed=4)
    twice = [tf.concat([part[:1], part[:1]], axis=0) for part in batch]
    both = loss_of(model, twice, n_sparse=1, alpha=0.5)
    known = np.ones((2, 8, 8, 1), bool)
    known[0, 2:] = False
    same_rows = [part[:, :2] for part in twice]
    thinned = list(twice)
    thinned[4] = tf.where(known, 1.0, 0.0)
    sparse = loss_of(model, thinned, n_sparse=1, alpha=0.5)
    assert sparse[2] == pytest.approx(both[2], rel=1e-6)
    assert sparse[1] == pytest.approx(loss_of(model, same_rows, n_sparse=1, alpha=0.5)[1], rel=1e-5)


def test_unknown_pixels_have_no_influence_on_any_gradient(model):
    first = random_batch(4, known=0.3, seed=1)
    other = [*first]
    unknown = first[4] == 0
    other[2] = tf.where(unknown, 0.7, first[2])
    other[3] = tf.where(unknown, 99.0, first[3])
    gradients = []
    for batch in (first, other):
        prob, dist = tf.Variable(batch[0]), tf.Variable(batch[1])
        with tf.GradientTape() as tape:
            total = losses_of(model, [prob, dist, *batch[2:]], n_sparse=2, alpha=0.5)[0]
        gradients.append(tape.gradient(total, [prob, dist]))
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.asarray(one)[np.asarray(unknown)[..., 0]].any()


def test_a_half_without_known_pixels_is_zero_and_not_nan(model):
    batch = random_batch(4)
    batch[4] = tf.concat([tf.zeros_like(batch[4][:2]), batch[4][2:]], axis=0)
    total, sparse, pseudo = loss_of(model, batch, n_sparse=2, alpha=0.5)
    assert sparse == 0.0
    assert total == pytest.approx(0.5 * pseudo)
    nothing = [*batch]
    nothing[4] = tf.zeros_like(batch[4])
    assert loss_of(model, nothing, n_sparse=2, alpha=0.5) == (0.0, 0.0, 0.0)


def test_targets_are_stardists_own():
    labels = two_touching_discs().astype(np.int32)
    prob, dist, weight = targets(labels, n_rays=N_RAYS, grid=2)
    np.testing.assert_allclose(prob[..., 0], edt_prob(labels[::2, ::2]), atol=1e-6)
    np.testing.assert_allclose(dist, star_dist(labels, N_RAYS)[::2, ::2], atol=1e-5)
    assert (weight == 1).all()


def test_distances_at_a_discs_centre_are_its_radius():
    labels = np.zeros((64, 64), np.int32)
    y, x = np.mgrid[:64, :64]
    labels[np.hypot(y - 32, x - 32) <= 12] = 1
    _, dist, _ = targets(labels, n_rays=16, grid=1)
    assert dist[32, 32] == pytest.approx(12.5, abs=1.0)


def test_unlabelled_pixels_have_no_weight_in_the_targets():
    labels = np.full((16, 16), -1, np.int32)
    labels[4:10, 4:10] = 5
    prob, dist, weight = targets(labels, n_rays=N_RAYS, grid=1)
    np.testing.assert_array_equal(weight[..., 0], labels == 5)
    assert (prob[labels == 5] > 0).all()
    assert (prob[labels == -1] == 0).all()
    assert (dist[labels == -1] == 0).all()


def test_every_pixel_of_an_object_has_the_objects_weight():
    labels = np.zeros((16, 16), np.int32)
    labels[2:6, 2:6], labels[8:14, 8:14] = 1, 3
    table = np.array([1.0, 0.25, 0.0, 0.75], np.float32)
    weight = targets(labels, table, n_rays=N_RAYS, grid=2)[2]
    np.testing.assert_array_equal(weight[..., 0], table[labels[::2, ::2]])


def test_augmentation_moves_image_and_labels_together():
    labels = np.arange(36, dtype=np.int32).reshape(6, 6)
    seen = set()
    for seed in range(40):
        image, moved = augment(
            labels[..., None].astype(np.float32),
            labels,
            intensity=0.0,
            rng=np.random.default_rng(seed),
        )
        np.testing.assert_array_equal(image[..., 0], moved)
        seen.add(tuple(moved.ravel()))
    assert len(seen) == 8  # the symmetries of a square


def test_patches_come_from_images_in_which_something_is_known():
    images = [np.full((40, 40, 1), value, np.float32) for value in (0.0, 1.0)]
    labels = [np.full((40, 40), -1, np.int32), np.zeros((40, 40), np.int32)]
    source = PatchSource(images, labels, patch_size=32, around_objects=0.9)
    rng = np.random.default_rng(0)
    assert all(source.draw(rng)[0].min() == 1.0 for _ in range(20))


def test_zoomed_patches_hold_larger_or_smaller_discs_with_their_labels():
    image, labels = discs_scene(9, (150, 150), 10, seed=0)
    source = PatchSource(
        [image[..., None].astype(np.float32)], [labels.astype(np.int32)], patch_size=96,
        around_objects=1.0, zoom=0.5,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    diameters = []
    for _ in range(60):
        patch, drawn, _ = source.draw(rng)
        assert patch.shape == (96, 96, 1) and drawn.shape == (96, 96)
        diameters.append(median_diameter([drawn]))
        inside = patch[..., 0][drawn > 0]
        assert inside.mean() > patch[..., 0][drawn == 0].mean() + 0.5 * inside.std()
    low, high = min(diameters), max(diameters)
    # An image of 150 pixels has room for patches of 144: none is cut short.
    assert 20 / 1.5 * 0.9 < low < 15.5 and 26 < high < 20 * 1.5 * 1.1


def test_patches_around_objects_hold_one():
    labels = np.full((200, 200), -1, np.int32)
    labels[150:160, 20:30] = 1
    source = PatchSource(
        [np.zeros((200, 200, 1), np.float32)], [labels], patch_size=32, around_objects=1.0
    )
    rng = np.random.default_rng(0)
    assert all((source.draw(rng)[1] == 1).any() for _ in range(50))


def test_ids_may_be_as_large_as_int32_and_keep_their_weights():
    labels = np.zeros((32, 32), np.int32)
    labels[2:12, 2:12], labels[20:30, 20:30] = 2**31 - 1, 7
    source = PatchSource(
        [np.zeros((32, 32, 1), np.float32)],
        [labels],
        [{2**31 - 1: 0.25, 7: 0.5}],
        patch_size=32,
        around_objects=1.0,
    )
    _, drawn, weights = source.draw(np.random.default_rng(0))
    assert weights[drawn][[5, 25, 0], [5, 25, 0]].tolist() == [0.25, 0.5, 1.0]
    weight = targets(drawn, weights, n_rays=N_RAYS, grid=1)[2]
    assert weight[[5, 25, 0], [5, 25, 0], 0].tolist() == [0.25, 0.5, 1.0]


def test_images_smaller_than_a_patch_are_padded_with_unlabelled():
    source = PatchSource(
        [np.ones((10, 50, 1), np.float32)],
        [np.ones((10, 50), np.int32)],
        patch_size=32,
        around_objects=1.0,
    )
    image, labels, _ = source.draw(np.random.default_rng(0))
    assert image.shape == (32, 32, 1)
    assert (labels == -1).sum() == 22 * 32
    assert (image == 1).all()


def test_batches_do_not_depend_on_threads_or_on_where_one_starts():
    batches = stream(discs_scene(9, (128, 128), 11, seed=0))
    one = list(batches.iterate(0, 5, ahead=1, threads=1))
    many = list(batches.iterate(2, 5, ahead=6, threads=3))
    for a, b in zip(one[2:], many, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.dist, b.dist)
    assert (one[0].weight[:2] == 0).any()
    assert (one[0].weight[2:] == 1).all()


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A scene, and a model folder trained on two of its cells and on pseudo labels."""
    scene = discs_scene(12, (160, 160), 12, seed=2)
    folder = tmp_path_factory.mktemp("models") / "learned"
    model, run = train(folder, scene, steps=300)
    write_weights(folder / "weights_best.h5", model)
    write_thresholds(folder, prob=0.35, nms=0.3)
    return scene, folder, run


@pytest.mark.slow
def test_a_scene_is_learned_from_two_annotated_cells_and_pseudo_labels(learned):
    (image, truth), folder, run = learned
    losses = [row["loss"] for row in run.history]
    assert np.mean(losses[-15:]) < 0.5 * np.mean(losses[:15])
    labels = predict_labels(open_model(folder), normalise_percentiles(image[..., None]))
    assert matching(truth, labels, thresh=0.5).f1 > 0.9


def test_adam_in_one_operation_is_that_of_keras():
    rng, ends = np.random.default_rng(0), []
    start, gradients = rng.normal(size=5), rng.normal(size=(30, 5))
    for kind in (_Adam, tf.keras.optimizers.Adam):
        variable = tf.keras.Variable(start, dtype="float32")
        optimiser = kind(1e-2, name="adam")
        optimiser.build([variable])
        for number, gradient in enumerate(gradients):
            optimiser.learning_rate.assign(1e-2 / (1 + number))
            optimiser.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
        ends.append([np.asarray(one) for one in (variable, *optimiser.variables)])
    assert np.abs(ends[0][0] - start).min() > 1e-3
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_training_leaves_no_graph_behind(tmp_path):
    """TensorFlow's gradients of sums over processes kept one of each training, for good."""

    def graphs_of_trainings():
        gc.collect()
        # Not isinstance: it asks objects of other packages for their class, and some then warn.
        graphs = [one for one in gc.get_objects() if issubclass(type(one), FuncGraph)]
        return [one.name for one in graphs if one.name == "train_step"]

    train(tmp_path / "model", discs_scene(9, (128, 128), 11, seed=0), steps=1)
    assert graphs_of_trainings() == []


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    scene = discs_scene(6, (128, 128), 11, seed=0)
    whole, whole_run = train(tmp_path / "whole", scene, steps=6)
    stop = iter([False] * 3 + [True])
    path = tmp_path / "state.safetensors"
    _, first = train(
        tmp_path / "part",
        scene,
        steps=6,
        save=lambda state: write_state(path, state),
        should_stop=lambda: next(stop),
    )
    assert not first.finished
    rest, second = train(tmp_path / "rest", scene, steps=6, resume=read_state(path))
    assert [row["loss"] for row in second.history] == pytest.approx(
        [row["loss"] for row in whole_run.history], rel=1e-5
    )
    for one, other in zip(
        whole.keras_model.get_weights(), rest.keras_model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def train_with_scores(folder, scores, patience=None):
    """Train a step for every (score, standard error); also say after which steps was kept."""
    given = iter(scores)
    kept = []
    _, run = train(
        folder,
        discs_scene(6, (128, 128), 11, seed=0),
        steps=len(scores),
        checks=Checks(1, keep=kept.append, judge=lambda model: next(given), patience=patience),
    )
    return run, len(kept)


def test_the_latest_weights_of_the_highest_score_are_kept(tmp_path):
    run, times_kept = train_with_scores(tmp_path / "m", [(0.2, 0), (0.7, 0), (0.7, 0), (0.4, 0)])
    assert run.kept_step == 3
    assert run.best_score == 0.7
    assert times_kept == 3


def test_later_weights_are_kept_that_the_cells_cannot_tell_from_the_best(tmp_path):
    scores = [(0.2, 0.3), (0.7, 0.1), (0.65, 0.01), (0.55, 0.3)]
    run, times_kept = train_with_scores(tmp_path / "m", scores)
    assert run.kept_step == 3  # the doubt that counts is that of the best score
    assert run.best_score == 0.7
    assert times_kept == 3
    assert kept_step(pd.DataFrame(run.history)) == 3


def test_training_ends_once_checks_bring_nothing_new(tmp_path):
    scores = [(0.2, 0), (0.7, 0), (0.6, 0), (0.7, 0), (0.9, 0)]
    run, _ = train_with_scores(tmp_path / "m", scores, patience=2)
    assert len(run.history) == 4
    assert run.finished
    assert run.kept_step == 4  # an equal score counts for the later weights, but is no gain


def test_the_papers_learning_rate_drops_after_epochs_30_80_and_160_of_200():
    rates = [
        dropping_rate(epoch, steps=200, peak=1e-5, drop_at=(0.15, 0.4, 0.8))
        for epoch in (0, 29, 30, 79, 80, 159, 160, 199)
    ]
    assert rates == pytest.approx([1e-5, 1e-5, 1e-6, 1e-6, 1e-7, 1e-7, 1e-8, 1e-8])


def test_the_papers_blocks_have_the_papers_convolutions(tmp_path):
    model = small_model(tmp_path / "paper", width=4, grid=1, blocks="paper", batch_norm=False)
    found = [
        (layer.kernel_size[0], layer.filters)
        for layer in model.keras_model.layers
        if layer.name.startswith(("down", "middle", "up")) and hasattr(layer, "kernel_size")
    ]
    wanted = [(kernel, 4 * 3**level) for level in (0, 1, 2, 3, 2, 1, 0) for kernel in (3, 1, 1, 3)]
    assert found == wanted


def test_a_model_of_the_papers_blocks_opens_again_and_stock_stardist_refuses_it(tmp_path):
    model = small_model(tmp_path / "paper", width=4, blocks="paper")
    write_weights(tmp_path / "paper" / "weights_best.h5", model)
    write_thresholds(tmp_path / "paper", prob=0.5, nms=0.4)
    image = np.random.default_rng(0).random((1, 64, 64, 1), np.float32)
    again = open_model(tmp_path / "paper")
    for one, other in zip(model.keras_model(image), again.keras_model(image), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(AttributeError, match="oce2stardist_blocks"):
        StarDist2D(None, name="paper", basedir=str(tmp_path))


def test_half_precision_is_refused_where_onednn_may_not_use_its_instructions(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    if can_compute_in_half_precision():  # a GPU needs no oneDNN
        small_model(tmp_path / "half", half_precision=True)
        return
    with pytest.raises(InputError, match=r"must be AVX512_CORE or more .* Got AVX2; unset it"):
        small_model(tmp_path / "half", half_precision=True)


@pytest.mark.parametrize(
    ("amx", "asked", "taken"),
    [(True, "auto", "mixed"), (False, "auto", "fp32"), (True, "fp32", "fp32")],
)
def test_auto_takes_bfloat16_where_the_processor_gains_from_it(monkeypatch, amx, asked, taken):
    monkeypatch.setattr(network.tf.config, "get_visible_devices", lambda _: [])  # no GPU
    monkeypatch.setattr(network, "may_use_amx", lambda: amx)
    monkeypatch.setenv("OCE2STARDIST_PRECISION", asked)
    assert network.resolve_precision("auto") == taken
    assert network.resolve_precision("fp32") == "fp32"


def test_half_precision_trains_and_leaves_float32_weights(tmp_path):
    if not can_compute_in_half_precision():
        with pytest.raises(InputError, match="ONEDNN_MAX_CPU_ISA"):
            small_model(tmp_path / "half", half_precision=True)
        return
    model = small_model(tmp_path / "half", half_precision=True)
    scene = discs_scene(6, (128, 128), 11, seed=0)
    run = train_stardist(
        model, stream(scene), n_sparse=2, alpha=0.5, steps=2, rate_at=lambda step: 1e-3,
        checks=Checks(9, keep=lambda model: None),
    )  # fmt: skip
    assert np.isfinite([row["loss"] for row in run.history]).all()
    assert {weight.dtype for weight in model.keras_model.get_weights()} == {np.dtype("float32")}
    assert model.keras_model.get_layer("features").compute_dtype == "bfloat16"
    assert small_model(tmp_path / "full").keras_model.get_layer("features").compute_dtype == (
        "float32"
    )


def test_a_stock_folder_can_be_continued(tmp_path):
    stock = StarDist2D(
        Config2D(n_rays=16, grid=(2, 2), unet_n_filter_base=4, net_conv_after_unet=8),
        name="stock",
        basedir=str(tmp_path),
    )
    stock.keras_model.save_weights(str(tmp_path / "stock" / "weights_best.h5"))
    settings = StarDistConfig(distance_weight=0.7, patch_size=64)
    model = continue_from(tmp_path / "new", tmp_path / "stock", settings, channels=1, seed=0)
    for one, other in zip(
        stock.keras_model.get_weights(), model.keras_model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert model.config.n_rays == 16
    assert model.config.train_loss_weights == (1.0, 0.7), "training is up to the settings"
    assert model.config.train_patch_size == (64, 64)
    assert (tmp_path / "new" / "config.json").exists()
    with pytest.raises(InputError, match=r"the 3 channel\(s\) of the images\. Got 1 in"):
        continue_from(tmp_path / "other", tmp_path / "stock", settings, channels=3, seed=0)


@pytest.mark.slow
def test_patches_predicted_together_are_predicted_as_alone(learned):
    _, folder, _ = learned
    model = open_model(folder)
    image, _ = discs_scene(9, (128, 128), 12, seed=5)
    image = normalise_percentiles(image[..., None])
    patches = [image[:64, :64], image[64:, 64:], image[:64, 64:]]
    for patch, raw in zip(patches, predict_patches(model, patches), strict=True):
        prob, dist = model.predict(patch, axes="YXC")
        np.testing.assert_allclose(raw.prob, prob, atol=1e-5)
        np.testing.assert_allclose(raw.dist, dist, atol=1e-4)


@pytest.mark.slow
def test_plain_stardist_opens_the_folder_and_predicts_the_same(learned):
    _, folder, _ = learned
    image, _ = discs_scene(9, (150, 170), 12, seed=5)
    plain = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    assert plain.thresholds == (0.35, 0.3)
    wanted, _ = plain.predict_instances(
        csbdeep.utils.normalize(image[..., None], 1, 99.8, axis=(0, 1))
    )
    ours = predict_labels(open_model(folder), normalise_percentiles(image[..., None]))
    np.testing.assert_array_equal(ours, wanted)
    assert ours.max() > 0


def test_predicting_tile_after_tile_makes_no_garbage(tmp_path):
    model = small_model(tmp_path / "m")
    image = np.zeros((96, 96, 1), np.float32)

    def predict():
        model.predict_sparse(image, n_tiles=(3, 3, 1), show_tile_progress=False)

    predict()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        predict()
        assert len(gc.get_objects()) - before < 9 * 20  # with what Keras does, 9 * 40
    finally:
        gc.enable()


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"It lacks config\.json and weights"):
        open_model(tmp_path)


def test_a_model_folder_is_opened_however_it_is_spelt(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "models" / "m", prob=0.5, nms=0.3)
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    monkeypatch.chdir(folder)
    (folder / "inside").mkdir()
    for spelt in (".", "inside/..", "../m/", str(tmp_path / "link")):
        assert open_model(Path(spelt)).thresholds == (0.5, 0.3)
    monkeypatch.chdir(folder / "inside")
    assert open_model(Path("..")).name == "m"


def test_what_was_meant_is_named_where_the_path_is_near_a_model(tmp_path):
    for name in ("one", "two"):
        write_model(tmp_path / name, prob=0.5, nms=0.3)
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(InputError, match=f"pass {one}, {two}\\.$"):
        open_model(tmp_path)
    with pytest.raises(InputError, match=f"pass {one}\\.$"):
        open_model(one / "weights_best.h5")
    with pytest.raises(InputError, match="pass the folder that `oce2stardist finetune -o` wrote"):
        open_model(tmp_path / "three")
