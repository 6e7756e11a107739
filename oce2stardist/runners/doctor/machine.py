"""The machine: system, processors, memory, and space where runs are written."""

import importlib
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

_GIGABYTE = 1e9


@dataclass(frozen=True)
class Machine:
    """What there is of it; sizes in gigabytes, memory None where nothing can tell.

    Attributes
    ----------
    system, python : str
    processors : int
        That this process may use.
    memory, memory_free : float or None
    disk_free : float
        In the folder that the command was given in.
    writable : bool
        Whether files can be made there.
    """

    system: str
    python: str
    processors: int
    memory: float | None
    memory_free: float | None
    disk_free: float
    writable: bool


def look_at_machine(folder: Path) -> Machine:
    """Look at this machine, and at the disk that holds `folder`."""
    memory, memory_free = _memory()
    return Machine(
        system=platform.platform(),
        python=platform.python_version(),
        processors=_processors(),
        memory=memory,
        memory_free=memory_free,
        disk_free=round(shutil.disk_usage(folder).free / _GIGABYTE, 1),
        writable=os.access(folder, os.W_OK),
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> tuple[float | None, float | None]:
    try:  # a package that is missing is for this command to report, not to fail on
        memory = importlib.import_module("psutil").virtual_memory()
    except ImportError:
        return None, None
    return round(memory.total / _GIGABYTE, 1), round(memory.available / _GIGABYTE, 1)
