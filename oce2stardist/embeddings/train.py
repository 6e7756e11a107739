"""Train the offset network."""

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from oce2stardist.config import EmbeddingConfig
from oce2stardist.embeddings.device import (
    Computation,
    autocast,
    channels_last,
    choose_computation,
    on_device,
    torch_device,
)
from oce2stardist.embeddings.distributed import (
    agree_on_any,
    is_main_process,
    rank_and_size,
    share_of,
    sum_over_processes,
)
from oce2stardist.embeddings.drawn_start import begin_drawn
from oce2stardist.embeddings.loss import dense_pair_loss, sampled_pair_loss
from oce2stardist.embeddings.network import OffsetNetwork
from oce2stardist.embeddings.predict import AnyOffsetNetwork, ImageSource
from oce2stardist.embeddings.sampling import draw_displacements, draw_pairs
from oce2stardist.embeddings.volume_network import VolumeOffsetNetwork
from oce2stardist.embeddings.workers import add_gradients, workers_for
from oce2stardist.errors import InputError, check_finite
from oce2stardist.runs.schedule import dropping_rate, one_cycle_rate

Drawn = tuple[NDArray[np.int64], ...]
"""Which pixels a step compares: displacements (K, 2), or anchors and references (P, 2) each; in
stacks 3 in place of 2."""

_DRAWN_AHEAD = 2
"""Batches that wait, drawn, for the network."""
SAVE_EVERY = 20.0
"""Seconds between two savings of the state."""


@dataclass
class OffsetTraining:
    """The trained network; `history` has step, loss, learning rate and seconds of every step."""

    network: AnyOffsetNetwork
    computation: Computation
    history: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False


def train_offsets(
    images: Sequence[ImageSource],
    settings: EmbeddingConfig,
    *,
    device: str,
    seed: int,
    resume: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> OffsetTraining:
    """Train the offset network on unlabelled images.

    In processes that torchrun started (see `distributed`), all draw the same batches and
    each computes its share of the crops, so that the training is the same as in one process.

    Parameters
    ----------
    images : sequence of float32 arrays of shape (Y, X, C), or of what slices like them
        Or stacks, all of shape (Z, Y, X, C). Normalised, at the scale where a cell is larger than
        the field of view. Images smaller than a crop are padded by reflection; of others only crops
        are read.
    settings : EmbeddingConfig
        ``centring`` pulls the offset of structureless background to the mean of the cells',
        which the loss leaves open; otherwise the spread, and so the foreground, is biased to one
        side of every cell. Its weight rises linearly over the second half of the training: full
        weight from the start keeps the network at zero.
    seed : int
        Every step draws from its own generator, seeded by (seed, step), so a resumed run
        sees what an uninterrupted one would have seen.
    save, resume : callable, dict, optional
        The main process calls `save` with its state now and then, at a stop and at the end;
        a later call can resume from there.
    on_step : callable, optional
        Called with the number of steps done and the loss.
    should_stop : callable
        Asked between steps; True, in any process, ends training with ``finished`` False.

    Raises
    ------
    InputError
        If there are more processes than crops in a batch, or the loss is no longer finite.
    """
    processes = rank_and_size()[1]
    if settings.batch_size < processes:
        raise InputError(
            f"batch_size must be at least the number of processes, {processes}. "
            f"Got {settings.batch_size} instead."
        )
    where, ndim = torch_device(device), len(images[0].shape) - 1
    computation = choose_computation(
        where,
        precision=settings.precision,
        crop=settings.crop_size**ndim,
        batch_size=math.ceil(settings.batch_size / processes),  # the largest share
        maps=settings.feature_maps,
    )
    torch.manual_seed(seed)
    kind = VolumeOffsetNetwork if ndim == 3 else OffsetNetwork
    network: AnyOffsetNetwork = kind(
        channels=images[0].shape[-1],
        feature_maps=settings.feature_maps,
        growth=settings.growth,
        initialisation=settings.initialisation,
    )
    if settings.begins_drawn:
        begin_drawn(network)
    network = on_device(network, where)
    optimiser = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
    fused = where.type in ("cpu", "cuda")
    optimise = optimiser(network.parameters(), lr=settings.learning_rate, fused=fused)
    run = OffsetTraining(network, computation)
    done = 0
    if resume is not None:
        network.load_state_dict(resume["network"])
        optimise.load_state_dict(resume["optimiser"])
        run.history, done = list(resume["history"]), int(resume["step"])

    def keep() -> None:
        # Weights that are no numbers are not worth saving; the next loss would tell too late.
        finite = all(bool(torch.isfinite(weights).all()) for weights in network.parameters())
        if save is not None and is_main_process() and finite:
            state = {"network": network.state_dict(), "optimiser": optimise.state_dict()}
            save(state | {"history": run.history, "step": done})

    padded = [_at_least(image, settings.crop_size) for image in images]

    def draw(step: int) -> tuple[Tensor, Drawn]:
        rng = np.random.default_rng([seed, step])
        return _draw_batch(padded, settings, rng), _draw_pairs(settings, network, rng)

    model: Any = DistributedDataParallel(network) if processes > 1 else network

    def part_of_loss(crops: Tensor, *, drawn: Drawn, weight: float) -> Tensor:
        with autocast(where, computation.precision):
            offsets = model(crops.to(where, memory_format=channels_last(crops.ndim)))
        share = len(crops) / settings.batch_size if settings.reduction == "mean" else 1.0
        return _pair_loss(offsets, drawn, settings, weight) * share

    steps = training_steps(images, settings)
    started = saved = time.monotonic()
    seconds_before = run.history[-1]["seconds"] if run.history else 0.0
    network.train()
    with (
        closing(_ahead(draw, done)) as draws,
        workers_for(where, at_most=computation.passes if processes == 1 else 1) as workers,
    ):
        while done < steps and not agree_on_any(should_stop()):
            batch, drawn = next(draws)
            progress = done / steps
            rate = _learning_rate(settings, progress)
            for group in optimise.param_groups:
                group["lr"] = rate
            centring = settings.centring * max(0.0, 2.0 * progress - 1.0)
            loss_of = partial(part_of_loss, drawn=drawn, weight=settings.regularisation + centring)
            passes = batch[share_of(settings.batch_size)].split(computation.crops_at_once)
            optimise.zero_grad(set_to_none=True)
            if processes > 1:
                total = _exchanged_gradients(model, passes, loss_of, processes)
            else:
                total = add_gradients(network, passes, loss_of, workers)
            optimise.step()
            done += 1
            now = time.monotonic()
            loss = float(sum_over_processes(total))
            check_finite(loss, done, stage="embedding")
            seconds = seconds_before + now - started
            run.history.append(
                {"step": done, "loss": loss, "learning_rate": rate, "seconds": seconds}
            )
            if on_step is not None:
                on_step(done, loss)
            if now - saved >= SAVE_EVERY:
                keep()
                saved = now
    run.finished = done >= steps
    keep()
    network.eval()
    return run


def _exchanged_gradients(
    model: Any, passes: Sequence[Tensor], loss_of: Callable[[Tensor], Tensor], processes: int
) -> Tensor:
    """Compute the gradients of this process's passes and exchange them once, with the last."""
    total = torch.zeros(())
    for index, crops in enumerate(passes):
        with model.no_sync() if index < len(passes) - 1 else nullcontext():
            loss = loss_of(crops)
            # DistributedDataParallel divides by the number of processes.
            (loss * processes).backward()  # type: ignore[no-untyped-call]
        total = total.to(loss.device) + loss.detach()
    return total


def training_steps(images: Sequence[ImageSource], settings: EmbeddingConfig) -> int:
    """Count the steps of a training; an epoch covers the pixels of all images, in whole batches.

    Crops lie at random, so in an epoch some pixels are seen twice and some not at all.
    """
    if settings.steps is not None:
        return settings.steps
    if settings.epochs is None:
        return settings.usual_steps
    pixels, ndim = sum(map(_count_pixels, images)), len(images[0].shape) - 1
    return settings.epochs * math.ceil(pixels / (settings.crop_size**ndim * settings.batch_size))


def _count_pixels(image: ImageSource) -> int:
    return math.prod(image.shape[:-1])


def _learning_rate(settings: EmbeddingConfig, progress: float) -> float:
    if settings.schedule == "one_cycle":
        return one_cycle_rate(progress, peak=settings.learning_rate)
    return dropping_rate(progress, steps=1, peak=settings.learning_rate, drop_at=settings.drop_at)


def _ahead(draw: Callable[[int], Any], first: int) -> Generator[Any, None, None]:
    """Yield what `draw` returns for first, first + 1, ..., drawn in another thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = deque(pool.submit(draw, first + ahead) for ahead in range(_DRAWN_AHEAD))
        for step in count(first + _DRAWN_AHEAD):
            ready = waiting.popleft().result()
            waiting.append(pool.submit(draw, step))
            yield ready


def _at_least(image: ImageSource, size: int) -> ImageSource:
    """Pad an image by reflection until all sides measure `size` pixels."""
    missing = [max(0, size - side) for side in image.shape[:-1]]
    if not any(missing):
        return image
    pad = [(gap // 2, gap - gap // 2) for gap in missing]
    # "symmetric" is defined for any amount of padding, also beyond one image width.
    pixels = np.asarray(image[tuple(slice(0, side) for side in image.shape[:-1])])
    return np.pad(pixels, [*pad, (0, 0)], mode="symmetric")


def _draw_batch(
    images: Sequence[ImageSource], settings: EmbeddingConfig, rng: np.random.Generator
) -> Tensor:
    """Draw crops, each pixel of the set equally likely; shape (B, C, crop, crop).

    Those of stacks are turned around z only, along which light blurs more.
    """
    crop_size = settings.crop_size
    pixels = np.array([_count_pixels(image) for image in images], dtype=float)
    crops = []
    for index in rng.choice(len(images), settings.batch_size, p=pixels / pixels.sum()):
        image = images[index]
        starts = [int(rng.integers(0, side - crop_size + 1)) for side in image.shape[:-1]]
        crop = np.asarray(image[tuple(slice(start, start + crop_size) for start in starts)])
        if settings.augment:
            crop = np.rot90(crop, k=int(rng.integers(4)), axes=(-3, -2))
            crop = np.flip(crop, -3) if rng.integers(2) else crop
            crop = np.flip(crop, 0) if crop.ndim == 4 and rng.integers(2) else crop
        crops.append(np.moveaxis(crop, -1, 0))
    return torch.from_numpy(np.ascontiguousarray(np.stack(crops), dtype=np.float32))


def _draw_pairs(
    settings: EmbeddingConfig, network: AnyOffsetNetwork, rng: np.random.Generator
) -> Drawn:
    """Draw which pixels of all crops are compared."""
    ndim, kappa = network.ndim, settings.kappa
    if settings.pairs == "dense":
        return (draw_displacements(kappa, settings.displacements_per_step, rng, ndim=ndim),)
    side = settings.crop_size - network.field_of_view
    return draw_pairs((side,) * ndim, kappa=kappa, density=settings.density, rng=rng)


def _pair_loss(
    offsets: Tensor, drawn: Drawn, settings: EmbeddingConfig, regularisation: float
) -> Tensor:
    """Compute the loss of offsets (B, 2, crop - 16, crop - 16) on the pairs drawn."""
    common = settings.model_dump(include={"temperature", "sigma", "reduction"})
    common["regularisation"] = regularisation
    if settings.pairs == "dense":
        return dense_pair_loss(offsets, *drawn, **common)
    common["reference_gradient"] = settings.reference_gradient
    return sampled_pair_loss(offsets, *drawn, **common)
