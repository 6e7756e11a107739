"""The training loop of the StarDist network, top to bottom."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from oce2stardist.stardist_model.network import SparseStarDist2D
from oce2stardist.stardist_model.patches import BatchStream

State = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""Arrays by name, and what JSON can hold."""


@dataclass
class StarDistTraining:
    """What training leaves behind.

    Attributes
    ----------
    history : list of dict
        step, loss, loss_sparse, loss_pseudo, learning_rate, seconds; and score at checks.
    best_step, best_score : int, float
        Step whose weights were kept as best; 0 and -inf before the first check.
    finished : bool
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_score: float = -math.inf
    finished: bool = False


def train_stardist(
    model: SparseStarDist2D,
    batches: BatchStream,
    *,
    n_sparse: int,
    alpha: float,
    steps: int,
    learning_rate: float,
    warm_up: float,
    check_every: int,
    judge: Callable[[SparseStarDist2D], float] | None,
    keep_best: Callable[[SparseStarDist2D], None],
    resume: State | None = None,
    save: Callable[[State], None] | None = None,
    save_every: float = 20.0,
    on_step: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> StarDistTraining:
    """Train with Adam; the learning rate warms up, then falls to zero along a cosine.

    Parameters
    ----------
    model : SparseStarDist2D
    batches : BatchStream
    n_sparse, alpha
        See `SparseStarDist2D.loss`.
    steps, learning_rate : int, float
    warm_up : float, in [0, 1)
        Share of the steps over which the learning rate rises.
    check_every : int
        Steps between two checks with `judge`; the last step is always checked.
    judge : callable, optional
        Scores the model on held-back annotated cells; higher is better. Among equal
        scores the latest counts as best. None: the last weights are the best.
    keep_best : callable
        Called whenever the current weights are the best so far.
    resume : (arrays, facts), optional
        A state that `save` was given earlier.
    save, save_every, on_step, should_stop
        As in `oce2stardist.embeddings.train.train_offsets`.

    Returns
    -------
    StarDistTraining
    """
    network = model.keras_model
    optimiser = keras.optimizers.Adam(learning_rate)
    optimiser.build(network.trainable_variables)
    # Non-trainable ones too: the moving averages of batch normalisation.
    variables = [*network.variables, *optimiser.variables]
    run = StarDistTraining()
    done = 0
    if resume is not None:
        arrays, facts = resume
        for index, variable in enumerate(variables):
            variable.assign(arrays[f"{index:04d}"])
        run = StarDistTraining(facts["history"], facts["best_step"], facts["best_score"])
        done = facts["step"]

    def state() -> State:
        arrays = {f"{index:04d}": np.asarray(one) for index, one in enumerate(variables)}
        facts = {
            "step": done,
            "history": run.history,
            "best_step": run.best_step,
            "best_score": run.best_score,
        }
        return arrays, facts

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def train_step(
        images: tf.Tensor, prob: tf.Tensor, dist: tf.Tensor, dist_weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            predicted = network(images, training=True)
            losses = model.loss(
                predicted, (prob, dist, dist_weight), n_sparse=n_sparse, alpha=alpha
            )
        gradients = tape.gradient(losses[0], network.trainable_variables)
        optimiser.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return losses

    started = saved = time.monotonic()
    seconds_before = run.history[-1]["seconds"] if run.history else 0.0
    for batch in batches.iterate(done, steps):
        if should_stop():
            break
        rate = _learning_rate(done, steps, learning_rate, warm_up)
        optimiser.learning_rate.assign(rate)
        total, sparse, pseudo = train_step(batch.images, batch.prob, batch.dist, batch.dist_weight)
        done += 1
        row = {
            "step": done,
            "loss": float(total),
            "loss_sparse": float(sparse),
            "loss_pseudo": float(pseudo),
            "learning_rate": rate,
        }
        if done % check_every == 0 or done == steps:
            score = judge(model) if judge is not None else math.nan
            row["score"] = score
            if judge is None or score >= run.best_score:
                run.best_step = done
                run.best_score = score if judge is not None else -math.inf
                keep_best(model)
        now = time.monotonic()
        row["seconds"] = seconds_before + now - started
        run.history.append(row)
        if on_step is not None:
            on_step(done, row["loss"])
        if save is not None and now - saved >= save_every:
            save(state())
            saved = now
    run.finished = done >= steps
    if save is not None:
        save(state())
    return run


def _learning_rate(step: int, steps: int, peak: float, warm_up: float) -> float:
    rising = max(1.0, warm_up * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))
