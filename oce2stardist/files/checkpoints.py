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
    return [checkpoint for checkpoint in (path, _older(path)) if checkpoint.exists()]


def read_checkpoint(path: Path, *, read: Callable[[Path], Read]) -> Read | None:
    """Read a checkpoint, or the one before where it can't be read; None if there is neither."""
    checkpoints = list_checkpoints(path)
    for checkpoint in checkpoints:
        try:
            return read(checkpoint)
        except Exception as error:  # whatever a broken file makes the library raise
            if is_out_of_memory(error):
                raise
            reason = one_line(error)[:200]
            _log.warning("the checkpoint %s can't be read: %s", checkpoint, reason)
    if not checkpoints:
        return None
    names = " and ".join(checkpoint.name for checkpoint in checkpoints)
    raise InputError(
        f"{path} must be a checkpoint of an interrupted training. Got {names}, which can't be "
        "read; delete them, and the same command starts this training again."
    )


def _older(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")
