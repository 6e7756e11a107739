"""Read TissueNet 1.0 and 1.1: tissue sections with nuclear and membrane stain, cells in full.

One .npz file per split: ``tissuenet_v1.0_train.npz``, ``tissuenet_v1.1_train.npz`` or, as
current DeepCell unpacks it, ``train.npz``; likewise ``val`` and ``test``. Its fields:

===================  ==============================  ===========================================
field                shape, type                     holds
===================  ==============================  ===========================================
``X``                (N, Y, X, 2), float32           channel 0 nuclear, 1 membrane or cytoplasm
``y``                (N, Y, X, 2), integer           channel 0 **whole cells**, 1 nuclei
``tissue_list``      (N,), text; 1.0 only            tissue, in lower case: ``immune``, ``lung``
``platform_list``    (N,), text; 1.0 only            imaging platform: ``mibi``, ``codex``
``meta``             (N + 1, columns); 1.1 only      a row of column names, then a row per image
===================  ==============================  ===========================================

Images and labels thus order their channels the other way round, in both versions. Images of
the train split have 512 x 512 pixels, those of val and test 256 x 256. Val holds every image
at two further resolutions. In 1.1 the labels were checked once more.

Sources: the documentation of DeepCell's ``TissueNet`` class (splits, sizes, versions) and its
reader (``X``, ``y``, ``meta`` with the names in its first row, read as pickled objects); the
paper's own figure code and published readers (``tissue_list``, ``platform_list``, lower case).
The channels of ``y`` are those of the paper's figure code and of every reader of 1.0 and 1.1
that was found but one, which does not check them. No source gives the column names of
``meta``: `open_tissuenet` takes them, and its message lists those that a file has.

Pickled objects could run any program and are never read. Where ``meta`` is pickled, someone
who trusts the file can write it, once, as CSV beside the file and under its name::

    import csv, numpy
    rows = numpy.load("tissuenet_v1.1_train.npz", allow_pickle=True)["meta"]
    csv.writer(open("tissuenet_v1.1_train.csv", "w", newline="")).writerows(rows)

The CSV is then read in place of the fields above.

Source of the data: Greenwald et al., Nature Biotechnology 40, 2022,
doi:10.1038/s41587-021-01094-0.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from oce2stardist.datasets.labelled import LabelledImage, LabelledImages, LabelledSet
from oce2stardist.datasets.npz import (
    ArrayHeader,
    list_fields,
    read_header,
    read_pieces,
    read_whole,
    reading,
)
from oce2stardist.errors import InputError
from oce2stardist.images.label_files import MAX_LABEL

Split = Literal["train", "val", "test"]
Rows = list[list[str]]

WHOLE_CELL = 0  # the channel of y
MAX_IMAGE_VALUES = 2**26  # of one image, both channels; the published ones have 2**19
MAX_IMAGES = 10**6
MAX_METADATA_BYTES = 2**26


def open_tissuenet(
    path: str | Path,
    *,
    tissues: str | Iterable[str] | None = None,
    platforms: str | Iterable[str] | None = None,
    train: Split = "train",
    test: Split = "test",
    grouped: bool = True,
    tissue_column: str = "tissue",
    platform_column: str = "platform",
) -> LabelledSet:
    """Open two splits of TissueNet 1.0 or 1.1.

    Parameters
    ----------
    path : str or Path
        The folder with one .npz file per split.
    tissues, platforms : str or iterable of str, optional
        Only images of these, in upper or lower case; by default all.
    train, test : {"train", "val", "test"}
        The split that each part is read from.
    grouped : bool
        Whether to read the tissue of every image. Without it, files whose ``meta`` is
        pickled are read, too, but no tissues can be chosen.
    tissue_column, platform_column : str
        Names of these columns in ``meta`` or the CSV; not used for version 1.0.

    Returns
    -------
    LabelledSet
        Images of shape (Y, X, 2), nuclear and membrane; labels are whole cells. The groups
        are the tissues, in lower case. Stems are such as ``train_00012``, by position in
        the file.

    Notes
    -----
    Images are read one by one: see `oce2stardist.datasets.labelled.LabelledImages`. Refused,
    before memory is taken, are images of more than `MAX_IMAGE_VALUES` values, more than
    `MAX_IMAGES` images and metadata of more than `MAX_METADATA_BYTES`.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder} must be a folder. Got no such folder; check the path.")
    if train == test:
        raise InputError(f"train and test must be two splits. Got {train!r} for both; choose two.")
    wanted = _Wanted(_as_names("tissues", tissues), _as_names("platforms", platforms))
    if not grouped and (wanted.tissues or wanted.platforms):
        raise InputError(
            "grouped must be true where tissues or platforms are chosen. Got false; "
            "leave out one or the other."
        )
    columns = (tissue_column, platform_column)
    train_images, test_images = (
        _open_split(_find_split(folder, split), split, wanted, columns if grouped else None)
        for split in (train, test)
    )
    name = "-".join(["tissuenet", *wanted.tissues, *wanted.platforms])
    return LabelledSet(name, train_images, test_images)


@dataclass(frozen=True)
class _Wanted:
    """Lower-case names; none stands for all."""

    tissues: tuple[str, ...]
    platforms: tuple[str, ...]


@dataclass(frozen=True)
class _Metadata:
    """Tissue and platform, lower case, of every image; ``source`` says where that stands."""

    tissues: list[str]
    platforms: list[str]
    source: str


def _as_names(option: str, given: str | Iterable[str] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    names = [given] if isinstance(given, str) else list(given)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{option} must be one name or several. Got {given!r}; "
            "leave the option out to take all images."
        )
    return tuple(name.lower() for name in names)


def _find_split(folder: Path, split: Split) -> Path:
    if split not in get_args(Split):
        raise InputError(
            f"train and test must be splits: {', '.join(get_args(Split))}. "
            f"Got {split!r}; name one of these."
        )
    files = sorted(folder.glob("*.npz"))
    of_split = [file for file in files if file.stem == split or file.stem.endswith(f"_{split}")]
    if len(of_split) != 1:
        names = ", ".join(file.name for file in of_split or files) or "none"
        raise InputError(
            f"{folder} must hold one .npz file of the split {split}, such as "
            f"tissuenet_v1.0_{split}.npz. Got {names}; give the folder of one version."
        )
    return of_split[0]


def _open_split(
    file: Path, split: Split, wanted: _Wanted, columns: tuple[str, str] | None
) -> LabelledImages:
    with reading(file) as archive:
        images, labels = _read_headers(archive, file)
        metadata = _read_metadata(archive, file, columns) if columns else None
    n_images = images.shape[0]
    if metadata:
        for names in (metadata.tissues, metadata.platforms):
            if len(names) != n_images:
                raise InputError(
                    f"{metadata.source} must describe every image of {file}. Got {len(names)} "
                    f"entries for {n_images} images; take both from one version and split."
                )
    stems = [f"{split}_{at:05d}" for at in range(n_images)]
    groups = metadata.tissues if metadata else [""] * n_images

    def read(positions: Sequence[int]) -> Iterator[LabelledImage]:
        with reading(file) as archive:
            for at, image, both in zip(
                positions,
                read_pieces(archive, "X", images, positions),
                read_pieces(archive, "y", labels, positions),
                strict=True,
            ):
                name = f"image {at} of {file}"
                cells = _as_labels(both[..., WHOLE_CELL], name)
                yield LabelledImage(stems[at], _as_image(image, name), cells, groups[at])

    everything = LabelledImages(stems, groups, read)
    return everything.choose(_choose(metadata, wanted)) if metadata else everything


def _read_headers(archive: ZipFile, file: Path) -> tuple[ArrayHeader, ArrayHeader]:
    """Check X and y before any of their values is read."""
    fields = list_fields(archive)
    if not {"X", "y"} <= set(fields) or len(set(fields)) < len(fields):
        raise InputError(
            f"{file} must hold the fields X and y, each once. Got {', '.join(fields) or 'none'}; "
            "give the files of TissueNet 1.0 or 1.1."
        )
    images, labels = read_header(archive, "X"), read_header(archive, "y")
    for field, header in (("X", images), ("y", labels)):
        if header.dtype.kind not in "biuf":
            raise InputError(
                f"{field} in {file} must hold numbers. Got {header.dtype}; save real numbers."
            )
        if len(header.shape) != 4 or header.shape[3] != 2 or 0 in header.shape:
            raise InputError(
                f"{field} in {file} must have the shape (images, Y, X, 2). Got {header.shape}; "
                "give the files of TissueNet 1.0 or 1.1."
            )
        if header.shape[0] > MAX_IMAGES or math.prod(header.shape[1:]) > MAX_IMAGE_VALUES:
            raise InputError(
                f"{field} in {file} must hold at most {MAX_IMAGES} images of at most "
                f"{MAX_IMAGE_VALUES} values. Got {header.shape}; split or crop them."
            )
    if images.shape != labels.shape:
        raise InputError(
            f"X and y in {file} must have one shape. Got {images.shape} and {labels.shape}; "
            "give the file as it was published."
        )
    return images, labels


def _read_metadata(archive: ZipFile, file: Path, columns: tuple[str, str]) -> _Metadata:
    """Read the CSV beside the file, or what version 1.0 or 1.1 stores in it."""
    fields = list_fields(archive)
    beside = file.with_suffix(".csv")
    if beside.is_file():
        return _pick_columns(_read_csv(beside), columns, str(beside))
    if {"tissue_list", "platform_list"} <= set(fields):
        tissues, platforms = (
            [str(name).lower() for name in _read_text(archive, file, field, ndim=1)]
            for field in ("tissue_list", "platform_list")
        )
        return _Metadata(tissues, platforms, "tissue_list and platform_list")
    if "meta" in fields:
        rows = _read_text(archive, file, "meta", ndim=2)
        return _pick_columns(rows.tolist(), columns, f"meta in {file}")
    raise InputError(
        f"{file} must hold tissue_list and platform_list, or meta. Got {', '.join(fields)}; "
        f"write {beside.name} beside it, or pass grouped: false."
    )


def _read_text(archive: ZipFile, file: Path, field: str, *, ndim: int) -> NDArray[np.str_]:
    try:
        header = read_header(archive, field)
    except InputError as error:
        raise InputError(
            f"{field} in {file} must be stored as plain text. Got pickled Python objects, which "
            f"could run programs and are never read; write {file.with_suffix('.csv').name} beside "
            "it as the documentation of oce2stardist.datasets.tissuenet shows, or pass "
            "grouped: false."
        ) from error
    n_bytes = math.prod(header.shape) * header.dtype.itemsize
    if header.dtype.kind != "U" or len(header.shape) != ndim or n_bytes > MAX_METADATA_BYTES:
        raise InputError(
            f"{field} in {file} must be text of {ndim} dimension{'s' * (ndim > 1)} and at most "
            f"{MAX_METADATA_BYTES} bytes. Got {header.dtype} of shape {header.shape}; "
            "give the file as it was published."
        )
    return read_whole(archive, field, header)


def _read_csv(path: Path) -> Rows:
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise InputError(
            f"{path} must have at most {MAX_METADATA_BYTES} bytes. Got {path.stat().st_size}; "
            "leave out columns but tissue and platform."
        )
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.reader(stream))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} must be a CSV file in UTF-8. Got {error}; save it again."
        ) from error


def _pick_columns(rows: Rows, columns: tuple[str, str], source: str) -> _Metadata:
    """Take tissue and platform from rows, the first of which names the columns."""
    header = [name.strip().lower() for name in rows[0]] if rows else []
    missing = [name for name in columns if name.lower() not in header]
    if missing:
        raise InputError(
            f"the first row of {source} must name the column {missing[0]!r}. "
            f"Got {', '.join(header) or 'no row'}; pass tissue_column and platform_column."
        )
    ragged = [at for at, row in enumerate(rows) if len(row) != len(header)]
    if ragged:
        raise InputError(
            f"every row of {source} must have {len(header)} entries. "
            f"Got {len(rows[ragged[0]])} in row {ragged[0] + 1}; write it again."
        )
    tissues, platforms = (
        [row[header.index(name.lower())].strip().lower() for row in rows[1:]] for name in columns
    )
    return _Metadata(tissues, platforms, source)


def _choose(metadata: _Metadata, wanted: _Wanted) -> list[int]:
    """List the positions of the images that are wanted."""
    for option, names, there in (
        ("tissues", wanted.tissues, metadata.tissues),
        ("platforms", wanted.platforms, metadata.platforms),
    ):
        unknown = [name for name in names if name not in there]
        if unknown:
            raise InputError(
                f"{option} must be among those of {metadata.source}: "
                f"{', '.join(sorted(set(there)))}. Got {unknown[0]!r}; choose from these."
            )
    pairs = zip(metadata.tissues, metadata.platforms, strict=True)
    chosen = [
        at
        for at, (tissue, platform) in enumerate(pairs)
        if (not wanted.tissues or tissue in wanted.tissues)
        and (not wanted.platforms or platform in wanted.platforms)
    ]
    if not chosen:
        raise InputError(
            f"{metadata.source} must hold images of the tissues and platforms together. Got none "
            f"of {', '.join(wanted.tissues)} by {', '.join(wanted.platforms)}; choose others."
        )
    return chosen


def _as_image(stored: NDArray[Any], name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, refused below
        image = stored.astype(np.float32)
    if not np.isfinite(image).all():
        raise InputError(
            f"{name} must hold finite numbers. Got NaN or infinity; download the file again."
        )
    return image


def _as_labels(stored: NDArray[Any], name: str) -> NDArray[np.int32]:
    lowest, highest = float(stored.min()), float(stored.max())
    if not (lowest >= 0 and highest <= MAX_LABEL) or (
        stored.dtype.kind == "f" and (stored != np.rint(stored)).any()
    ):
        raise InputError(
            f"labels of {name} must be whole numbers from 0 to {MAX_LABEL}. "
            f"Got {lowest} to {highest}; download the file again."
        )
    return stored.astype(np.int32)
