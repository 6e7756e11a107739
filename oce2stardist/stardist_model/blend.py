"""Bring the weights of a trained network part of the way back to those that it began with.

From a few images a network learns these images, and forgets others that its start knew. Between
the two networks, weight by weight, lies one that knows both (Wortsman et al., "Robust fine-tuning
of zero-shot models", CVPR 2022). Measured in benchmarks/TRIALS.md, "Half of the way back".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D

Result = TypeVar("Result")

_HALF = 0.5
_FEW_IMAGES = 1 / 3
"""Share of the images below which those with annotated cells may be unlike the others."""


def choose_share(
    asked: float | Literal["auto"], *, n_annotated: int, n_images: int, begins_drawn: bool
) -> float:
    """Choose how much of the start stays in the model: as asked, or half where few images tell.

    `n_annotated` of `n_images` images have annotated cells. Where none has, and where the start
    has not seen drawn cells, auto is 0.
    """
    if asked != "auto":
        return asked
    is_few = 0 < n_annotated < _FEW_IMAGES * n_images
    return _HALF if begins_drawn and is_few else 0.0


@dataclass(frozen=True)
class Blend:
    """The weights that a network began with, as Keras gives them, and the share that stays."""

    weights: list[NDArray[Any]]
    share: float

    @classmethod
    def with_start(cls, start: "SparseStarDist2D | Path", share: float) -> "Blend":
        """Take the weights of the start, a network or a StarDist folder."""
        from oce2stardist.stardist_model.network import open_model

        model = open_model(start) if isinstance(start, Path) else start
        return cls(model.keras_model.get_weights(), share)

    def applied(
        self, use: Callable[["SparseStarDist2D"], Result]
    ) -> Callable[["SparseStarDist2D"], Result]:
        """Make a function that sees the blend where it is given the trained network."""

        def use_blended(model: "SparseStarDist2D") -> Result:
            with self._in_place(model):
                return use(model)

        return use_blended

    @contextmanager
    def _in_place(self, model: "SparseStarDist2D") -> Iterator[None]:
        trained = model.keras_model.get_weights()
        kept = np.float32(self.share)
        model.keras_model.set_weights(
            [kept * old + (1 - kept) * new for old, new in zip(self.weights, trained, strict=True)]
        )
        try:
            yield
        finally:
            model.keras_model.set_weights(trained)
