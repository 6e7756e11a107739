"""Stage two on files: annotations and pseudo labels in, training labels and provenance out."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.errors import ParserWarning
from scipy import ndimage as ndi

from oce2stardist.cell_sampling import check_cells, draw_cells, draw_held_back
from oce2stardist.errors import InputError
from oce2stardist.io import MAX_LABEL, read_labels, write_labels, write_text
from oce2stardist.labels import BACKGROUND, UNLABELLED
from oce2stardist.merge import MergedLabels, infer_background, keep_cells, merge_annotations
from oce2stardist.runners.guards import warn_of_scales
from oce2stardist.runners.inputs import ImageSet, Labels
from oce2stardist.runners.run_folder import check_apart, owned, read_yaml

Zero = Literal["auto", "unlabelled", "background"]
"""What 0 means in annotation files; see `zero_is_background`."""

Confidences = dict[str, dict[int, float]]
"""Confidence of pseudo objects by image stem and id; an object that is not there has 1."""

_OBJECT_COLUMNS = ("image", "id", "source", "pseudo_id", "area", "y", "x", "confidence", "role")

_log = logging.getLogger(__name__)


def zero_is_background(zero: Zero, *, sampled: bool) -> bool:
    """Say whether 0 in annotation files is background; if not, it is unlabelled.

    auto: background where only some of the annotated cells are used (the files are complete
    then, and few annotations are only simulated), unlabelled otherwise.
    """
    return sampled if zero == "auto" else zero == "background"


@dataclass(frozen=True)
class TrainingLabels:
    """Labels that StarDist trains on, and those that judge it; by image stem.

    Attributes
    ----------
    sparse, pseudo : dict of int32 arrays of shape (Y, X)
        See `oce2stardist.merge`. `sparse` has the images of which something is known;
        `pseudo` has all images with pseudo labels.
    held_back : dict of int32 arrays of shape (Y, X)
        Annotated cells kept from training, with the background nearest to them; -1
        elsewhere. Only the images with such cells.
    cells : DataFrame
        image, label and role ("training" or "held_back") of every annotated cell used.
    objects : DataFrame
        Provenance of every object of `pseudo` (of `sparse` where there is none) and of
        `held_back`: image, id, source ("manual" or "pseudo"), pseudo_id (-1 if manual),
        area and centroid y, x in pixels, confidence, role. An id is used once in an image.
    """

    sparse: dict[str, Labels]
    pseudo: dict[str, Labels]
    held_back: dict[str, Labels]
    cells: pd.DataFrame
    objects: pd.DataFrame


def object_weights(labels: TrainingLabels, stem: str) -> dict[int, float]:
    """Look up how sure the pseudo objects of an image are, in [0, 1], by id in ``labels.pseudo``.

    Annotated cells, which are sure, have 1.0.
    """
    table = labels.objects
    objects = table[(table["image"] == stem) & (table["role"] == "training")]
    return dict(zip(objects["id"].tolist(), objects["confidence"].tolist(), strict=True))


def make_training_labels(
    annotations: Mapping[str, Labels],
    pseudo_gt: Mapping[str, Labels],
    *,
    fraction: float | None = None,
    count: int | None = None,
    per_image: bool = False,
    drawn: Mapping[str, Sequence[int]] | None = None,
    complete: bool = False,
    held_back: float = 0.0,
    held_back_cells: Mapping[str, Sequence[int]] | None = None,
    background_distance: float = 30.0,
    overlap: float = 0.0,
    confidence: Mapping[str, Mapping[int, float]] | None = None,
    seed: int,
) -> TrainingLabels:
    """Choose annotated cells, hold some back, and merge the others with the pseudo labels.

    Parameters
    ----------
    annotations : mapping of image stem to label image
        Cells > 0, known background 0, unknown -1.
    pseudo_gt : mapping of image stem to label image
        May be empty.
    fraction : float in (0, 1], optional
        Share of the annotated cells to use.
    count : int, >= 1, optional
        Number of annotated cells to use. Without this, `fraction` and `drawn`: all.
    per_image : bool
        `fraction` or `count` hold for every image instead of for the set.
    drawn : mapping of image stem to ids, optional
        Use exactly these annotated cells, as `read_cells` reads them.
    complete : bool
        The annotations are the complete truth of their images, and few are simulated:
        of the background, only what is near the cells used is known then. Otherwise all
        background in the annotations is known, and that which `infer_background` adds.
    held_back : float, in [0, 1)
        Share of the cells kept from training; at least one if there are two cells.
    held_back_cells : mapping of image stem to ids, optional
        Hold back exactly these, such as a fold of `split_folds`, whatever `held_back`.
    background_distance : float
        Pixels.
    overlap : float, in [0, 1)
        See `merge_annotations`.
    confidence : mapping of image stem to a mapping of id to confidence, optional
        Of the pseudo objects; 1.0 where not given.
    seed : int

    Returns
    -------
    TrainingLabels

    Raises
    ------
    InputError
        If a number is out of range, more than one of `fraction`, `count` and `drawn` is
        given, or a named cell is not annotated.

    Notes
    -----
    Every known background pixel belongs to the annotated cell nearest to it, and is
    held back with it, so that the surroundings of held-back cells don't leak either.
    """
    used = choose_cells(annotations, fraction, count, drawn, per_image=per_image, seed=seed)
    if held_back_cells is None:
        judges = draw_held_back(used, share=held_back, seed=seed)
    else:
        judges = _check_held_back(used, held_back_cells)
    known = {
        stem: _find_known(
            labels,
            used[stem],
            pseudo_gt.get(stem),
            complete=complete,
            background_distance=background_distance,
        )
        for stem, labels in annotations.items()
    }
    return _merge_images(
        known, judges, used, pseudo_gt, overlap=overlap, confidence=confidence or {}
    )


def choose_cells(
    annotations: Mapping[str, Labels],
    fraction: float | None,
    count: int | None,
    drawn: Mapping[str, Sequence[int]] | None,
    *,
    per_image: bool,
    seed: int,
) -> dict[str, list[int]]:
    """Take the cells that were named, or draw them, or take all; see `make_training_labels`.

    Raises
    ------
    InputError
        If cells are both named and drawn, a draw per image has no size, or as `draw_cells`
        and `check_cells` do.
    """
    if drawn is not None:
        if fraction is not None or count is not None or per_image:
            raise InputError(
                "cells must be either named or drawn. Got a list of cells and "
                f"fraction={fraction}, count={count}, per_image={per_image}; leave one out."
            )
        return check_cells(annotations, drawn)
    if fraction is None and count is None:
        if per_image:
            raise InputError(
                "a draw per image must know how many cells. Got neither fraction nor count; "
                "give one of them."
            )
        fraction = 1.0
    return draw_cells(annotations, fraction=fraction, count=count, per_image=per_image, seed=seed)


def _check_held_back(
    used: Mapping[str, Sequence[int]], cells: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """Return the cells to hold back, which must be among those used."""
    for stem, ids in cells.items():
        strangers = sorted(set(ids).difference(used.get(stem, [])))
        if strangers:
            raise InputError(
                "cells that are held back must be among those used. Got "
                f"{strangers[0]} in {stem!r}; split the cells that were drawn."
            )
    return {stem: sorted(set(ids)) for stem, ids in cells.items() if ids}


def _find_known(
    annotations: Labels,
    ids: list[int],
    pseudo_gt: Labels | None,
    *,
    complete: bool,
    background_distance: float,
) -> Labels:
    """Reduce the annotations of an image to the cells used and the background known with them."""
    if complete:
        return keep_cells(annotations, ids, background_distance=background_distance)
    is_other = (annotations > BACKGROUND) & ~np.isin(annotations, ids)
    used = np.where(is_other, np.int32(UNLABELLED), annotations)
    return infer_background(used, pseudo_gt, background_distance=background_distance)


def _merge_images(
    known: Mapping[str, Labels],
    judges: Mapping[str, list[int]],
    used: Mapping[str, list[int]],
    pseudo_gt: Mapping[str, Labels],
    *,
    overlap: float,
    confidence: Mapping[str, Mapping[int, float]],
) -> TrainingLabels:
    """Divide each image between training and judging, and merge what trains."""
    sparse, pseudo, judged, objects = {}, {}, {}, []
    for stem in sorted({*known, *pseudo_gt}):
        given = pseudo_gt.get(stem)
        nothing = np.full_like(known[stem] if given is None else given, UNLABELLED)
        train, judge = _split(known.get(stem, nothing), judges.get(stem, []))
        merged = merge_annotations(
            given,
            train,
            background_distance=0.0,  # what follows from the cells is in `known` already
            overlap=overlap,
            confidence=confidence.get(stem),
            reserved_ids=judges.get(stem, []),
        )
        if (train != UNLABELLED).any():
            sparse[stem] = train
        if given is not None:
            pseudo[stem] = merged.pseudo
        if judges.get(stem):
            judged[stem] = judge
        objects.append(_list_objects(stem, merged, judge))
    return TrainingLabels(
        sparse, pseudo, judged, _list_cells(used, judges), pd.concat(objects, ignore_index=True)
    )


def _split(known: Labels, held_back: list[int]) -> tuple[Labels, Labels]:
    """Divide what is known between training and judging, by the nearest annotated cell."""
    if not held_back:
        return known, np.full_like(known, UNLABELLED)
    nearest: NDArray[np.int64] = ndi.distance_transform_edt(
        known <= BACKGROUND, return_distances=False, return_indices=True
    )
    judged = np.isin(known[tuple(nearest)], held_back)
    return (
        np.where(judged, np.int32(UNLABELLED), known),
        np.where(judged, known, np.int32(UNLABELLED)),
    )


def _list_objects(stem: str, merged: MergedLabels, judge: Labels) -> pd.DataFrame:
    """Tabulate the objects that train and those held back, under the image's name."""
    held_back = merge_annotations(None, judge, background_distance=0.0).objects
    table = pd.concat(
        [merged.objects.assign(role="training"), held_back.assign(role="held_back")],
        ignore_index=True,
    )
    return table.assign(image=stem)[list(_OBJECT_COLUMNS)]


def _list_cells(used: Mapping[str, list[int]], held_back: Mapping[str, list[int]]) -> pd.DataFrame:
    rows = [
        (stem, label, "held_back" if label in held_back.get(stem, []) else "training")
        for stem, ids in used.items()
        for label in ids
    ]
    return pd.DataFrame(rows, columns=["image", "label", "role"])


def write_training_labels(folder: Path, labels: TrainingLabels) -> None:
    """Write sparse/, pseudo/ and held_back/*.tif, objects.csv and, last, cells.csv.

    Label images of an earlier merge into the same folder are removed.
    """
    (folder / "cells.csv").unlink(missing_ok=True)
    kinds = {"sparse": labels.sparse, "pseudo": labels.pseudo, "held_back": labels.held_back}
    for kind, images in kinds.items():
        for path in (folder / kind).glob("*.tif"):
            if path.stem not in images:
                path.unlink()
        for stem, image in images.items():
            write_labels(folder / kind / f"{stem}.tif", image)
    write_text(folder / "objects.csv", labels.objects.to_csv(index=False))
    write_text(folder / "cells.csv", labels.cells.to_csv(index=False))


def read_cells(path: str | Path) -> dict[str, list[int]]:
    """Read which annotated cells a run used, to use the same again.

    Parameters
    ----------
    path : path
        A CSV file with the columns image and label, such as training/cells.csv of a run.
        Other columns don't matter.

    Returns
    -------
    dict of image stem to list of int
        Ascending ids of the images named. Whether they are annotated is for
        `make_training_labels` to check.

    Raises
    ------
    InputError
        If the file can't be read, lacks a column, names no cell, or has a label that is
        not a whole number from 1 to 2**31 - 1.
    """
    table = _read_table(Path(path), {"image", "label"})
    labels = pd.to_numeric(table["label"], errors="coerce")
    bad = ~(labels.between(1, MAX_LABEL) & (labels == labels.round()))
    if bad.any():
        raise InputError(
            f"{path}: label must be a whole number from 1 to {MAX_LABEL}. "
            f"Got {table['label'][bad].iloc[0]!r}; name cells by their label in the annotations."
        )
    if table.empty:
        raise InputError(f"{path} must name at least one cell. Got a table without rows.")
    pairs = table.assign(label=labels.astype(np.int64)).groupby("image")["label"]
    return {str(stem): sorted({int(label) for label in ids}) for stem, ids in pairs}


def _read_table(path: Path, columns: set[str]) -> pd.DataFrame:
    """Read a CSV file as text; an image may be called 001 or NA."""
    try:
        with warnings.catch_warnings():
            # Of rows longer than the head pandas would cut the end off.
            warnings.simplefilter("error", ParserWarning)
            table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (OSError, ValueError, ParserWarning) as error:  # pandas' errors are ValueErrors
        reason = " ".join(str(error).split())
        raise InputError(f"{path} can't be read as a table: {reason}") from error
    missing = sorted(columns.difference(table.columns))
    if missing:
        raise InputError(
            f"{path} must have the columns {', '.join(sorted(columns))}. "
            f"Got {', '.join(table.columns)}; {missing[0]} is missing."
        )
    return table


def read_held_back(model: Path) -> dict[str, Labels]:
    """Read the held-back cells of a model folder, by image stem."""
    files = sorted((model / "training" / "held_back").glob("*.tif"))
    return {path.stem: read_labels(path) for path in files}


def read_pseudo_labels(run: str | Path, found: ImageSet) -> tuple[dict[str, Labels], Confidences]:
    """Read the pseudo labels of a run folder that belong to a set of images.

    Returns
    -------
    labels : dict of int32 arrays of shape (Y, X), by image stem
    confidences : dict of dicts of float, by image stem and id

    Raises
    ------
    InputError
        If the folder holds no finished pseudo labels, or none for these images.
    """
    folder = _pseudo_folder(run, finished=True)
    labels = {}
    for stem, image in found.images.items():
        path = folder / f"{stem}.tif"
        if path.exists():
            labels[stem] = read_labels(path, shape=image.shape[:2], image=found.paths.get(stem))
    if not labels:
        raise InputError(
            f"{folder} must hold pseudo labels of the images. Got none of the same name, such as "
            f"{next(iter(found.images))}.tif; pass the images that `pseudo` was run on."
        )
    return labels, _read_confidences(run, labels)


def _pseudo_folder(run: str | Path, *, finished: bool) -> Path:
    folder = Path(run) / "pseudo" / "labels"
    stage = Path(run) / "pseudo" / "stage.yaml"
    if not folder.is_dir() or (finished and not stage.exists()):
        raise InputError(
            f"{run} must be a run folder with pseudo labels. Got no pseudo/labels in it; "
            "run `oce2stardist pseudo IMAGES -o RUN` first, to its end."
        )
    if stage.exists() and not read_yaml(stage).get("finished"):
        raise InputError(
            f"{run} must be a finished run. Got one that was interrupted while it wrote pseudo "
            "labels; give its `oce2stardist pseudo` command again."
        )
    return folder


def _read_confidences(run: str | Path, labels: Mapping[str, Labels]) -> Confidences:
    """Read the confidences of the objects of these images; none where none were written."""
    path = Path(run) / "pseudo" / "objects.csv"
    if not path.exists():
        return {}
    table = _read_table(path, {"image", "label"})
    if "confidence" not in table:  # written by an older version
        return {}
    table = table[table["image"].isin(labels)]
    try:
        numbers = table.astype({"label": np.int64, "confidence": float})
    except ValueError as error:
        raise InputError(f"{path} must hold numbers: {error}") from error
    if not numbers["confidence"].between(0, 1).all():
        worst = numbers.loc[~numbers["confidence"].between(0, 1), "confidence"].iloc[0]
        raise InputError(f"{path}: confidence must lie from 0 to 1. Got {worst} instead.")
    return {
        str(stem): dict(zip(rows["label"].tolist(), rows["confidence"].tolist(), strict=True))
        for stem, rows in numbers.groupby("image")
    }


def merge_run(
    run: str | Path,
    annotations: str | Path,
    *,
    fraction: float | None = None,
    count: int | None = None,
    per_image: bool = False,
    use_cells: str | Path | None = None,
    zero: Zero = "auto",
    background_distance: float = 30.0,
    overlap: float = 0.0,
    seed: int = 0,
) -> TrainingLabels:
    """Merge annotations into the pseudo labels of a run folder; writes RUN/training.

    Parameters
    ----------
    run : path
        A folder that `oce2stardist pseudo` wrote.
    annotations : path
        What `oce2stardist.annotations` reads, matched by stem to the images of the run.
    fraction, count, per_image, background_distance, overlap, seed
        See `make_training_labels`.
    use_cells : path, optional
        Use the annotated cells that this file lists; see `read_cells`.
    zero : {"auto", "unlabelled", "background"}
        What 0 means in the annotations; see `zero_is_background`.

    Raises
    ------
    InputError
        If either side is missing or they do not fit.
    """
    from oce2stardist.annotations import read_annotations

    paths = {path.stem: path for path in sorted(_pseudo_folder(run, finished=False).glob("*.tif"))}
    pseudo_gt = {stem: read_labels(path) for stem, path in paths.items()}
    sampled = not (fraction is None and count is None and use_cells is None)
    is_background = zero_is_background(zero, sampled=sampled)
    annotated = read_annotations(
        paths,
        {stem: (labels.shape[0], labels.shape[1]) for stem, labels in pseudo_gt.items()},
        annotations,
        zero_is_background=is_background,
    )
    for note in annotated.notes:
        _log.warning("%s", note)
    check_apart(Path(run), ("training",), annotated.files)
    for warning in warn_of_scales(annotated.labels, pseudo_gt):
        _log.warning("%s", warning)
    merged = make_training_labels(
        annotated.labels,
        pseudo_gt,
        fraction=fraction,
        count=count,
        per_image=per_image,
        drawn=read_cells(use_cells) if use_cells is not None else None,
        complete=is_background and sampled,
        background_distance=background_distance,
        overlap=overlap,
        confidence=_read_confidences(run, pseudo_gt),
        seed=seed,
    )
    with owned(Path(run)):
        write_training_labels(Path(run) / "training", merged)
    return merged
