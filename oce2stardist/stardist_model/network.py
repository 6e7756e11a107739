"""StarDist2D networks: built, opened, and compared with labels known only in places."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oce2stardist.stardist_model.quiet import quiet_native_code

with quiet_native_code():
    import keras
    import tensorflow as tf
    from stardist.models import Config2D, StarDist2D

    # TensorFlow looks for GPUs, and complains about none, when it is first asked for them.
    _GPUS = tf.config.list_physical_devices("GPU")

from oce2stardist.errors import InputError


def prepare_tensorflow(device: str) -> None:
    """Choose the device and let GPU memory grow as needed; call before the first model.

    Raises
    ------
    InputError
        If a GPU is asked for that TensorFlow does not see.
    """
    if device == "cuda" and not _GPUS:
        raise InputError(
            "device must be one that TensorFlow sees here (cpu). Got cuda instead; "
            "install tensorflow[and-cuda] or pass --device cpu."
        )
    with contextlib.suppress(RuntimeError):  # a model exists already: the choice was made
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
            return
        for gpu in _GPUS:
            tf.config.experimental.set_memory_growth(gpu, True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what StarDist prints about thresholds; ours are reported by the runner."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # The folder exists: training labels were written to it, or a run goes on.
        warnings.filterwarnings("ignore", "output path for model already exists")
        # Its weights are still to come, or are loaded by name.
        warnings.filterwarnings("ignore", "Couldn't find any network weights")
        yield


class SparseStarDist2D(StarDist2D):  # type: ignore[misc]
    """A StarDist2D whose loss weighs a sparse and a pseudo half, each by its own known pixels.

    The network, and so the folder it writes, is StarDist's own: plain stardist opens it.
    """

    def loss(
        self,
        predicted: tuple[tf.Tensor, tf.Tensor],
        target: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        *,
        n_sparse: int,
        alpha: float,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Compute ``(1 - alpha) * L_sparse + alpha * L_pseudo``.

        Parameters
        ----------
        predicted : (prob, dist) of shapes (B, Y, X, 1) and (B, Y, X, n_rays)
        target : (prob, dist, dist_weight) of shapes (B, Y, X, 1), (B, Y, X, n_rays), (B, Y, X, 1)
            As `oce2stardist.stardist_model.patches.targets` makes them; prob is -1 where
            nothing is known.
        n_sparse : int
            The first n_sparse patches are the sparse half, the rest the pseudo half.
        alpha : float, in [0, 1]
            Weight of the pseudo half. A half without patches contributes nothing.

        Returns
        -------
        total, sparse, pseudo : Tensors of shape ()
        """
        halves = []
        for half in (slice(None, n_sparse), slice(n_sparse, None)):
            parts = [tensor[half] for tensor in (*predicted, *target)]
            halves.append(self._half_loss(*parts))
        sparse, pseudo = halves
        return (1.0 - alpha) * sparse + alpha * pseudo, sparse, pseudo

    def _half_loss(
        self,
        prob: tf.Tensor,
        dist: tf.Tensor,
        prob_true: tf.Tensor,
        dist_true: tf.Tensor,
        dist_weight: tf.Tensor,
    ) -> tf.Tensor:
        """Compute StarDist's loss over the known pixels of one half.

        On patches that are known everywhere this is stock StarDist's loss: mean binary
        cross-entropy of the object probability, plus the weighted mean absolute error of
        the distances, plus a pull of background distances to zero. Every mean here is
        over known pixels, and 0, not NaN, where there is none.
        """
        if prob.shape[0] == 0:
            return tf.zeros(())
        known = tf.cast(prob_true >= 0, prob.dtype)
        n_known = tf.maximum(tf.reduce_sum(known), 1.0)
        # Clipped inside as Keras does; the target of unknown pixels only has to be finite.
        entropy = keras.ops.binary_crossentropy(tf.maximum(prob_true, 0.0), prob)
        prob_loss = tf.reduce_sum(known * entropy) / n_known

        weight = known * dist_weight
        error = tf.reduce_mean(tf.abs(dist_true - dist), axis=-1, keepdims=True)
        total_weight = tf.reduce_sum(weight)
        dist_loss = tf.math.divide_no_nan(tf.reduce_sum(weight * error), total_weight)
        length = tf.reduce_mean(tf.abs(dist), axis=-1, keepdims=True)
        background = tf.reduce_sum(known * (1.0 - dist_weight) * length) / n_known
        dist_loss += self.config.train_background_reg * background

        weights = self.config.train_loss_weights
        return weights[0] * prob_loss + weights[1] * dist_loss


def create_model(
    folder: Path,
    *,
    channels: int,
    n_rays: int,
    grid: int,
    width: int,
    features: int,
    batch_norm: bool,
    patch_size: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> SparseStarDist2D:
    """Build an untrained network of U-Net depth 3; its config.json goes to `folder`.

    Parameters
    ----------
    folder : Path
        The model folder; made if needed.
    channels, n_rays : int
    grid : int
        Subsampling of the prediction, a power of two.
    width : int
        Feature maps of the first U-Net level (``unet_n_filter_base``).
    features : int
        Feature maps before the heads (``net_conv_after_unet``).
    batch_norm : bool
        Batch normalisation in the U-Net (``unet_batch_norm``).
    patch_size, batch_size, learning_rate
        Only recorded in config.json, for whoever trains on with stock StarDist.
    seed : int
        Seeds the initial weights.
    """
    keras.utils.set_random_seed(seed)
    config: Any = Config2D(
        axes="YXC",
        n_channel_in=channels,
        n_rays=n_rays,
        grid=(grid, grid),
        unet_n_depth=3,
        unet_n_filter_base=width,
        net_conv_after_unet=features,
        unet_batch_norm=batch_norm,
        train_patch_size=(patch_size, patch_size),
        train_batch_size=batch_size,
        train_learning_rate=learning_rate,
        train_tensorboard=False,
    )
    with _quiet():
        return SparseStarDist2D(config, name=folder.name, basedir=str(folder.parent))


def open_model(folder: Path) -> SparseStarDist2D:
    """Open a StarDist model folder, ours or stock, with its best weights and thresholds.

    Raises
    ------
    InputError
        If the folder holds no StarDist model.
    """
    missing = [
        what
        for what, pattern in (("config.json", "config.json"), ("weights (.h5)", "*.h5"))
        if not any(folder.glob(pattern))
    ]
    if missing:
        raise InputError(
            f"{folder} must be a StarDist model folder. It lacks {' and '.join(missing)}; "
            "pass the folder that `oce2stardist finetune -o` wrote."
        )
    with _quiet():
        return SparseStarDist2D(None, name=folder.name, basedir=str(folder.parent))
