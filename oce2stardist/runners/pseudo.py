"""Train embeddings on unlabelled images and write pseudo labels: stage one.

Where each step is: images come to one scale in `images.scale` and `images.diameter`;
`runners.embed` trains and predicts with the network, its loss and noise in `embeddings`;
`pseudo_labels.choose` chooses the bandwidth and other settings; `pseudo_labels.segment` makes
objects of offsets; `pseudo_labels.trust` judges them; `pseudo_labels.witness` lets the drawn start
correct them; `reports.pseudo` writes the page.
"""

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from oce2stardist.annotations import AnnotationSet
from oce2stardist.annotations.known import digest_annotations, read_known
from oce2stardist.blockwise.settings import Blocks
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.files.atomic import write_bytes
from oce2stardist.images.crops import LargeImages
from oce2stardist.images.image_set import ImageSet, read_images
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.images.prepare import PreparedImages, prepare_images
from oce2stardist.images.sources import find_sources, open_in_blocks
from oce2stardist.images.stacks import Reading, is_stack, read_stacks, refuse_for_stacks
from oce2stardist.labels import Labels
from oce2stardist.objects.overlay import write_overlay
from oce2stardist.pseudo_labels.label_images import (
    LabelledImages,
    label_images,
    write_parameters,
)
from oce2stardist.pseudo_labels.trust import Trust
from oce2stardist.reports import write_choices, write_pseudo_report
from oce2stardist.reports.drawing.diameter_picture import diameter_picture
from oce2stardist.runners.drawn_witness import DrawnWitness
from oce2stardist.runners.embed import (
    joined_processes,
    main_first,
    number_of_copies,
    open_stages,
    predict_all,
    trained_network,
    used_precision,
)
from oce2stardist.runners.finished_run import FinishedRun, read_finished_run
from oce2stardist.runs.determinism import one_thread_for_sums
from oce2stardist.runs.folder import Times, lock_folder, refuse_inputs_in_output, write_run_file
from oce2stardist.runs.log import logged
from oce2stardist.runs.progress import Reporter

_SIDE = 2048
"""Of a block, pixels."""


@dataclass(frozen=True)
class PseudoResult:
    """Pseudo labels by image stem, what they were made with, and whether to trust them.

    Of images that are read in blocks, `labels` has those of the crops, and `whole_objects` the
    numbers of objects. `parameters` says what was chosen and why; `made` is for more labels of the
    same kind, and None in all but the main process of torchrun.
    """

    labels: dict[str, Labels]
    parameters: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    trust: Trust | None = None
    made: LabelledImages | None = None
    whole_objects: dict[str, int] = field(default_factory=dict)
    report: Path | None = None


def make_pseudo_labels(
    images: str | Path | ImageSet,
    output: str | Path,
    *,
    config: Config | None = None,
    diameter: float | str | Path | None = None,
    annotations: str | Path | Mapping[str, Labels] | None = None,
    axes: str | None = None,
    voxel_size: VoxelSize | None = None,
    trained: str | Path | None = None,
    overlay: bool = False,
    overwrite: bool = False,
    blocks: Blocks | None = None,
    command: str = "make_pseudo_labels",
    reporter: Reporter | None = None,
) -> PseudoResult:
    """Train embeddings on images of any size and write pseudo labels for each of them.

    Parameters
    ----------
    images : path, glob or ImageSet
        A folder, a glob or one file; TIFF, OME-TIFF, PNG or OME-Zarr. OME-Zarr and large TIFF
        never have to fit into memory: the network trains on windows of the whole, settings are
        chosen on crops, written to ``output/crops`` (`annotations` are those of crops), and
        then the whole is labelled in blocks. Where the first has planes along Z, all are stacks.
    output : path
        The run folder. If it holds an unfinished run with the same settings, that run goes
        on; of a finished one only the objects are found again, about a second an image.
    config : Config, optional
        Default: the `fast` preset.
    diameter : float or path, optional
        Median cell diameter in pixels, or a CSV file with the columns image and diameter.
        Images are rescaled so that it becomes ``config.pseudo.working_diameter``. Default:
        that of the annotated cells; without annotations it is estimated from the images.
    annotations : path or mapping of image stem to array, optional
        As in `finetune_stardist`; here they tell the diameter, and choose the settings that
        turn embeddings into labels. 0 in label images counts as not annotated. Where a point lies
        in no object, or together with others in one, the drawn start's object there is taken.
    axes : str, optional
        Axes of the files, such as ``CYX``, of stacks ``ZYX``, where their metadata do not say.
    voxel_size : VoxelSize, optional
        Of stacks, in place of what the files say.
    trained : path, optional
        A finished run on other images. Nothing is trained: its offset network is used, with
        its settings, those that it chose included, and unless `diameter` or `annotations` say
        otherwise at its scale. Where it had a scale for each image, so have these. `config`
        then gives seed, device and `deterministic`, nothing else. Only what is
        foreground is found out on these images.
    overlay : bool
        Also write ``pseudo/overlays/*.png``.
    overwrite : bool
        Start again where the folder holds a run with other settings.
    blocks : Blocks, optional
        Which images are taken in blocks, and where; default: OME-Zarr and TIFF above 64
        megapixels, on this machine.

    Raises
    ------
    InputError
        If an input is missing, unreadable or of the wrong form.
    Interrupted
        If the user stopped the run; the same call goes on where it stopped.

    Notes
    -----
    Under ``torchrun``, all processes train together; the main one does the rest and returns
    the result, the others return an empty one.
    """
    folder, config = Path(output), config or Config()
    blocks = blocks or Blocks(side=_SIDE)
    reading = Reading(axes, voxel_size)
    image_set, large = _read(images, folder, blocks, reading, seed=config.seed)
    result = label_set(
        large or image_set,
        folder,
        config=config,
        diameter=diameter,
        annotations=annotations,
        axes=axes,
        trained=trained,
        overlay=overlay,
        overwrite=overwrite,
        command=command,
        reporter=reporter,
    )
    if result.made is None:  # one of several processes under torchrun, and not the main one
        return result
    whole_objects = _label_whole(result.made, folder, blocks, command, reporter) if large else {}
    report = write_pseudo_report(folder, image_set)
    return replace(result, whole_objects=whole_objects, report=report)


def _read(
    images: str | Path | ImageSet, folder: Path, blocks: Blocks, reading: Reading, *, seed: int
) -> tuple[ImageSet, LargeImages | None]:
    """Read images, or crops of those that are taken in blocks, which come as well then."""
    axes = reading.axes
    if isinstance(images, ImageSet):
        return images, None
    # Listed once: an image that is gone a moment later is missed, not left out.
    sources = find_sources(images, axes=axes, largest=blocks.blocks_above)
    if is_stack(sources.listed[0], axes=axes):
        return read_stacks(images, reading, files=sources.listed), None
    reading.refuse_voxel_size(images)
    blocks.check(images, sources)
    lazy = open_in_blocks(sources, axes=axes)
    if not lazy:
        return read_images(images, axes=axes, files=sources.at_once), None
    large = LargeImages.sample(lazy, seed=seed).with_files(folder / "crops")
    return large.crops, large


def _label_whole(
    made: LabelledImages, folder: Path, blocks: Blocks, command: str, reporter: Reporter | None
) -> dict[str, int]:
    """Label the whole images block by block; returns their numbers of objects."""
    from oce2stardist.blockwise.job import block_workers
    from oce2stardist.blockwise.pseudo import label_whole_images

    with (
        lock_folder(folder),
        logged(reporter, f"{command}, the whole images") as log,
        block_workers(blocks.where, deterministic=made.config.deterministic) as (client, stop),
    ):
        log.open(folder)
        return label_whole_images(
            made,
            folder,
            client=client,
            side=blocks.side,
            in_place=blocks.in_place,
            reporter=log,
            should_stop=stop,
        )


def label_set(
    images: ImageSet | LargeImages,
    folder: Path,
    *,
    config: Config,
    diameter: float | str | Path | None = None,
    annotations: str | Path | Mapping[str, Labels] | None = None,
    axes: str | None = None,
    trained: str | Path | None = None,
    overlay: bool = False,
    overwrite: bool = False,
    command: str = "label_set",
    reporter: Reporter | None = None,
) -> PseudoResult:
    """Train on images that were read, or on large ones, and label them, or the crops of these.

    The parameters are those of `make_pseudo_labels`.
    """
    image_set = images.crops if isinstance(images, LargeImages) else images
    if image_set.are_stacks:
        refuse_for_stacks(annotations=annotations, trained=trained, overlay=overlay)
        config = config.for_stacks()
    source = _read_trained(trained, folder) if trained is not None else None
    ignored = source.name_ignored(config) if source else []
    config = source.merged_config(config) if source else config
    with (
        joined_processes(config.device) as main,
        one_thread_for_sums(config.deterministic),
        ExitStack() as held,
        logged(reporter if main else None, command) as log,
    ):
        if source and ignored:
            log.warn(f"Settings are those of {source.folder}, also {', '.join(ignored)}.")
        known = None
        if annotations is not None:
            known = read_known(image_set, annotations, instances=config.instances)
        for note in known.notes if known is not None else ():
            log.warn(note)
        if known:
            _refuse_verdicts(known)
        # where nothing is outlined the diameter is estimated: clicks have no size
        annotated = known.labels if known and (known.has_cells or not known.hints) else None
        prepared = _prepare(images, config, source, diameter=diameter, annotations=annotated)
        start = None
        if known and known.hints and config.pseudo.witness != "drawn":
            log.warn(
                "Points choose between the embeddings and the drawn start, which is not asked: "
                "they count in merge and finetune."
            )
        if isinstance(images, ImageSet) and config.pseudo.witness == "drawn":
            start = DrawnWitness(images, config, log)
            prepared = start.measure_again(prepared)
        inputs: dict[str, Any] = {"images": len(image_set.images), "sha256": image_set.digest()}
        if image_set.are_stacks:
            inputs["voxel_sizes"] = {
                stem: list(size) for stem, size in image_set.voxel_sizes.items()
            }
        if source:
            inputs["trained_sha256"] = source.digest
        files = image_set.files + (known.files if known else [])
        refuse_inputs_in_output(folder, ("oce", "pseudo"), files)
        with main_first():
            if main:
                held.enter_context(lock_folder(folder))
            said = digest_annotations(known) if known else None
            oce, stage = open_stages(folder, config, prepared, inputs, axes, overwrite, said)
            if main:
                log.open(folder)
            if main and not (oce.resumes and stage.finished):
                recorded = {"images_from": _name(images)}
                if source:
                    recorded["trained"] = str(source.folder)
                write_run_file(
                    folder,
                    command=command,
                    config=config,
                    inputs=inputs | recorded,
                    precision=used_precision(config),
                )
        if source and not main:
            return PseudoResult({}, {}, {})
        times = Times(folder / "times.yaml", keep=oce.resumes)
        with times.measure("embedding_training") if main and not source else nullcontext():
            network = trained_network(prepared, config, folder, oce, log, source)
        if not main:
            return PseudoResult({}, {}, {})
        if network is not None:
            with times.measure("inference"):
                predict_all(network, prepared, config, folder, log)
            oce.finish()
        copies = number_of_copies(config.embedding.copies, prepared)
        taken = source.explain(config) if source else ()
        with times.measure("clustering"):
            result = label_images(
                prepared,
                config,
                folder,
                annotated or {},
                log,
                copies=copies,
                taken=taken,
                witness=partial(start.label, prepared) if start is not None else None,
                clicked={} if known is None else known.clicked,
            )
        if source:
            result.parameters["trained_on"] = source.parameters["trained_on"] | {
                "reason": f"images of {source.folder}; nothing was trained on these"
            }
        write_parameters(folder, result)
        _draw(folder / "pseudo", prepared, result.labels, overlay=overlay)
        if not image_set.are_stacks:
            write_choices(
                folder / "pseudo" / "choices.png",
                scenes=result.scenes,
                labels=result.labels,
                settings=result.settings,
                choices=result.choices,
                seed=config.seed,
            )
        stage.finish()
        if not result.trust.trusted:
            log.warn(f"{result.trust.verdict[0].upper()}{result.trust.verdict[1:]}.")
        log.say(f"Diameter: {result.parameters['diameter']['reason']}.")
    return PseudoResult(result.labels, result.parameters, times.seconds, result.trust, result)


def _draw(
    folder: Path, prepared: PreparedImages, labels: Mapping[str, Labels], *, overlay: bool
) -> None:
    """Write the picture of the diameter where it was estimated and, if asked, outlines of cells."""
    images = prepared.found.images
    estimate = prepared.scales.estimate
    if estimate is not None and estimate.diameter is not None and not prepared.found.are_stacks:
        write_bytes(folder / "diameter.png", diameter_picture(images, estimate))
    for stem in labels if overlay else ():
        write_overlay(folder / "overlays" / f"{stem}.png", images[stem], labels[stem])


def _name(images: ImageSet | LargeImages) -> str | None:
    """Say where images came from, for the record; None for arrays."""
    if isinstance(images, LargeImages):
        return ", ".join(sorted({str(image.path) for image in images.images.values()}))
    return images.source


def _prepare(
    images: ImageSet | LargeImages,
    config: Config,
    source: FinishedRun | None,
    *,
    diameter: float | str | Path | None,
    annotations: Mapping[str, Labels] | None,
) -> PreparedImages:
    if source:
        return source.prepare_others(images, diameter=diameter, annotations=annotations)
    if isinstance(images, LargeImages):
        return images.prepare(config, diameter=diameter, annotations=annotations)
    return prepare_images(images, config, diameter=diameter, annotations=annotations)


def _refuse_verdicts(known: AnnotationSet) -> None:
    for stem, hints in known.hints.items():
        if hints.verdicts:
            raise InputError(
                "verdicts must be on pseudo labels that are there. Got some of "
                f"{stem}, whose labels this command makes anew; pass them to merge or finetune."
            )


def _read_trained(trained: str | Path, output: Path) -> FinishedRun:
    source = read_finished_run(trained)
    if source.folder.resolve() == output.resolve():
        raise InputError(
            f"the output must not be the run whose network is used. Got {output} for both; "
            "choose another output."
        )
    return source
