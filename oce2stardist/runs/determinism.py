"""The same bits whatever the number of threads: what runs with `deterministic` share."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from oce2stardist.config import Config

THREADS = 4
"""Of TensorFlow, where their number must not depend on what is free; more than cores do no harm."""


def fixed_threads(asked: bool) -> int | None:
    """Say how many threads TensorFlow must use, if any number."""
    return THREADS if asked else None


@contextmanager
def one_thread_for_sums(asked: bool) -> Iterator[None]:
    """Let NumPy and SciPy, if asked, multiply matrices in one thread.

    Torch and TensorFlow are told by those who use them, see `fixed_threads` and
    `oce2stardist.embeddings.device.fixed_sums`.
    """
    if not asked:
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield


def describe_determinism(config: Config) -> dict[str, bool]:
    """Say for the settings of a stage that its sums have a fixed order; else nothing."""
    return {"deterministic": True} if config.deterministic else {}
