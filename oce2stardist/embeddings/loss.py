"""The object-centric embedding loss (Wolf et al., ICCV 2023, arXiv:2310.08501, Eq. 5)."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Sigma = Literal["paper", "code"]


def _penalty(squared: Tensor, *, sigma: Sigma, temperature: float) -> Tensor:
    """Turn squared embedding distances into costs.

    ``paper`` is the sigmoid ``1 / (1 + exp(-d2 / temperature))`` of Eq. 5, between 0.5
    and 1; ``code`` is ``1 - exp(-d2 / temperature)`` of the paper's published code,
    between 0 and 1. Both are least where two pixels embed to the same point.
    """
    if sigma == "paper":
        return torch.sigmoid(squared / temperature)
    return -torch.expm1(-squared / temperature)


def dense_pair_loss(
    offsets: Tensor,
    displacements: NDArray[np.int64],
    *,
    temperature: float,
    sigma: Sigma,
    regularisation: float = 0.0,
) -> Tensor:
    """Average the loss over all pixel pairs that lie one of the displacements apart.

    Estimates the same mean as `sampled_pair_loss`, from far more pairs and without a
    gather: the offset image is compared with shifted views of itself.

    Parameters
    ----------
    offsets : Tensor of shape (B, 2, Y, X)
        Predicted offsets (y, x), pixels.
    displacements : int64 array of shape (K, 2)
        Spatial displacements (y, x) from anchor to reference, pixels.
    temperature : float, > 0
        tau of Eq. 5, squared pixels.
    sigma : {"paper", "code"}
        Form of the penalty, see `_penalty`.
    regularisation : float, >= 0
        Weight of the mean offset length (lambda_reg of Eq. 5).

    Returns
    -------
    Tensor of shape ()
    """
    height, width = offsets.shape[-2:]
    offsets_y, offsets_x = offsets.float().unbind(1)
    total = offsets.new_zeros((), dtype=torch.float32)
    for step_y, step_x in displacements.tolist():
        top, left = max(0, -step_y), max(0, -step_x)
        bottom, right = height - max(0, step_y), width - max(0, step_x)
        anchor = (slice(None), slice(top, bottom), slice(left, right))
        reference = (
            slice(None),
            slice(top + step_y, bottom + step_y),
            slice(left + step_x, right + step_x),
        )
        # e(j) - e(i) = (j - i) + r(j) - r(i)
        delta_y = offsets_y[reference] - offsets_y[anchor] + step_y
        delta_x = offsets_x[reference] - offsets_x[anchor] + step_x
        squared = delta_y.square() + delta_x.square()
        total = total + _penalty(squared, sigma=sigma, temperature=temperature).mean()
    loss = total / len(displacements)
    return loss + regularisation * _mean_length(offsets)


def sampled_pair_loss(
    offsets: Tensor,
    anchors: NDArray[np.int64],
    references: NDArray[np.int64],
    *,
    temperature: float,
    sigma: Sigma,
    regularisation: float = 0.0,
    reference_gradient: bool = True,
) -> Tensor:
    """Average the loss over drawn anchor/reference pairs.

    Parameters
    ----------
    offsets : Tensor of shape (B, 2, Y, X)
        Predicted offsets (y, x), pixels.
    anchors, references : int64 arrays of shape (P, 2)
        Pixel coordinates (y, x), the same pairs for every image of the batch.
    temperature, sigma, regularisation
        As in `dense_pair_loss`.
    reference_gradient : bool
        False stops the gradient at the reference pixel, as the paper's code does;
        the paper's text has no such stop.

    Returns
    -------
    Tensor of shape ()
        A mean, as in Eq. 5; the paper's code sums.
    """
    height, width = offsets.shape[-2:]
    flat = offsets.float().reshape(offsets.shape[0], 2, height * width)
    at_anchor, at_reference = (
        flat[:, :, torch.from_numpy(points[:, 0] * width + points[:, 1]).to(offsets.device)]
        for points in (anchors, references)
    )
    if not reference_gradient:
        at_reference = at_reference.detach()
    step = torch.from_numpy((references - anchors).T.astype(np.float32)).to(offsets.device)
    squared = (at_reference - at_anchor + step).square().sum(dim=1)
    loss = _penalty(squared, sigma=sigma, temperature=temperature).mean()
    return loss + regularisation * _mean_length(offsets)


def _mean_length(offsets: Tensor) -> Tensor:
    # The small constant keeps the gradient of the root finite where an offset is zero.
    return (offsets.float().square().sum(dim=1) + 1e-12).sqrt().mean()
