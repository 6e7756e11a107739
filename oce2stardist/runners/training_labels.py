"""Stage two on files: annotations and pseudo labels in, training labels and provenance out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.errors import InputError
from oce2stardist.io import label_paths, read_labels, write_labels, write_text
from oce2stardist.labels import BACKGROUND, UNLABELLED
from oce2stardist.merge import draw_cells, keep_cells, merge_annotations
from oce2stardist.runners.inputs import ImageSet, Labels

Zero = Literal["auto", "unlabelled", "background"]
"""What 0 means in annotation files. auto: background where a fraction is drawn (the files
are complete then, and few annotations are only simulated), unlabelled otherwise."""


@dataclass(frozen=True)
class TrainingLabels:
    """Labels that StarDist trains on, and those that judge it; by image stem.

    Attributes
    ----------
    sparse, pseudo : dict of int32 arrays of shape (Y, X)
        See `oce2stardist.merge`. `sparse` has the images with annotations; `pseudo` has
        all images, or none if no pseudo labels were given.
    held_back : dict of int32 arrays of shape (Y, X)
        Annotated cells kept from training, with the background nearest to them; -1
        elsewhere. Only the images with such cells.
    cells : DataFrame
        image, label and role ("training" or "held_back") of every annotated cell used.
    objects : DataFrame
        Provenance of every object of `pseudo` (of `sparse` where there is none).
    """

    sparse: dict[str, Labels]
    pseudo: dict[str, Labels]
    held_back: dict[str, Labels]
    cells: pd.DataFrame
    objects: pd.DataFrame


def make_training_labels(
    annotations: Mapping[str, Labels],
    pseudo_gt: Mapping[str, Labels],
    *,
    fraction: float | None,
    zero: Zero,
    held_back: float,
    background_distance: float,
    seed: int,
) -> TrainingLabels:
    """Draw the annotated cells, hold some back, and merge the others with the pseudo labels.

    Parameters
    ----------
    annotations : mapping of image stem to label image
        As read from files: cells > 0, -1 unlabelled, 0 as `zero` says.
    pseudo_gt : mapping of image stem to label image
        May be empty.
    fraction : float in (0, 1], optional
        Share of the annotated cells to use, drawn over the whole set.
    zero : {"auto", "unlabelled", "background"}
    held_back : float, in [0, 1)
        Share of the cells kept from training; at least one if there are two cells.
    background_distance : float
        Pixels.
    seed : int

    Returns
    -------
    TrainingLabels

    Notes
    -----
    Every known background pixel belongs to the annotated cell nearest to it, and is
    held back with it, so that the surroundings of held-back cells don't leak either.
    """
    drawn = draw_cells(annotations, fraction=fraction or 1.0, seed=seed)
    complete = zero == "background" or (zero == "auto" and fraction is not None)
    known: dict[str, Labels] = {}
    for stem, labels in annotations.items():
        if complete and fraction is not None:
            known[stem] = keep_cells(labels, drawn[stem], background_distance=background_distance)
        elif complete:
            known[stem] = labels
        else:
            kept = np.isin(labels, drawn[stem])
            given = np.where(kept, labels, UNLABELLED).astype(np.int32)
            merged = merge_annotations(
                pseudo_gt.get(stem), given, background_distance=background_distance
            )
            known[stem] = merged.sparse
    judges = _hold_back(drawn, held_back, seed=seed)
    sparse, pseudo, judged = {}, {}, {}
    objects = []
    for stem in sorted({*annotations, *pseudo_gt}):
        nothing = np.full_like(known[stem] if stem in known else pseudo_gt[stem], UNLABELLED)
        train, judge = _split(known.get(stem, nothing), judges.get(stem, []))
        merged = merge_annotations(pseudo_gt.get(stem), train, background_distance=0.0)
        if (train != UNLABELLED).any():
            sparse[stem] = train
        if stem in pseudo_gt:
            pseudo[stem] = merged.pseudo
        if (judge > BACKGROUND).any():
            judged[stem] = judge
        merged.objects.insert(0, "image", stem)
        objects.append(merged.objects)
    rows = [
        (stem, label, "held_back" if label in judges.get(stem, []) else "training")
        for stem, labels_drawn in drawn.items()
        for label in labels_drawn
    ]
    return TrainingLabels(
        sparse,
        pseudo,
        judged,
        pd.DataFrame(rows, columns=["image", "label", "role"]),
        pd.concat(objects, ignore_index=True),
    )


def _hold_back(drawn: Mapping[str, list[int]], share: float, *, seed: int) -> dict[str, list[int]]:
    cells = [(stem, label) for stem, labels in drawn.items() for label in labels]
    count = max(1, round(share * len(cells))) if share > 0 and len(cells) > 1 else 0
    # A seed of its own: the draw of the cells must not decide which of them are held back.
    order = np.random.default_rng([seed, 1]).permutation(len(cells))[:count]
    chosen: dict[str, list[int]] = {}
    for index in sorted(order):
        stem, label = cells[index]
        chosen.setdefault(stem, []).append(label)
    return chosen


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


def write_training_labels(folder: Path, labels: TrainingLabels) -> None:
    """Write sparse/, pseudo/ and held_back/*.tif, objects.csv and, last, cells.csv."""
    kinds = {"sparse": labels.sparse, "pseudo": labels.pseudo, "held_back": labels.held_back}
    for kind, images in kinds.items():
        for stem, image in images.items():
            write_labels(folder / kind / f"{stem}.tif", image)
    write_text(folder / "objects.csv", labels.objects.to_csv(index=False))
    write_text(folder / "cells.csv", labels.cells.to_csv(index=False))


def read_held_back(model: Path) -> dict[str, Labels]:
    """Read the held-back cells of a model folder, by image stem."""
    files = sorted((model / "training" / "held_back").glob("*.tif"))
    return {path.stem: read_labels(path) for path in files}


def read_pseudo_labels(run: str | Path, found: ImageSet) -> dict[str, Labels]:
    """Read the pseudo labels of a run folder that belong to a set of images.

    Raises
    ------
    InputError
        If the folder holds no finished pseudo labels, or none for these images.
    """
    folder = Path(run) / "pseudo" / "labels"
    if not (Path(run) / "pseudo" / "stage.yaml").exists() or not folder.is_dir():
        raise InputError(
            f"{run} must be a run folder with pseudo labels. Got no pseudo/labels in it; "
            "run `oce2stardist pseudo IMAGES -o RUN` first, to its end."
        )
    labels = {}
    for stem, image in found.images.items():
        path = folder / f"{stem}.tif"
        if path.exists():
            labels[stem] = read_labels(path, shape=image.shape[:2], image=found.paths[stem])
    if not labels:
        raise InputError(
            f"{folder} must hold pseudo labels of the images. Got none of the same name, such as "
            f"{next(iter(found.paths))}.tif; pass the images that `pseudo` was run on."
        )
    return labels


def merge_run(
    run: str | Path,
    annotations: str | Path,
    *,
    fraction: float | None = None,
    zero: Zero = "auto",
    background_distance: float = 30.0,
    seed: int = 0,
) -> TrainingLabels:
    """Merge annotations into the pseudo labels of a run folder; writes RUN/training.

    Parameters
    ----------
    run : path
        A folder that `oce2stardist pseudo` wrote.
    annotations : path
        Label images matched by stem to the images of the run.
    fraction, zero, background_distance, seed
        See `make_training_labels`.

    Raises
    ------
    InputError
        If either side is missing or they do not fit.
    """
    folder = Path(run)
    labels_folder = folder / "pseudo" / "labels"
    if not labels_folder.is_dir():
        raise InputError(
            f"{run} must be a run folder with pseudo labels. Got no pseudo/labels in it; "
            "run `oce2stardist pseudo IMAGES -o RUN` first, to its end."
        )
    paths = sorted(labels_folder.glob("*.tif"))
    pseudo_gt = {path.stem: read_labels(path) for path in paths}
    matched = label_paths(paths, Path(annotations))
    drawn_on = {
        path.stem: read_labels(file, shape=pseudo_gt[path.stem].shape, image=path)
        for path, file in matched.items()
    }
    merged = make_training_labels(
        drawn_on,
        pseudo_gt,
        fraction=fraction,
        zero=zero,
        held_back=0.0,
        background_distance=background_distance,
        seed=seed,
    )
    write_training_labels(folder / "training", merged)
    return merged
