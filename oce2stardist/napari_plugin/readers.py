"""Open folders of runs as layers: images, and the labels that belong to them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.records import read_yaml, read_yaml_if_there
from oce2stardist.images.find import find_images, image_stem, is_inside
from oce2stardist.images.label_files import is_ours, read_image_file, read_labels
from oce2stardist.images.read import read_image
from oce2stardist.napari_plugin.corrections import carry_over
from oce2stardist.napari_plugin.layers import KEY
from oce2stardist.napari_plugin.work_folder import WorkFolder, is_work_folder

LayerData = tuple[NDArray[Any], dict[str, Any], str]


@dataclass(frozen=True)
class Overlay:
    """Labels of one image."""

    stem: str  # of the image
    title: str  # what the labels are; comes after the stem in the layer's name
    labels: NDArray[np.int32]  # (Y, X)
    notes: dict[str, Any]  # what the widget has to know of the layer


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return the reader of a folder that a command of oce2stardist, or the widget, wrote."""
    if isinstance(path, list):
        return get_reader(path[0]) if len(path) == 1 else None
    return None if _kind_of(_folder_of(path)) is None else _read


def _folder_of(path: str) -> Path:
    return Path(path).parent if Path(path).name == "run.yaml" else Path(path)


def _read(path: str | list[str]) -> list[LayerData]:
    folder = _folder_of(path if isinstance(path, str) else path[0])
    kind = _kind_of(folder)
    assert kind is not None
    overlays = list(_OVERLAYS[kind](folder))
    stems = {overlay.stem for overlay in overlays}
    images = _find_images_of(folder, kind)
    wanted = {stem: file for stem, file in images.items() if kind == "work" or stem in stems}
    if not wanted:
        from napari.utils.notifications import show_warning

        show_warning(f"The images of {folder} were not found; open them, the labels lie over them.")
    pictures = [layer for stem, file in wanted.items() for layer in _open_image(stem, file)]
    return pictures + [_to_layer(overlay) for overlay in overlays]


def _kind_of(folder: Path) -> str | None:
    """Say what wrote a folder; None for what is not ours or holds no labels yet."""
    if not folder.is_dir():
        return None
    if is_work_folder(folder):
        return "work"
    if (folder / "pseudo" / "labels").is_dir():
        return "pseudo"
    if (folder / "training" / "cells.csv").is_file() and (folder / "config.json").is_file():
        return "model"
    if any(is_ours(file) for file in folder.glob("*.tif")):
        return "predicted"
    return None


def _read_pseudo(run: Path) -> Iterator[Overlay]:
    """Read pseudo labels, ready to be corrected."""
    if not _is_finished(run):
        raise InputError(
            f"{run} must be a finished run. Got one that was interrupted; give its command again."
        )
    for file in sorted((run / "pseudo" / "labels").glob("*.tif")):
        labels = read_labels(file)
        yield Overlay(file.stem, "cells", labels, {"baseline": labels.copy(), "run": str(run)})


def _is_finished(run: Path) -> bool:
    """Tell whether a run folder holds all of its pseudo labels."""
    stage = run / "pseudo" / "stage.yaml"
    is_interrupted = stage.exists() and not read_yaml(stage).get("finished")
    return (run / "pseudo" / "labels").is_dir() and not is_interrupted


def _read_training(model: Path) -> Iterator[Overlay]:
    """Read what a model was trained on, and the cells that judged it."""
    titles = {"pseudo": "trained on", "sparse": "trained on", "held_back": "held back"}
    seen = set()
    for kind, title in titles.items():
        for file in sorted((model / "training" / kind).glob("*.tif")):
            if (file.stem, title) not in seen:
                seen.add((file.stem, title))
                yield Overlay(file.stem, title, np.maximum(read_labels(file), 0), {})


def _read_predicted(folder: Path) -> Iterator[Overlay]:
    for file in sorted(filter(is_ours, folder.glob("*.tif"))):
        yield Overlay(file.stem, "predicted", read_labels(file), {})


def _read_work(folder: Path) -> Iterator[Overlay]:
    """Read pseudo labels with the corrections of the last session, and predictions."""
    work = WorkFolder(folder)
    drawn = {file.stem: read_labels(file) for file in (folder / "annotations").glob("*.tif")}
    if _is_finished(work.pseudo):
        for overlay in _read_pseudo(work.pseudo):
            yield _restore(overlay, drawn.pop(overlay.stem, None))
    for stem, annotations in sorted(drawn.items()):
        yield Overlay(stem, "cells", np.maximum(annotations, 0), {})
    if work.predicted.is_dir():
        yield from _read_predicted(work.predicted)


def _restore(pseudo: Overlay, annotations: NDArray[np.int32] | None) -> Overlay:
    """Put annotations of before over pseudo labels."""
    if annotations is None or annotations.shape != pseudo.labels.shape:
        return pseudo
    labels, baseline = carry_over(annotations, pseudo.labels)
    return replace(pseudo, labels=labels, notes=pseudo.notes | {"baseline": baseline})


_OVERLAYS: dict[str, Callable[[Path], Iterator[Overlay]]] = {
    "work": _read_work,
    "pseudo": _read_pseudo,
    "model": _read_training,
    "predicted": _read_predicted,
}


def _find_images_of(folder: Path, kind: str) -> dict[str, Path]:
    """Find the image files by stem, as far as the folder tells where they are."""
    if kind == "work":
        return _list_images(folder / "images") | _list_images(folder / "predicted" / "images")
    if kind == "predicted":
        named = {file.stem: read_image_file(file) for file in folder.glob("*.tif")}
        files = {stem: _locate(name, folder) for stem, name in named.items() if name is not None}
        return {stem: file for stem, file in files.items() if file is not None}
    recorded = read_yaml_if_there(folder / "run.yaml")
    name = (recorded.get("inputs") or {}).get("images_from")
    return _list_images(_locate(name, folder)) if isinstance(name, str) else {}


def _locate(name: str | Path, folder: Path) -> Path | None:
    """Find what a command was given, relative to a folder that it did not note."""
    paths = (base / name for base in (Path(), *folder.resolve().parents))
    return next((p for p in paths if p.exists() or is_inside(p) or glob(str(p))), None)


def _list_images(source: Path | None) -> dict[str, Path]:
    try:
        return {image_stem(path): path for path in find_images(source)} if source else {}
    except InputError:  # moved, or of another machine
        return {}


def _open_image(stem: str, file: Path) -> list[LayerData]:
    pixels = read_image(file)
    notes = {KEY: {"stem": stem}}
    if pixels.shape[-1] == 1:
        return [(pixels[..., 0], {"name": stem, "metadata": notes}, "image")]
    if pixels.shape[-1] == 3 and pixels.max() <= 255:
        return [(pixels.astype(np.uint8), {"name": stem, "rgb": True}, "image")]
    return [
        (pixels[..., channel], {"name": f"{stem} channel {channel + 1}"}, "image")
        for channel in range(pixels.shape[-1])
    ]


def _to_layer(overlay: Overlay) -> LayerData:
    metadata = {KEY: {"stem": overlay.stem} | overlay.notes}
    name = f"{overlay.stem} {overlay.title}"
    return overlay.labels, {"name": name, "metadata": metadata}, "labels"
