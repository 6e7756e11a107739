"""Compute the offset network forwards and backwards, written out for the CPU.

Equal to `OffsetNetwork.forward_plain` up to rounding. What it saves:

- The first decoder convolution sees the coarse features magnified by two. Magnified pixels are
  equal in pairs, so its 3x3 kernel acts like a 2x2 kernel on the coarse pixels, another one
  for each of the four positions (even or odd row, even or odd column): 4/9 of the products,
  no magnified image and no concatenation.
- Features stay channels last throughout, 1x1 convolutions are matrix products on them, and
  gradients are added where they are needed, without copies in between.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PHASES = torch.tensor(
    [
        [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]],  # even rows: coarse pixels a, a, a+1
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]],  # odd rows: coarse pixels a, a+1, a+1
    ]
)
"""(phase, tap of the coarse kernel, tap of the fine kernel): which taps meet the same pixel."""

_CROP = 4
"""Pixels by which the fine features are cropped to the size of the magnified coarse ones."""


def forward_on_cpu(network: nn.Module, images: Tensor) -> Tensor:
    """Predict offsets as `OffsetNetwork.forward_plain` does, on the CPU in one precision."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    weights = [convolution.weight for convolution in convolutions]
    biases = [convolution.bias for convolution in convolutions]
    merging = weights[8]  # encoder and bottom have four convolutions each
    fine_maps = weights[3].shape[0]
    weights[8] = merging[:, :fine_maps]
    coarse_kernel = phase_kernel(merging[:, fine_maps:])
    parameters = [coarse_kernel, *weights, *biases]
    return _Network.apply(images, *parameters)  # type: ignore[no-untyped-call]


def phase_kernel(kernel: Tensor) -> Tensor:
    """Turn a 3x3 kernel (O, I, 3, 3) on a magnified image into four 2x2 kernels on the image.

    Returns shape (4 * O, I, 2, 2): of even rows and columns, even rows and odd columns, and so on.
    """
    phases = _PHASES.to(kernel)
    kernels = torch.einsum("pau,qbv,oiuv->pqoiab", phases, phases, kernel)
    return kernels.reshape(-1, kernel.shape[1], 2, 2)


class _Network(torch.autograd.Function):
    """Compute offsets of images, a coarse kernel, 14 weights and 14 biases."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, coarse_kernel: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[:14], parameters[14:]
        x = images.contiguous(memory_format=torch.channels_last)
        encoder = _run(x, weights[:4], biases[:4])
        fine = encoder[-1]
        pooled, where = torch.ops.aten.max_pool2d_with_indices(fine, [2, 2], [2, 2])
        bottom = _run(pooled, weights[4:8], biases[4:8])
        cropped = _crop(fine).contiguous(memory_format=torch.channels_last)
        merged = F.conv2d(cropped, _last(weights[8]), biases[8])
        _phases_of(merged).add_(_split(F.conv2d(bottom[-1], _last(coarse_kernel))))
        merged.relu_()
        decoder = _run(merged, weights[9:13], biases[9:13])
        features = [x, *encoder, pooled, *bottom, cropped, merged, *decoder]
        ctx.save_for_backward(where, coarse_kernel, *weights, *features)
        return _pointwise(decoder[-1], weights[13], biases[13])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        where, coarse_kernel, *saved = ctx.saved_tensors
        weights, features = saved[:14], saved[14:]
        encoder, bottom, decoder = features[:5], features[5:10], features[11:]
        cropped, merged, fine = features[10], features[11], encoder[-1]

        gradient = gradient.contiguous(memory_format=torch.channels_last)
        last = _pointwise_backward(gradient, decoder[-1], weights[13])
        after, tail = _run_backward(last[0], decoder, weights[9:13])
        after = _relu_backward(after, merged)
        to_crop, *merging = _convolution_backward(after, cropped, weights[8])
        to_coarse, to_kernel, _ = _convolution_backward(_join(after), bottom[-1], coarse_kernel)
        to_pooled, middle = _run_backward(to_coarse, bottom, weights[4:8])
        to_fine = torch.ops.aten.max_pool2d_with_indices_backward(
            to_pooled, fine, [2, 2], [2, 2], [0, 0], [1, 1], False, where
        )
        _crop(to_fine).add_(to_crop)
        to_images, start = _run_backward(
            to_fine, encoder, weights[:4], to_input=ctx.needs_input_grad[0]
        )
        pairs = [*start, *middle, tuple(merging), *tail, last[1:]]
        return (to_images, to_kernel, *(pair[0] for pair in pairs), *(pair[1] for pair in pairs))


def _run(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """Apply convolutions, each with a ReLU; return what comes out of each."""
    features = []
    for weight, bias in zip(weights, biases, strict=True):
        pointwise = _is_pointwise(weight)
        x = _pointwise(x, weight, bias) if pointwise else F.conv2d(x, _last(weight), bias)
        features.append(x.relu_())
    return features


def _run_backward(
    gradient: Tensor, features: Sequence[Tensor], weights: Sequence[Tensor], to_input: bool = True
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Undo `_run`: features are its input and all it returned.

    Returns the gradient of the input and those of (weight, bias) of every layer.
    """
    pairs = []
    for layer in reversed(range(len(weights))):
        gradient = _relu_backward(gradient, features[layer + 1])
        backward = _pointwise_backward if _is_pointwise(weights[layer]) else _convolution_backward
        gradient, weight, bias = backward(
            gradient, features[layer], weights[layer], to_input or layer > 0
        )
        pairs.append((weight, bias))
    return gradient, pairs[::-1]


def _is_pointwise(weight: Tensor) -> bool:
    return weight.shape[-1] == 1


def _last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, to_input: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(
        gradient, x, _last(weight), [weight.shape[0]],
        [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [to_input, True, True],
    )  # fmt: skip


def _rows(x: Tensor) -> Tensor:
    """View features (B, C, Y, X), channels last, as a matrix (B*Y*X, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(rows: Tensor, like: Tensor) -> Tensor:
    """View a matrix (B*Y*X, C) as features (B, C, Y, X), channels last."""
    batch, _, height, width = like.shape
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _images(torch.addmm(bias, _rows(x), weight.flatten(1).t()), x)


def _pointwise_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, to_input: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    rows = _rows(gradient)
    # With the weight's own strides, which mean the same for a 1x1 kernel: what exchanges
    # gradients between processes wants them equal.
    to_weight = rows.t().mm(_rows(x)).as_strided(weight.shape, weight.stride())
    return _images(rows.mm(weight.flatten(1)), x), to_weight, rows.sum(dim=0)


def _relu_backward(gradient: Tensor, after: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(gradient, after, 0)


def _crop(fine: Tensor) -> Tensor:
    return fine[..., _CROP:-_CROP, _CROP:-_CROP]


def _phases_of(merged: Tensor) -> Tensor:
    """View features (B, C, 2Y, 2X), channels last, as (B, Y, 2, X, 2*C), rows by phase."""
    batch, channels, height, width = merged.shape
    return merged.permute(0, 2, 3, 1).view(batch, height // 2, 2, width // 2, 2 * channels)


def _split(phases: Tensor) -> Tensor:
    """View (B, 4*C, Y, X), channels last, in the order of `_phases_of`."""
    batch, channels, height, width = phases.shape
    rows = phases.permute(0, 2, 3, 1).view(batch, height, width, 2, channels // 2)
    return rows.permute(0, 1, 3, 2, 4)


def _join(merged: Tensor) -> Tensor:
    """Copy features (B, C, 2Y, 2X) to phases (B, 4*C, Y, X), channels last."""
    batch, channels, height, width = merged.shape
    rows = _phases_of(merged).permute(0, 1, 3, 2, 4)
    return rows.reshape(batch, height // 2, width // 2, 4 * channels).permute(0, 3, 1, 2)
