"""Compute the object-centric embedding loss (Wolf et al., ICCV 2023, arXiv:2310.08501, Eq. 5)."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Sigma = Literal["paper", "code"]
Reduction = Literal["mean", "sum"]

_SHORTEST = 1e-12
"""Added to squared lengths: keeps the gradient of the root finite where an offset is zero."""


def _penalty(squared: Tensor, *, sigma: Sigma, temperature: float) -> Tensor:
    """Turn squared embedding distances into costs.

    ``paper`` is the sigmoid ``1 / (1 + exp(-d2 / temperature))`` of Eq. 5, between 0.5
    and 1; ``code`` is ``1 - exp(-d2 / temperature)`` of the paper's published code,
    between 0 and 1. Both are least where two pixels embed to the same point.
    """
    if sigma == "paper":
        return torch.sigmoid(squared / temperature)
    return -torch.expm1(-squared / temperature)


def _penalty_and_slope_(
    squared: Tensor, *, sigma: Sigma, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute the penalty and its derivative by the squared distance, which is overwritten."""
    squared.mul_(1.0 / temperature)
    if sigma == "paper":
        penalty = squared.sigmoid_()
        return penalty, torch.addcmul(penalty, penalty, penalty, value=-1).div_(temperature)
    penalty = squared.neg_().expm1_().neg_()
    return penalty, (1.0 - penalty).div_(temperature)


def dense_pair_loss(
    offsets: Tensor,
    displacements: NDArray[np.int64],
    *,
    temperature: float,
    sigma: Sigma,
    regularisation: float,
    reduction: Reduction,
) -> Tensor:
    """Average the loss over all pixel pairs that lie one of the displacements apart.

    Estimates the same mean as `sampled_pair_loss`, from far more pairs and without a
    gather: the offset image is compared with shifted views of itself.

    Parameters
    ----------
    offsets : Tensor of shape (B, 2, Y, X) or (B, 3, Z, Y, X)
        Predicted offsets (y, x) or (z, y, x), pixels.
    displacements : int64 array of shape (K, 2) or (K, 3)
        Spatial displacements (y, x) or (z, y, x) from anchor to reference, pixels.
    temperature, sigma, regularisation
        See `EmbeddingConfig`.
    reduction : {"mean", "sum"}
        ``mean`` weighs every displacement alike, however many pairs of it fit into the crop;
        ``sum`` is that mean times the number of pairs.

    Notes
    -----
    The gradient is written out and computed with the loss, a displacement at a time: a dozen
    passes over the crop fewer than recording every operation.
    """
    steps = displacements.tolist()
    mean: Tensor = _DensePairs.apply(  # type: ignore[no-untyped-call]
        _at_least_float(offsets), steps, temperature, sigma
    )
    loss = mean + regularisation * _mean_length(offsets)
    if reduction == "mean":
        return loss
    batch, _, *sides = offsets.shape
    return loss * sum(
        batch * math.prod(side - abs(way) for side, way in zip(sides, step, strict=True))
        for step in steps
    )


class _DensePairs(torch.autograd.Function):
    """Average the penalty of shifted pairs, and compute its gradient."""

    @staticmethod
    def forward(
        ctx: Any, offsets: Tensor, displacements: list[list[int]], temperature: float, sigma: Sigma
    ) -> Tensor:
        field = offsets.contiguous()
        gradient = torch.zeros_like(field)
        total = field.new_zeros(())
        for step in displacements:
            anchor, reference = _shifted(field.shape[2:], step)
            # e(j) - e(i) = (j - i) + r(j) - r(i)
            delta = field[reference] - field[anchor]  # (B, 2, y, x)
            for axis, way in enumerate(step):
                delta[:, axis] += way
            squared = torch.linalg.vecdot(delta, delta, dim=1)  # (B, y, x)
            penalty, slope = _penalty_and_slope_(squared, sigma=sigma, temperature=temperature)
            total += penalty.mean()
            # The gradient of a squared distance by the reference's offset is 2 delta.
            delta *= slope.mul_(2.0 / penalty.numel())[:, None]
            gradient[reference] += delta
            gradient[anchor] -= delta
        ctx.save_for_backward(gradient.div_(len(displacements)))
        return total / len(displacements)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None


def _shifted(shape: torch.Size, step: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index all pixels whose partner, a step (y, x) away, is in the image, and the partners."""
    anchor = [
        slice(max(0, -way), side - max(0, way)) for side, way in zip(shape, step, strict=True)
    ]
    reference = [
        slice(span.start + way, span.stop + way) for span, way in zip(anchor, step, strict=True)
    ]
    every = slice(None)
    return (every, every, *anchor), (every, every, *reference)


def sampled_pair_loss(
    offsets: Tensor,
    anchors: NDArray[np.int64],
    references: NDArray[np.int64],
    *,
    temperature: float,
    sigma: Sigma,
    regularisation: float,
    reference_gradient: bool,
    reduction: Reduction,
) -> Tensor:
    """Average the loss over drawn anchor/reference pairs.

    Parameters
    ----------
    offsets : Tensor of shape (B, 2, Y, X) or (B, 3, Z, Y, X)
        Predicted offsets (y, x) or (z, y, x), pixels.
    anchors, references : int64 arrays of shape (P, 2) or (P, 3)
        Pixel coordinates (y, x), the same pairs for every image of the batch.
    temperature, sigma, regularisation, reference_gradient, reduction
        See `EmbeddingConfig`. The sum multiplies the regulariser, too, as in the paper's code.

    Notes
    -----
    The regulariser is the mean length of the offsets of all pixels, as in Eq. 5. The paper's
    code takes the anchors' embeddings, coordinates included, which depends on where in the
    crop an anchor lies; that is not offered.
    """
    flat = _at_least_float(offsets).flatten(2)
    sides = offsets.shape[2:]
    indices = (np.ravel_multi_index(tuple(points.T), sides) for points in (anchors, references))
    at_anchor, at_reference = (  # (B, 2, P) each
        flat.index_select(2, torch.from_numpy(index).to(offsets.device)) for index in indices
    )
    if not reference_gradient:
        at_reference = at_reference.detach()
    step = torch.from_numpy((references - anchors).T.astype(np.float32)).to(offsets.device)
    squared = (at_reference - at_anchor + step).square().sum(dim=1)
    penalty = _penalty(squared, sigma=sigma, temperature=temperature)
    loss = penalty.mean() + regularisation * _mean_length(offsets)
    return loss * penalty.numel() if reduction == "sum" else loss


def _mean_length(offsets: Tensor) -> Tensor:
    return (_at_least_float(offsets).square().sum(dim=1) + _SHORTEST).sqrt().mean()


def _at_least_float(offsets: Tensor) -> Tensor:
    # Half precision resolves offsets of 16 px to 0.1 px only.
    return offsets if offsets.dtype == torch.float64 else offsets.float()
