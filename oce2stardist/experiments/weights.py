"""Fetch weights of published models from a cache, or download them whole or not at all."""

import hashlib
import time
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from oce2stardist.errors import InputError, one_line
from oce2stardist.files.atomic import replacing

_WAIT = 15
"""Seconds without a byte after which a download is given up."""

_CHUNK = 1 << 18


class WeightsMissing(InputError):
    """A published model can't be had here; an experiment goes on without it."""


def fetch_weights(
    name: str, url: str, path: Path, *, advice: str, sha256: str | None = None, at_most: float = 600
) -> Path:
    """Return the file of weights at `path`; what is not there is downloaded.

    Parameters
    ----------
    name : str
        Of the model, for messages.
    url : str
    path : Path
        In a cache. Only a whole file comes to lie there.
    advice : str
        What to do where there is no network.
    sha256 : str, optional
        Of the whole file. A file at `path` with another one is downloaded again.
    at_most : float
        Seconds that the download may take.

    Raises
    ------
    WeightsMissing
        If the weights are not there and can't be downloaded.
    """
    if path.exists() and sha256 in (None, _sha256(path)):
        return path
    try:
        with replacing(path) as temporary:
            _download(url, temporary, at_most)
            if sha256 not in (None, _sha256(temporary)):
                raise OSError("what arrived is not the file that was published")
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", None) or error  # what urllib wraps says more plainly
        reason = one_line(cause)
        raise WeightsMissing(
            f"the weights of {name} must be there or be downloadable. Got from {url}: {reason}; "
            f"{advice}."
        ) from error
    return path


def _download(url: str, target: Path, at_most: float) -> None:
    until = time.monotonic() + at_most
    with urlopen(url, timeout=_WAIT) as response, target.open("wb") as file:
        announced = response.headers.get("Content-Length")
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            if time.monotonic() > until:
                raise TimeoutError(f"not done after {at_most:g} s")
        if announced is not None and file.tell() != int(announced):
            raise OSError(f"{file.tell()} bytes of {announced}")


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()
