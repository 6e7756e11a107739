"""Contents of files, sound and bad: images, annotations in every format, configs."""

import base64
import io
import json
import struct
import zipfile
import zlib
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from labs import SHAPE, scene
from roifile import ImagejRoi

IMAGE, LABELS = scene()
INT_LABELS, GREY = LABELS.astype(np.int32), (IMAGE // 8).astype(np.uint8)
RGBA, STACK = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)]), np.stack([IMAGE] * 5)
RGB = RGBA[..., :3]


def tiff(array: np.ndarray, **options: Any) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, array, **options)
    return target.getvalue()


def png(array: np.ndarray) -> bytes:
    return bytes(imagecodecs.png_encode(array))


def jpeg(array: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg_encode(array, level=98))


def spoiled(value: float) -> np.ndarray:
    image = IMAGE.astype(np.float32)
    image[3, 4] = value
    return image


def giant_tiff(side: int) -> bytes:
    """A TIFF of 16 pixels that says it has so many a side."""
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: 16}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI16xH", b"II", 42, 24, len(tags)) + entries + bytes(4)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_file(width: int, height: int, colour: int, pixels: bytes, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + b"".join(chunks)
    body += png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def palette_png() -> bytes:
    rows = b"".join(b"\0" + bytes(row) for row in (IMAGE > 300).astype(np.uint8))
    return png_file(SHAPE[1], SHAPE[0], 3, rows, png_chunk(b"PLTE", bytes([9, 9, 9, 250, 240, 30])))


def mixed_pages() -> bytes:
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as writer:
        writer.write(IMAGE)
        writer.write(IMAGE[:30, :30])
    return target.getvalue()


def geojson(*rings: list[list[float]]) -> str:
    geometry = {"type": "Polygon", "coordinates": list(rings)}
    return json.dumps({"type": "Feature", "geometry": geometry, "properties": {}})


def square(low: float, high: float) -> list[list[float]]:
    return [[low, low], [high, low], [high, high], [low, high], [low, low]]


def roi() -> bytes:
    return ImagejRoi.frompoints(np.array([[5, 5], [25, 5], [25, 25], [5, 25]], float)).tobytes()


def zipped(members: dict[str, bytes], **options: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def roi_zip(*names: str) -> bytes:
    return zipped(dict.fromkeys(names, roi()))


def zip_bomb(size: int) -> bytes:
    return zipped({"0001.roi": bytes(size)}, compression=zipfile.ZIP_DEFLATED, compresslevel=1)


def lying_zip_bomb() -> bytes:
    """A zip whose directory says that a long member is short."""
    return zip_bomb(2**22).replace(struct.pack("<I", 2**22), struct.pack("<I", 64))


def coco(segmentation: object, *, height: int = SHAPE[0]) -> str:
    image = {"id": 1, "file_name": "a.tif", "height": height, "width": SHAPE[1]}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation}
    return json.dumps({"images": [image], "annotations": [annotation], "categories": []})


def runs(counts: object) -> str:
    return coco({"size": list(SHAPE), "counts": counts})


def labelme() -> str:
    mask = base64.b64encode(png(np.ones((7, 5), np.uint8))).decode()
    shapes = [
        {"label": "cell", "points": square(5, 25), "shape_type": "polygon", "group_id": 1},
        {"label": "cell", "points": [[30, 5], [40, 9]], "shape_type": "rectangle"},
        {"label": "cell", "points": [[30, 30], [40, 30]], "shape_type": "circle"},
        {"label": "cell", "points": [[50, 9], [54, 15]], "shape_type": "mask", "mask": mask},
    ]
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    return json.dumps({"version": "5", "shapes": shapes, "imagePath": "a.tif"} | size)


NAPARI = "index,shape-type,vertex-index,axis-0,axis-1\n" + "".join(
    f"{index},{kind},{vertex},{y + 20 * index},{x}\n"
    for index, kind in enumerate(("polygon", "ellipse"))
    for vertex, (x, y) in enumerate(((5, 5), (25, 5), (25, 20), (5, 20)))
)
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "[" * 50_000
ZERO, STRIP = np.zeros(SHAPE, np.uint8), np.zeros((1, 200), np.uint8)
POINTS = np.eye(*SHAPE, dtype=np.uint16) * 7
BOW_TIE = [[5.0, 5.0], [25.0, 25.0], [25.0, 5.0], [5.0, 25.0], [5.0, 5.0]]
TINY_CELL = np.pad(np.ones((4, 4), np.uint16), ((5, SHAPE[0] - 9), (5, SHAPE[1] - 9)))
MICRON = tiff(IMAGE, imagej=True, resolution=(1, 1), metadata={"unit": "um"})
RGB_TIFF = tiff(RGB, photometric="rgb")
