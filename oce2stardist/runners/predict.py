"""A model folder and images in, label images out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from oce2stardist.errors import InputError
from oce2stardist.images.find import find_images, image_stem
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import is_ours
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import PixelSize, read_pixel_size, warn_of_pixel_sizes
from oce2stardist.images.read import read_image
from oce2stardist.labels import Image, Labels
from oce2stardist.objects.write import Prediction, check_kinds, write_prediction, write_table
from oce2stardist.runs.determinism import fixed_threads
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.progress import Reporter, SilentReporter
from oce2stardist.stardist_model.facts import has_thresholds, trained_pixel_size


def predict_images(
    images: str | Path | Sequence[Path] | ImageSet,
    output: str | Path | None = None,
    *,
    model: str | Path,
    axes: str | None = None,
    write: str | Iterable[str] = "labels",
    overlay: bool = False,
    device: str = "auto",
    deterministic: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Labels]:
    """Predict labels with a StarDist model folder, ours or stock.

    Parameters
    ----------
    images : path, glob, list of files or ImageSet
    output : path, optional
        Folder for what `write` names; existing files are replaced. Without it nothing is
        written.
    model : path
        A StarDist model folder with config.json, weights and thresholds.json.
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
    write : str or iterable of str
        What to write; names, or one string of them with commas:

        - ``labels``: ``<stem>.tif``, int32, compressed;
        - ``rois``: ``<stem>_rois.zip``, outlines for the ROI Manager of ImageJ and Fiji;
        - ``geojson``: ``<stem>.geojson``, detections with measurements for QuPath;
        - ``csv``: ``objects.csv``, one table of the objects of all images, see
          `oce2stardist.objects.measure_objects`;
        - ``overlay``: ``<stem>_overlay.png``, the outlines over the image;
        - ``ome-zarr``: ``<stem>.ome.zarr``, the image with the labels in its labels group.
    overlay : bool
        The same as ``overlay`` in `write`.
    device : {"auto", "cpu", "cuda", "mps"}
    deterministic : bool
        Give the same labels, to the bit, with any number of threads of this machine.

    Returns
    -------
    dict of image stem to int32 array of shape (Y, X)
        Equal to what ``StarDist2D(None, name, basedir).predict_instances`` gives on the
        image normalised per channel from its 1st and 99.8th percentile.

    Raises
    ------
    InputError
        If an input is missing, unreadable or has another number of channels than the model, or
        `write` names something else.
    """
    reporter = reporter or SilentReporter()
    kinds = check_kinds(write) | ({"overlay"} if overlay else set())
    files, read = _source(images, axes)
    stems = list(files)
    if output is not None and "labels" in kinds:
        _check_output(Path(output), stems)

    from oce2stardist.stardist_model.network import open_model, prepare_tensorflow
    from oce2stardist.stardist_model.predict import predict_objects

    prepare_tensorflow(device, threads=fixed_threads(deterministic))
    network = open_model(Path(model))
    for warning in _look_at_model(Path(model), _pixel_sizes(files)):
        reporter.warn(warning)
    predicted: dict[str, Labels] = {}
    tables = []
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
            labels, probabilities = predict_objects(network, normalise_percentiles(image))
            predicted[stem] = labels
            if output is not None and kinds:
                file = files[stem]
                size = read_pixel_size(file) if file is not None else None
                made = Prediction(stem, image, labels, probabilities, size, file)
                write_prediction(Path(output), made, kinds)
                if "csv" in kinds:
                    tables.append(made.table)
            advance(done, f"{predicted[stem].max()} cells in {stem}")
    if output is not None and "csv" in kinds:
        write_table(Path(output), tables)
    return predicted


def _check_output(output: Path, stems: list[str]) -> None:
    """Refuse to replace what we did not write, such as the images themselves or annotations."""
    for path in (output / f"{stem}.tif" for stem in stems):
        if path.exists() and not is_ours(path):
            raise InputError(
                f"labels must not replace a file of something else. Got {path}, which "
                "oce2stardist did not write; choose another output."
            )


def _look_at_model(model: Path, sizes: Mapping[str, PixelSize | None]) -> list[str]:
    """Say what speaks against using a model on images with pixels of these sizes."""
    found = warn_of_pixel_sizes(trained_pixel_size(model), sizes)
    if not has_thresholds(model):
        found.append(
            f"the thresholds of {model} were never set (no valid thresholds.json): StarDist's "
            "defaults, probability 0.5 and overlap 0.4, are used; cells may be missed or "
            "found where there are none"
        )
    return [f"{one[0].upper()}{one[1:]}." for one in found]


def _source(
    images: str | Path | Sequence[Path] | ImageSet, axes: str | None
) -> tuple[dict[str, Path | None], Callable[[str], Image]]:
    """List the images with their files, None where they are arrays, and how to get each.

    Files are read one by one, when their turn comes.
    """
    if isinstance(images, ImageSet):
        return {stem: images.paths.get(stem) for stem in images.images}, images.images.__getitem__
    found = find_images(images) if isinstance(images, str | Path) else images
    files = {image_stem(path): path for path in found}
    return dict(files), lambda stem: read_image(files[stem], axes=axes)


def _pixel_sizes(files: Mapping[str, Path | None]) -> dict[str, PixelSize | None]:
    return {
        stem: read_pixel_size(file) if file is not None else None for stem, file in files.items()
    }
