"""Stock `StarDist2D.train` beside this training: seconds a step, and F1 over wall-clock.

    python benchmarks/stock_stardist.py IMAGES LABELS TEST_IMAGES TEST_MASKS OUT

All train the network of the fast preset on the same complete label images, for the same number of
steps, each in a process of its own, one after the other:

- stock stardist with its default patches (256 px, 4 a step) and learning rate,
- stock stardist with our patches (96 px, 8 a step) and learning rate,
- ours.

Stock stardist gets flips, quarter turns and intensity as augmentation, as in its examples, and no
environment variable (ours turns oneDNN on). Five images validate. The weights after every 100
steps are scored afterwards on the test images at StarDist's default thresholds, so that neither
the choice of weights nor that of thresholds plays a part. Prints Markdown and draws OUT/f1.png.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PER_EPOCH = 100
RUNS = {"stock": "stock, its patches", "tuned": "stock, our patches", "ours": "ours"}


def main() -> None:
    """Train each in a process of its own, score, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("images", "labels", "test_images", "test_masks", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--steps", type=int, default=1500, help="a multiple of 100")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        train(arguments)
        return
    if arguments.out.exists():
        parser.error(f"{arguments.out} must not exist; remove it or choose another.")
    curves = {}
    for run in arguments.only:
        (arguments.out / run).mkdir(parents=True)
        environment = dict(os.environ)
        environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
        command = [sys.executable, *sys.argv, "--run", run]
        # Keras rewrites its line of progress with every step.
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        curves[RUNS[run]] = score(arguments, run)
    report(curves, arguments.out)


def train(arguments: argparse.Namespace) -> None:
    """Train one; leaves weights and the seconds since the start of the training loop."""
    folder = arguments.out / arguments.run
    marks: list[float] = []
    if arguments.run == "ours":
        train_ours(arguments, folder, marks)
    else:
        train_stock(arguments, folder, marks, tuned=arguments.run == "tuned")
    (folder / "seconds.json").write_text(json.dumps(marks), encoding="utf-8")


def read_pairs(images: Path, labels: Path) -> tuple[list[Any], list[Any]]:
    """Read and normalise images and label images as oce2stardist does."""
    from oce2stardist.datasets import pair_folders
    from oce2stardist.images.normalise import normalise_percentiles

    pairs = list(pair_folders(images, labels))
    return [normalise_percentiles(one.image) for one in pairs], [one.labels for one in pairs]


def settings(*, patch: int, batch: int, rate: float) -> dict[str, Any]:
    """Settings of stock stardist: the network of the fast preset, and how it is trained."""
    return {
        "axes": "YXC",
        "n_channel_in": 1,
        "n_rays": 32,
        "grid": (2, 2),
        "unet_n_depth": 3,
        "unet_n_filter_base": 16,
        "net_conv_after_unet": 64,
        "unet_batch_norm": True,
        "train_patch_size": (patch, patch),
        "train_batch_size": batch,
        "train_learning_rate": rate,
        "train_tensorboard": False,
        "train_steps_per_epoch": PER_EPOCH,
    }


def train_stock(
    arguments: argparse.Namespace, folder: Path, marks: list[float], *, tuned: bool
) -> None:
    """Train as the examples of stardist do."""
    import keras
    from stardist.models import Config2D, StarDist2D

    images, labels = read_pairs(arguments.images, arguments.labels)
    ours, default = (
        {"patch": 96, "batch": 8, "rate": 3e-3},
        {"patch": 256, "batch": 4, "rate": 3e-4},
    )
    choice = settings(**(ours if tuned else default))
    keras.utils.set_random_seed(0)
    model = StarDist2D(Config2D(**choice), name="model", basedir=str(folder))

    class Mark(keras.callbacks.Callback):  # type: ignore[misc]  # keras is not typed
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            marks.append(time.monotonic() - started)
            self.model.save_weights(folder / f"{len(marks):02d}.weights.h5")

    def augmenter(image: Any, mask: Any) -> tuple[Any, Any]:
        turns, flip = np.random.randint(4), np.random.randint(2)
        image, mask = np.rot90(image, turns), np.rot90(mask, turns)
        if flip:
            image, mask = image[::-1], mask[::-1]
        return image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2), mask

    model.prepare_for_training()
    model.callbacks.append(Mark())
    started = time.monotonic()
    model.train(
        images[5:],
        labels[5:],
        validation_data=(images[:5], labels[:5]),
        augmenter=augmenter,
        epochs=arguments.steps // PER_EPOCH,
        seed=0,
    )


def train_ours(arguments: argparse.Namespace, folder: Path, marks: list[float]) -> None:
    """Train as `oce2stardist finetune` does, without the checks on held-back cells."""
    from oce2stardist.config import Config
    from oce2stardist.runs.schedule import cosine_rate
    from oce2stardist.stardist_model.network import create_model, prepare_tensorflow
    from oce2stardist.stardist_model.patches import BatchStream, PatchSource
    from oce2stardist.stardist_model.train import Checks, train_stardist

    images, labels = read_pairs(arguments.images, arguments.labels)
    config = Config().stardist
    prepare_tensorflow("cpu")
    model = create_model(folder / "model", config, channels=1, seed=0)
    source = PatchSource(
        images[5:], labels[5:], patch_size=config.patch_size, around_objects=config.around_objects
    )
    batches = BatchStream(
        source,
        None,
        n_sparse=config.batch_size,
        n_pseudo=0,
        n_rays=config.n_rays,
        grid=config.grid,
        intensity=config.intensity,
        seed=0,
    )

    def mark(row: dict[str, float]) -> None:
        if row["step"] % PER_EPOCH == 0:
            marks.append(time.monotonic() - started)
            model.keras_model.save_weights(folder / f"{len(marks):02d}.weights.h5")

    started = time.monotonic()
    train_stardist(
        model,
        batches,
        n_sparse=config.batch_size,
        alpha=0.0,
        steps=arguments.steps,
        rate_at=lambda step: cosine_rate(
            step, steps=arguments.steps, peak=config.learning_rate, warm_up=config.warm_up
        ),
        checks=Checks(every=arguments.steps, keep=lambda _: None),
        on_step=mark,
    )


def score(arguments: argparse.Namespace, run: str) -> list[tuple[int, float, float, float]]:
    """Score every set of weights: (steps, seconds, F1, SEG)."""
    from stardist.models import Config2D, StarDist2D

    from oce2stardist.evaluation.scores import pool_scores, score_image

    images, truths = read_pairs(arguments.test_images, arguments.test_masks)
    folder = arguments.out / run
    marks = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    model = StarDist2D(Config2D(**settings(patch=96, batch=8, rate=3e-3)), name=None, basedir=None)
    model.thresholds = {"prob": 0.5, "nms": 0.4}
    curve = []
    for index, seconds in enumerate(marks, start=1):
        model.keras_model.load_weights(folder / f"{index:02d}.weights.h5")
        scores = []
        for image, truth in zip(images, truths, strict=True):
            labels, _ = model.predict_instances(image)
            scores.append(score_image(labels.astype(np.int32), truth))
        pooled = pool_scores(scores)
        curve.append((index * PER_EPOCH, seconds, pooled.f1, pooled.seg))
        print(f"{run} {index * PER_EPOCH} {seconds:.0f} s {pooled.f1:.3f}", file=sys.stderr)
    return curve


def report(curves: dict[str, list[tuple[int, float, float, float]]], out: Path) -> None:
    """Print the table and the ratio, and draw F1 over time."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    print("| training | s a step | after 500 steps | 1,000 | last | seconds |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, curve in curves.items():
        by_step = {steps: f1 for steps, _, f1, _ in curve}
        steps, seconds, f1, seg = curve[-1]
        print(
            f"| {name} | {seconds / steps:.3f} | {by_step.get(500, np.nan):.3f} "
            f"| {by_step.get(1000, np.nan):.3f} | {f1:.3f} (SEG {seg:.3f}) | {seconds:.0f} |"
        )
    best = min(max(f1 for *_, f1, _ in curve) for curve in curves.values())
    for name, curve in curves.items():
        reached = next(seconds for _, seconds, f1, _ in curve if f1 >= best)
        print(f"F1 {best:.3f}, the best that all reach: {name} after {reached:.0f} s")
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, curve in curves.items():
        axes.plot([one[1] for one in curve], [one[2] for one in curve], marker="o", label=name)
    axes.set(xlabel="seconds of training", ylabel="F1 at IoU 0.5, test images", ylim=(0, 1))
    axes.legend()
    figure.savefig(out / "f1.png", dpi=120)


if __name__ == "__main__":
    main()
