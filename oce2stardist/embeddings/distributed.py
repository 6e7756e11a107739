"""Train one network in several processes, as torchrun starts them.

torchrun sets RANK (which process), WORLD_SIZE (how many) and LOCAL_RANK (which on this
machine). Without these variables everything here does nothing, in one process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from oce2stardist.errors import InputError

_PATIENCE = timedelta(hours=2)
"""How long a process waits for another: the main one may be clustering or writing meanwhile."""


def is_launched() -> bool:
    """Tell from RANK and WORLD_SIZE whether torchrun started several processes."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank_and_size() -> tuple[int, int]:
    """Return the number of this process, from 0, and the number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def is_main_process() -> bool:
    """Tell whether this process is the one that writes files and reports progress.

    Also right before `init_from_env`, from RANK alone.
    """
    if dist.is_available() and dist.is_initialized():
        return bool(dist.get_rank() == 0)
    return not is_launched() or int(os.environ["RANK"]) == 0


@contextmanager
def init_from_env(device: str) -> Iterator[None]:
    """Join the processes that torchrun started; in a single process do nothing.

    CUDA processes each take the GPU of their LOCAL_RANK and talk over NCCL, CPU processes over
    gloo; those of mps can't, and are refused.
    """
    if not is_launched() or dist.is_initialized():
        yield
        return
    if device == "mps":
        raise InputError("device must be cpu or cuda with several processes. Got mps instead.")
    on_gpus = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpus:
        present, local_rank = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= present:
            raise InputError(
                f"a machine must have a GPU for each of its processes. Got {present} and local "
                f"rank {local_rank}; lower --nproc-per-node or pass --device cpu."
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpus else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process, then in the others, which find what it wrote.

    If it fails in the main one, the others end, too: none waits for a partner that is gone.
    """
    if not is_main_process() and agree_on_any(False):
        raise InputError("the main process failed; its message is above.")
    failed = True
    try:
        yield
        failed = False
    finally:
        if is_main_process():
            agree_on_any(failed)


def agree_on_any(flag: bool) -> bool:
    """Tell every process whether the flag is up in any of them."""
    if rank_and_size()[1] == 1:
        return flag
    # NCCL moves only what is on a GPU.
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())


def sum_over_processes(value: Tensor) -> Tensor:
    """Add a tensor up over all processes, in place, so that each has the sum."""
    if rank_and_size()[1] > 1:
        dist.all_reduce(value)
    return value


def share_of(count: int) -> slice:
    """Tell which of `count` items, in order, this process takes; shares differ by one at most."""
    rank, size = rank_and_size()
    return slice(rank * count // size, (rank + 1) * count // size)
