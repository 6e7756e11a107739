"""Open exported models with what Fiji and QuPath read them with, and compare with plain StarDist.

    python benchmarks/open_exports.py make FOLDER [--model MODEL ...]
    python benchmarks/open_exports.py opencv FOLDER
    python benchmarks/open_exports.py tensorflow FOLDER

`make` exports models to ONNX and SavedModel and keeps what `StarDist2D.predict` says of images,
also of such whose sides are no multiple of what the network takes. Without --model: the start of
drawn cells for one channel and for three, and untrained networks of other grids and blocks. The
other two run in environments of their own that need nothing of oce2stardist: `opencv` has
opencv-python-headless, which QuPath's version has the number of (4.6, 4.11); `tensorflow` has
TensorFlow 1.x and Python 3.7, as Fiji's. Both fill images up by reflection, as the read-me files
say. They print the largest differences of prob, and of dist relative to 1 px or the distance
itself if that is longer; a difference above 1e-4 ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

TOLERANCE = 1e-4
SHAPES = ((64, 64), (250, 333), (512, 384))
"""Pixels (y, x) of the images; one network meets them one after the other."""


def make(given: argparse.Namespace) -> bool:
    """Export models and keep what plain StarDist predicts."""
    from oce2stardist import export_model

    for name, folder in find_models(given).items():
        out = given.folder / name
        for kind in ("onnx", "savedmodel"):
            for file in export_model(folder, out, to=kind).files:
                if file.suffix in (".onnx", ".zip"):
                    file.rename(out / f"model{file.suffix}")
        if "oce2stardist_blocks" in json.loads((folder / "config.json").read_text()):
            from oce2stardist.stardist_model.network import open_model

            model = open_model(folder)  # plain stardist can't
        else:
            from stardist.models import StarDist2D

            model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
        grid, multiple = model.config.grid, int(max(model._axes_div_by("YX")))
        facts = {"grid": [int(step) for step in grid], "multiple": multiple}
        (out / "facts.json").write_text(json.dumps(facts))
        for number, shape in enumerate(SHAPES):
            image = draw_image((*shape, model.config.n_channel_in), seed=number)
            prob, dist = model.predict(image)[:2]
            np.savez(out / f"{number}.npz", image=image, prob=prob, dist=dist)
        print(f"{name}: {model.config.n_channel_in} channels, {facts}")
    return True


def find_models(given: argparse.Namespace) -> dict[str, Path]:
    """List the models by name; those of ours are made."""
    if given.model:
        return {folder.resolve().name: folder.resolve() for folder in given.model}
    from oce2stardist.config import StarDistConfig
    from oce2stardist.stardist_model import drawn_start
    from oce2stardist.stardist_model.checkpoint import write_thresholds, write_weights
    from oce2stardist.stardist_model.network import create_model

    models = {
        f"drawn-{channels}": drawn_start.folder_for([np.ones((64, 64, channels), np.float32)])
        for channels in (1, 3)
    }
    for name, channels, changes in (
        ("grid-1", 2, {"grid": 1, "batch_norm": False}),
        ("grid-4", 1, {"grid": 4, "batch_norm": True}),
        ("paper", 1, {"grid": 2, "blocks": "paper"}),
    ):
        folder = given.folder / "models" / name
        settings = StarDistConfig(width=8, features=16, n_rays=32, **changes)
        model = create_model(folder, settings, channels=channels, seed=0)
        write_weights(folder / "weights_best.h5", model)
        write_thresholds(folder, prob=0.5, nms=0.4)
        models[name] = folder
    return models


def draw_image(shape: tuple[int, int, int], *, seed: int) -> np.ndarray:
    """Draw blurred discs in noise, each channel brought to 0 and 1 by its percentiles."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = rng.normal(0, 0.1, shape)
    for _ in range(shape[0] * shape[1] // 2000):
        y, x, radius = *rng.uniform((0, 0), shape[:2]), rng.uniform(8, 16)
        away = np.hypot(rows - y, columns - x)
        image += rng.uniform(0.5, 1, shape[2]) / (1 + np.exp(away - radius))[..., None]
    low, high = np.percentile(image, (1, 99.8), axis=(0, 1))
    return ((image - low) / (high - low)).astype(np.float32)


def compare(given: argparse.Namespace, open_model) -> bool:
    """Run all models on all images; `open_model` makes a function image -> prob, dist of one."""
    good = True
    for folder in sorted(path.parent for path in given.folder.glob("*/facts.json")):
        facts = json.loads((folder / "facts.json").read_text())
        run = open_model(folder, facts["grid"])
        for file in sorted(folder.glob("*.npz")):
            with np.load(str(file)) as stored:
                image, wanted = stored["image"], (stored["prob"], stored["dist"])
            fill = [(0, -side % facts["multiple"]) for side in image.shape[:2]]
            outputs = run(np.pad(image, fill + [(0, 0)], mode="reflect"))  # noqa: RUF005
            rows, columns = wanted[0].shape
            prob, dist = (output[:rows, :columns] for output in outputs)
            # As StarDist's own predict does: no ray is shorter than nothing.
            dist = np.maximum(dist, 1e-3)
            of_prob = float(np.abs(prob - wanted[0]).max())
            far = np.abs(dist - wanted[1])
            of_dist = float((far / np.maximum(1, wanted[1])).max())
            good = good and of_prob <= TOLERANCE and of_dist <= TOLERANCE
            sizes = "{} x {} px, {} channels".format(*image.shape)
            print(
                f"{folder.name}, {sizes}: prob {of_prob:.1e}, dist {of_dist:.1e} "
                f"(longest {wanted[1].max():.0f} px, {far.max():.1e} px)"
            )
    print("the same" if good else "NOT the same")
    return good


def open_with_opencv(given: argparse.Namespace) -> bool:
    """Run the ONNX files as QuPath does: blobs with channels in front, outputs by their names."""
    import cv2

    print(f"OpenCV {cv2.__version__}, Python {sys.version.split()[0]}")

    def open_model(folder: Path, grid: list[int]):
        net = cv2.dnn.readNetFromONNX(str(folder / "model.onnx"))

        def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            net.setInput(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
            names = net.getUnconnectedOutLayersNames()
            made = dict(zip(names, net.forward(names)))  # noqa: B905 (Python 3.7)
            return made["prob"][0, 0], made["dist"][0].transpose(1, 2, 0)

        return run

    return compare(given, open_model)


def open_with_tensorflow(given: argparse.Namespace) -> bool:
    """Run the SavedModels as Fiji does: by the tag and the signature that CSBDeep looks for."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    v1 = getattr(getattr(tf, "compat", None), "v1", tf)
    v1.logging.set_verbosity(v1.logging.ERROR)
    print(f"TensorFlow {tf.__version__}, Python {sys.version.split()[0]}")

    def open_model(folder: Path, grid: list[int]):
        session = v1.Session(graph=tf.Graph())
        with session.graph.as_default(), TemporaryDirectory() as unzipped:
            with zipfile.ZipFile(str(folder / "model.zip")) as archive:
                archive.extractall(unzipped)
            loaded = v1.saved_model.loader.load(session, ["serve"], unzipped)
        signature = loaded.signature_def["serving_default"]
        ((_, given_to),) = signature.inputs.items()
        ((_, made_by),) = signature.outputs.items()

        def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            (output,) = session.run(made_by.name, {given_to.name: image[None]})
            at_grid = output[:: grid[0], :: grid[1]]
            assert np.count_nonzero(output[..., 0]) == np.count_nonzero(at_grid[..., 0])
            return at_grid[..., 0], at_grid[..., 1:]

        return run

    return compare(given, open_model)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = {"make": make, "opencv": open_with_opencv, "tensorflow": open_with_tensorflow}
    parser.add_argument("kind", choices=list(kinds))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, nargs="+", help="StarDist folders")
    given = parser.parse_args()
    return 0 if kinds[given.kind](given) else 1


if __name__ == "__main__":
    sys.exit(main())
