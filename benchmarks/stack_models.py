"""Train on five annotated planes of one stack, and score the model on another.

    python benchmarks/stack_models.py OUT DATA TRAIN TEST [--planes 5] [--only ours,stock,planes]

DATA holds `images/NAME.tif` and `masks/NAME.tif`, voxels that are cubes. Of TRAIN evenly spaced
planes are annotated, completely; nothing is chosen on TEST. OUT/pseudo is a run of `oce2stardist
pseudo` on TRAIN, made if it is not there. Three models:

- ours: `finetune` with its defaults for stacks;
- stock: StarDist3D as stardist trains it, on the same planes (-1 elsewhere), for as many seconds;
- planes: our two-dimensional model of these planes, for as many seconds, on every plane of TEST;
  objects of planes that follow each other are one where their IoU is 0.25 or more.

Prints F1 and SEG in three dimensions, and seconds; all go on after an interruption but stock.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tifffile

from oce2stardist.config import Config
from oce2stardist.evaluation.scores import overlap_matrix, score_image
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.labels import Image, Labels
from oce2stardist.runners.finetune import finetune_stardist
from oce2stardist.runners.predict import predict_images
from oce2stardist.runners.pseudo import make_pseudo_labels
from oce2stardist.training_labels.draw_cells import CellDraw

_CUBE = VoxelSize(1.0, 1.0, 1.0)
_SAME = 0.25
_STEPS_2D = 800


def load(data: Path, name: str) -> tuple[ImageSet, Labels]:
    """Load a stack and its true labels."""
    pixels = tifffile.imread(data / "images" / f"{name}.tif").astype(np.float32)[..., None]
    truth = tifffile.imread(data / "masks" / f"{name}.tif").astype(np.int32)
    return ImageSet({}, {name: pixels}, voxel_sizes={name: _CUBE}), truth


def annotate(truth: Labels, count: int) -> Labels:
    """Keep `count` planes of a truth, evenly spaced; the others are unknown."""
    annotated = np.full_like(truth, -1)
    planes = (np.arange(count) + 0.5) * len(truth) / count
    annotated[planes.astype(int)] = truth[planes.astype(int)]
    return annotated


def link(planes: list[Labels]) -> Labels:
    """Join objects of planes that follow each other where their IoU is large, best pairs first."""
    linked = [planes[0]]
    highest = int(planes[0].max(initial=0))
    for plane in planes[1:]:
        overlap = overlap_matrix(plane, linked[-1])
        shared = overlap.pixels.tocoo()
        union = overlap.predicted_sizes[shared.row] + overlap.true_sizes[shared.col] - shared.data
        numbers, taken = {}, set()
        for pair in np.argsort(-shared.data / union):
            own = int(overlap.predicted_ids[shared.row[pair]])
            before = int(overlap.true_ids[shared.col[pair]])
            is_same = shared.data[pair] / union[pair] >= _SAME
            if is_same and own not in numbers and before not in taken:
                numbers[own] = before
                taken.add(before)
        lookup = np.zeros(int(plane.max(initial=0)) + 1, np.int32)
        for own in np.unique(plane[plane > 0]).tolist():
            if own not in numbers:
                highest += 1
            lookup[own] = numbers.get(own, highest)
        linked.append(lookup[plane])
    return np.stack(linked)


def train_stock(folder: Path, image: Image, annotated: Labels, seconds: float) -> None:
    """Train StarDist3D by its own means until the time is over."""
    from oce2stardist.stardist_model.backend import Config3D, StarDist3D, keras

    class Stop(keras.callbacks.Callback):  # type: ignore[misc]  # keras is not typed
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            del batch, logs
            if time.monotonic() - started > seconds:
                self.model.stop_training = True
                raise StopIteration

    config = Config3D(
        grid=(1, 2, 2), n_channel_in=1, train_patch_size=(16, 64, 64), train_batch_size=2,
        train_epochs=1000, train_steps_per_epoch=50, train_tensorboard=False,
    )  # fmt: skip
    model = StarDist3D(config, name=folder.name, basedir=str(folder.parent))
    model.prepare_for_training()
    model.callbacks.append(Stop())
    started = time.monotonic()
    pairs = [image[..., 0]], [annotated]
    try:
        model.train(*pairs, validation_data=pairs, seed=0)
    except StopIteration:
        model.keras_model.save_weights(str(folder / "weights_last.weights.h5"))
    model.thresholds = {"prob": 0.5, "nms": 0.3}
    np.save(folder / "done.npy", np.array([time.monotonic() - started]))


def predict_stock(folder: Path, image: Image) -> Labels:
    """Label a normalised stack with the model that `train_stock` left."""
    from oce2stardist.stardist_model.backend import StarDist3D

    model = StarDist3D(None, name=folder.name, basedir=str(folder.parent))
    model.keras_model.load_weights(str(folder / "weights_last.weights.h5"))
    labels, _ = model.predict_instances(
        image[..., 0], prob_thresh=0.5, nms_thresh=0.3, n_tiles=(1, 1, 1)
    )
    return np.asarray(labels, np.int32)


def main() -> None:
    """Train and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--planes", type=int, default=5)
    parser.add_argument("--only", default="ours,stock,planes")
    given = parser.parse_args()
    stacks, truth = load(given.data, given.train)
    others, wanted = load(given.data, given.test)
    annotated = annotate(truth, given.planes)
    seconds_file = given.out / "seconds.txt"
    print("| model | F1 | SEG | true, false, missed | seconds |\n|---|---|---|---|---|")

    def tell(name: str, labels: Labels, seconds: float) -> None:
        np.save(given.out / f"{name}.npy", labels)
        at = score_image(labels, wanted)
        print(
            f"| {name} | {at.f1:.3f} | {at.seg:.3f} | {at.tp}, {at.fp}, {at.fn} | {seconds:.0f} |",
            flush=True,
        )

    if "ours" in given.only:
        run = given.out / "pseudo"
        if not (run / "pseudo" / "stage.yaml").exists():
            make_pseudo_labels(stacks, run)
        started = time.monotonic()
        finetune_stardist(
            stacks, given.out / "ours", annotations={given.train: annotated}, pseudo=run
        )
        seconds = time.monotonic() - started
        seconds_file.write_text(f"{seconds}")
        tell("ours", predict_images(others, model=given.out / "ours")[given.test], seconds)
    seconds = float(seconds_file.read_text())
    if "stock" in given.only:
        image = normalise_percentiles(stacks.images[given.train])
        train_stock(given.out / "stock", image, annotated, seconds)
        other = normalise_percentiles(others.images[given.test])
        tell("stock", predict_stock(given.out / "stock", other), seconds)
    if "planes" in given.only:
        chosen = np.flatnonzero((annotated > -1).any(axis=(1, 2))).tolist()
        flat = {f"z{at:03d}": stacks.images[given.train][at] for at in chosen}
        started = time.monotonic()
        finetune_stardist(
            ImageSet.from_arrays(flat),
            given.out / "planes",
            annotations={f"z{at:03d}": annotated[at] for at in chosen},
            cells=CellDraw(zero="background"),
            config=Config().replace(**{"stardist.steps": _STEPS_2D}),
        )
        spent = time.monotonic() - started
        every = {f"z{at:03d}": plane for at, plane in enumerate(others.images[given.test])}
        found = predict_images(ImageSet.from_arrays(every), model=given.out / "planes")
        tell("planes", link([found[stem] for stem in sorted(found)]), spent)


if __name__ == "__main__":
    main()
