"""Do the work of each kind of run: read a data set and the folders of other runs, write its own.

Every function takes the run's settings, the folders of the runs it needs by role, and its
folder. What scores leaves ``labels/<stem>.tif`` and ``scores.csv``.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from oce2stardist.config import Config
from oce2stardist.datasets import LabelledImage
from oce2stardist.experiments import methods
from oce2stardist.experiments.config import DataConfig
from oce2stardist.experiments.data import open_data
from oce2stardist.experiments.oracle import search_with_oracle
from oce2stardist.experiments.scoring import Border, score_labels
from oce2stardist.files.atomic import write_text
from oce2stardist.files.records import read_yaml
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.images.scale import to_working_scale
from oce2stardist.labels import Labels, resize_labels
from oce2stardist.runners.finetune import finetune_stardist
from oce2stardist.runners.predict import predict_images
from oce2stardist.runners.pseudo import make_pseudo_labels
from oce2stardist.training_labels.draw_cells import CellDraw

Settings = Mapping[str, Any]
Needs = Mapping[str, Path]

_COMMAND = "oce2stardist experiment"


def _train_embeddings(settings: Settings, needs: Needs, folder: Path) -> None:
    """Train the offset network on the training images, which get pseudo labels."""
    data = _data(settings)
    config = Config(**settings["config"])
    factor = _factor(settings, needs)
    diameter = data.diameter
    if factor is not None:  # a scale study brings the images to their size itself
        diameter = config.pseudo.working_diameter
        config = _grown(config, settings["scale"])
    images = _image_set(open_data(data).train, factor)
    make_pseudo_labels(images, folder / "run", config=config, diameter=diameter, command=_COMMAND)


def _factor(settings: Settings, needs: Needs) -> float | None:
    """Find how much a scale study resizes images before a run sees them; None elsewhere."""
    if "reference" not in needs:
        return None
    return float(settings["scale"]) * _chosen(needs["reference"] / "run", "scale")


def _grown(config: Config, scale: float) -> Config:
    """Let what follows the size of cells follow it.

    Field of view and kappa stay: whether they fit is what a scale study asks.
    """
    pseudo = config.pseudo
    grown = {
        "pseudo.bandwidth": scale * pseudo.kernel_radius,
        "pseudo.min_cluster": min(0.99, scale**2 * pseudo.min_cluster),
        "pseudo.min_size": min(0.99, scale**2 * pseudo.min_size),
    }
    return config.replace(**grown)


def _label_test_images(settings: Settings, needs: Needs, folder: Path) -> None:
    """Make pseudo labels of the test images with the embeddings of a ``train_embeddings`` run."""
    data = _data(settings)
    trained = needs["embeddings"] / "run"
    test = open_data(data).test
    if data.kind == "pairs":  # the test images are the training images
        where = trained / "pseudo" / "labels"
        labels = {stem: read_labels(where / f"{stem}.tif") for stem in test.stems}
    else:
        images = _image_set(test, _factor(settings, needs))
        config = Config(**read_yaml(trained / "run.yaml")["config"])
        labels = make_pseudo_labels(
            images, folder / "run", config=config, trained=trained, command=_COMMAND
        ).labels
    _score(labels, data, folder)


def _finetune(settings: Settings, needs: Needs, folder: Path) -> None:
    """Train StarDist on a share of the annotated cells and pseudo labels; score test images."""
    data = _data(settings)
    opened = open_data(data)
    train = list(opened.train)
    finetune_stardist(
        _image_set(train),
        folder / "model",
        annotations={image.stem: image.labels for image in train},
        pseudo=needs["embeddings"] / "run" if "embeddings" in needs else None,
        cells=CellDraw(fraction=settings["fraction"]),
        config=Config(**settings["config"]),
        command=_COMMAND,
    )
    deterministic = settings["config"].get("deterministic", False)
    images = _image_set(opened.test)
    labels = predict_images(images, model=folder / "model", deterministic=deterministic)
    _score(labels, data, folder)


def _classical(settings: Settings, needs: Needs, folder: Path) -> None:
    """Otsu and watershed."""
    _segment(methods.segment_all_classically, settings, needs, folder)


def _stardist(settings: Settings, needs: Needs, folder: Path) -> None:
    """Apply a StarDist network that others trained."""
    options = {"source": settings["source_path"], "model_diameter": settings["model_diameter"]}
    _segment(partial(methods.segment_with_stardist, **options), settings, needs, folder)


def _cellpose(settings: Settings, needs: Needs, folder: Path) -> None:
    """Apply a Cellpose network that others trained."""
    method = partial(methods.segment_with_cellpose, model=settings["source_path"])
    _segment(method, settings, needs, folder)


def _segment(
    method: Callable[..., dict[str, Labels]], settings: Settings, needs: Needs, folder: Path
) -> None:
    """Segment the test images, at the diameter that the embeddings were trained for."""
    data = _data(settings)
    images = _image_set(open_data(data).test).images
    diameter = _chosen(needs["embeddings"] / "run", "diameter")
    _score(method(images, diameter=diameter), data, folder)


def _oracle(settings: Settings, needs: Needs, folder: Path) -> None:
    """Search bandwidth and halo with the truth of the test images: an upper bound."""
    data = _data(settings)
    embeddings = needs["embeddings" if data.kind == "pairs" else "labels"] / "run"
    opened = open_data(data)
    border = Border(opened.border, data.border)
    labels, table = search_with_oracle(embeddings, opened.test, border)
    write_text(folder / "tried.csv", table.to_csv(index=False))
    _score(labels, data, folder)


KINDS: dict[str, Callable[[Settings, Needs, Path], None]] = {
    "train_embeddings": _train_embeddings,
    "label_test_images": _label_test_images,
    "finetune": _finetune,
    "classical": _classical,
    "stardist": _stardist,
    "cellpose": _cellpose,
    "oracle": _oracle,
}


def _data(settings: Settings) -> DataConfig:
    return DataConfig(path=settings["data_path"], **settings["data"])


def _image_set(images: Iterable[LabelledImage], factor: float | None = None) -> ImageSet:
    """Take the images, resized by a factor, without their labels."""
    return ImageSet.from_arrays(
        {labelled.stem: to_working_scale(labelled.image, factor or 1.0) for labelled in images}
    )


def _score(labels: Mapping[str, Labels], data: DataConfig, folder: Path) -> None:
    """Write labels at the size of the truth, and their scores."""
    opened = open_data(data)
    at_scale = {
        true.stem: resize_labels(labels[true.stem], true.labels.shape) for true in opened.test
    }
    for stem, resized in at_scale.items():
        write_labels(folder / "labels" / f"{stem}.tif", resized)
    scores = score_labels(at_scale, opened.test, Border(opened.border, data.border))
    write_text(folder / "scores.csv", scores.to_csv(index=False))


def _chosen(run: Path, name: str) -> float:
    """Read what a run of pseudo labels chose."""
    return float(read_yaml(run / "pseudo" / "parameters.yaml")[name]["value"])
