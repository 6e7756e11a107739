"""What networks for images and for stacks have in common."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.files.atomic import write_text
from oce2stardist.stardist_model.backend import StarDistBase, keras, tf


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what StarDist prints about thresholds; ours are reported by the runner."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # The folder exists: training labels were written to it, or a run goes on.
        warnings.filterwarnings("ignore", "output path for model already exists")
        # Its weights are still to come, or are loaded by name.
        warnings.filterwarnings("ignore", "Couldn't find any network weights")
        yield


@contextlib.contextmanager
def computing(half_precision: bool) -> Iterator[None]:
    """Let networks that are built meanwhile compute in bfloat16, or in float32."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if half_precision else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def place_of(folder: Path) -> dict[str, str]:
    """Tell stardist where a folder is; it takes no ``.`` or ``..`` for a name."""
    folder = folder.resolve()
    return {"name": folder.name, "basedir": str(folder.parent)}


class QuietNetwork(StarDistBase):  # type: ignore[misc]  # stardist is not typed
    """Mixed into a model of stardist: files whole or not at all, tiles without Keras' pipeline."""

    in_plane: NDArray[np.bool_] | None = None
    """Which rays lie in their plane, where there are planes."""

    def _set_logdir(self) -> None:
        """Write config.json whole or not at all, where a model is new; StarDist would not."""
        if self.config is None or self.basedir is None:
            super()._set_logdir()
            return
        self.logdir = self.basedir / self.name
        write_text(self.logdir / "config.json", json.dumps(vars(self.config)))

    @cached_property
    def forward(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Probability and distances of a batch (B, Y, X, C), by one graph for every shape.

        `keras.Model.predict` builds a pipeline of data at every call, and a graph for every new
        shape of images.
        """
        network = self.keras_model
        compiled = tf.function(lambda batch: network(batch, training=False), autograph=False)
        shape = (None, *(None,) * self.config.n_dim, self.config.n_channel_in)
        return compiled.get_concrete_function(tf.TensorSpec(shape, tf.float32))

    _one_at_a_time = Lock()
    """Held by whoever uses a network: it takes all processors, and the memory of a tile."""

    def _predict_setup(self, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        """Send a tile through the network as `forward` does, not as Keras does."""
        *setup, _, tiling = super()._predict_setup(*arguments, **options)

        def predict(tile: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
            with self._one_at_a_time:
                outputs = self.forward(tf.constant(tile[np.newaxis], tf.float32))
            return tuple(np.asarray(output[0], np.float32) for output in outputs)

        return (*setup, predict, tiling)

    def _compute_receptive_field(
        self, img_size: tuple[int, ...] | None = None, keras_model: keras.Model | None = None
    ) -> list[tuple[int, int]]:
        """Measure how far the network sees, for tiles: in float32, the only kind scipy can zoom.

        And bfloat16 would round what comes from afar to nothing.
        """
        network = keras_model or self.keras_model
        if network.outputs[0].dtype != "float32":
            with quiet(), computing(half_precision=False):
                network = self._build()
            network.set_weights(self.keras_model.get_weights())
        return list(super()._compute_receptive_field(img_size, network))
