"""Speed of a training step of the offset network beside plain ways to write it.

    python benchmarks/training_step.py            two minutes
    python benchmarks/training_step.py --quick    only shows that everything runs

All ways train the same network (the `fast` preset) on the same crops, in fp32, and take turns,
so that whatever else the machine does meets them alike:

- plain: features in torch's own order (NCHW), magnification and concatenation, and the pairs
  of the dense loss gathered by index, with gradients to both pixels;
- plain, paper's pairs: the same network with 10 % of the pixels as anchors and references at a
  density of 10 %, as in the paper;
- ours: what `train_offsets` does in a step (but for the batch, which another thread draws).

The floor is what the multiplications of the plain network take, forward and twice as many
backward, at the rate this machine reaches in a product of two large matrices.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import numpy as np
import torch
from torch import Tensor, nn

from oce2stardist.config import Config
from oce2stardist.embeddings.device import Computation, choose_computation, on_device, torch_device
from oce2stardist.embeddings.loss import dense_pair_loss
from oce2stardist.embeddings.network import FIELD_OF_VIEW, OffsetNetwork
from oce2stardist.embeddings.sampling import draw_displacements, draw_pairs
from oce2stardist.embeddings.workers import Workers, add_gradients
from oce2stardist.runs.processor import describe_processor

SETTINGS = Config().embedding
SIDE = SETTINGS.crop_size - FIELD_OF_VIEW

CLOCK: dict[str, Callable[[], float]] = {"now": time.perf_counter}
"""Tells the seconds; see --cpu-time."""

Step = Callable[[], tuple[float, float]]
"""Does one training step; returns seconds of the whole step and of its loss."""


def new_network() -> OffsetNetwork:
    """Build the network of the `fast` preset, the same each time."""
    torch.manual_seed(0)
    return OffsetNetwork(
        channels=1, feature_maps=SETTINGS.feature_maps, growth=SETTINGS.growth
    ).train()


def plain_step(draw: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Step:
    """Train as one would write it down: whole batch, plain layers, gathered pairs."""
    network = new_network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images = torch.rand(SETTINGS.batch_size, 1, SETTINGS.crop_size, SETTINGS.crop_size)

    def step() -> tuple[float, float]:
        started = CLOCK["now"]()
        anchors, references = draw()
        offsets = network.forward_plain(images)
        loss_seconds = _backward(offsets, lambda leaf: plain_loss(leaf, anchors, references))
        optimiser.step()
        optimiser.zero_grad()
        return CLOCK["now"]() - started, loss_seconds

    return step


def plain_loss(offsets: Tensor, anchors: np.ndarray, references: np.ndarray) -> Tensor:
    """Write Eq. 5 down: embeddings at the pixels of each pair, their distance, its sigmoid."""
    at_anchor, at_reference = (
        offsets[:, :, points[:, 0], points[:, 1]] + points.T
        for points in (torch.tensor(anchors), torch.tensor(references))
    )
    squared = (at_anchor - at_reference).square().sum(dim=1)
    penalty = torch.sigmoid(squared / SETTINGS.temperature).mean()
    return penalty + SETTINGS.regularisation * offsets.norm(dim=1).mean()


def _backward(offsets: Tensor, loss: Callable[[Tensor], Tensor]) -> float:
    """Go back through loss and network; returns the seconds that the loss took, both ways."""
    started = CLOCK["now"]()
    leaf = offsets.detach().requires_grad_()
    loss(leaf).backward()
    seconds = CLOCK["now"]() - started
    offsets.backward(leaf.grad)
    return seconds


def gathered_pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Index the pairs that the dense loss compares in one step, those inside the crop."""
    pixels = np.stack(np.meshgrid(*2 * [np.arange(SIDE)], indexing="ij"), axis=-1).reshape(-1, 2)
    steps = draw_displacements(SETTINGS.kappa, SETTINGS.displacements_per_step, rng, ndim=2)
    references = pixels + steps[:, None]  # (K, SIDE**2, 2)
    inside = ((references >= 0) & (references < SIDE)).all(axis=-1)
    return np.broadcast_to(pixels, references.shape)[inside], references[inside]


def our_step(computation: Computation, workers: Workers) -> Step:
    """Train as `train_offsets` does: a few crops at a time, layers written out, shifted pairs."""
    device = torch_device("cpu")
    network = on_device(new_network(), device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    images = torch.rand(SETTINGS.batch_size, 1, SETTINGS.crop_size, SETTINGS.crop_size)
    rng = np.random.default_rng(0)

    def step() -> tuple[float, float]:
        displacements = draw_displacements(
            SETTINGS.kappa, SETTINGS.displacements_per_step, rng, ndim=2
        )
        seconds_of_loss: list[float] = []

        def part_of_loss(crops: Tensor) -> Tensor:
            offsets = network(crops)
            started = CLOCK["now"]()
            loss = dense_pair_loss(
                offsets,
                displacements,
                temperature=SETTINGS.temperature,
                sigma=SETTINGS.sigma,
                regularisation=SETTINGS.regularisation,
                reduction=SETTINGS.reduction,
            )
            seconds_of_loss.append(CLOCK["now"]() - started)  # its gradient is part of it
            return loss * (len(crops) / len(images))

        started = CLOCK["now"]()
        passes = images.split(computation.crops_at_once)
        add_gradients(network, passes, part_of_loss, workers)
        optimiser.step()
        # Passes run side by side: the mean is what the loss adds to a step.
        return CLOCK["now"]() - started, sum(seconds_of_loss) / workers.count

    return step


def step_products() -> float:
    """Floating point operations of a step's convolutions, a product and a sum counting two."""
    total = 0.0

    def count(layer: nn.Conv2d, _: tuple[Tensor, ...], after: Tensor) -> None:
        nonlocal total
        total += 2.0 * after.numel() * layer.weight[0].numel()

    network = new_network()
    hooks = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.no_grad():
        network.forward_plain(torch.rand(1, 1, SETTINGS.crop_size, SETTINGS.crop_size))
    for hook in hooks:
        hook.remove()
    return 3.0 * SETTINGS.batch_size * total


def matrix_seconds(side: int) -> float:
    """Seconds of the product of two matrices of this side."""
    one, other = torch.rand(side, side), torch.rand(side, side)
    started = CLOCK["now"]()
    torch.mm(one, other)
    return CLOCK["now"]() - started


def machine() -> str:
    """Name the processor, the threads and how busy the machine is."""
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    cpu = describe_processor()["name"]
    return f"{cpu}, {torch.get_num_threads()} threads of {os.cpu_count()}{load}"


def main() -> None:
    """Let the ways take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--threads", type=int, help="of torch; default: torch's own choice")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="one thread, and its processor time: for a machine that others use too",
    )
    arguments = parser.parse_args()
    if arguments.cpu_time:
        arguments.threads, CLOCK["now"] = 1, time.process_time
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rounds, side = (2, 512) if arguments.quick else (15, 2048)
    seconds_of = "processor time" if arguments.cpu_time else "wall clock"
    print(f"{machine()}, {seconds_of}, torch {torch.__version__}, {date.today().isoformat()}\n")

    rng = np.random.default_rng(0)
    computation = choose_computation(
        torch_device("cpu"),
        precision="fp32",
        crop_size=SETTINGS.crop_size,
        batch_size=SETTINGS.batch_size,
        maps=SETTINGS.feature_maps,
    )
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    ways: dict[str, Step] = {
        "plain": plain_step(lambda: gathered_pairs(rng)),
        "plain, paper's pairs": plain_step(
            lambda: draw_pairs((SIDE, SIDE), kappa=SETTINGS.kappa, density=0.1, rng=rng)
        ),
        "ours": our_step(computation, Workers(pool, threads)),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    products = []
    for turn in range(rounds + 1):
        for name, step in ways.items():
            # Ours has threads that each work alone; the plain one splits every operation.
            torch.set_num_threads(1 if name == "ours" else threads)
            seconds[name].append(step())
        torch.set_num_threads(threads)
        products.append(matrix_seconds(side))
        if turn == 0:  # the warm-up
            products.clear()
            for measured in seconds.values():
                measured.clear()

    medians = {name: np.median(measured, axis=0) for name, measured in seconds.items()}
    ours, loss = medians["ours"]
    rate = 2.0 * side**3 / float(np.median(products))
    best = 2.0 * side**3 / min(products)
    floor = step_products() / rate
    print("| Measured | Value | Details |\n|---|---:|---|")
    crops = f"{SETTINGS.batch_size} crops of {SETTINGS.crop_size} px"
    for name, (whole, part) in medians.items():
        print(f"| {name}, a step | {whole:.3f} s | {crops}; {part / whole:.0%} of it the loss |")
    for name in ("plain", "plain, paper's pairs"):
        print(f"| {name} over ours | {medians[name][0] / ours:.2f} | medians of {rounds} |")
    print(
        f"| products of a step | {step_products() / 1e9:.1f} GFLOP | plain network, 3 x forward |"
    )
    print(
        f"| matrix rate | {rate / 1e9:.0f} GFLOP/s | median, {side} x {side}; "
        f"best {best / 1e9:.0f} |"
    )
    print(f"| floor of a step | {floor:.3f} s | products over rate |")
    print(f"| ours over floor | {ours / floor:.2f} | {ours * best / step_products():.2f} at best |")
    print(
        f"| ours, network and the rest | {ours - loss:.3f} s | "
        f"{1 - loss / ours:.0%}; {computation.crops_at_once} crops at once |"
    )
    print(f"| ours, loss | {loss:.3f} s | {loss / ours:.0%} |")


if __name__ == "__main__":
    main()
