"""Which processor a run had, and which of its instructions it could use."""

import os
import platform
from pathlib import Path
from typing import Any, Literal, cast

from oce2stardist.errors import InputError

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Those that decide how torch and TensorFlow round, by their names in Linux."""

_LIMITS = (
    *("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
    *("TF_ENABLE_ONEDNN_OPTS", "OCE2STARDIST_PRECISION"),
)
"""Variables that keep torch or TensorFlow from instructions that the processor has, or from
choosing the precision."""


def describe_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Name the processor, what it can do, and what keeps the run from using it.

    Two processors round differently, so the same seed gives the same labels on one, and
    nearly the same on another. Only Linux tells the instructions. Of the variables that decide
    on their use those are named that are set.
    """
    entries = _first_processor(cpuinfo)
    flags = entries.get("flags", "").split()
    name = entries.get("model name") or platform.processor() or platform.machine()
    limits = {name: os.environ[name] for name in _LIMITS if name in os.environ}
    instructions = [flag for flag in _INSTRUCTIONS if flag in flags]
    return {"name": name, "instructions": instructions} | limits


def asked_precision() -> Literal["auto", "fp32", "bf16"]:
    """Read OCE2STARDIST_PRECISION, which takes the place of ``auto`` in both networks.

    So all commands of a cluster round alike, and the tests run in either on any processor.
    """
    asked = os.environ.get("OCE2STARDIST_PRECISION", "auto")
    if asked not in ("auto", "fp32", "bf16"):
        raise InputError(
            "OCE2STARDIST_PRECISION must be auto, fp32 or bf16. "
            f"Got {asked!r}; set one of them, or unset it."
        )
    return cast(Literal["auto", "fp32", "bf16"], asked)


def may_use_amx() -> bool:
    """Tell whether the processor has AMX for bfloat16 and oneDNN is not kept from it."""
    return onednn_may_use_amx() and "amx_bf16" in describe_processor()["instructions"]


def onednn_may_use_amx() -> bool:
    """Tell whether ONEDNN_MAX_CPU_ISA leaves AMX to oneDNN, if the processor has it."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return allowed in ("ALL", "DEFAULT") or "AMX" in allowed


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
