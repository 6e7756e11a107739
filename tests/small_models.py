"""StarDist networks that train in seconds, and the two images that a fine-tuning is tried on."""

import numpy as np
from scenes import discs_scene

from oce2stardist.config import Config, StarDistConfig
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.normalise import normalise_percentiles

N_RAYS = 8
FINETUNING = Config(
    stardist=StarDistConfig(
        width=4, features=8, n_rays=N_RAYS, patch_size=64, batch_size=2, steps=4, checks=1, folds=0
    )
)


def small_model(folder, *, channels=1, half_precision=False, **changes):
    from oce2stardist.stardist_model.network import create_model

    settings = {
        "n_rays": N_RAYS, "width": 4, "features": 8, "patch_size": 64, "batch_size": 4,
        "learning_rate": 1e-3, "distance_weight": 0.2,
    }  # fmt: skip
    config = StarDistConfig(**settings | changes)
    return create_model(folder, config, channels=channels, half_precision=half_precision, seed=0)


def write_model(folder, *, prob, nms, longer=0.0, **changes):
    """Write a model folder with weights as initialised, distances by so many pixels longer."""
    from oce2stardist.stardist_model.checkpoint import write_thresholds, write_weights

    model = small_model(folder, **changes)
    distances = model.keras_model.get_layer("dist")
    kernel, bias = distances.get_weights()
    distances.set_weights([kernel, bias + longer])
    write_weights(folder / "weights_best.h5", model)
    write_thresholds(folder, prob=prob, nms=nms)
    return folder


def stream(scene, *, n_sparse=2, n_pseudo=2, seed=0):
    """Batches of a scene of which the sparse half knows cells 1 and 2."""
    from oce2stardist.stardist_model.patches import BatchStream, PatchSource

    image, labels = scene
    sparse = np.where(np.isin(labels, [1, 2]), labels, -1)
    normalised = normalise_percentiles(image[..., None])
    sources = [
        PatchSource([normalised], [half], patch_size=64, around_objects=0.9)
        for half in (sparse, labels)
    ]
    return BatchStream(
        *sources, n_sparse=n_sparse, n_pseudo=n_pseudo, n_rays=N_RAYS, grid=2, intensity=0.5,
        seed=seed,
    )  # fmt: skip


def train(folder, scene, *, steps, **changes):
    """Train a small model on a scene; returns model and run."""
    from oce2stardist.runs.schedule import cosine_rate
    from oce2stardist.stardist_model.train import Checks, train_stardist

    settings = {
        "n_sparse": 2,
        "alpha": 0.5,
        "steps": steps,
        "rate_at": lambda step: cosine_rate(step, steps=steps, peak=5e-3, warm_up=0.1),
        "checks": Checks(1000, keep=lambda model: None),
    }
    model = small_model(folder, width=8, features=16)
    return model, train_stardist(model, stream(scene), **settings | changes)


def fields(n_images=2, n_cells=6):
    """Images field0, field1 ... of 96 x 96 pixels for a fine-tuning, and their labels."""
    drawn = {f"field{i}": discs_scene(n_cells, (96, 96), 9, seed=i) for i in range(n_images)}
    images = ImageSet.from_arrays({name: image for name, (image, _) in drawn.items()})
    return images, {name: labels.astype(np.int32) for name, (_, labels) in drawn.items()}
