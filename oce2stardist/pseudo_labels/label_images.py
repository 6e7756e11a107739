"""Turn predicted offsets on disk into label files: choose settings, judge the objects."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from oce2stardist.config import Config
from oce2stardist.errors import plural
from oce2stardist.files.atomic import write_text
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import write_labels
from oce2stardist.images.prepare import PreparedImages
from oce2stardist.labels import (
    FoundObjects,
    Labels,
    centroids,
    equivalent_diameter,
    object_sizes,
    renumber,
    resize_labels,
)
from oce2stardist.pseudo_labels.choose import (
    Choice,
    choose_by_annotations,
    choose_by_stability,
    score_annotated,
    segmentation_settings,
)
from oce2stardist.pseudo_labels.inputs import SegmentationInputs
from oce2stardist.pseudo_labels.parameters import describe_trust, is_default, list_parameters
from oce2stardist.pseudo_labels.segment import SegmentationSettings, segment_surely
from oce2stardist.pseudo_labels.sizes import warn_of_giants
from oce2stardist.pseudo_labels.trust import Trust, judge_trust
from oce2stardist.pseudo_labels.witness import hear_witness
from oce2stardist.runs.ahead import map_in_threads
from oce2stardist.runs.progress import Reporter


@dataclass(frozen=True)
class LabelledImages:
    """Labels by image stem, what they were made from and with, and whether to trust them."""

    labels: dict[str, Labels]
    prepared: PreparedImages
    config: Config
    copies: int  # noisy ones, of the prediction
    scenes: SegmentationInputs
    settings: SegmentationSettings
    choices: list[Choice]
    parameters: dict[str, dict[str, Any]]
    trust: Trust


def label_images(
    prepared: PreparedImages,
    config: Config,
    folder: Path,
    annotations: dict[str, Labels],
    reporter: Reporter,
    *,
    copies: int,
    taken: Sequence[Choice] = (),
    witness: Callable[[], FoundObjects] | None = None,
    clicked: Mapping[str, NDArray[np.int64]] | None = None,
) -> LabelledImages:
    """Turn predicted offsets into label files and objects.csv.

    For the record, `copies` is how many noisy copies were predicted, and `taken` says of settings
    in the config where they come from. `witness` labels the same images in another way; what it
    finds corrects the labels, also at the pixels (n, 2), (y, x), of cells that were `clicked` on.
    """
    scenes = SegmentationInputs(prepared, folder, config)
    foreground = scenes.foreground
    if config.pseudo.choose:
        reporter.say("Choosing settings.")
    settings, choices = _choose_settings(config, scenes, annotations)
    choices = [*taken, *choices]
    labels, confidence = _find_objects(prepared, config, scenes, settings, reporter)
    objects = _list_objects(labels, confidence, prepared.found)
    trust = judge_trust(
        separation=None if foreground.cue == "outliers" else foreground.separation,
        confidences=objects["confidence"].to_numpy(),
        diameters=objects["diameter"].to_numpy(),
        annotated_f1=score_annotated(labels, annotations),
        annotated_cells=sum(len(object_sizes(cells)[0]) for cells in annotations.values()),
    )
    sides = {stem: prepared.found.sides(stem) for stem in labels}
    giants = warn_of_giants(labels, sides, diameter=prepared.scales.diameter)
    trust = replace(trust, complaints=(*trust.complaints, *giants))
    parameters = list_parameters(prepared, config, foreground, settings, choices, copies=copies)
    parameters["trust"] = describe_trust(trust)
    if witness is not None:
        heard = hear_witness(
            labels,
            confidence,
            witness(),
            trusted=trust.trusted,
            score=partial(score_annotated, annotations=annotations),
            clicked=clicked or {},
        )
        labels = heard.labels
        objects = _list_objects(labels, heard.confidence, prepared.found)
        objects["found_by"] = np.concatenate([heard.found_by[stem] for stem in labels])
        parameters["witness"] = {"value": heard.by_start, "reason": heard.reason}
        reporter.say(f"{heard.reason[0].upper()}{heard.reason[1:]}.")
    for stem, found in labels.items():
        write_labels(folder / "pseudo" / "labels" / f"{stem}.tif", found)
    write_text(folder / "pseudo" / "objects.csv", objects.to_csv(index=False))
    if objects.empty:
        advice = _explain_nothing(scenes, settings, prepared)
        parameters["trust"]["advice"] = advice
        reporter.say(f"No object was found in any image. {advice}")
    return LabelledImages(
        labels, prepared, config, copies, scenes, settings, choices, parameters, trust
    )


def _find_objects(
    prepared: PreparedImages,
    config: Config,
    scenes: SegmentationInputs,
    settings: SegmentationSettings,
    reporter: Reporter,
) -> tuple[dict[str, Labels], dict[str, NDArray[np.float64]]]:
    """Segment every image; also how sure its objects 1..n are."""

    def find(stem: str) -> tuple[Labels, NDArray[np.float64]]:
        scene = scenes[stem]
        segmented, sure = segment_surely(
            scene.offsets,
            scene.foreground,
            scene.image,
            settings,
            variants=config.pseudo.variants,
            seed=config.seed,
        )
        resized = resize_labels(segmented, prepared.found.images[stem].shape[:-1])
        kept = np.unique(resized[resized > 0])  # tiny objects may vanish where images shrink
        return renumber(resized)[0], sure[kept - 1]

    labels: dict[str, Labels] = {}
    confidence: dict[str, NDArray[np.float64]] = {}
    stems = list(prepared.seen)
    with reporter.task("Finding objects", len(stems)) as advance:
        found = zip(stems, map_in_threads(find, stems), strict=True)
        for done, (stem, (own, sure)) in enumerate(found, start=1):
            labels[stem], confidence[stem] = own, sure
            advance(done, f"{plural(int(own.max()), 'object')} in {stem}")
    return labels, confidence


def _list_objects(
    labels: Mapping[str, Labels],
    confidence: Mapping[str, NDArray[np.float64]],
    images: ImageSet,
) -> pd.DataFrame:
    tables = [
        describe_objects(stem, found, confidence[stem], sides=images.sides(stem))
        for stem, found in labels.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _explain_nothing(
    scenes: SegmentationInputs, settings: SegmentationSettings, prepared: PreparedImages
) -> str:
    """Say why there may be no object, and what the user can do."""
    share, unit = scenes.foreground_share, "px²" if settings.ndim == 2 else "px³"
    happened = (
        f"{share:.1%} of the pixels count as cell, but no group of them made an object of at "
        f"least {settings.min_size * settings.cell_area:.0f} {unit}"
        if share > 0
        else "No pixel counts as cell, because none is steadier under noise than the others"
    )
    return (
        f"{happened}. Look at the arrows and the spread in the report. What can help: the true "
        f"diameter of a cell in --diameter ({prepared.scales.diameter:.4g} px was used), longer "
        "training (--steps), or some annotated cells (--annotations); each with --overwrite or "
        "another output."
    )


def _choose_settings(
    config: Config, scenes: SegmentationInputs, annotations: dict[str, Labels]
) -> tuple[SegmentationSettings, list[Choice]]:
    """Take the config's settings, and choose what it leaves at its default."""
    given = config.pseudo
    settings = segmentation_settings(given, ndim=scenes.ndim)
    if not given.choose:
        return settings, []
    free = [name for name in type(given).model_fields if is_default(given, name)]
    with_cells = {stem: cells for stem, cells in annotations.items() if (cells > 0).any()}
    if with_cells:
        some = {stem: scenes[stem] for stem in with_cells}
        return choose_by_annotations(settings, some, with_cells, free=free, seed=config.seed)
    return choose_by_stability(settings, scenes, free=free, seed=config.seed)


def write_parameters(folder: Path, result: LabelledImages) -> None:
    """Write parameters.yaml."""
    text = yaml.safe_dump(result.parameters, sort_keys=False, allow_unicode=True)
    write_text(folder / "pseudo" / "parameters.yaml", text)


def describe_objects(
    stem: str,
    labels: Labels,
    confidence: NDArray[np.float64] | None = None,
    *,
    sides: tuple[float, ...] = (1.0, 1.0),
) -> pd.DataFrame:
    """List image, label, area, equivalent diameter, centroid (pixels), confidence of objects.

    Of stacks, the volume in voxels in place of the area, and the diameter of the ball of that
    volume in units of a voxel's width; `sides` are those of a voxel in this unit.
    """
    ids, sizes = object_sizes(labels)
    ndim = labels.ndim
    size = {2: "area", 3: "volume"}[ndim]
    table = pd.DataFrame({"image": stem, "label": ids, size: sizes.astype(np.float64)})
    table["diameter"] = equivalent_diameter(sizes * math.prod(sides), ndim=ndim)
    for axis, places in zip("zyx"[-ndim:], centroids(labels, ids).T, strict=True):
        table[axis] = places
    table["confidence"] = 1.0 if confidence is None else confidence[ids - 1]
    return table.round(2)
