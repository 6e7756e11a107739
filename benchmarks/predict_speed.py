"""How fast `predict` labels images, beside `predict_instances` of plain stardist, in one process.

    python benchmarks/predict_speed.py MODEL IMAGES [--rounds 3] [--every 1]

MODEL is a model folder that `finetune` wrote. Both label the same normalised images in memory, at
the model's own scale, one after the other and in turn; the first round warms up and is not counted.
Prints megapixels a second, their ratio, and how many of the label images are equal pixel by pixel;
of the others, how many cells have no partner of IoU 0.9.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from stardist.matching import matching
from stardist.models import StarDist2D

from oce2stardist.images.image_set import read_images
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import Labels
from oce2stardist.runs.ahead import map_ahead
from oce2stardist.stardist_model.network import open_model, prepare_tensorflow
from oce2stardist.stardist_model.predict import find_scale, predict_objects


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    prepare_tensorflow("auto")
    stored = list(read_images(given.images).images.values())[:: given.every]
    images = [normalise_percentiles(image) for image in stored]
    ours = open_model(given.model)
    stock = StarDist2D(None, name=given.model.name, basedir=str(given.model.parent))
    scales = [find_scale(ours, image, ours.scale) for image in images]

    def label(index: int) -> Labels:
        return predict_objects(ours, images[index], scale=scales[index])[0]

    megapixels = sum(image.shape[0] * image.shape[1] for image in images) / 1e6
    seconds = {"stock": 0.0, "ours": 0.0}
    for turn in range(given.rounds + 1):
        started = time.monotonic()
        by_stock = [
            stock.predict_instances(image, scale=scale, show_tile_progress=False)[0]
            for image, scale in zip(images, scales, strict=True)
        ]
        between = time.monotonic()
        with ThreadPoolExecutor(2) as pool:  # as runners.predict does
            by_us = list(map_ahead(pool, label, range(len(images)), at_once=1))
        if turn:
            seconds["stock"] += between - started
            seconds["ours"] += time.monotonic() - between
    speed = {name: given.rounds * megapixels / taken for name, taken in seconds.items()}
    for name, value in speed.items():
        print(f"{name}: {value:.2f} megapixels a second")
    print(f"ratio {speed['ours'] / speed['stock']:.2f}")
    equal = sum(np.array_equal(one, other) for one, other in zip(by_stock, by_us, strict=True))
    apart = [matching(one, other, thresh=0.9) for one, other in zip(by_stock, by_us, strict=True)]
    print(f"{equal} of {len(images)} label images are equal; without a partner: stock "
          f"{sum(one.fn for one in apart)} of {sum(one.n_true for one in apart)} cells, ours "
          f"{sum(one.fp for one in apart)}")  # fmt: skip


if __name__ == "__main__":
    main()
