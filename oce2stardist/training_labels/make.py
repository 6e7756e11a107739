"""Make training labels and their provenance from annotations and pseudo labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage as ndi

from oce2stardist.errors import InputError
from oce2stardist.labels import BACKGROUND, UNLABELLED, Labels, object_sizes
from oce2stardist.training_labels.draw_cells import check_cells
from oce2stardist.training_labels.hints import ConfirmedCell, HintedImage
from oce2stardist.training_labels.merge import (
    MergedLabels,
    free_ids,
    infer_background,
    keep_cells,
    keep_largest_pieces,
    merge_annotations,
)
from oce2stardist.training_labels.planes import VoxelSize

if TYPE_CHECKING:
    from oce2stardist.pseudo_labels.files import PseudoLabels

_OBJECT_COLUMNS = (
    *("image", "id", "source", "pseudo_id", "area"),
    *("z", "y", "x"),  # z of stacks
    *("confidence", "role"),
)


@dataclass(frozen=True)
class TrainingLabels:
    """Labels that StarDist trains on, and those that judge it; by image stem.

    Attributes
    ----------
    sparse, pseudo : dict of int32 arrays of shape (Y, X) or (Z, Y, X)
        See `oce2stardist.training_labels.merge`. `sparse` has the images of which something is
        known; `pseudo` has all images with pseudo labels.
    held_back : dict of int32 arrays of the same shape
        Annotated cells kept from training, with the background nearest to them; -1
        elsewhere. Only the images with such cells.
    cells : DataFrame
        image, label and role ("training" or "held_back") of every annotated cell used.
    objects : DataFrame
        Provenance of every object of `pseudo` (of `sparse` where there is none) and of
        `held_back`: image, id, source ("manual", "pseudo", or a `hints.Source`), pseudo_id (-1 if
        manual), area and centroid (z), y, x in pixels, confidence, role. An id is used once in an
        image.
    """

    sparse: dict[str, Labels]
    pseudo: dict[str, Labels]
    held_back: dict[str, Labels]
    cells: pd.DataFrame
    objects: pd.DataFrame

    def changed(self, change: Callable[[str, Labels], Labels]) -> "TrainingLabels":
        """Return them with the labels of every image changed, such as zoomed; the tables stay."""

        def change_all(group: dict[str, Labels]) -> dict[str, Labels]:
            return {stem: change(stem, labels) for stem, labels in group.items()}

        return replace(
            self,
            sparse=change_all(self.sparse),
            pseudo=change_all(self.pseudo),
            held_back=change_all(self.held_back),
        )

    @property
    def known(self) -> dict[str, Labels]:
        """What is outlined in each image, whether it trains or is held back.

        Pseudo objects that hints confirm are unknown here: they can't judge what they came from.
        """
        hinted = self.objects[~self.objects["source"].isin(["manual", "pseudo"])]
        known = dict(self.sparse)
        for stem, rows in hinted.groupby("image"):
            is_hinted = np.isin(known[stem], rows["id"])
            known[stem] = np.where(is_hinted, np.int32(UNLABELLED), known[stem])
        for stem, held in self.held_back.items():
            known[stem] = np.where(held != UNLABELLED, held, known[stem]) if stem in known else held
        return known


def object_weights(labels: TrainingLabels, stem: str) -> dict[int, float]:
    """Look up how sure the pseudo objects of an image are, in [0, 1], by id in ``labels.pseudo``.

    Annotated cells, which are sure, have 1.0.
    """
    table = labels.objects
    objects = table[(table["image"] == stem) & (table["role"] == "training")]
    return dict(zip(objects["id"].tolist(), objects["confidence"].tolist(), strict=True))


def make_training_labels(
    annotations: Mapping[str, Labels],
    pseudo: "PseudoLabels",
    cells: Mapping[str, Sequence[int]],
    *,
    held_back: Mapping[str, Sequence[int]],
    complete: bool,
    background_distance: float,
    overlap: float,
    hinted: Mapping[str, HintedImage] | None = None,
    voxel_size: Mapping[str, VoxelSize] | None = None,
) -> TrainingLabels:
    """Hold some of the annotated cells back, and merge the others with the pseudo labels.

    Parameters
    ----------
    annotations : mapping of image stem to label image
        Cells > 0, known background 0, unknown -1.
    pseudo : PseudoLabels
        May be of no image.
    cells : mapping of image stem to ids
        The annotated cells to use, as `CellDraw` draws them.
    held_back : mapping of image stem to ids
        Those of them that judge instead of train, such as a fold of `split_folds`.
    complete : bool
        The annotations are the complete truth of their images, and few are simulated:
        of the background, only what is near the cells used is known then. Otherwise all
        background in the annotations is known, and that which `infer_background` adds.
    background_distance, overlap
        See `merge_annotations`.
    hinted : mapping of image stem to HintedImage, optional
        What hints made of the pseudo labels of the run. `pseudo` may be others by now.
    voxel_size : mapping of image stem to (z, y, x), optional
        Of stacks, in any unit; see `merge_annotations`. Cubes where not given.

    Notes
    -----
    Every known background pixel belongs to the annotated cell nearest to it, and is
    held back with it, so that the surroundings of held-back cells don't leak either.
    """
    used = check_cells(annotations, cells) if cells else {}
    judges = _check_held_back(used, held_back)
    sparse, merged_pseudo, judged, objects = {}, {}, {}, []
    for stem in sorted({*annotations, *pseudo.labels}):
        given, drawn = pseudo.labels.get(stem), annotations.get(stem)
        if drawn is None:
            drawn = np.full_like(given, UNLABELLED)
        known = _find_known(
            drawn, used.get(stem, []), complete=complete, background_distance=background_distance
        )
        confirmed: dict[int, ConfirmedCell] = {}
        if hinted and stem in hinted:
            taken = set(object_sizes(drawn)[0].tolist())
            known, confirmed = _add_hints(known, hinted[stem], taken=taken)
            given = None if given is None else hinted[stem].doubt(given)
        if not complete:
            known = infer_background(known, given, background_distance=background_distance)
        train, judge = _split(known, judges.get(stem, []))
        merged = merge_annotations(
            given,
            train,
            background_distance=0.0,  # what follows from the cells is in `known` already
            overlap=overlap,
            confidence=pseudo.confidence.get(stem),
            reserved_ids=judges.get(stem, []),
            voxel_size=(voxel_size or {}).get(stem, (1.0, 1.0, 1.0)),
        )
        if (train != UNLABELLED).any():
            sparse[stem] = train
        if given is not None:
            merged_pseudo[stem] = merged.pseudo
        if judges.get(stem):
            judged[stem] = judge
        objects.append(_list_objects(stem, merged, judge, confirmed))
    table = pd.concat(objects, ignore_index=True)
    return TrainingLabels(sparse, merged_pseudo, judged, _list_cells(used, judges), table)


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
    annotations: Labels, ids: list[int], *, complete: bool, background_distance: float
) -> Labels:
    """Reduce the annotations of an image to the cells used and the background known with them."""
    if complete:
        return keep_cells(annotations, ids, background_distance=background_distance)
    is_other = (annotations > BACKGROUND) & ~np.isin(annotations, ids)
    return np.where(is_other, np.int32(UNLABELLED), annotations)


def _add_hints(
    known: Labels, hinted: HintedImage, *, taken: set[int]
) -> tuple[Labels, dict[int, ConfirmedCell]]:
    """Add what hints say where nothing is outlined; returns the cells that hints confirm by id."""
    is_outlined = known > UNLABELLED
    cells = hinted.known.copy()
    sizes = np.bincount(cells[cells > BACKGROUND], minlength=len(hinted.cells) + 1)
    covered = np.bincount(cells[(cells > BACKGROUND) & is_outlined], minlength=len(sizes))
    is_kept = (2 * covered <= sizes) & (sizes > 0)
    for number, cell in enumerate(hinted.cells, start=1):
        if cell.mark is not None and is_outlined[tuple(cell.mark.T)].any():
            is_kept[number] = False
    is_kept[0] = False
    ids = np.full(len(sizes), UNLABELLED, np.int32)
    ids[0] = BACKGROUND
    ids[is_kept] = free_ids(taken, int(is_kept.sum()))
    numbered = np.where(cells == UNLABELLED, np.int32(UNLABELLED), ids[np.maximum(cells, 0)])
    numbered[is_outlined] = UNLABELLED
    keep_largest_pieces(numbered, ids[is_kept & (covered > 0)])
    confirmed = {int(ids[number]): hinted.cells[number - 1] for number in np.flatnonzero(is_kept)}
    return np.where(is_outlined, known, numbered), confirmed


def _split(known: Labels, held_back: list[int]) -> tuple[Labels, Labels]:
    """Divide what is known between training and judging, by the nearest annotated cell."""
    if not held_back:
        return known, np.full_like(known, UNLABELLED)
    nearest: NDArray[np.int64] = ndi.distance_transform_edt(
        known <= BACKGROUND, return_distances=False, return_indices=True
    )
    judged = np.isin(known[tuple(nearest)], held_back)
    unknown = np.int32(UNLABELLED)
    return np.where(judged, unknown, known), np.where(judged, known, unknown)


def _list_objects(
    stem: str, merged: MergedLabels, judge: Labels, confirmed: Mapping[int, ConfirmedCell]
) -> pd.DataFrame:
    """Tabulate the objects that train and those held back, under the image's name."""
    training = merged.objects.assign(role="training")
    for name in ("source", "pseudo_id"):
        training[name] = [
            getattr(confirmed[number], name) if number in confirmed else value
            for number, value in zip(training["id"], training[name], strict=True)
        ]
    held_back = merge_annotations(None, judge, background_distance=0.0).objects
    both = [training, held_back.assign(role="held_back")]
    table = pd.concat(both, ignore_index=True)
    table["image"] = stem
    return table[[column for column in _OBJECT_COLUMNS if column in table]]


def _list_cells(used: Mapping[str, list[int]], held_back: Mapping[str, list[int]]) -> pd.DataFrame:
    rows = [
        (stem, label, "held_back" if label in held_back.get(stem, []) else "training")
        for stem, ids in used.items()
        for label in ids
    ]
    return pd.DataFrame(rows, columns=["image", "label", "role"])
