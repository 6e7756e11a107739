"""Read two-dimensional data sets of the Cell Tracking Challenge.

::

    <path>/01/t000.tif                   a frame; 3 or 4 digits
    <path>/01_GT/SEG/man_seg000.tif      its gold truth, of some frames only
    <path>/01_ST/SEG/man_seg000.tif      its silver truth, where the data set has one
    <path>/02/...                        the second sequence

Sequence 01 trains and 02 is evaluated. Only frames with truth are read.

Gold truth was drawn by people. The challenge's page on reference annotations says that it
covers very few of the cells of real data sets, well outlined; silver truth, the majority
vote of submitted programs, covers most cells, less well outlined. In a frame of gold truth
a pixel without cell may thus be anything, and ``zero_is_background=False`` makes it unknown.

The truth of three-dimensional data sets, ``man_seg_000_001.tif`` (frame and slice), is refused.

Cells near the edge of a frame were not all annotated. The challenge therefore names for
every data set the width E of a rim, in pixels, and leaves out what lies wholly in the rim;
`keep_field_of_interest` does. docs/experiments.md says where numbers and rule were read: second
hand, so compare with the challenge's documents before figures are published.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from oce2stardist.datasets.folders import read_pairs
from oce2stardist.datasets.labelled import LabelledImage, LabelledImages, LabelledSet
from oce2stardist.errors import InputError
from oce2stardist.labels import BACKGROUND, UNLABELLED, object_sizes, remove_objects

Truth = Literal["GT", "ST"]

TRAIN, TEST = "01", "02"
# E of all two-dimensional data sets; any other needs ``border``.
FIELD_BORDERS = {
    "BF-C2DL-HSC": 25,
    "BF-C2DL-MuSC": 25,
    "DIC-C2DH-HeLa": 50,
    "Fluo-C2DL-Huh7": 50,
    "Fluo-C2DL-MSC": 50,
    "Fluo-N2DH-GOWT1": 50,
    "Fluo-N2DH-SIM+": 0,
    "Fluo-N2DL-HeLa": 25,
    "PhC-C2DH-U373": 50,
    "PhC-C2DL-PSC": 25,
}

_FRAME = re.compile(r"t(\d{3,4})\.tif")
_TRUTH = re.compile(r"man_seg(\d{3,4})\.tif")
_TRUTH_OF_SLICE = re.compile(r"man_seg_\d{3,4}_\d{3,4}\.tif")


def open_cell_tracking(
    path: str | Path,
    *,
    truth: Truth = "GT",
    border: int | None = None,
    zero_is_background: bool = True,
) -> LabelledSet:
    """Open a data set of the challenge: sequence 01 to train, 02 to test.

    Parameters
    ----------
    path : str or Path
        Its folder, as unpacked, with ``01`` and ``02`` in it.
    truth : {"GT", "ST"}
        Gold or silver truth, of both sequences.
    border : int, >= 0, optional
        Width E of the rim outside the field of interest, pixels. By default that of
        `FIELD_BORDERS` for a data set with the folder's name.
    zero_is_background : bool
        Whether 0 in the truth is known background; otherwise it is read as -1, unknown.

    Returns
    -------
    LabelledSet
        Named after the folder. Stems are such as ``01_t000``, groups the sequences. The
        labels are not cropped to the field of interest.
    """
    path = Path(path)
    name = path.resolve().name
    if truth not in get_args(Truth):
        raise InputError(f"truth must be GT or ST. Got {truth!r}; GT is the gold truth.")
    if not path.is_dir():
        raise InputError(f"{path} must exist. Got no such folder; check the path.")
    if border is None:
        if name not in FIELD_BORDERS:
            raise InputError(
                f"border must be given for data sets other than {', '.join(FIELD_BORDERS)}. "
                f"Got the folder {name!r}; pass the width E that the challenge names, or 0."
            )
        border = FIELD_BORDERS[name]
    elif isinstance(border, bool) or not isinstance(border, int) or border < 0:
        raise InputError(
            f"border must be a whole number of pixels from 0 on. Got {border!r}; "
            "0 scores the whole frame."
        )
    train, test = (_open_sequence(path, sequence, truth) for sequence in (TRAIN, TEST))
    if not zero_is_background:
        train, test = _without_background(train), _without_background(test)
    return LabelledSet(name, train, test, border)


def keep_field_of_interest(labels: NDArray[np.integer], border: int) -> NDArray[np.integer]:
    """Set to background the objects of which no pixel lies in the field of interest.

    Objects with a pixel in it stay whole, unlabelled pixels unlabelled. Apply it to predicted and
    true labels alike. `oce2stardist.evaluation.scores.leave_out_border`, after other papers, goes
    by the centroid instead: it also removes an object that reaches into the field if its centroid
    lies in the rim.

    Parameters
    ----------
    labels : integer array of shape (Y, X)
    border : int, >= 0
        Width of the rim outside the field, pixels.
    """
    height, width = labels.shape
    if border < 0 or 2 * border >= min(height, width):
        raise InputError(
            f"border must leave a field of interest. Got {border} for labels of shape "
            f"{labels.shape}; give the width of the rim in pixels."
        )
    ids, _ = object_sizes(labels)
    inside, _ = object_sizes(labels[border : height - border, border : width - border])
    return remove_objects(labels, np.setdiff1d(ids, inside))


def _open_sequence(path: Path, sequence: str, truth: Truth) -> LabelledImages:
    frame_folder, truth_folder = path / sequence, path / f"{sequence}_{truth}" / "SEG"
    frames = _number(_list(frame_folder), _FRAME)
    true_files = _list(truth_folder)
    slices = [file.name for file in true_files if _TRUTH_OF_SLICE.fullmatch(file.name)]
    if slices:
        raise InputError(
            f"{truth_folder} must hold truth of two-dimensional frames, such as man_seg000.tif. "
            f"Got {slices[0]}, one slice of a volume; choose a 2D data set."
        )
    odd = [
        file.name
        for file in true_files
        if file.name.startswith("man_seg") and not _TRUTH.fullmatch(file.name)
    ]
    if odd:
        raise InputError(
            f"truth in {truth_folder} must be named man_seg and 3 or 4 digits, .tif. "
            f"Got {odd[0]}; rename it or move it away."
        )
    truths = _number(true_files, _TRUTH)
    if not truths:
        raise InputError(
            f"{truth_folder} must hold the truth of at least one frame, such as man_seg000.tif. "
            "Got none; unpack the data set again or choose the other truth."
        )
    for number, file in truths.items():
        if number not in frames:
            raise InputError(
                f"every frame with truth must be in {frame_folder}. Got {file.name} and no "
                f"t{file.stem.removeprefix('man_seg')}.tif; unpack the data set again."
            )
    pairs = [(frames[number], truths[number]) for number in sorted(truths)]
    stems = [f"{sequence}_{frame.stem}" for frame, _ in pairs]
    return read_pairs(pairs, stems, group=sequence)


def _list(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"{folder} must be a folder of the data set. Got no such folder; give the folder that "
            f"holds {TRAIN} and {TEST}, and a truth that the data set has."
        )
    return sorted(file for file in folder.iterdir() if file.is_file())


def _number(files: list[Path], pattern: re.Pattern[str]) -> dict[int, Path]:
    """Find the files that are named after frames, by number."""
    numbered: dict[int, Path] = {}
    for file in files:
        named = pattern.fullmatch(file.name)
        if named and numbered.setdefault(int(named[1]), file) is not file:
            raise InputError(
                f"{file.parent} must hold one file for every frame. Got "
                f"{numbered[int(named[1])].name} and {file.name}; move one away."
            )
    return numbered


def _without_background(images: LabelledImages) -> LabelledImages:
    """Make unknown what is background."""

    def read(positions: Sequence[int]) -> Iterator[LabelledImage]:
        for at in positions:
            image = images[at]
            labels = np.where(image.labels == BACKGROUND, np.int32(UNLABELLED), image.labels)
            yield replace(image, labels=labels)

    return LabelledImages(images.stems, images.groups, read)
