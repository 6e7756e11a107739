"""Train the start of the offset network on drawn scenes.

    python benchmarks/drawn_offsets.py OUT.safetensors [--scenes 3000] [--steps 4000] [--seed 1]
    python benchmarks/drawn_offsets.py OUT.safetensors --stacks --scenes 300 --steps 1500

Draws the scenes, shows them to the network as `pseudo` shows it images (compressed and normalised),
and trains with the loss of the default preset: it is told no label. The same call goes on after an
interruption. OUT is what the package has as oce2stardist/drawn/offsets.safetensors, with --stacks
as volume_offsets.safetensors.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from oce2stardist.config import Config
from oce2stardist.drawn.scenes import draw_scene
from oce2stardist.drawn.volumes import draw_volume
from oce2stardist.images.intensity import compress
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import Image

_SIDE = 64
"""Of a drawn stack, voxels."""


def draw(number: int, *, seed: int, stacks: bool) -> Image:
    """Draw scene `number` of a seed, as the network sees images, (Y, X, 1) or (Z, Y, X, 1)."""
    rng = np.random.default_rng([seed, number])
    if stacks:
        settings = Config().for_stacks().pseudo
        image = draw_volume(rng, size=_SIDE, diameter=settings.working_diameter).image
    else:
        settings, image = Config().pseudo, draw_scene(rng).image
    return normalise_percentiles(compress(image, knee=settings.knee))


def train(out: Path, *, count: int, steps: int, seed: int, stacks: bool) -> None:
    """Draw the scenes and train on them."""
    from oce2stardist.embeddings.checkpoint import read_state, write_state, write_weights
    from oce2stardist.embeddings.train import train_offsets

    config = Config().for_stacks() if stacks else Config()
    with ProcessPoolExecutor() as pool:
        one = partial(draw, seed=seed, stacks=stacks)
        images = list(pool.map(one, range(count), chunksize=20))
    print(f"{count} scenes are drawn.", flush=True)
    losses: list[float] = []

    def show(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 100 == 0:
            print(f"{step} {np.mean(losses[-100:]):.4f}", flush=True)

    state = out.with_suffix(".pt")
    run = train_offsets(
        images,
        config.embedding.model_copy(update={"steps": steps, "start": "none"}),
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
    parser.add_argument("--stacks", action="store_true")
    given = parser.parse_args()
    train(given.out, count=given.scenes, steps=given.steps, seed=given.seed, stacks=given.stacks)


if __name__ == "__main__":
    main()
