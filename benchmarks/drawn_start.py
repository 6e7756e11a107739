"""Train the start on drawn scenes, and score it on real images that it has never seen.

    python benchmarks/drawn_start.py train OUT [--scenes 12000] [--steps 16000] [--seed 1]
    python benchmarks/drawn_start.py score MODEL DATA SET ... [--every 1]
    python benchmarks/drawn_start.py measure MODEL DATA SET ... [--every 1]
    python benchmarks/drawn_start.py store OUT

`train` draws the scenes (several processes), trains the network of the default preset on them and
writes a StarDist folder; the same call goes on after an interruption. `score` predicts sets of DATA
such as `bbbc039/test`: each image brought to the working diameter by its true cells, and at the
scale that the start finds by itself (`find_scale`); beside Otsu and watershed at the true diameter.
It prints F1 at IoU 0.5, its mean over IoU 0.5 to 0.9 and SEG over all cells, and AP at 0.5 as a
mean over images. `measure` compares the diameters that the start and `images.diameter` find.
`store` puts the weights of OUT into the package.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stardist.matching import matching

from oce2stardist.config import StarDistConfig
from oce2stardist.drawn import DIAMETER
from oce2stardist.drawn.scenes import Scene, draw_scene
from oce2stardist.evaluation.scores import pool_scores, score_image
from oce2stardist.experiments.baseline import segment_classically
from oce2stardist.images.channels import is_brightfield_rgb
from oce2stardist.images.diameter import estimate_diameter
from oce2stardist.images.find import find_images
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_image
from oce2stardist.labels import Labels, median_diameter
from oce2stardist.stardist_model.drawn_start import STAIN, THRESHOLDS

SETTINGS = StarDistConfig(learning_rate=2e-3)
IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)


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

    losses: list[float] = []

    def show(row: dict[str, float]) -> None:
        losses.append(row["loss"])
        if row["step"] % 200 == 0:
            mean = np.mean(losses[-200:])
            print(f"{row['step']:.0f} {mean:.4f} {row['seconds']:.0f} s", flush=True)

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
    write_thresholds(out, prob=THRESHOLDS[0], nms=THRESHOLDS[1])


def score(folder: Path, data: Path, sets: list[str], *, every: int) -> None:
    """Predict real images and print a row for each set."""
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import find_scale, predict_objects
    from oce2stardist.stardist_model.scale import ModelScale

    model = open_model(folder)
    scale = ModelScale(1.0, DIAMETER, per_image=True)
    print("| set | diameter | F1 | mean F1 | SEG | AP |\n|---|---|---:|---:|---:|---:|")
    for name in sets:
        rows: dict[str, list[tuple[Labels, Labels]]] = {"true": [], "found": [], "Otsu": []}
        for path in find_images(data / name / "images")[::every]:
            truth = read_labels(data / name / "masks" / f"{path.stem}.tif")
            image = normalise_percentiles(_channels(read_image(path)))
            true = median_diameter([truth]) or DIAMETER
            rows["Otsu"].append((segment_classically(image, true), truth))
            factors = {
                "true": scale.for_diameter(true).factor,
                "found": find_scale(model, image, scale),
            }
            for kind, factor in factors.items():
                rows[kind].append((predict_objects(model, image, scale=factor)[0], truth))
        for kind, pairs in rows.items():
            print(f"| {name} | {kind} | {say(pairs)} |", flush=True)


def measure(folder: Path, data: Path, sets: list[str], *, every: int) -> None:
    """Print how far off the diameters of the start and of `images.diameter` are."""
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import find_scale
    from oce2stardist.stardist_model.scale import ModelScale

    model = open_model(folder)
    scale = ModelScale(1.0, DIAMETER, per_image=True)
    print("| set | true | images.diameter | trusted | start | images off by 1.41: | start |")
    print("|---|---:|---:|---|---:|---:|---:|")
    for name in sets:
        paths = find_images(data / name / "images")[::every]
        images = [_channels(read_image(path)) for path in paths]
        masks = [read_labels(data / name / "masks" / f"{path.stem}.tif") for path in paths]
        estimate = estimate_diameter(images)
        own = [DIAMETER / find_scale(model, normalise_percentiles(one), scale) for one in images]
        true = [median_diameter([one]) for one in masks]
        off = [
            sum(
                not 2**-0.5 < found / one < 2**0.5
                for found, one in zip(some, true, strict=True)
                if one
            )
            for some in (estimate.per_image, own)
        ]
        print(
            f"| {name} | {median_diameter(masks):.1f} | {estimate.diameter or 0:.1f} | "
            f"{'yes' if estimate.trusted else 'no'} | {np.median(own):.1f} | "
            f"{off[0]} of {len(images)} | {off[1]} |",
            flush=True,
        )


def _channels(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make one channel of several, as the product does for the start."""
    if is_brightfield_rgb([image]):
        return np.asarray(255 - (image @ np.array(STAIN, np.float32))[..., None])
    return np.asarray(normalise_percentiles(image).mean(axis=-1, keepdims=True))


def say(pairs: Sequence[tuple[Labels, Labels]]) -> str:
    """Score predicted and true labels: F1, its mean over IoU, SEG, AP per image."""
    by_iou = [
        pool_scores([score_image(found, truth, iou_threshold=iou) for found, truth in pairs])
        for iou in IOUS
    ]
    ap = np.mean([matching(truth, found, thresh=0.5).accuracy for found, truth in pairs])
    f1 = [scores.f1 for scores in by_iou]
    return f"{f1[0]:.3f} | {np.mean(f1):.3f} | {by_iou[0].seg:.3f} | {ap:.3f}"


def store(out: Path) -> None:
    """Put the weights into the package."""
    from oce2stardist.stardist_model.drawn_start import store_start
    from oce2stardist.stardist_model.network import open_model

    store_start(open_model(out))


def main() -> None:
    """Train, score or store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train")
    one.add_argument("out", type=Path)
    one.add_argument("--scenes", type=int, default=12000)
    one.add_argument("--steps", type=int, default=16000)
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--workers", type=int, default=2)
    for name in ("score", "measure"):
        one = commands.add_parser(name)
        one.add_argument("model", type=Path)
        one.add_argument("data", type=Path)
        one.add_argument("sets", nargs="+")
        one.add_argument("--every", type=int, default=1)
    one = commands.add_parser("store")
    one.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.command == "train":
        train(given.out, count=given.scenes, steps=given.steps, seed=given.seed,
              workers=given.workers)  # fmt: skip
    elif given.command == "score":
        score(given.model, given.data, given.sets, every=given.every)
    elif given.command == "measure":
        measure(given.model, given.data, given.sets, every=given.every)
    else:
        store(given.out)


if __name__ == "__main__":
    main()
