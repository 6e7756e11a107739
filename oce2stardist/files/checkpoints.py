"""Checkpoints in pairs: the latest, and the one before it in case the latest can't be read."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from oce2stardist.errors import InputError, is_out_of_memory, one_line
from oce2stardist.files.atomic import replacing

Read = TypeVar("Read")
_log = logging.getLogger(__name__)


def write_checkpoint(path: Path, content: bytes, *, read: Callable[[Path], object]) -> None:
    """Write a checkpoint that takes its place once ``read`` has read it; the one before stays.

    The one before lies beside it, see `list_checkpoints`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        read(temporary)
        if path.exists():
            os.replace(path, _older(path))


def list_checkpoints(path: Path) -> list[Path]:
    """List what there is of a checkpoint and the one before it, the newer first."""
    return [one for one in (path, _older(path)) if one.exists()]


def read_checkpoint(path: Path, *, read: Callable[[Path], Read]) -> Read | None:
    """Read a checkpoint, or the one before where it can't be read; None if there is neither.

    Raises
    ------
    InputError
        If none of those that are there can be read.
    """
    found = list_checkpoints(path)
    for one in found:
        try:
            return read(one)
        except Exception as error:  # whatever a broken file makes the library raise
            if is_out_of_memory(error):
                raise
            reason = one_line(error)[:200]
            _log.warning("the checkpoint %s can't be read: %s", one, reason)
    if not found:
        return None
    raise InputError(
        f"{path} must be a checkpoint of an interrupted training. Got "
        f"{' and '.join(one.name for one in found)}, which can't be read; delete them, and the "
        "same command starts this training again."
    )


def _older(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")
