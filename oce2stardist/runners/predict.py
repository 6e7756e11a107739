"""A model folder and images in, label images out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from oce2stardist.errors import InputError
from oce2stardist.io import (
    find_images,
    image_stem,
    normalise_percentiles,
    read_image,
    write_labels,
    write_overlay,
)
from oce2stardist.runners.inputs import Image, ImageSet, Labels
from oce2stardist.runners.interruption import Interrupted, stop_on_signal
from oce2stardist.runners.progress import Reporter, SilentReporter


def predict_images(
    images: str | Path | Sequence[Path] | ImageSet,
    output: str | Path | None = None,
    *,
    model: str | Path,
    axes: str | None = None,
    overlay: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Labels]:
    """Predict labels with a StarDist model folder, ours or stock.

    Parameters
    ----------
    images : path, glob, list of files or ImageSet
    output : path, optional
        Folder for ``<stem>.tif`` (int32, compressed); existing files are replaced. Without it
        nothing is written.
    model : path
        A StarDist model folder with config.json, weights and thresholds.json.
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
    overlay : bool
        Also write ``<stem>_overlay.png`` there: the outlines over the image.
    device : {"auto", "cpu", "cuda", "mps"}

    Returns
    -------
    dict of image stem to int32 array of shape (Y, X)
        Equal to what ``StarDist2D(None, name, basedir).predict_instances`` gives on the
        image normalised per channel from its 1st and 99.8th percentile.

    Raises
    ------
    InputError
        If an input is missing, unreadable or has another number of channels than the model.
    """
    reporter = reporter or SilentReporter()
    stems, read = _source(images, axes)

    from oce2stardist.stardist_model.network import open_model, prepare_tensorflow
    from oce2stardist.stardist_model.predict import predict_labels

    prepare_tensorflow(device)
    network = open_model(Path(model))
    predicted = {}
    with (
        stop_on_signal() as should_stop,
        reporter.task("Predicting", len(stems)) as advance,
    ):
        for done, stem in enumerate(stems, start=1):
            if should_stop():
                raise Interrupted(f"Stopped after {done - 1} of {len(stems)} images.")
            image = read(stem)
            if image.shape[-1] != network.config.n_channel_in:
                raise InputError(
                    f"images must have the model's {network.config.n_channel_in} channels. Got "
                    f"{image.shape[-1]} in {stem}; pass images like those it was trained on."
                )
            predicted[stem] = predict_labels(network, normalise_percentiles(image))
            if output is not None:
                write_labels(Path(output) / f"{stem}.tif", predicted[stem])
            if output is not None and overlay:
                write_overlay(Path(output) / f"{stem}_overlay.png", image, predicted[stem])
            advance(done, f"{predicted[stem].max()} cells in {stem}")
    return predicted


def _source(
    images: str | Path | Sequence[Path] | ImageSet, axes: str | None
) -> tuple[list[str], Callable[[str], Image]]:
    """List the images, and how to get each: files are read one by one, when their turn comes."""
    if isinstance(images, ImageSet):
        return list(images.images), images.images.__getitem__
    files = find_images(images) if isinstance(images, str | Path) else images
    paths = {image_stem(path): path for path in files}
    return list(paths), lambda stem: read_image(paths[stem], axes=axes)
