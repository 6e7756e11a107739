"""Choose where torch computes, in which precision, and how many crops at a time."""

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from oce2stardist.embeddings.distributed import is_launched
from oce2stardist.errors import InputError
from oce2stardist.runs.processor import asked_precision, onednn_may_use_amx

Network = TypeVar("Network", bound=torch.nn.Module)
Precision = Literal["auto", "fp32", "bf16"]

_CACHE = 80e6
"""Bytes of features that a pass on the CPU may hold. Features that stay in the processor's
cache between two layers are not waited for, and buffers stay small enough to be used again
instead of asked for anew (benchmarks/training_step.py)."""

_MAPS_KEPT = 10
"""Feature maps, in units of the input's pixels and feature_maps, kept for the backward pass."""

_WHY_FP32 = "labels of networks trained in bfloat16 are worse"


@dataclass(frozen=True)
class Computation:
    """What was chosen for this machine; written beside the results."""

    device: str
    precision: Literal["fp32", "bf16"]  # of the network; the loss is always computed in fp32
    memory_format: str
    crops_at_once: int  # in one forward and backward pass
    passes: int  # of a step, which adds their gradients
    threads: int  # on the CPU: that many passes are under way at a time
    reason: str  # why this precision


def choose_computation(
    device: torch.device, *, precision: Precision, crop: int, batch_size: int, maps: int
) -> Computation:
    """Choose precision and crops per pass by what the machine has.

    By capability and not by timing: the same config on the same machine must round the same
    way in every run, also while something else is running. `crop` are the pixels of a crop, `maps`
    feature maps at full resolution.
    """
    chosen = training_precision(precision)
    asked = precision != "auto" or "OCE2STARDIST_PRECISION" in os.environ
    at_once = batch_size
    if device.type == "cpu":
        bytes_per_crop = 4 * _MAPS_KEPT * maps * crop
        at_once = min(batch_size, max(1, int(_CACHE // bytes_per_crop)))
        # Every thread takes passes of its own, see `workers`.
        at_once = min(at_once, math.ceil(batch_size / torch.get_num_threads()))
        if torch.are_deterministic_algorithms_enabled():
            at_once = 1  # whatever the number of threads, the same sums
        # Passes of one size: 8 crops go as 4 and 4, not as 3, 3 and 2.
        at_once = math.ceil(batch_size / math.ceil(batch_size / at_once))
    return Computation(
        device=device.type,
        precision=chosen,
        memory_format="channels_last",
        crops_at_once=at_once,
        passes=math.ceil(batch_size / at_once),
        threads=torch.get_num_threads(),
        reason=f"{chosen} was asked for" if asked else _WHY_FP32,
    )


@contextmanager
def fixed_sums(asked: bool) -> Iterator[None]:
    """Let torch, if asked, add in an order that neither chance nor threads decide.

    What torch has no such operation for is done as always, with a warning. `choose_computation`
    and `workers` heed this, too.
    """
    if not asked:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for CUDA, before its first use
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned_only)


def torch_device(name: str) -> torch.device:
    """Resolve ``auto``, ``cpu``, ``cuda`` or ``mps`` to a device that exists."""
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        # Processes on MPS could not talk to each other.
        order = ("cuda", "cpu") if is_launched() else ("cuda", "mps", "cpu")
        name = next(device for device in order if present[device])
    if not present.get(name, False):
        usable = ", ".join(device for device in present if present[device])
        raise InputError(f"device must be one that torch sees here ({usable}). Got {name} instead.")
    return torch.device(name)


def on_device(network: Network, device: torch.device) -> Network:
    """Move a network, channels last in memory: convolutions are faster so on most devices."""
    network.to(device)
    layout = channels_last(next(network.parameters()).ndim)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    return network


def channels_last(ndim: int) -> torch.memory_format:
    """Name the layout of batches (B, C, Y, X) or (B, C, Z, Y, X) with channels last in memory."""
    return torch.channels_last_3d if ndim == 5 else torch.channels_last


def training_precision(precision: Precision) -> Literal["fp32", "bf16"]:
    """Tell what ``auto`` comes to for training: float32, also where bfloat16 is faster.

    The labels of networks trained in bfloat16 were worse by up to 0.02 of SEG
    (benchmarks/TRIALS.md, "Precision"), those of networks that only predict in it were not.
    """
    asked = _asked_for(precision)
    return "fp32" if asked == "auto" else asked


def resolve_precision(device: torch.device, precision: Precision) -> Literal["fp32", "bf16"]:
    """Tell what ``auto`` comes to for prediction on a device; the others stay as they are.

    For the variable that takes the place of ``auto`` see `asked_precision`.
    """
    asked = _asked_for(precision)
    if asked != "auto":
        return asked
    return "bf16" if bf16_pays(device) else "fp32"


def _asked_for(precision: Precision) -> Precision:
    """Take the variable's value in place of ``auto``."""
    return asked_precision() if precision == "auto" else precision


def bf16_pays(device: torch.device) -> bool:
    """Tell whether bfloat16 is faster than float32 on this device.

    Of processors only those with AMX gain (benchmarks/TRIALS.md, "Precision"): with nothing but
    AVX-512's instructions for bfloat16 a step takes half as long again as in float32, and
    without any it is emulated, four to twelve times slower.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        return onednn_may_use_amx() and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return False


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Run the network in bfloat16 where asked, or for ``auto`` where it pays."""
    if resolve_precision(device, precision) == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
