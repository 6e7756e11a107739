"""Tell what torch sees on this machine; `oce2stardist doctor` asks in a process of its own."""

from importlib import import_module
from typing import Any

import torch

from oce2stardist.embeddings.device import resolve_precision, torch_device
from oce2stardist.errors import InputError, first_line

_NEEDED = ("train", "predict", "checkpoint")
"""What stage one loads from this folder."""


def describe_torch() -> dict[str, Any]:
    """Load what stage one needs, and compute once on every device.

    Returns ``version``; ``devices``, each with ``name``, ``title`` and ``error``, which is None
    where the device computes; ``chosen``, what ``--device auto`` takes; and ``precision`` there.
    """
    for module in _NEEDED:
        import_module(f"oce2stardist.embeddings.{module}")
    chosen = torch_device("auto")
    return {
        "version": torch.__version__,
        "devices": [_describe(name) for name in ("cuda", "mps", "cpu") if _is_there(name)],
        "chosen": chosen.type,
        "precision": resolve_precision(chosen, "auto"),
    }


def _is_there(name: str) -> bool:
    try:
        torch_device(name)
    except InputError:
        return False
    return True


def _describe(name: str) -> dict[str, Any]:
    title = name
    if name == "cuda":
        count = torch.cuda.device_count()
        title = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    return {"name": name, "title": title, "error": _compute_on(name)}


def _compute_on(name: str) -> str | None:
    """Convolve ones: a device that is seen may still lack the kernels, or the driver."""
    try:
        ones = torch.ones(1, 1, 8, 8, device=name)
        total = torch.nn.functional.conv2d(ones, torch.ones(1, 1, 3, 3, device=name)).sum().item()
    except RuntimeError as error:
        return first_line(error)
    return None if total == 324 else f"a sum that is 324 came out as {total:g}"
