"""Train the start of the offset network on drawn scenes.

    python benchmarks/drawn_offsets.py OUT.safetensors [--scenes 3000] [--steps 4000] [--seed 1]

Draws the scenes, shows them to the network as `pseudo` shows it images (compressed and normalised),
and trains with the loss of the default preset: it is told no label. The same call goes on after an
interruption. OUT is what the package has as oce2stardist/drawn/offsets.safetensors.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from oce2stardist.config import EmbeddingConfig, PseudoConfig
from oce2stardist.drawn.scenes import draw_scene
from oce2stardist.images.intensity import compress
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import Image


def draw(number: int, *, seed: int) -> Image:
    """Draw scene `number` of a seed, as the network sees images, (Y, X, 1)."""
    image = draw_scene(np.random.default_rng([seed, number])).image
    return normalise_percentiles(compress(image, knee=PseudoConfig().knee))


def train(out: Path, *, count: int, steps: int, seed: int) -> None:
    """Draw the scenes and train on them."""
    from oce2stardist.embeddings.checkpoint import read_state, write_state, write_weights
    from oce2stardist.embeddings.train import train_offsets

    with ProcessPoolExecutor() as pool:
        images = list(pool.map(partial(draw, seed=seed), range(count), chunksize=20))
    print(f"{count} scenes are drawn.", flush=True)
    losses: list[float] = []

    def show(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 100 == 0:
            print(f"{step} {np.mean(losses[-100:]):.4f}", flush=True)

    state = out.with_suffix(".pt")
    run = train_offsets(
        images,
        EmbeddingConfig(steps=steps, start="none"),
        device="auto",
        seed=seed,
        resume=read_state(state),
        save=lambda current: write_state(state, current),
        on_step=show,
    )
    write_weights(out, run.network)


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    train(given.out, count=given.scenes, steps=given.steps, seed=given.seed)


if __name__ == "__main__":
    main()
