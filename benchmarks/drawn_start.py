"""Train the start on drawn scenes, and score it on real images that it has never seen.

    python benchmarks/drawn_start.py train OUT [--scenes 4000] [--steps 16000] [--seed 1]
    python benchmarks/drawn_start.py score MODEL DATA SET ... [--every 1]

`train` draws the scenes (several processes), trains the network of the default preset on them and
writes a StarDist folder; the same call goes on after an interruption. `score` predicts sets of DATA
such as `bbbc039/test`: each image brought to the working diameter by its true cells, and at the
scale that the start finds by itself (predict, rescale by 28 / median diameter found, twice). It
prints F1 at IoU 0.5 and SEG over all cells, and AP at 0.5 as a mean over images.
"""

import argparse
import functools
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from skimage.transform import resize

from oce2stardist.config import StarDistConfig
from oce2stardist.drawn import DIAMETER
from oce2stardist.drawn.scenes import Scene, draw_scene
from oce2stardist.images.find import find_images
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_image
from oce2stardist.labels import Labels, median_diameter, resize_labels

SETTINGS = StarDistConfig(width=32, features=128, learning_rate=2e-3)


def draw(number: int, *, seed: int, size: int) -> Scene:
    """Draw scene `number` of a seed."""
    return draw_scene(np.random.default_rng([seed, number]), size=size)


def train(out: Path, *, count: int, steps: int, seed: int, workers: int) -> None:
    """Draw the scenes and train on them."""
    from oce2stardist.runs.schedule import cosine_rate
    from oce2stardist.stardist_model.checkpoint import (
        read_state,
        write_state,
        write_thresholds,
        write_weights,
    )
    from oce2stardist.stardist_model.network import (
        can_compute_in_half_precision,
        create_model,
        prepare_tensorflow,
    )
    from oce2stardist.stardist_model.patches import BatchStream, PatchSource
    from oce2stardist.stardist_model.train import Checks, train_stardist

    started = time.monotonic()
    stored = out.with_suffix(".scenes.npz")
    if not stored.exists():
        with ProcessPoolExecutor(workers) as pool:
            make = functools.partial(draw, seed=seed, size=192)
            scenes = list(pool.map(make, range(count), chunksize=20))
        print(f"{count} scenes drawn in {time.monotonic() - started:.0f} s", flush=True)
        images = np.array([scene.image for scene in scenes], np.float16)
        labels = np.array([scene.labels for scene in scenes], np.int16)
        np.savez(stored, images=images, labels=labels)
    with np.load(stored) as arrays:
        images = arrays["images"].astype(np.float32)
        labels = arrays["labels"].astype(np.int32)
    prepare_tensorflow("auto")
    half = can_compute_in_half_precision()
    model = create_model(out, SETTINGS, channels=1, half_precision=half, seed=seed)
    source = PatchSource(
        list(images),
        list(labels),
        patch_size=SETTINGS.patch_size,
        around_objects=0.9,
    )
    batches = BatchStream(
        source,
        None,
        n_sparse=SETTINGS.batch_size,
        n_pseudo=0,
        n_rays=SETTINGS.n_rays,
        grid=SETTINGS.grid,
        intensity=SETTINGS.intensity,
        seed=seed,
    )

    def show(row: dict[str, float]) -> None:
        if row["step"] % 200 == 0:
            print(f"{row['step']:.0f} {row['loss']:.4f} {row['seconds']:.0f} s", flush=True)

    train_stardist(
        model,
        batches,
        n_sparse=SETTINGS.batch_size,
        alpha=0.0,
        steps=steps,
        rate_at=functools.partial(
            cosine_rate, steps=steps, peak=SETTINGS.learning_rate, warm_up=SETTINGS.warm_up
        ),
        checks=Checks(every=1000, keep=lambda kept: write_weights(out / "weights_best.h5", kept)),
        resume=read_state(out / "state.safetensors"),
        save=lambda state: write_state(out / "state.safetensors", state),
        on_step=show,
    )
    write_thresholds(out, prob=0.5, nms=0.4)


def score(folder: Path, data: Path, sets: list[str], *, every: int) -> None:
    """Predict real images and print a row for each set."""
    from stardist.matching import matching

    from oce2stardist.evaluation.scores import pool_scores, score_image
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import predict_labels

    model = open_model(folder)

    def at_scale(image: np.ndarray, factor: float) -> Labels:
        shape = tuple(max(8, round(side * factor)) for side in image.shape[:2])
        scaled = resize(image, (*shape, 1), order=1, anti_aliasing=factor < 1)
        return predict_labels(model, normalise_percentiles(scaled))

    print("| set | diameter | F1 | SEG | AP |\n|---|---|---:|---:|---:|")
    for name in sets:
        paths = find_images(data / name / "images")[::every]
        rows: dict[str, list[tuple[Labels, Labels]]] = {"true": [], "found": []}
        for path in paths:
            image = read_image(path)[..., :1].astype(np.float32)
            truth = read_labels(data / name / "masks" / f"{path.stem}.tif")
            true = median_diameter([truth]) or DIAMETER
            rows["true"].append((at_scale(image, DIAMETER / true), truth))
            factor = 1.0
            for _ in range(2):
                found = median_diameter([at_scale(image, factor)])
                factor = float(np.clip(factor * DIAMETER / (found or DIAMETER), 0.1, 6))
            rows["found"].append((at_scale(image, factor), truth))
        for kind, pairs in rows.items():
            full = [(resize_labels(labels, truth.shape), truth) for labels, truth in pairs]
            total = pool_scores([score_image(labels, truth) for labels, truth in full])
            ap = np.mean([matching(t, p, thresh=0.5).accuracy for p, t in full])
            print(f"| {name} | {kind} | {total.f1:.3f} | {total.seg:.3f} | {ap:.3f} |", flush=True)


def main() -> None:
    """Train or score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train")
    one.add_argument("out", type=Path)
    one.add_argument("--scenes", type=int, default=4000)
    one.add_argument("--steps", type=int, default=16000)
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--workers", type=int, default=2)
    one = commands.add_parser("score")
    one.add_argument("model", type=Path)
    one.add_argument("data", type=Path)
    one.add_argument("sets", nargs="+")
    one.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    if given.command == "train":
        train(given.out, count=given.scenes, steps=given.steps, seed=given.seed,
              workers=given.workers)  # fmt: skip
    else:
        score(given.model, given.data, given.sets, every=given.every)


if __name__ == "__main__":
    main()
