"""A model folder and images in, label images out."""

from collections.abc import Callable, Mapping
from pathlib import Path

from oce2stardist.errors import InputError
from oce2stardist.io import (
    find_images,
    image_stem,
    is_ours,
    normalise_percentiles,
    read_image,
    read_pixel_size,
    write_labels,
    write_overlay,
)
from oce2stardist.runners.guards import (
    has_thresholds,
    trained_pixel_size,
    warn_of_pixel_sizes,
)
from oce2stardist.runners.inputs import Image, ImageSet, Labels
from oce2stardist.runners.interruption import Interrupted, stop_on_signal
from oce2stardist.runners.progress import Reporter, SilentReporter


def predict_images(
    images: str | Path | ImageSet,
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
    images : path, glob or ImageSet
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
    if output is not None:
        _check_output(Path(output), stems)

    from oce2stardist.stardist_model.network import open_model, prepare_tensorflow
    from oce2stardist.stardist_model.predict import predict_labels

    prepare_tensorflow(device)
    network = open_model(Path(model))
    paths = {} if isinstance(images, ImageSet) else {image_stem(p): p for p in find_images(images)}
    for warning in _look_at_model(Path(model), paths):
        reporter.warn(warning)
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


def _check_output(output: Path, stems: list[str]) -> None:
    """Refuse to replace what we did not write, such as the images themselves or annotations."""
    for path in (output / f"{stem}.tif" for stem in stems):
        if path.exists() and not is_ours(path):
            raise InputError(
                f"labels must not replace a file of something else. Got {path}, which "
                "oce2stardist did not write; choose another output."
            )


def _look_at_model(model: Path, paths: Mapping[str, Path]) -> list[str]:
    """Say what speaks against using a model on these images."""
    sizes = {stem: read_pixel_size(path) for stem, path in paths.items()}
    found = warn_of_pixel_sizes(trained_pixel_size(model), sizes)
    if not has_thresholds(model):
        found.append(
            f"the thresholds of {model} were never set (no valid thresholds.json): StarDist's "
            "defaults, probability 0.5 and overlap 0.4, are used; cells may be missed or "
            "found where there are none"
        )
    return [f"{one[0].upper()}{one[1:]}." for one in found]


def _source(
    images: str | Path | ImageSet, axes: str | None
) -> tuple[list[str], Callable[[str], Image]]:
    """List the images, and how to get each: files are read one by one, when their turn comes."""
    if isinstance(images, ImageSet):
        return list(images.images), images.images.__getitem__
    paths = {image_stem(path): path for path in find_images(images)}
    return list(paths), lambda stem: read_image(paths[stem], axes=axes)
