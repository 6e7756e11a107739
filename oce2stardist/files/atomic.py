"""Files and folders that are written whole or not at all."""

import contextlib
import functools
import os
import platform
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_MARK = ".oce2stardist-"
"""What names of temporary files begin with."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` once its file is whole.

    The temporary file lies hidden in the folder of ``path``, which is created,
    and has the same suffix. Where the block raises, it is removed and what was
    at ``path`` stays as it was. What a killed process left in the folder is removed
    by the next one that writes there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.absolute(), os.getpid())
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder, not there yet, that becomes ``path`` once it is whole.

    As `replacing` does for files. A folder that was at ``path`` is removed afterwards.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.absolute(), os.getpid())
    temporary, old = _temporary(path), _temporary(path)
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _temporary(path: Path) -> Path:
    """Name a file or folder beside `path` that tells which process writes it."""
    # Of a long name the end is enough: with more before it, it would be too long.
    name = f"{_MARK}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}-{path.name[-50:]}"
    return path.with_name(name)


@functools.lru_cache(maxsize=256)
def _remove_leftovers(folder: Path, pid: int) -> None:
    """Remove temporary files and folders of dead processes; each process looks once a folder.

    `pid`, that of this process, lets a fork look for itself.
    """
    del pid
    ours = f"{_MARK}{_machine()}-"
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        left = [entry for entry in entries if entry.name.startswith(ours)]
        for entry in left:
            writer = entry.name[len(ours) :].partition("-")[0]
            if writer.isdecimal() and not psutil.pid_exists(int(writer)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


@functools.cache
def _machine() -> str:
    """Name this machine, or container, among those that see the same folders."""
    with contextlib.suppress(OSError):  # ids of processes are counted anew in a container
        return _hash(f"{platform.node()} {os.readlink('/proc/self/ns/pid')}")
    return _hash(platform.node())


def _hash(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _sync_folder(folder: Path) -> None:
    """Bring a new name in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some file systems sync none
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with ``\\n`` line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, such as those of a PNG."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
