"""The learning rate over a training, of either network."""

import math
from collections.abc import Sequence


def one_cycle_rate(progress: float, *, peak: float) -> float:
    """Rise over the first fifth of the training, then fall to zero along a cosine.

    `progress` is the share of the training done, from 0 to 1.
    """
    if progress < 0.2:
        return peak * (0.04 + 0.96 * progress / 0.2)
    return _cosine(progress - 0.2, 0.8, peak)


def cosine_rate(step: int, *, steps: int, peak: float, warm_up: float) -> float:
    """Rise over a share `warm_up` of the steps, then fall to zero along a cosine."""
    rising = max(1.0, warm_up * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return _cosine(step - rising, max(1.0, steps - rising), peak)


def dropping_rate(step: float, *, steps: float, peak: float, drop_at: Sequence[float]) -> float:
    """Divide the peak by ten after each share of the steps in `drop_at`."""
    return peak * 0.1 ** sum(step >= share * steps for share in drop_at)


def _cosine(done: float, span: float, peak: float) -> float:
    """Fall from the peak to zero over a span, of which some is done."""
    return peak * 0.5 * (1.0 + math.cos(math.pi * done / span))
