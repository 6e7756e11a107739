"""Find and open the models that StarDist publishes."""

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from oce2stardist.errors import InputError
from oce2stardist.files.archives import check_archive
from oce2stardist.stardist_model.backend import StarDist2D, get_model_details, get_registered_models
from oce2stardist.stardist_model.network import SparseStarDist2D, open_model


@dataclass(frozen=True)
class Published:
    """A published model: its name, the address and hash of its zip file, and where it is kept.

    It is kept where ``StarDist2D.from_pretrained`` keeps it, so neither downloads it twice.
    """

    name: str
    url: str
    sha256: str

    @property
    def file(self) -> Path:
        """The zip file in the cache of Keras."""
        home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        return home / "models" / "StarDist2D" / self.name / f"{self.name}.zip"


def find_published(name: str) -> Published:
    """Look up a name or alias such as ``2D_versatile_fluo``."""
    try:
        key, _, details = get_model_details(StarDist2D, name)
    except ValueError as error:
        names, _ = get_registered_models(StarDist2D)
        raise InputError(
            "a StarDist model must be a model folder or the name of a published one "
            f"({', '.join(names)}). Got {name}; pass one of these."
        ) from error
    return Published(key, details["url"], details["hash"])


def open_zip(path: Path) -> SparseStarDist2D:
    """Open the model in a zip file, its files at the top or in one folder."""
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                check_archive(archive)
                archive.extractall(folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise InputError(
                f"{path} must be a zip file of a StarDist model. Got: {error}; delete it."
            ) from error
        configs = sorted(Path(folder).rglob("config.json"))
        if not configs:
            raise InputError(
                f"{path} must hold a StarDist model. Got no config.json; delete the file."
            )
        return open_model(configs[0].parent)
