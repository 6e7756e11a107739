"""Learning rate over the training, and when a training that no longer learns ends."""

import math
from collections.abc import Sequence

import numpy as np

_WINDOW = 0.1
"""Share of the steps whose mean loss is compared with that of as many before."""

_NOT_BEFORE = 0.3
"""Share of the steps before which nothing is called flat: the rate rises until 0.2, and the
windows compared have to lie behind its peak."""

_RUN_OUT = 0.25
"""Share of the steps in which a training found flat runs through the rest of its schedule."""

_SMALLEST_FALL = 0.01
"""A fall between windows below this share of the fall since the start is flat."""


class Clock:
    """How far a training has come in its schedule, from 0 to 1.

    With `stop_when_flat` the clock runs faster once the loss has stopped falling: what is left
    of the schedule, the decay of the learning rate above all, is passed through in a quarter of
    the steps. Where the loss has not fallen at all nothing is flat: the start has to be escaped
    first.

    Parameters
    ----------
    steps : int
        Of the whole schedule.
    stop_when_flat : bool

    Attributes
    ----------
    steps : int
        Of the training; fewer once the loss is flat.
    flat_at : int or None
        The step at which the loss was found flat.
    """

    def __init__(self, steps: int, *, stop_when_flat: bool) -> None:
        self.steps = self._planned = steps
        self.flat_at: int | None = None
        self._watching = stop_when_flat
        self._window = max(10, round(_WINDOW * steps))
        self._start: float | None = None

    @property
    def memory(self) -> int:
        """How many losses, the last ones, `note` looks at."""
        return 2 * self._window if self._watching else 1

    def progress(self, step: int) -> float:
        """Position in the schedule after `step` steps, in [0, 1]."""
        if self.flat_at is None:
            return step / self._planned
        left = 1.0 - self.flat_at / self._planned
        run_out = self.steps - self.flat_at
        return self.flat_at / self._planned + left * (step - self.flat_at) / run_out

    def note(self, losses: Sequence[float], done: int) -> None:
        """Take in the last losses (`memory` of them, or all) after `done` steps."""
        if not self._watching or self.flat_at is not None:
            return
        if done == self._window:
            self._start = float(np.mean(losses))
        if self._start is None or done < _NOT_BEFORE * self._planned or done < 2 * self._window:
            return
        run_out = math.ceil(_RUN_OUT * self._planned)
        if done + run_out >= self._planned:
            return
        before, after = np.reshape(losses[-2 * self._window :], (2, self._window)).mean(axis=1)
        noise = np.std(np.diff(losses)) / math.sqrt(self._window)
        fallen = self._start - after
        # A loss that has fallen by no more than its noise has not left the start yet.
        if fallen > 4 * noise and before - after < _SMALLEST_FALL * fallen:
            self.flat_at, self.steps = done, done + run_out

    def replay(self, losses: Sequence[float]) -> None:
        """Take in the losses of a training that goes on, as if noted step by step."""
        for done in range(1, len(losses) + 1):
            self.note(losses[max(0, done - self.memory) : done], done)


def learning_rate_at(
    progress: float, peak: float, *, schedule: str, drop_at: Sequence[float]
) -> float:
    """Learning rate at a position in the schedule.

    Parameters
    ----------
    progress : float, in [0, 1]
        Share of the schedule done.
    peak : float
        Highest rate.
    schedule : {"one_cycle", "steps"}
        ``one_cycle`` rises to the peak over the first fifth and falls to zero along a cosine;
        ``steps`` divides by ten at every share in drop_at.
    """
    if schedule == "steps":
        return peak * 0.1 ** sum(progress >= share for share in drop_at)
    if progress < 0.2:
        return peak * (0.04 + 0.96 * progress / 0.2)
    return peak * 0.5 * (1.0 + math.cos(math.pi * (progress - 0.2) / 0.8))
