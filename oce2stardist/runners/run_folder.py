"""Run folders: what was asked for, from which inputs, with which versions, and how far it got."""

import hashlib
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.io import write_text

_RECORDED_PACKAGES = (
    "oce2stardist",
    "torch",
    "tensorflow",
    "keras",
    "stardist",
    "csbdeep",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
)


def package_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def digest(paths: Iterable[Path]) -> str:
    """Hash names and contents of files; the same for the same files in any folder."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda one: one.name):
        with path.open("rb") as file:
            content = (
                hashlib.file_digest(file, "sha256")
                if hasattr(hashlib, "file_digest")
                else hashlib.sha256(file.read())
            )
        total.update(f"{path.name}\0{content.hexdigest()}\n".encode())
    return total.hexdigest()


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Hash names, shapes, types and contents of arrays."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content = hashlib.sha256(array.tobytes()).hexdigest()
        total.update(f"{name}\0{array.shape}\0{array.dtype}\0{content}\n".encode())
    return total.hexdigest()


def write_run_file(
    folder: Path,
    *,
    command: str,
    config: Config,
    inputs: Mapping[str, Any],
) -> None:
    """Write run.yaml: the command, the resolved config, the inputs' hashes, the versions."""
    content = {
        "command": command,
        "seed": config.seed,
        "inputs": dict(inputs),
        "versions": package_versions(),
        "config": config.model_dump(mode="json"),
    }
    write_text(folder / "run.yaml", yaml.safe_dump(content, sort_keys=False))


class Stage:
    """One stage of a run folder, with the settings that its results depend on.

    ``<folder>/stage.yaml`` holds the settings and whether the stage has finished.

    Parameters
    ----------
    folder : Path
        The stage's folder.
    settings : mapping
        Everything that the stage's results depend on; plain YAML values.
    overwrite : bool
        Start again where the folder holds a stage with other settings.
    results : sequence of str
        Files and folders in `folder` that a new start removes, so that nothing of a run with
        other settings is taken for its own.

    Raises
    ------
    InputError
        If the folder holds a stage with other settings and overwrite is False; the
        message names the first setting that differs.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        overwrite: bool,
        results: Sequence[str],
    ) -> None:
        self.folder = folder
        self._file = folder / "stage.yaml"
        # Through YAML once, so that tuples and lists compare equal.
        self._settings = yaml.safe_load(yaml.safe_dump(dict(settings)))
        self.finished = False
        self.resumes = False
        if self._file.exists():
            found = yaml.safe_load(self._file.read_text(encoding="utf-8"))
            difference = _first_difference(found["settings"], self._settings)
            if difference is None:
                self.resumes = True
                self.finished = bool(found["finished"])
            elif not overwrite:
                name, old, new = difference
                raise InputError(
                    f"{folder} must hold a run with the same settings to continue it. Got {name}: "
                    f"{new!r} where it has {old!r}; choose another output or pass --overwrite."
                )
        if not self.resumes:
            for name in results:
                shutil.rmtree(folder / name, ignore_errors=True)
                if (folder / name).exists():
                    (folder / name).unlink()
            self._write(finished=False)

    @property
    def fingerprint(self) -> str:
        """A hash of the settings, for stages that build on this one."""
        text = yaml.safe_dump(self._settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def finish(self) -> None:
        """Record that everything of this stage is on disk."""
        self._write(finished=True)
        self.finished = True

    def _write(self, *, finished: bool) -> None:
        content = {"finished": finished, "settings": self._settings}
        write_text(self._file, yaml.safe_dump(content, sort_keys=False))


class Times:
    """Seconds that each step of a run took, over interruptions, kept in a file."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path = path
        self.seconds: dict[str, float] = {}
        if keep and path.exists():
            self.seconds = yaml.safe_load(path.read_text(encoding="utf-8")) or {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the block takes, also if it is left by an exception."""
        started = time.monotonic()
        try:
            yield
        finally:
            total = self.seconds.get(name, 0.0) + time.monotonic() - started
            self.seconds[name] = round(total, 2)
            write_text(self._path, yaml.safe_dump(self.seconds, sort_keys=False))


def _first_difference(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> tuple[str, Any, Any] | None:
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            inner = _first_difference(before, after, f"{prefix}{key}.")
            if inner is not None:
                return inner
        elif before != after:
            return f"{prefix}{key}", before, after
    return None
