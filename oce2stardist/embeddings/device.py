"""Where torch computes, and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

from oce2stardist.errors import InputError

Network = TypeVar("Network", bound=torch.nn.Module)


def torch_device(name: str) -> torch.device:
    """Resolve ``auto``, ``cpu``, ``cuda`` or ``mps`` to a device that exists.

    Raises
    ------
    InputError
        If the named device is not there.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present.get(name, False):
        usable = ", ".join(device for device in present if present[device])
        raise InputError(f"device must be one that torch sees here ({usable}). Got {name} instead.")
    return torch.device(name)


def on_device(network: Network, device: torch.device) -> Network:
    """Move a network, channels last in memory: convolutions are faster so on most devices."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def bf16_pays(device: torch.device) -> bool:
    """Tell whether bfloat16 is faster than float32 on this device.

    On CPUs without bfloat16 instructions it is emulated and slower by a factor of a
    hundred or more.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))
    return False


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Run the network in bfloat16 where asked, or for ``auto`` where it pays."""
    if precision == "bf16" or (precision == "auto" and bf16_pays(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
