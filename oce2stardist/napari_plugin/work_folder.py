"""Keep the working folder: what goes from layers to files, and which commands run on them.

work/
  oce2stardist-napari.yaml   says that the folder is ours
  images/                    the images that were checked
  annotations/               drawn and corrected cells
  pseudo/                    the run folder of `oce2stardist pseudo`
  model/                     the model folder of `oce2stardist finetune`
  predicted/images, labels/  what `oce2stardist predict` read and wrote
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from oce2stardist.errors import InputError
from oce2stardist.files.atomic import replacing, write_text
from oce2stardist.images.label_files import write_labels

MARKER = "oce2stardist-napari.yaml"
_NOTE = "# Working folder of the napari plugin; commands of oce2stardist replace what is here.\n"


class WorkFolder:
    """Writes layers into the folder of an earlier session, and words commands that run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.annotations = folder / "annotations"
        self.pseudo = folder / "pseudo"  # the run folder of stage one
        self.model = folder / "model"
        self.predicted = folder / "predicted" / "labels"

    @classmethod
    def claim(cls, folder: Path) -> "WorkFolder":
        """Take a folder that is new, empty, or of an earlier session: commands replace files."""
        if folder.exists() and not folder.is_dir():
            raise InputError(f"the working folder must be a folder. Got the file {folder}.")
        if folder.exists() and any(folder.iterdir()) and not is_work_folder(folder):
            raise InputError(
                "the working folder must be empty, or one of an earlier session. Got "
                f"{folder}, which holds something else; choose or create another."
            )
        write_text(folder / MARKER, _NOTE)
        return cls(folder)

    def write_images(self, images: Mapping[str, NDArray[Any]]) -> None:
        """Write the images to train on, and remove those of before."""
        _write_all(self.images, images, _write_image)

    def write_annotations(self, annotations: Mapping[str, NDArray[np.int32]]) -> None:
        """Write drawn and corrected cells, see `Corrections`, and remove those of before."""
        _write_all(self.annotations, annotations, write_labels)

    def make_pseudo_labels(self, options: list[str], *, annotated: bool) -> list[str]:
        """Word the command of step 2, on what was written."""
        command = ["pseudo", str(self.images), "-o", str(self.pseudo), *options]
        command += ["--annotations", str(self.annotations)] if annotated else []
        # The same settings go on where they stopped; other settings are meant to start again.
        return [*command, "--overwrite", "--json"]

    def finetune(self, options: list[str], *, run: Path | None) -> list[str]:
        """Word the command of step 4, on what was written and the pseudo labels of a run."""
        command = ["finetune", str(self.images), "-o", str(self.model)]
        command += ["--annotations", str(self.annotations), "--zero", "background", *options]
        command += ["--pseudo", str(run)] if run else []
        return [*command, "--overwrite", "--json"]

    def predict(self, images: Mapping[str, NDArray[Any]], model: Path) -> list[str]:
        """Write images to predict, and word the command of step 5."""
        source = self.folder / "predicted" / "images"
        _write_all(source, images, _write_image)
        command = ["predict", str(source), "--model", str(model), "-o", str(self.predicted)]
        return [*command, "--json"]


def is_work_folder(folder: Path) -> bool:
    """Tell whether a folder is a working folder of the plugin."""
    return (folder / MARKER).is_file()


def _write_all(folder: Path, arrays: Mapping[str, NDArray[Any]], write: Any) -> None:
    """Write one TIFF for each array, and remove what is of no array."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.tif"):
        if path.stem not in arrays:
            path.unlink()
    for stem, array in arrays.items():
        write(folder / f"{stem}.tif", array)


def _write_image(path: Path, plane: NDArray[Any]) -> None:
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, _as_file_type(plane), metadata={"axes": "YX"})


def _as_file_type(plane: NDArray[Any]) -> NDArray[Any]:
    """Bring pixels to a type that the commands read."""
    if plane.dtype.kind == "b":
        return plane.astype(np.uint8)
    if plane.dtype in (np.uint8, np.uint16, np.float32):
        return np.ascontiguousarray(plane)
    return plane.astype(np.float32)
