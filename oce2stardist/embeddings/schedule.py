"""Learning rate over the training."""

import math
from collections.abc import Sequence


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
