"""Which processor a run had, and which of its instructions it could use."""

import os
import platform
from pathlib import Path
from typing import Any

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


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
