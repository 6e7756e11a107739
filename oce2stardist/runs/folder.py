"""Run folders: what was asked for, from which inputs, with which versions, and how far it got."""

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import yaml
from filelock import FileLock, Timeout

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_text
from oce2stardist.files.records import read_yaml
from oce2stardist.runs.processor import describe_processor

_RECORDED_PACKAGES = (
    *("oce2stardist", "torch", "tensorflow", "keras", "stardist", "csbdeep"),
    *("numpy", "scipy", "scikit-learn", "scikit-image"),
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


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a run folder for this process, which writes in it, as long as the block lasts.

    The lock is the operating system's, which takes it away from a process that dies. The file
    ``.owner`` only names the process to those who are refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / ".lock"), folder / ".owner"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        name = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        raise InputError(
            f"{folder} must be written by one process at a time. Got {name.strip()} at work in "
            "it; wait for its end, stop it, or choose another output."
        ) from error
    try:
        write_text(owner, f"process {os.getpid()} on {platform.node()}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def refuse_inputs_in_output(folder: Path, names: Iterable[str], inputs: Iterable[Path]) -> None:
    """Refuse inputs that lie where a run writes, by these names, and would be replaced."""
    written = [(folder / name).resolve() for name in names]
    for path in inputs:
        real = path.resolve()
        if any(real.is_relative_to(place) for place in written):
            raise InputError(
                f"inputs must lie outside of what a run writes. Got {path}, which {folder} would "
                "replace; choose another output, or copy the input elsewhere."
            )


def refuse_foreign(folder: Path, results: Iterable[str]) -> None:
    """Leave alone what lies under the name of a result, but no stage wrote: somebody's work."""
    foreign = [name for name in results if (folder / name).exists()]
    if foreign and not (folder / "stage.yaml").exists():
        raise InputError(
            f"{folder} must be empty or hold a run. Got {foreign[0]} of something else, "
            "which the run would replace; choose another output or move it away."
        )


class SeededConfig(Protocol):
    """The settings of a run or of a study."""

    @property
    def seed(self) -> int:
        """The one seed of every random draw."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Turn all settings into plain values."""


def write_run_file(
    folder: Path,
    *,
    command: str,
    config: SeededConfig,
    inputs: Mapping[str, Any],
    precision: Mapping[str, str] | None = None,
) -> None:
    """Write run.yaml: command, resolved config, hashes of the inputs, versions and processor.

    `precision` is what ``auto`` came to for training and for prediction, where a network runs:
    ``fp32``, ``bf16`` or ``mixed``.
    """
    content = {
        "command": command,
        "seed": config.seed,
        "inputs": dict(inputs),
        "versions": package_versions(),
        "processor": describe_processor(),
        **({"precision": dict(precision)} if precision else {}),
        "config": config.model_dump(mode="json"),
    }
    write_text(folder / "run.yaml", yaml.safe_dump(content, sort_keys=False))


class Stage:
    """One stage of a run folder, with the settings that its results depend on.

    ``<folder>/stage.yaml`` holds the settings and whether the stage has finished. A folder that
    holds a stage with other settings is refused, or with `overwrite` started again, as is one
    with files under the names of results that no stage wrote.

    Parameters
    ----------
    settings : mapping
        Everything that the stage's results depend on; plain YAML values.
    results : sequence of str
        Files and folders in `folder` that a new start removes, so that nothing of a run with
        other settings is taken for its own.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool, results: Sequence[str]
    ) -> None:
        self.folder = folder
        self._file = folder / "stage.yaml"
        # Through YAML once, so that tuples and lists compare equal.
        self._settings = yaml.safe_load(yaml.safe_dump(dict(settings)))
        self.finished = False
        self.resumes = False
        if self._file.exists():
            before = read_yaml(self._file)
            recorded = before.get("settings")
            recorded = recorded if isinstance(recorded, dict) else {}
            difference = _first_difference(recorded, self._settings)
            if difference is None:
                self.resumes = True
                self.finished = bool(before.get("finished"))
            elif not overwrite:
                name, old, new = difference
                raise InputError(
                    f"{folder} must hold a run with the same settings to continue it. Got {name}: "
                    f"{new!r} where it has {old!r}; choose another output or pass --overwrite."
                )
        else:
            refuse_foreign(folder, results)
        if not self.resumes:
            if self._file.exists():  # a kill from here on must leave neither the old run nor ours
                self._write(finished=False, settings={"being_removed": True})
            for name in results:
                shutil.rmtree(folder / name, ignore_errors=True)
                if (folder / name).exists():
                    (folder / name).unlink()
            self._write(finished=False, settings=self._settings)

    @property
    def fingerprint(self) -> str:
        """A hash of the settings, for stages that build on this one."""
        text = yaml.safe_dump(self._settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def finish(self) -> None:
        """Record that everything of this stage is on disk."""
        self._write(finished=True, settings=self._settings)
        self.finished = True

    def _write(self, *, finished: bool, settings: Mapping[str, Any]) -> None:
        content = {"finished": finished, "settings": dict(settings)}
        write_text(self._file, yaml.safe_dump(content, sort_keys=False))


class Times:
    """Seconds that each step of a run took, over interruptions, kept in a file."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path = path
        self.seconds: dict[str, float] = {}
        if keep and path.exists():
            self.seconds = read_yaml(path)

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
