"""Decode PNG, JPEG and BMP, and refuse what is cut off: decoders go on with what they have."""

import logging
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from oce2stardist.images.formats import JPEG_SUFFIXES

_log = logging.getLogger(__name__)
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without a segment."""

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""JPEG markers of a segment that tells height, width and number of components."""


def raster_shape(data: bytes, path: Path) -> tuple[int, int, int]:
    """Read height, width and the number of channels, at most, that decoding would take memory for.

    Raises
    ------
    ValueError
        If the file is cut off, or is no PNG, JPEG or BMP as its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix in JPEG_SUFFIXES:
        return _jpeg_shape(data)
    if suffix == ".bmp":
        if data[:2] != b"BM" or len(data) < 30:
            raise ValueError("not a BMP file")
        sides = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (22, 18))
        height, width = map(abs, sides)  # below 0: from top to bottom
        return height, width, 4
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        raise ValueError("not a PNG file")
    _check_chunks(data)
    # IHDR: width and height in four bytes each, then bit depth and colour type (0 is grey).
    height, width = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    return height, width, 4 if data[25] else 1


def decode_raster(data: bytes, path: Path) -> NDArray[Any]:
    """Decode to (Y, X) or (Y, X, C) without opacity."""
    suffix = path.suffix.lower()
    if suffix in JPEG_SUFFIXES:
        _say_lossy(path)
        pixels = imagecodecs.jpeg_decode(data)
        if pixels.ndim == 3 and pixels.shape[2] != 3:
            raise ValueError(f"it has {pixels.shape[2]} colours, such as CMYK for printers")
        return np.asarray(pixels)
    pixels = imagecodecs.bmp_decode(data) if suffix == ".bmp" else imagecodecs.png_decode(data)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        _log.warning("dropped the alpha channel of %s", path)
        pixels = pixels[..., :-1]
    depth, colour = data[24], data[25]
    if suffix == ".png" and colour == 0 and depth < 8:
        # The decoder stretches to 0..255: undo, labels are numbers.
        pixels = pixels // (255 // (2**depth - 1))
    return np.asarray(pixels)


@lru_cache
def _say_lossy(path: Path) -> None:
    """Say it once, however often the file is read."""
    _log.warning(
        "%s is JPEG, which changes intensities and edges; use the original file if there is one",
        path,
    )


def _jpeg_shape(data: bytes) -> tuple[int, int, int]:
    """Read the size of a JPEG, whose end is there."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("not a JPEG file")
    at, shape = 2, None
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        kind = data[at + 1]
        if kind == 0xFF or kind in _NO_LENGTH:
            at += 1 if kind == 0xFF else 2
            continue
        if kind in _FRAMES:
            sides = (int.from_bytes(data[at + p : at + p + 2], "big") for p in (5, 7))
            height, width = sides
            shape = height, width, data[at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:  # what follows is pixels
            break
    if shape is None or b"\xff\xd9" not in data[at:]:
        raise ValueError("it ends before its pixels do")
    return shape


def decode_png(data: bytes, *, largest: tuple[int, int]) -> NDArray[Any]:
    """Decode a PNG that lies in another file, of at most so many pixels, as (Y, X) or (Y, X, C)."""
    name = Path("x.png")
    height, width, _ = raster_shape(data, name)
    if height > largest[0] or width > largest[1]:
        raise ValueError(f"a mask of {width} x {height} pixels is larger than the image")
    return decode_raster(data, name)


def without_palette(data: bytes) -> bytes:
    """Make a PNG of a palette (colour type 3) a grey one of its indices, which are packed alike."""
    if data[25:26] != b"\x03":
        return data
    chunks = _check_chunks(data)
    header = b"IHDR" + data[16:25] + b"\x00" + data[26:29]
    pixels = [data[start:end] for kind, start, end in chunks if kind in (b"IDAT", b"IEND")]
    return b"".join([data[:12], header, zlib.crc32(header).to_bytes(4, "big"), *pixels])


def _check_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """List the chunks of a PNG: kind, start, end; refuse wrong checksums, or one cut off."""
    chunks = []
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError("it ends before its last chunk")
        checksum = int.from_bytes(data[end : end + 4], "big")
        # Chunks named with a small letter hold no pixels: the decoder may leave them out.
        if kind[:1].isupper() and zlib.crc32(data[at + 4 : end]) != checksum:
            raise ValueError(f"the checksum of its {kind.decode('ascii', 'replace')} is wrong")
        chunks.append((kind, at, end + 4))
        at = end + 4
    return chunks
