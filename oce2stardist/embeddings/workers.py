"""Let each of several threads compute a whole piece of the work by itself, on the CPU.

Torch by default splits every single operation among its threads, which wait for each other a
hundred times a step; where anything else runs on the machine, each wait costs a time slice
(benchmarks/TRIALS.md, "Threads"). Crops and tiles need nothing
of each other, so here every thread takes crops or tiles of its own, and operations are not split.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from oce2stardist.runs.ahead import map_ahead

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Runs a function on pieces of work, in threads on the CPU and one by one elsewhere."""

    def __init__(self, pool: ThreadPoolExecutor | None, count: int) -> None:
        self._pool = pool
        self.count = count

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results in order; never more pieces are under way than threads, plus one."""
        if self._pool is None:
            yield from map(function, items)
        else:
            yield from map_ahead(self._pool, function, items, at_once=self.count)


@contextmanager
def workers_for(device: torch.device, *, at_most: int | None = None) -> Iterator[Workers]:
    """Start threads for a device: as many as torch would use on the CPU, none elsewhere."""
    count = min(torch.get_num_threads(), at_most or torch.get_num_threads())
    whole = count < 2 and not torch.are_deterministic_algorithms_enabled()
    if device.type != "cpu" or whole:
        yield Workers(None, 1)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # for the new threads, too
    try:
        with ThreadPoolExecutor(count, thread_name_prefix="oce") as pool:
            yield Workers(pool, count)
    finally:
        torch.set_num_threads(before)


def add_gradients(
    network: nn.Module,
    passes: Sequence[Tensor],
    loss_of: Callable[[Tensor], Tensor],
    workers: Workers,
) -> Tensor:
    """Set the parameters' ``grad`` from several parts of a batch; return the sum of their losses.

    Losses, already weighted with a part's share of the batch, are computed at once; gradients are
    summed in the order of the parts.
    """
    parameters = list(network.parameters())

    def differentiate(crops: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = loss_of(crops)
        return loss.detach(), torch.autograd.grad(loss, parameters)

    results = list(workers.map(differentiate, passes))
    for index, parameter in enumerate(parameters):
        gradient = results[0][1][index]
        for _, others in results[1:]:
            gradient = gradient + others[index]
        # Fused optimisers walk through memory: gradients must lie there as their parameters do.
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    return torch.stack([loss for loss, _ in results]).sum()
