"""Compute StarDist's loss over labels known only in places."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oce2stardist.stardist_model.backend import keras, tf


def weighted_loss(
    predicted: tuple[tf.Tensor, tf.Tensor],
    target: tuple[tf.Tensor, ...],
    *,
    n_sparse: int,
    alpha: float,
    loss_weights: Sequence[float],
    background_reg: float,
    in_plane: NDArray[np.bool_] | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute ``(1 - alpha) * L_sparse + alpha * L_pseudo``.

    Parameters
    ----------
    predicted : (prob, dist) of shapes (B, Y, X, 1) and (B, Y, X, n_rays)
        Of stacks: (B, Z, Y, X, ...), here and below.
    target : (prob, dist, weight) of shapes (B, Y, X, 1), (B, Y, X, n_rays), (B, Y, X, 1)
        As `oce2stardist.stardist_model.patches.targets` makes them; weight is 0 where
        nothing is known. Of stacks also flat, (B, Z, Y, X, 1); see `half_loss`.
    n_sparse : int
        The first n_sparse patches are the sparse half, the rest the pseudo half. A half without
        patches contributes nothing.
    loss_weights, background_reg, in_plane
        See `half_loss`.

    Returns
    -------
    total, sparse, pseudo : Tensors of shape ()
    """
    sparse, pseudo = (
        half_loss(
            *(tensor[half] for tensor in (*predicted, *target)),
            loss_weights=loss_weights,
            background_reg=background_reg,
            in_plane=in_plane,
        )
        for half in (slice(None, n_sparse), slice(n_sparse, None))
    )
    return (1.0 - alpha) * sparse + alpha * pseudo, sparse, pseudo


def half_loss(
    prob: tf.Tensor,  # (B, Y, X, 1), in [0, 1]
    dist: tf.Tensor,  # (B, Y, X, n_rays), pixels
    prob_true: tf.Tensor,  # (B, Y, X, 1)
    dist_true: tf.Tensor,  # (B, Y, X, n_rays)
    weight: tf.Tensor,  # (B, Y, X, 1), 0 where nothing is known
    flat: tf.Tensor | None = None,  # (B, Z, Y, X, 1), 1 where only rays in the plane are known
    *,
    loss_weights: Sequence[float],
    background_reg: float,
    in_plane: NDArray[np.bool_] | None = None,
) -> tf.Tensor:
    """Compute StarDist's loss over the known pixels of one half; shape ().

    On patches that are known everywhere, all weights 1, this is stock StarDist's loss:
    mean binary cross-entropy of the object probability, plus the mean absolute error of
    the distances weighted by the true probability, plus a pull of background distances
    to zero. Every mean here is over known pixels, weighted, and 0, not NaN, where there
    is none.

    Parameters
    ----------
    loss_weights : pair of float
        Of the probability and of the distances (``train_loss_weights``).
    background_reg : float
        Weight of the pull beside the error of the distances (``train_background_reg``).
    in_plane : bool array of shape (n_rays,), optional
        Which rays lie in their plane; with `flat`, of stacks. Where flat is 1 the mean over rays
        is one over these.
    """
    if prob.shape[0] == 0:
        return tf.zeros(())
    # Half precision (precision: mixed) is for the network; sums over many pixels need more.
    prob, dist = tf.cast(prob, tf.float32), tf.cast(dist, tf.float32)
    total = tf.reduce_sum(weight)  # ()
    entropy = keras.ops.binary_crossentropy(prob_true, prob)  # (B, Y, X, 1); clips prob as Keras
    prob_loss = tf.math.divide_no_nan(tf.reduce_sum(weight * entropy), total)  # ()

    inside = weight * prob_true  # (B, Y, X, 1)
    error = _mean_over_rays(tf.abs(dist_true - dist), flat, in_plane)  # (B, Y, X, 1)
    dist_loss = tf.math.divide_no_nan(tf.reduce_sum(inside * error), tf.reduce_sum(inside))  # ()
    length = _mean_over_rays(tf.abs(dist), flat, in_plane)  # (B, Y, X, 1)
    pull = tf.reduce_sum((weight - inside) * length)  # ()
    dist_loss += background_reg * tf.math.divide_no_nan(pull, total)
    return loss_weights[0] * prob_loss + loss_weights[1] * dist_loss


def _mean_over_rays(
    of_rays: tf.Tensor, flat: tf.Tensor | None, in_plane: NDArray[np.bool_] | None
) -> tf.Tensor:
    """Take the mean over all rays, or over those in the plane where nothing else is known."""
    if flat is None or in_plane is None:
        return tf.reduce_mean(of_rays, axis=-1, keepdims=True)
    every = np.full(in_plane.shape, 1.0 / in_plane.size, np.float32)
    planar = (in_plane / in_plane.sum()).astype(np.float32)
    share = flat * planar + (1.0 - flat) * every  # (B, Z, Y, X, n_rays)
    return tf.reduce_sum(share * of_rays, axis=-1, keepdims=True)
