"""Predict the cells of images of any size with a StarDist model folder."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from oce2stardist.blockwise.settings import Blocks
from oce2stardist.errors import InputError, plural
from oce2stardist.images.find import image_stem
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import is_ours
from oce2stardist.images.lazy import sample_windows
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import PixelSize, VoxelSize, warn_of_pixel_sizes
from oce2stardist.images.read import read_image, read_pixel_size
from oce2stardist.images.sources import find_sources
from oce2stardist.images.stacks import Reading as StackReading
from oce2stardist.images.stacks import is_stack, read_stacks, refuse_for_stacks
from oce2stardist.labels import Image, Labels
from oce2stardist.objects.write import Prediction, check_kinds, open_table, write_prediction
from oce2stardist.runners.stacks import predict_stacks
from oce2stardist.runs.ahead import map_ahead
from oce2stardist.runs.determinism import fixed_threads
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter
from oce2stardist.stardist_model import drawn_start
from oce2stardist.stardist_model.facts import has_thresholds, trained_pixel_size
from oce2stardist.stardist_model.scale import choose_scale_for

_SIDE = 1024
"""Of a block, pixels: what one worker predicts within 1.4 GB."""


class PredictedLabels(dict[str, Labels]):
    """Labels (Y, X) by image stem, where they are kept; `counts` has the cells of all images."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}


def predict_images(
    images: str | Path | Sequence[Path] | ImageSet,
    output: str | Path | None = None,
    *,
    model: str | Path,
    axes: str | None = None,
    voxel_size: VoxelSize | None = None,
    write: str | Iterable[str] = "labels",
    overlay: bool = False,
    diameter: float | None = None,
    blocks: Blocks | None = None,
    device: str = "auto",
    deterministic: bool = False,
    keep: bool = True,
    log_file: str | Path | None = None,
    command: str = "predict_images",
    reporter: Reporter | None = None,
) -> PredictedLabels:
    """Predict labels with a StarDist model folder, ours or stock.

    Parameters
    ----------
    images : path, glob, list of files or ImageSet
        OME-Zarr and large TIFF are taken in blocks, which needs an output; of them only the
        labels are written.
    output : path, optional
        Folder for what `write` names; existing files are replaced. Without it nothing is
        written.
    model : path or "drawn"
        A StarDist model folder with config.json, weights and thresholds.json; or the network that
        comes with the package, which has seen drawn cells only.
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
    voxel_size : VoxelSize, optional
        Of stacks, in place of what the files say; they need a StarDist3D model.
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
    diameter : float > 0, optional
        Of a median cell, pixels: images are zoomed so that the model sees cells of the size that
        it was trained on. By default the model's own scale is taken, and images whose files tell
        another size of pixels than it was trained on are brought to that.
    blocks : Blocks, optional
        Which images are taken in blocks, and where; default: OME-Zarr and TIFF above 64
        megapixels, on this machine.
    device : {"auto", "cpu", "cuda", "mps"}
    deterministic : bool
        Give the same labels, to the bit, with any number of threads of this machine.
    keep : bool
        Return the labels of all images. Otherwise they are only counted, and memory does not
        depend on how many images there are.
    log_file : path, optional
        Also write to it, with the time, all that is said and warned.

    Returns
    -------
    PredictedLabels
        By image stem int32 arrays of shape (Y, X), equal to what
        ``StarDist2D(None, name, basedir).predict_instances`` gives on the image normalised per
        channel from its 1st and 99.8th percentile. Images taken in blocks are only counted.
    """
    blocks = blocks or Blocks(side=_SIDE)
    kinds = check_kinds(write) | ({"overlay"} if overlay else set())
    large: list[Path] = []
    if isinstance(images, str | Path):
        # Listed once: an image that is gone a moment later is missed, not left out.
        sources = find_sources(images, axes=axes, largest=blocks.blocks_above)
        reading = StackReading(axes, voxel_size)
        if is_stack(sources.listed[0], axes=axes):
            images = read_stacks(images, reading, files=sources.listed)
        else:
            reading.refuse_voxel_size(images)
            blocks.check(images, sources)
            images, large = sources.at_once, sources.in_blocks
    if isinstance(images, ImageSet) and images.are_stacks:
        refuse_for_stacks(diameter=diameter)
        with logged(reporter, command) as log:
            if log_file is not None:
                log.open(Path(log_file).parent, Path(log_file).name)
            of_stacks = predict_stacks(
                images, None if output is None else Path(output), model=Path(model), kinds=kinds,
                device=device, deterministic=deterministic, reporter=log,
            )  # fmt: skip
        found = PredictedLabels()
        found.update(of_stacks if keep else {})
        found.counts = {stem: int(labels.max()) for stem, labels in of_stacks.items()}
        return found
    if large and output is None:
        raise InputError(
            f"images that are taken in blocks need an output. Got none for {large[0]}; pass a "
            "folder for their labels."
        )
    model = _find_model(model, images, large, axes, device, deterministic)
    predicted = PredictedLabels()
    with logged(reporter, command) as log:
        if log_file is not None:
            log.open(Path(log_file).parent, Path(log_file).name)
        if isinstance(images, ImageSet) or images:
            folder = Path(output) if output is not None else None
            made = _predict_at_once(
                images, folder, kinds, axes, model, diameter, device, deterministic, log
            )
            for stem, labels in made:
                predicted.counts[stem] = int(labels.max())
                if keep:
                    predicted[stem] = labels
                del labels  # see `_predict_at_once`
        if large:
            if kinds != {"labels"}:
                log.warn("Of images that are predicted in blocks, only labels are written.")
            predicted.counts |= _predict_in_blocks(
                large, Path(str(output)), blocks, axes, model, diameter, device,
                deterministic, log,
            )  # fmt: skip
    return predicted


def _find_model(
    model: str | Path,
    images: Sequence[Path] | ImageSet,
    large: Sequence[Path],
    axes: str | None,
    device: str,
    deterministic: bool,
) -> Path:
    """Find the model's folder; of the drawn one that for the channels of the first image."""
    if str(model) != drawn_start.NAME or Path(model).exists():
        return Path(model)
    if isinstance(images, ImageSet):
        first = next(iter(images.images.values()))
    elif images:
        first = read_image(images[0], axes=axes)
    else:
        from oce2stardist.images.sources import list_images

        lazy = list_images(large[0], axes=axes)[0]
        first = lazy.read(sample_windows(lazy.shape[:2], seed=0, largest=256**2)[0])
    return drawn_start.folder_for([first], device=device, threads=fixed_threads(deterministic))


def _predict_at_once(
    images: Sequence[Path] | ImageSet,
    output: Path | None,
    kinds: set[str],
    axes: str | None,
    model: Path,
    diameter: float | None,
    device: str,
    deterministic: bool,
    reporter: Reporter,
) -> Iterator[tuple[str, Labels]]:
    """Predict images, each read when its turn comes, and write what was asked for.

    While objects are made of one image's prediction, the network sees the next image already.
    """
    files, read = _source(images, axes)
    stems = list(files)
    if output is not None and "labels" in kinds:
        _check_output(output, stems)

    from oce2stardist.stardist_model.network import open_model, prepare_tensorflow
    from oce2stardist.stardist_model.predict import find_scale, predict_objects

    prepare_tensorflow(device, threads=fixed_threads(deterministic))
    network = open_model(model)
    channels = network.config.n_channel_in
    sizes = {stem: read_pixel_size(file) if file else None for stem, file in files.items()}
    scales = {stem: choose_scale_for(model, size, diameter) for stem, size in sizes.items()}
    for warning in _look_at_model(model, sizes if diameter is None else {}):
        reporter.warn(warning)
    table: Any = nullcontext()
    if output is not None and "csv" in kinds:
        known = any(size is not None for size in sizes.values())
        table = open_table(output, channels=channels, in_micrometres=known)

    def predict(stem: str) -> Prediction:
        image = read(stem)
        if image.shape[-1] != channels:
            raise InputError(
                f"images must have the model's {channels} channels. Got "
                f"{image.shape[-1]} in {stem}; pass images like those it was trained on."
            )
        normalised = normalise_percentiles(image)
        scale = find_scale(network, normalised, scales[stem])
        labels, probabilities = predict_objects(network, normalised, scale=scale)
        return Prediction(stem, image, labels, probabilities, sizes[stem], files[stem])

    with (
        stop_on_signal() as should_stop,
        reporter.task("Predicting", len(stems)) as advance,
        table as add_to_table,
        ThreadPoolExecutor(2) as pool,
        closing(map_ahead(pool, predict, stems, at_once=1)) as found,
    ):
        for done, stem in enumerate(stems, start=1):
            if should_stop():
                raise Interrupted(f"Stopped after {done - 1} of {plural(len(stems), 'image')}.")
            made = next(found)
            if output is not None and kinds:
                write_prediction(output, made, kinds)
                if add_to_table is not None:
                    add_to_table(made.table)
            advance(done, f"{plural(int(made.labels.max()), 'cell')} in {stem}")
            yield stem, made.labels
            del made  # before an image more is begun


def _predict_in_blocks(
    paths: Sequence[Path],
    output: Path,
    blocks: Blocks,
    axes: str | None,
    model: Path,
    diameter: float | None,
    device: str,
    deterministic: bool,
    reporter: Reporter,
) -> dict[str, int]:
    """Predict images that need not fit into memory; returns the number of cells of each."""
    from oce2stardist.blockwise.job import block_workers
    from oce2stardist.blockwise.predict import predict_in_blocks
    from oce2stardist.images.sources import list_images

    for path in paths:  # what is wrong with them is said before workers are started
        list_images(path, axes=axes)
    counts: dict[str, int] = {}
    with block_workers(blocks.where, deterministic=deterministic) as (client, should_stop):
        for path in paths:
            counts |= predict_in_blocks(
                path,
                output,
                model=model,
                diameter=diameter,
                client=client,
                axes=axes,
                side=blocks.side,
                in_place=blocks.in_place,
                device=device,
                reporter=reporter,
                should_stop=should_stop,
            )
    return counts


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
    warnings = warn_of_pixel_sizes(trained_pixel_size(model), sizes)
    if not has_thresholds(model):
        warnings.append(
            f"the thresholds of {model} were never set (no valid thresholds.json): StarDist's "
            "defaults, probability 0.5 and overlap 0.4, are used; cells may be missed or "
            "found where there are none"
        )
    return [f"{warning[0].upper()}{warning[1:]}." for warning in warnings]


def _source(
    images: Sequence[Path] | ImageSet, axes: str | None
) -> tuple[dict[str, Path | None], Callable[[str], Image]]:
    """List the images with their files, None where they are arrays, and how to get each.

    Files are read one by one, when their turn comes.
    """
    if isinstance(images, ImageSet):
        return {stem: images.paths.get(stem) for stem in images.images}, images.images.__getitem__
    files = {image_stem(path): path for path in images}
    return dict(files), lambda stem: read_image(files[stem], axes=axes)
