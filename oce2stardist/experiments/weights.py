"""Fetch weights of published models from a cache, or download them whole or not at all."""

import time
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from oce2stardist.errors import InputError, one_line
from oce2stardist.files.atomic import replacing
from oce2stardist.files.digests import hash_file

_WAIT = 15  # seconds without a byte after which a download is given up


class WeightsMissing(InputError):
    """A published model can't be had here; an experiment goes on without it."""


def fetch_weights(
    name: str, url: str, path: Path, *, advice: str, sha256: str | None = None, at_most: float = 600
) -> Path:
    """Return the file of weights at `path` in a cache; what is not there is downloaded.

    Parameters
    ----------
    name, advice : str
        For the message: of the model, and what to do where there is no network.
    sha256 : str, optional
        A file at `path` with another one is downloaded again.
    at_most : float
        Seconds that the download may take.
    """
    if path.exists() and (sha256 is None or hash_file(path) == sha256):
        return path
    try:
        with replacing(path) as temporary:
            _download(url, temporary, at_most)
            if sha256 is not None and hash_file(temporary) != sha256:
                raise OSError("what arrived is not the file that was published")
    except (OSError, HTTPException) as error:
        reason = one_line(getattr(error, "reason", None) or error)  # what urllib wraps is plainer
        raise WeightsMissing(
            f"the weights of {name} must be there or be downloadable. Got from {url}: {reason}; "
            f"{advice}."
        ) from error
    return path


def _download(url: str, target: Path, at_most: float) -> None:
    until = time.monotonic() + at_most
    with urlopen(url, timeout=_WAIT) as response, target.open("wb") as file:
        announced = response.headers.get("Content-Length")
        while chunk := response.read(1 << 18):
            file.write(chunk)
            if time.monotonic() > until:
                raise TimeoutError(f"not done after {at_most:g} s")
        if announced is not None and file.tell() != int(announced):
            raise OSError(f"{file.tell()} bytes of {announced}")
