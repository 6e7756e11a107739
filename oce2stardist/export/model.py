"""Export a model folder to another format, after a look whether it is the same model."""

import hashlib
import importlib.util
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from oce2stardist.errors import InputError, say_install
from oce2stardist.export import LOST, Facts, describe_package, write_readme
from oce2stardist.files.atomic import write_bytes
from oce2stardist.images.find import image_stem
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import PixelSize
from oce2stardist.images.read import read_image, read_pixel_size
from oce2stardist.labels import Image

if TYPE_CHECKING:  # TensorFlow is loaded when it is needed
    from oce2stardist.stardist_model.network import SparseStarDist2D

Format = Literal["stardist", "bioimageio", "onnx", "savedmodel"]
Arrays = list[NDArray[np.float32]]

TOLERANCE = 1e-4
"""Largest difference from the model's own output; for distances above 1 px, relative to them."""

_ONNX = ("onnx", "onnxruntime")
_PACKAGES = {"onnx": _ONNX, "bioimageio": (*_ONNX, "bioimageio.core")}
_SIDE = 256
"""Pixels a side of the image that outputs are compared on."""


@dataclass(frozen=True)
class Exported:
    """What `export_model` wrote, compared on which image, and what the format can't carry."""

    files: list[Path]
    difference: float  # largest from the model's own output, as `TOLERANCE` counts it
    compared_on: str
    lost: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """What an exporter starts from; `image` is as stored, `scaled` is what the network sees."""

    network: "SparseStarDist2D"
    folder: Path
    facts: Facts
    image: Image
    scaled: Image
    authors: tuple[str, ...]


def export_model(
    model: str | Path,
    output: str | Path,
    *,
    to: Format,
    image: str | Path | None = None,
    axes: str | None = None,
    pixel_size: float | None = None,
    authors: Iterable[str] = (),
    device: str = "auto",
) -> Exported:
    """Write a StarDist model folder, ours or stock, in another format.

    What was written is opened again and run on an image; only if its output is the model's, within
    `TOLERANCE`, does it reach `output`. Otherwise, and where an input is unusable or a package is
    missing, an InputError is raised and nothing is left there.

    Parameters
    ----------
    model : path
        A StarDist model folder; NAME below is its name.
    output : path
        Folder for the files; made if needed, files of the same name are replaced.
    to : {"stardist", "bioimageio", "onnx", "savedmodel"}
        - ``stardist``: NAME.stardist.zip, the StarDist folder;
        - ``bioimageio``: NAME.bioimageio.zip, a package for the model zoo, tested by
          bioimageio.core;
        - ``onnx``: NAME.onnx with metadata, which OpenCV and so QuPath read, and
          NAME.onnx.README.md;
        - ``savedmodel``: NAME.savedmodel.zip for the StarDist plugin of Fiji (TensorFlow 1.x), and
          NAME.savedmodel.README.md.
    image : path, optional
        An image to compare on; also the test image of a bioimage.io package. Default: nuclei that
        stardist ships.
    axes : str, optional
        Axes of the image, such as ``CYX``, where its metadata do not say.
    pixel_size : float, optional
        Micrometres, of images like those the model was trained on. Default: what the file of
        `image` says.
    authors : iterable of str
        Names, for a bioimage.io package.
    device : {"auto", "cpu", "cuda", "mps"}
    """
    if to not in _EXPORTERS:
        raise InputError(
            f"the format must be one of {', '.join(_EXPORTERS)}. Got {to!r}; pass one of these."
        )
    _check_packages(to)
    if pixel_size is not None and not 0 < pixel_size < np.inf:
        raise InputError(
            f"pixel_size must be above 0 micrometres. Got {pixel_size:g}; measure it or "
            "leave it out."
        )
    from oce2stardist.stardist_model.convert import run_network
    from oce2stardist.stardist_model.network import open_model, prepare_tensorflow

    prepare_tensorflow(device)
    network = open_model(Path(model))
    if network.config.n_classes is not None:
        raise InputError(
            "a model to export must tell cells from background only. Got "
            f"{network.config.n_classes} classes in {model}; pass another model."
        )
    size = None if image is None else read_pixel_size(image)
    if pixel_size is not None:
        size = PixelSize(pixel_size, pixel_size)
    facts = _facts_of(network, Path(model), size)
    compared_on, seen = _choose_image(image, axes, facts)
    source = _Source(network, Path(model), facts, seen, normalise_percentiles(seen), tuple(authors))
    expected = run_network(network, source.scaled)
    with TemporaryDirectory() as work:
        made, outputs = _EXPORTERS[to](source, Path(work))
        difference = _compare(outputs, expected, grid=facts.grid)
        if not difference <= TOLERANCE:  # NaN is none either
            raise InputError(
                f"the {to} file must give the model's output within {TOLERANCE:g}. Got a "
                f"difference of {difference:.2g} on {compared_on}; nothing was written."
            )
        files = _place(made, Path(output))
    lost: tuple[str, ...] = LOST[to]
    if to == "stardist" and hasattr(network.config, "oce2stardist_blocks"):
        lost = (*lost, "its paper blocks for plain stardist: only oce2stardist opens it")
    return Exported(files, difference, compared_on, lost)


def _check_packages(to: str) -> None:
    needed = _PACKAGES.get(to, ())
    missing = [name for name in needed if not _is_installed(name)]
    if missing:
        raise InputError(
            f"exporting to {to} needs {', '.join(needed)}. Got no {', '.join(missing)}; "
            f"{say_install('bioimageio' if to == 'bioimageio' else 'export')}."
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent of a dotted name
        return False


def _facts_of(
    network: "SparseStarDist2D", folder: Path, pixel_size: tuple[float, float] | None
) -> Facts:
    config = network.config
    return Facts(
        name=folder.resolve().name,
        channels=config.n_channel_in,
        n_rays=config.n_rays,
        grid=(config.grid[0], config.grid[1]),
        multiple=network.multiple,
        prob_thresh=float(network.thresholds.prob),
        nms_thresh=float(network.thresholds.nms),
        pixel_size=pixel_size,
        scale=network.scale.factor,
        working_diameter=network.scale.working_diameter,
        per_image=network.scale.per_image,
    )


def _choose_image(
    path: str | Path | None, axes: str | None, facts: Facts
) -> tuple[str, NDArray[np.float32]]:
    """Name and read an image, its middle cut or filled up to sides that the network takes."""
    if path is None:
        from stardist.data import test_image_nuclei_2d

        name = "nuclei that stardist ships"
        image = np.asarray(test_image_nuclei_2d(), np.float32)[..., None]
        image = np.repeat(image, facts.channels, axis=-1)
    else:
        name, image = image_stem(path), read_image(path, axes=axes)
        if image.shape[-1] != facts.channels:
            raise InputError(
                f"the image must have the model's {facts.channels} channel(s). Got "
                f"{image.shape[-1]} in {path}; pass one like those it was trained on."
            )
    side = -(-_SIDE // facts.multiple) * facts.multiple
    starts = [max(0, (length - side) // 2) for length in image.shape[:2]]
    cut = image[tuple(slice(start, start + side) for start in starts)]
    missing = [(0, -length % facts.multiple) for length in cut.shape[:2]]
    return name, np.pad(cut, [*missing, (0, 0)], mode="symmetric")


def _compare(outputs: Arrays, expected: Arrays, *, grid: tuple[int, int]) -> float:
    """Find the largest difference in prob and dist, for values above 1 relative to them."""
    if any(output.ndim != expected[0].ndim for output in outputs):
        return float("nan")
    wanted = np.concatenate(expected, axis=-1)
    got = np.concatenate(outputs, axis=-1)
    if got.shape != wanted.shape:  # as large as the input: the grid points count
        got = got[:: grid[0], :: grid[1]]
    if got.shape != wanted.shape:
        return float("nan")
    return float(np.max(np.abs(got - wanted) / np.maximum(1, np.abs(wanted))))


def _place(made: dict[str, bytes], output: Path) -> list[Path]:
    """Write all files, or none."""
    new_folder = not output.exists()
    written: list[Path] = []
    try:
        for name, content in made.items():
            write_bytes(output / name, content)
            written.append(output / name)
    except BaseException:
        for path in written:
            path.unlink()
        if new_folder and output.exists():
            output.rmdir()
        raise
    return written


# --- each format: the files by name, and their output on the image


def _export_stardist(source: _Source, work: Path) -> tuple[dict[str, bytes], Arrays]:
    from oce2stardist.stardist_model.convert import run_network
    from oce2stardist.stardist_model.pretrained import open_zip

    name, path = source.facts.name, work / "model.zip"
    content = _zip({f"{name}/{file.name}": file.read_bytes() for file in _files_of(source.folder)})
    write_bytes(path, content)
    return {f"{name}.stardist.zip": content}, run_network(open_zip(path), source.scaled)


def _export_onnx(source: _Source, work: Path) -> tuple[dict[str, bytes], Arrays]:
    from oce2stardist.stardist_model.convert import run_onnx, write_onnx

    name, path = f"{source.facts.name}.onnx", work / "model.onnx"
    write_onnx(path, source.network, layout="split", metadata=source.facts.metadata(axes="BCYX"))
    readme = write_readme("onnx", source.facts, file=name)
    files = {name: path.read_bytes(), f"{name}.README.md": readme.encode()}
    return files, run_onnx(path, source.scaled)


def _export_saved_model(source: _Source, work: Path) -> tuple[dict[str, bytes], Arrays]:
    from oce2stardist.stardist_model.convert import run_saved_model, write_saved_model

    name, folder = f"{source.facts.name}.savedmodel", work / "saved_model"
    write_saved_model(folder, source.network)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    content = _zip({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
    readme = write_readme("savedmodel", source.facts)
    output = run_saved_model(_unpack(content, work / "again"), source.scaled)
    return {f"{name}.zip": content, f"{name}.README.md": readme.encode()}, output


def _export_bioimageio(source: _Source, work: Path) -> tuple[dict[str, bytes], Arrays]:
    from oce2stardist.stardist_model.convert import run_network, run_onnx, write_onnx
    from oce2stardist.stardist_model.onnx_graph import OPSET

    weights, package = work / "weights.onnx", work / "package.zip"
    write_onnx(
        weights, source.network, layout="joined", metadata=source.facts.metadata(axes="BYXC")
    )
    output = np.concatenate(run_network(source.network, source.scaled), axis=-1)
    files = {
        "README.md": write_readme("bioimageio", source.facts).encode(),
        "test_input.npy": _npy(source.image[None]),
        "test_output.npy": _npy(output[None]),
        "weights.onnx": weights.read_bytes(),
        **{file.name: file.read_bytes() for file in _files_of(source.folder)},
    }
    description = describe_package(
        source.facts,
        stardist_config=json.loads((source.folder / "config.json").read_text(encoding="utf-8")),
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        opset=OPSET,
        authors=source.authors,
    )
    files["rdf.yaml"] = yaml.safe_dump(description, sort_keys=False, allow_unicode=True).encode()
    content = _zip(files)
    write_bytes(package, content)
    _test_package(package)
    again = _unpack(content, work / "package") / "weights.onnx"
    return {f"{source.facts.name}.bioimageio.zip": content}, run_onnx(again, source.scaled)


_EXPORTERS: dict[str, Callable[[_Source, Path], tuple[dict[str, bytes], Arrays]]] = {
    "stardist": _export_stardist,
    "bioimageio": _export_bioimageio,
    "onnx": _export_onnx,
    "savedmodel": _export_saved_model,
}


def _test_package(package: Path) -> None:
    """Let bioimageio.core validate a package and run its test."""
    from bioimageio.core import test_description
    from loguru import logger

    logger.disable("bioimageio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            summary = test_description(package)
    finally:
        logger.enable("bioimageio")
    if summary.status != "passed":
        errors = [error.msg for detail in summary.details for error in detail.errors]
        if any("'index_key' is expected" in message for message in errors):
            raise InputError(
                "bioimageio.core must have a pydantic that its bioimageio.spec works with. Got "
                f"pydantic {version('pydantic')} and bioimageio.spec {version('bioimageio.spec')}; "
                "pip install 'oce2stardist[bioimageio]' in an environment of its own."
            )
        raise InputError(
            "the package must pass the test of bioimageio.core. Got "
            f"{(errors or [summary.status])[0]}; nothing was written."
        )


def _files_of(folder: Path) -> Sequence[Path]:
    """List what StarDist opens: config, thresholds and the best weights, or those there are."""
    best = folder / "weights_best.h5"
    weights = [best] if best.exists() else sorted(folder.glob("*.h5"))
    wanted = (*(folder / f"{name}.json" for name in ("config", "thresholds", "scale")), *weights)
    return [path for path in wanted if path.exists()]


def _zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _unpack(content: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
    return folder


def _npy(array: NDArray[Any]) -> bytes:
    stored = io.BytesIO()
    np.save(stored, array)
    return stored.getvalue()
