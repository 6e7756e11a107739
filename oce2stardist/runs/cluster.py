"""Where work is done: processes on this machine, a running dask scheduler, or SLURM."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import yaml
from distributed import Client, LocalCluster, WorkerPlugin

from oce2stardist.errors import InputError, one_line, say_install
from oce2stardist.runs.interruption import deaf_children, stop_on_signal

_LARGEST_FILE = 100_000
"""Bytes of a SLURM file."""

_LOOPBACK = "127.0.0.1:0"
"""Where dask's pages are served, which it always does: at any free port, for this machine only."""

_NO_PROFILE = {"distributed.worker.profile.enabled": False}
"""Setting of dask without which a worker that runs TensorFlow may hang for ever.

Its profiler looks at the frames of all threads a hundred times a second, under a lock of Python's;
where garbage is collected meanwhile and TensorFlow's graphs are among it, these wait for the same
lock. Seen after 20 blocks of 1,024 pixels, and once in a worker that was a thread of its client;
Python 3.11.7.
"""

_NEVER_WAIT_FOR_MEMORY = {
    f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")
}
"""TensorFlow keeps the memory it took: a worker that paused until it has less would never go on."""


class _NoProfile(WorkerPlugin):
    """Stops dask's profiler in workers that others started, with settings of their own."""

    def setup(self, worker: Any) -> None:
        """Take the profiler's calls away."""
        for name in ("profile", "profile-cycle"):
            callback = worker.periodic_callbacks.pop(name, None)
            if callback is not None:
                callback.stop()


_TO_CONNECT = 30.0
"""Seconds to wait for a scheduler."""


@dataclass(frozen=True)
class ClusterSettings:
    """Where grid cells or blocks are worked on.

    The workers of a dask `scheduler`, of which this is the address, must see the same folders.
    `slurm` is a YAML file with the arguments of ``dask_jobqueue.SLURMCluster``, and ``jobs``.
    """

    workers: int | None = None  # default: as many as processors
    threads: int | None = None  # of each; default: the processors shared out among the workers
    scheduler: str | None = None
    slurm: str | Path | None = None

    @property
    def local_workers(self) -> int:
        """Cells or blocks at a time on this machine."""
        return self.workers or n_processors()

    @property
    def cell_threads(self) -> int:
        """Threads of a cell or block."""
        return self.threads or max(1, n_processors() // self.local_workers)


def n_processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limited_to(threads: int) -> dict[str, str]:
    """Name the variables by which libraries are told how many threads to use."""
    names = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")]
    of_all = dict.fromkeys([*names, "TF_NUM_INTRAOP_THREADS"], str(threads))
    return of_all | {"TF_NUM_INTEROP_THREADS": "1"}


@contextmanager
def connected(
    where: ClusterSettings, *, memory: int = 0, environment: dict[str, str] | None = None
) -> Iterator[Client]:
    """Yield a client of the cluster; what was started for it ends with the block.

    A worker on this machine gets the variables of `environment`, and is started anew where it
    takes more than `memory` bytes, unless that is 0; elsewhere whoever starts the workers decides.
    """
    if where.scheduler is not None:
        with _client(where.scheduler) as client:
            yield client
    elif where.slurm is not None:
        cluster, jobs = slurm_cluster(Path(where.slurm))
        with cluster:
            cluster.scale(jobs=jobs)
            with _client(cluster) as client:
                yield client
    else:
        with _local(where, memory, environment) as cluster, _client(cluster) as client:
            yield client


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Take back what dask sets for its workers in this process, such as one thread for all."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _local(
    where: ClusterSettings, memory: int, environment: dict[str, str] | None
) -> Iterator[LocalCluster]:
    with (
        TemporaryDirectory(prefix="oce2stardist-") as scratch,
        _environment_kept(),
        ExitStack() as stack,
    ):
        with (
            stop_on_signal(),  # acts once all are there, and can be put away
            deaf_children(),
            dask.config.set(_NEVER_WAIT_FOR_MEMORY | _NO_PROFILE),  # nannies hand it on
        ):
            cluster = LocalCluster(
                n_workers=where.local_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=_LOOPBACK,
                worker_dashboard_address=_LOOPBACK,
                memory_limit=memory,
                env=environment or {},
                local_directory=scratch,
                silence_logs=logging.CRITICAL,
            )
            stack.enter_context(cluster)
        yield cluster


def _client(cluster: Any) -> Client:
    try:
        client = Client(cluster, timeout=_TO_CONNECT)
        client.register_plugin(_NoProfile(), name="oce2stardist-no-profile")
        return client
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler must be the address of a running dask scheduler. Got {cluster}, "
            f"which gave: {one_line(error)}; start one with `dask scheduler`."
        ) from error


def slurm_cluster(path: Path) -> tuple[Any, int]:
    """Open a SLURM cluster as a YAML file describes it; also the number of jobs."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise InputError(
            "the package dask-jobqueue must be installed for --slurm. Got none; "
            f"{say_install('slurm')}."
        ) from error
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"{path} must be smaller than {_LARGEST_FILE} bytes; pass a config.")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--slurm must be a YAML file. Got {path}: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("jobs"), int):
        raise InputError(
            f"{path} must be a mapping with a number of jobs. Got {str(content)[:60]!r}; see "
            "docs/experiments.md for an example."
        )
    jobs = content.pop("jobs")
    try:
        # One worker in a job, and no page that others could open.
        fixed = {"processes": 1, "scheduler_options": {"dashboard_address": _LOOPBACK}}
        options: dict[str, Any] = fixed | content
        return SLURMCluster(**options), jobs
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error
