"""Train the StarDist network: the loop, top to bottom."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import check_finite
from oce2stardist.stardist_model.backend import dismantle_func_graph, keras, tf
from oce2stardist.stardist_model.base import QuietNetwork
from oce2stardist.stardist_model.loss import weighted_loss
from oce2stardist.stardist_model.patches import BatchStream

Row = dict[str, float]
"""Of a step: step, loss, loss_sparse, loss_pseudo, learning_rate, seconds; and at checks score and
score_error."""

State = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""Arrays by name, and what JSON can hold."""

SAVE_EVERY = 20.0
"""Seconds between two savings of the state."""


@dataclass
class StarDistTraining:
    """What training leaves behind; `finished` once no step is left, or patience has ended."""

    history: list[Row] = field(default_factory=list)
    kept_step: int = 0
    """Step whose weights were kept; 0 before the first check."""
    best_score: float = -math.inf
    best_error: float = 0.0
    """Standard error of the highest score so far."""
    checks_in_vain: int = 0
    """Checks since the best score rose."""
    finished: bool = False


@dataclass(frozen=True)
class Checks:
    """When the weights are judged, and which are kept.

    Attributes
    ----------
    every : int
        Steps between two checks; the last step is always checked.
    keep : callable
        Called whenever the current weights shall be kept: at checks that score no worse than
        the best so far less its standard error. The learning rate falls as training goes on, so
        the latest weights are the better ones where a handful of cells can't tell.
    judge : callable, optional
        Gives a score of the model on held-back cells, higher is better, and its standard error.
        None: the last weights are kept.
    patience : int, optional
        End early once so many checks in a row brought no score above the best before.
    """

    every: int
    keep: Callable[[Any], None]
    judge: Callable[[Any], tuple[float, float]] | None = None
    patience: int | None = None


def train_stardist(
    model: QuietNetwork,
    batches: BatchStream,
    *,
    n_sparse: int,
    alpha: float,
    steps: int,
    rate_at: Callable[[int], float],
    checks: Checks,
    resume: State | None = None,
    save: Callable[[State], None] | None = None,
    on_step: Callable[[Row], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> StarDistTraining:
    """Train with Adam.

    For `n_sparse` and `alpha` see `weighted_loss`. `rate_at` gives the learning rate by step, from
    0; `on_step` gets the row of history of each. `save` is called with the state now and then, at a
    stop and at the end; `resume` is a state that it was given. `should_stop` is asked between
    steps; True ends the training with ``finished`` False.
    """
    network, judge = model.keras_model, checks.judge
    optimiser = _Adam(rate_at(0), name="adam")
    optimiser.build(network.trainable_variables)
    # Non-trainable ones too: the moving averages of batch normalisation.
    variables = [*network.variables, *optimiser.variables]
    run = StarDistTraining()
    done = 0
    if resume is not None:
        arrays, facts = resume
        for index, variable in enumerate(variables):
            variable.assign(arrays[f"{index:04d}"])
        done = facts.pop("step")
        run = StarDistTraining(**facts)

    def state() -> State:
        arrays = {f"{index:04d}": np.asarray(variable) for index, variable in enumerate(variables)}
        facts = {name: value for name, value in vars(run).items() if name != "finished"}
        return arrays, {"step": done} | facts

    # Nothing here is control flow over tensors: without autograph it starts sooner.
    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def train_step(images: tf.Tensor, *target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            predicted = network(images, training=True)
            losses = weighted_loss(
                predicted,
                target,
                n_sparse=n_sparse,
                alpha=alpha,
                loss_weights=model.config.train_loss_weights,
                background_reg=model.config.train_background_reg,
                in_plane=model.in_plane,
            )
        gradients = tape.gradient(losses[0], network.trainable_variables)
        optimiser.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return losses

    compiled = None
    started = saved = time.monotonic()
    seconds_before = run.history[-1]["seconds"] if run.history else 0.0
    for batch in batches.iterate(done, steps):
        if should_stop():
            break
        rate = rate_at(done)
        optimiser.learning_rate.assign(rate)
        made = [batch.images, *batch.target]
        if compiled is None:  # one graph for every step: all batches have the same shape
            compiled = train_step.get_concrete_function(*map(tf.constant, made))
        total, sparse, pseudo = compiled(*map(tf.constant, made))
        done += 1
        check_finite(float(total), done, stage="stardist")
        row = {
            "step": done,
            "loss": float(total),
            "loss_sparse": float(sparse),
            "loss_pseudo": float(pseudo),
            "learning_rate": rate,
        }
        if done % checks.every == 0 or done == steps:
            score, error = judge(model) if judge is not None else (math.nan, math.nan)
            row |= {"score": score, "score_error": error}
            run.checks_in_vain += 1
            if score > run.best_score:
                run.best_score, run.best_error, run.checks_in_vain = score, error, 0
            if judge is None or score >= run.best_score - run.best_error:
                run.kept_step = done
                checks.keep(model)
        now = time.monotonic()
        row["seconds"] = seconds_before + now - started
        run.history.append(row)
        if on_step is not None:
            on_step(row)
        if save is not None and now - saved >= SAVE_EVERY and _is_finite(network):
            save(state())
            saved = now
        if judge is not None and run.checks_in_vain >= (checks.patience or math.inf):
            run.finished = True
            break
    if compiled is not None:
        # Its operations refer to each other where Python's garbage collector can't see it.
        dismantle_func_graph(compiled.graph)
    run.finished |= done >= steps
    if save is not None and _is_finite(network):
        save(state())
    return run


class _Adam(keras.optimizers.Adam):  # type: ignore[misc]  # keras is not typed
    """Adam in one process, by TensorFlow's one operation for each variable.

    Keras writes Adam as twenty operations a variable: the graph of a small network takes twice as
    long to make. And it sums gradients over processes though there is one, with a gradient of the
    sum itself that TensorFlow registers for good: each training left its graph behind, 9 MB.
    """

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        step = tf.cast(self.iterations + 1, tf.float32)
        powers = {"beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step}
        betas = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            at = self._get_variable_index(variable)
            moments = self._momentums[at], self._velocities[at]
            var, m, v = (one.value.handle for one in (variable, *moments))
            tf.raw_ops.ResourceApplyAdam(
                var=var, m=m, v=v, lr=learning_rate, grad=gradient, **powers, **betas
            )


def _is_finite(network: keras.Model) -> bool:
    """Tell whether the weights are worth saving: the next loss would tell it too late."""
    return all(
        bool(np.isfinite(np.asarray(weight)).all()) for weight in network.trainable_variables
    )
