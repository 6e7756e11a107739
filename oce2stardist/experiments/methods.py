"""Segment by other methods, for comparison: published models, and no learning.

Each takes images by stem, float arrays of shape (Y, X, C), which are read one after the other,
and the diameter of a median cell in them, pixels; it gives int32 labels of shape (Y, X) by stem.
WeightsMissing says that weights can't be had here, InputError that a model or image won't do.
"""

import importlib
import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError, one_line, say_install
from oce2stardist.experiments.baseline import segment_classically
from oce2stardist.experiments.weights import WeightsMissing, fetch_weights
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.scale import to_working_scale
from oce2stardist.labels import Image, Labels, resize_labels

if TYPE_CHECKING:
    from oce2stardist.stardist_model.network import SparseStarDist2D

Images = Mapping[str, NDArray[np.floating]]

_CELLPOSE = "4.2.1"  # the version whose interface this was written for
_CELLPOSE_URL = "https://huggingface.co/mouseland/cellpose-sam/resolve/main/"


def segment_with_stardist(
    images: Images, source: str | Path, *, diameter: float, model_diameter: float | None
) -> dict[str, Labels]:
    """Segment with a StarDist model as it is.

    Channels are normalised each from their percentiles 1 and 99.8. A model of one channel sees
    their mean, normalised again; one of three sees a grey image three times.

    Parameters
    ----------
    source : str or Path
        A StarDist model folder, or the name of a published model, such as ``2D_versatile_fluo``.
    model_diameter : float > 0, optional
        Of a median cell that the model was trained on: images are rescaled to it. By default
        they are seen as they are.
    """
    factor = 1.0
    if model_diameter is not None:
        factor = _positive(model_diameter) / _positive(diameter)

    from oce2stardist.stardist_model.network import prepare_tensorflow
    from oce2stardist.stardist_model.predict import predict_labels

    prepare_tensorflow("auto")
    network = _open_stardist(source)
    labels = {}
    for stem in images:
        image = np.asarray(images[stem], np.float32)
        scaled = normalise_percentiles(to_working_scale(image, factor))
        seen = _match_channels(scaled, network.config.n_channel_in, stem)
        labels[stem] = resize_labels(predict_labels(network, seen), image.shape[:2])
    return labels


def segment_with_cellpose(images: Images, model: str, *, diameter: float) -> dict[str, Labels]:
    """Segment with a model of Cellpose 4, on the processor.

    Cellpose normalises images itself, and looks at no more than three channels. `model` is a
    file of weights, or a name that it knows, such as ``cpsam_v2``.
    """
    _positive(diameter)
    with _quiet_cellpose():
        models = _import_cellpose()
        network = _open_cellpose(models, model)
        labels = {}
        for stem in images:
            image = np.asarray(images[stem], np.float32)
            masks = network.eval(image, channel_axis=-1, diameter=diameter)[0]
            labels[stem] = np.asarray(masks, np.int32).reshape(image.shape[:2])
    return labels


def segment_all_classically(images: Images, *, diameter: float) -> dict[str, Labels]:
    """Segment without learning; see `segment_classically`."""
    return {stem: segment_classically(images[stem], _positive(diameter)) for stem in images}


def _positive(diameter: float) -> float:
    if not diameter > 0:
        raise InputError(f"a diameter must be above 0. Got {diameter:g}; measure some cells.")
    return diameter


def _open_stardist(source: str | Path) -> "SparseStarDist2D":
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.pretrained import find_published, open_zip

    if Path(source).is_dir():
        return open_model(Path(source))
    published = find_published(str(source))
    return open_zip(
        fetch_weights(
            f"StarDist {published.name}",
            published.url,
            published.file,
            sha256=published.sha256,
            advice="download that file where there is a network, unpack it and pass the folder",
        )
    )


def _match_channels(image: Image, wanted: int, stem: str) -> Image:
    """Give a normalised image the channels of a model."""
    given = image.shape[-1]
    if given == wanted:
        return image
    if wanted == 1:
        return normalise_percentiles(image.mean(axis=-1, keepdims=True))
    if given == 1:
        return np.repeat(image, wanted, axis=-1)
    raise InputError(
        f"images must have the model's {wanted} channels, or one. Got {given} in {stem}; "
        "choose another model."
    )


def _import_cellpose() -> ModuleType:
    """Import ``cellpose.models``; whatever keeps it from loading is a reason to go without."""
    try:
        models = importlib.import_module("cellpose.models")
    except Exception as error:  # its dependencies fail in their own ways where they do not fit
        raise WeightsMissing(
            f"the package cellpose must be installed and load. Got: {one_line(error)}; "
            f"{say_install('cellpose')}."
        ) from error
    if int(version("cellpose").split(".")[0]) != 4:
        raise WeightsMissing(
            f"the package cellpose must be version 4, such as {_CELLPOSE}. Got "
            f"{version('cellpose')}; {say_install('cellpose')}."
        )
    return models


def _open_cellpose(models: ModuleType, model: str) -> Any:
    import torch

    path = Path(model)
    if not path.exists():
        if model not in models.MODEL_NAMES:  # Cellpose takes others for a name it does not know
            raise InputError(
                "a Cellpose model must be a file of weights or one of "
                f"{', '.join(models.MODEL_NAMES)}. Got {model}; pass one of these."
            )
        path = fetch_weights(
            f"Cellpose {model}",
            _CELLPOSE_URL + model,
            Path(models.MODEL_DIR) / model,
            advice="download that file where there is a network and pass its path",
            at_most=3600,
        )
    try:
        return models.CellposeModel(pretrained_model=str(path), device=torch.device("cpu"))
    except (ValueError, KeyError, RuntimeError, NameError, pickle.UnpicklingError) as error:
        reason = one_line(error).rstrip(".")
        raise InputError(
            f"{path} must hold weights of Cellpose 4. Got: {reason}; pass another file."
        ) from error


@contextmanager
def _quiet_cellpose() -> Iterator[None]:
    """Keep its remarks off the terminal."""
    logger = logging.getLogger("cellpose")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"cellpose\b")
            yield
    finally:
        logger.setLevel(level)
