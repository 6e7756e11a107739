"""Do a few pieces of work ahead of what is asked for, in other threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from oce2stardist.runs.cluster import n_processors

_MOST_THREADS = 8
"""Of `map_in_threads`: each holds an image and what is made of it."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    at_once: int,
) -> Generator[Result, None, None]:
    """Yield the results in order; never more pieces are under way than `at_once`, plus one.

    What was not begun when the caller stops asking is not done.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results in order, of several items at a time; for what NumPy mostly does."""
    threads = min(n_processors(), _MOST_THREADS)
    with (
        ThreadPoolExecutor(threads) as pool,
        closing(map_ahead(pool, function, items, at_once=threads - 1)) as results,
    ):
        yield from results
