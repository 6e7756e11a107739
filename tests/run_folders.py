"""Run folders with known content, as the runners leave them, without training anything."""

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save_file
from scenes import discs_scene
from scipy import ndimage as ndi

from oce2stardist.config import Config
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import write_labels
from oce2stardist.images.prepare import prepare_images
from oce2stardist.pseudo_labels.files import PseudoLabels
from oce2stardist.pseudo_labels.label_images import describe_objects
from oce2stardist.runs.folder import write_run_file
from oce2stardist.training_labels.draw_cells import CellDraw, draw_held_back
from oce2stardist.training_labels.files import write_training_labels
from oce2stardist.training_labels.make import make_training_labels


def history(steps=50, **columns):
    step = np.arange(1, steps + 1)
    return pd.DataFrame({"step": step, "loss": 0.2 + 1 / step, **columns})


def image_set(tmp_path, stems, shape=(60, 90)):
    """Images of six discs each, and their labels."""
    scenes = {stem: discs_scene(6, shape, 7, seed=i) for i, stem in enumerate(stems)}
    images = {stem: image[..., None] for stem, (image, _) in scenes.items()}
    files = {stem: tmp_path / f"{stem}.tif" for stem in stems}
    return ImageSet(files, images), {stem: labels for stem, (_, labels) in scenes.items()}


def parameters_text(**values):
    chosen = {name: {"value": value, "reason": f"why {name}"} for name, value in values.items()}
    return yaml.safe_dump(chosen, sort_keys=False)


def pseudo_run(folder, labels, command="oce2stardist pseudo x"):
    """Write what `make_pseudo_labels` writes, at half the scale of the labels."""
    write_run_file(folder, command=command, config=Config(seed=7), inputs={})
    (folder / "times.yaml").write_text("embedding_training: 125.4\ninference: 6.5\n")
    (folder / "oce" / "predicted").mkdir(parents=True)
    history().to_csv(folder / "oce" / "history.csv", index=False)
    rng = np.random.default_rng(0)
    for stem, image in labels.items():
        shape = (image.shape[0] // 2, image.shape[1] // 2)
        arrays = {
            "offsets": rng.normal(size=(2, *shape)).astype(np.float16),
            "spread": rng.uniform(0.1, 5, shape).astype(np.float16),
        }
        save_file(arrays, folder / "oce" / "predicted" / f"{stem}.safetensors")
        write_labels(folder / "pseudo" / "labels" / f"{stem}.tif", image)
    objects = pd.concat([describe_objects(stem, image) for stem, image in labels.items()])
    objects.to_csv(folder / "pseudo" / "objects.csv", index=False)
    (folder / "pseudo" / "parameters.yaml").write_text(
        parameters_text(scale=0.5, bandwidth=14.0, halo="intensity", trained_on=len(labels))
    )
    return folder


def gathering_run(folder, config, *, shape=(200, 260), diameter=28.0):
    """A run whose offsets point to the middles of discs: every sound setting finds these.

    Returns PreparedImages, and the labels of the discs by stem.
    """
    image, labels = discs_scene(8, shape, 14, seed=3)
    run = pseudo_run(folder, {"a": labels})
    offsets = np.random.default_rng(0).uniform(-15, 15, (2, *shape))
    middles = ndi.center_of_mass(labels > 0, labels, np.arange(1, labels.max() + 1))
    for label, middle in enumerate(middles, start=1):
        inside = labels == label
        offsets[:, inside] = np.array(middle)[:, None] - np.argwhere(inside).T
    spread = np.where(labels > 0, 0.2, 5.0).astype(np.float16)
    arrays = {"offsets": offsets.astype(np.float16), "spread": spread}
    save_file(arrays, run / "oce" / "predicted" / "a.safetensors")
    images = ImageSet({"a": folder / "a.tif"}, {"a": image[..., None]})
    return prepare_images(images, config, diameter=diameter), {"a": labels}


def finetuned(folder, annotations, pseudo, alpha=0.5):
    """Write what `finetune_stardist` writes; returns the training labels."""
    cells = CellDraw().draw(annotations, seed=0)
    labels = make_training_labels(
        annotations,
        PseudoLabels(pseudo, {}),
        cells,
        held_back=draw_held_back(cells, share=0.5, seed=0),
        complete=False,
        background_distance=10,
        overlap=0.0,
    )
    write_run_file(folder, command="oce2stardist finetune x", config=Config(), inputs={})
    write_training_labels(folder / "training", labels)
    (folder / "times.yaml").write_text("training: 61.0\n")
    (folder / "parameters.yaml").write_text(parameters_text(alpha=alpha, held_back_score=None))
    parts = {"loss_sparse": 0.4, "loss_pseudo": 0.3 if pseudo else 0.0}
    losses = history(**parts, score=np.nan, score_error=np.nan)
    losses.to_csv(folder / "history.csv", index=False)
    return labels


def two_annotated(labels):
    """Cells 1 and 2 are annotated, the rest is unknown."""
    return np.where((labels == 1) | (labels == 2), labels, -1).astype(np.int32)


def change_parameters(run, **changes):
    path = run / "pseudo" / "parameters.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))
