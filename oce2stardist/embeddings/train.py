"""The training loop of the offset network, top to bottom."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oce2stardist.embeddings.device import autocast, on_device, torch_device
from oce2stardist.embeddings.loss import Sigma, dense_pair_loss, sampled_pair_loss
from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork
from oce2stardist.embeddings.sampling import draw_displacements, draw_pairs

Image = NDArray[np.float32]  # (Y, X, C), normalised


@dataclass
class OffsetTraining:
    """What training leaves behind: the network, the loss of every step, and whether it ended."""

    network: OffsetNetwork
    history: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False


def train_offsets(
    images: Sequence[Image],
    *,
    feature_maps: int,
    growth: int,
    crop_size: int,
    batch_size: int,
    steps: int,
    optimiser: Literal["adam", "adamw"],
    learning_rate: float,
    schedule: Literal["one_cycle", "steps"],
    drop_at: Sequence[float],
    pairs: Literal["dense", "sampled"],
    displacements_per_step: int,
    density: float,
    kappa: float,
    temperature: float,
    sigma: Sigma,
    reference_gradient: bool,
    regularisation: float,
    centring: float,
    augment: bool,
    precision: Literal["auto", "fp32", "bf16"],
    device: str,
    seed: int,
    resume: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    save_every: float = 20.0,
    on_step: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> OffsetTraining:
    """Train the offset network on unlabelled images.

    Parameters
    ----------
    images : sequence of float32 arrays of shape (Y, X, C)
        Normalised, at the scale where a cell is larger than the field of view. Images
        smaller than a crop are padded by reflection.
    feature_maps, growth
        See `OffsetNetwork`.
    crop_size : int, even
        Side of the training crops in pixels; the loss sees 16 pixels less.
    batch_size, steps : int
        Crops per step and number of steps.
    optimiser, learning_rate, schedule, drop_at
        ``one_cycle`` rises to learning_rate over a fifth of the steps and falls to zero
        along a cosine; ``steps`` divides it by ten at each share of the steps in drop_at.
    pairs : {"dense", "sampled"}
        Compare every pixel with displacements_per_step shifted copies, or draw anchors
        and references at the given density as the paper does.
    kappa, temperature, sigma, reference_gradient, regularisation
        See `oce2stardist.embeddings.loss`.
    centring : float, >= 0
        Weight that the mean offset length gains, linearly, over the second half of the
        training. It pulls the offset of structureless background to the mean of the cells',
        which the loss leaves open; otherwise the spread, and so the foreground, is biased
        to one side of every cell. Full weight from the start keeps the network at zero.
    augment : bool
        Flip and turn the crops by quarters.
    precision : {"auto", "fp32", "bf16"}
        See `oce2stardist.embeddings.device.autocast`.
    seed : int
        Every step draws from its own generator, seeded by (seed, step), so a resumed run
        sees what an uninterrupted one would have seen.
    resume : dict, optional
        A state that `save` was given earlier.
    save : callable, optional
        Called with the state every save_every seconds, at a stop and at the end.
    on_step : callable, optional
        Called with the number of steps done and the loss.
    should_stop : callable
        Asked between steps; True ends training with ``finished`` False.

    Returns
    -------
    OffsetTraining
    """
    where = torch_device(device)
    torch.manual_seed(seed)
    network = on_device(
        OffsetNetwork(channels=images[0].shape[-1], feature_maps=feature_maps, growth=growth), where
    )
    optimise = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimiser](
        network.parameters(), lr=learning_rate
    )
    run = OffsetTraining(network)
    done = 0
    if resume is not None:
        network.load_state_dict(resume["network"])
        optimise.load_state_dict(resume["optimiser"])
        run.history, done = list(resume["history"]), int(resume["step"])

    def state() -> dict[str, Any]:
        return {
            "network": network.state_dict(),
            "optimiser": optimise.state_dict(),
            "history": run.history,
            "step": done,
        }

    padded = [_at_least(image, crop_size) for image in images]
    started = saved = time.monotonic()
    seconds_before = run.history[-1]["seconds"] if run.history else 0.0
    network.train()
    while done < steps and not should_stop():
        rng = np.random.default_rng([seed, done])
        rate = _learning_rate(done, steps, learning_rate, schedule=schedule, drop_at=drop_at)
        for group in optimise.param_groups:
            group["lr"] = rate
        batch = _draw_batch(padded, crop_size, batch_size, augment=augment, rng=rng)
        batch = batch.to(where, memory_format=torch.channels_last)
        with autocast(where, precision):
            offsets = network(batch)  # (B, 2, crop-16, crop-16)
        common: dict[str, Any] = {
            "temperature": temperature,
            "sigma": sigma,
            "regularisation": regularisation + centring * max(0.0, 2.0 * done / steps - 1.0),
        }
        if pairs == "dense":
            drawn = draw_displacements(kappa, displacements_per_step, rng)
            loss = dense_pair_loss(offsets, drawn, **common)
        else:
            side = crop_size - FIELD_OF_VIEW
            anchors, references = draw_pairs((side, side), kappa=kappa, density=density, rng=rng)
            loss = sampled_pair_loss(
                offsets, anchors, references, reference_gradient=reference_gradient, **common
            )
        optimise.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimise.step()
        done += 1
        now = time.monotonic()
        run.history.append(
            {
                "step": done,
                "loss": float(loss.detach()),
                "learning_rate": rate,
                "seconds": seconds_before + now - started,
            }
        )
        if on_step is not None:
            on_step(done, run.history[-1]["loss"])
        if save is not None and now - saved >= save_every:
            save(state())
            saved = now
    run.finished = done >= steps
    if save is not None:
        save(state())
    network.eval()
    return run


def _learning_rate(
    step: int, steps: int, peak: float, *, schedule: str, drop_at: Sequence[float]
) -> float:
    if schedule == "steps":
        return peak * 0.1 ** sum(step >= share * steps for share in drop_at)
    warm_up = max(1.0, 0.2 * steps)
    if step < warm_up:
        return peak * (0.04 + 0.96 * step / warm_up)
    progress = (step - warm_up) / max(1.0, steps - warm_up)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def _at_least(image: Image, size: int) -> Image:
    """Pad an image by reflection until both sides measure `size` pixels."""
    missing = [max(0, size - side) for side in image.shape[:2]]
    if not any(missing):
        return image
    pad = [(gap // 2, gap - gap // 2) for gap in missing]
    # "symmetric" is defined for any amount of padding, also beyond one image width.
    return np.pad(image, [*pad, (0, 0)], mode="symmetric")


def _draw_batch(
    images: Sequence[Image],
    crop_size: int,
    batch_size: int,
    *,
    augment: bool,
    rng: np.random.Generator,
) -> Tensor:
    """Draw crops, each pixel of the set equally likely; shape (B, C, crop, crop)."""
    pixels = np.array([image.shape[0] * image.shape[1] for image in images], dtype=float)
    crops = []
    for index in rng.choice(len(images), batch_size, p=pixels / pixels.sum()):
        image = images[index]
        top, left = (int(rng.integers(0, side - crop_size + 1)) for side in image.shape[:2])
        crop = image[top : top + crop_size, left : left + crop_size]
        if augment:
            crop = np.rot90(crop, k=int(rng.integers(4)))
            crop = crop[::-1] if rng.integers(2) else crop
        crops.append(np.moveaxis(crop, -1, 0))
    return torch.from_numpy(np.ascontiguousarray(np.stack(crops), dtype=np.float32))
