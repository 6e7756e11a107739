"""Every bad input that we could think of, made by code, and what must come of it.

`docs/bad-input.md` is written from this table by `python tests/faults/corpus.py`.
"""

import functools
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import tifffile
from labs import SHAPE, scene

Prepare = Callable[[Path], list[str]]
Change = bytes | np.ndarray | str | Path | int | None
"""Content of a file; or a path in the lab to link to, permissions, None to take it away."""


@dataclass(frozen=True)
class BadInput:
    """One bad input.

    Attributes
    ----------
    outcome : {"refused", "warned", "accepted"}
        refused: one line, exit code 2, and nothing written. Else the result is whole.
    title : str
        What is wrong.
    prepare : function of the lab's folder
        Makes it there; returns the command.
    says : str
        What the message or warning holds; for what is accepted, what is done with it.
    """

    outcome: Literal["refused", "warned", "accepted"]
    title: str
    prepare: Prepare
    says: str


refused, warned, accepted = (
    functools.partial(BadInput, outcome) for outcome in ("refused", "warned", "accepted")
)


# What spoils the lab, and the command that meets it there


PSEUDO = "pseudo {0}/images -o {0}/out --config {0}/tiny.yaml --diameter 18"
MERGE = "merge {0}/run --annotations {0}/masks"
EVALUATE = "evaluate {0}/run/pseudo/labels {0}/masks"
PREDICT = "predict {0}/images --model {0}/model -o {0}/out"


def having(changes: dict[str, Change], command: str = PSEUDO) -> Prepare:
    """Change files of the lab, and give a command there."""

    def prepare(lab: Path) -> list[str]:
        for name, content in changes.items():
            change(lab / name, lab / content if isinstance(content, Path) else content)
        return [word.format(lab) for word in command.split()]

    return prepare


def change(path: Path, content: Change) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match content:
        case None:
            path.unlink()
        case int():
            path.exists() or path.mkdir()
            path.chmod(content)
        case Path():
            path.symlink_to(content)
        case np.ndarray():
            path.write_bytes((png_bytes if path.suffix == ".png" else tiff_bytes)(content))
        case _:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def image_file(name: str, content: Change) -> Prepare:
    return having({f"images/{name}": content})


def only_image(name: str, content: Change) -> Prepare:
    return having({"images/a.tif": None, "images/b.tif": None, f"images/{name}": content})


def mask_file(name: str, content: Change) -> Prepare:
    """Annotate image a, or that of the name, by this file instead of a mask."""
    return having({"masks/a.tif": None} | {f"masks/{name}": content}, MERGE)


def config(text: str | bytes) -> Prepare:
    return having({"bad.yaml": text}, "pseudo {0}/images -o {0}/out --config {0}/bad.yaml")


def model_file(name: str, content: Change) -> Prepare:
    return having({f"model/{name}": content}, PREDICT)


# Contents


IMAGE, LABELS = scene()
INT_LABELS, GREY = LABELS.astype(np.int32), (IMAGE // 8).astype(np.uint8)
RGBA, STACK = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)]), np.stack([IMAGE] * 5)
RGB = RGBA[..., :3]


def tiff_bytes(array: np.ndarray, **options: object) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, array, **options)
    return target.getvalue()


def png_bytes(array: np.ndarray) -> bytes:
    return bytes(imagecodecs.png_encode(array))


def spoiled(value: float) -> np.ndarray:
    image = IMAGE.astype(np.float32)
    image[3, 4] = value
    return image


def giant_tiff(side: int = 1_000_000) -> bytes:
    """A TIFF of less than a kilobyte that says it has so many pixels a side."""
    data = bytearray(tiff_bytes(np.zeros((4, 4), np.uint8)))
    for tag in (256, 257, 278):  # width, length, rows per strip; type 4 is a 32-bit number
        at = data.find(struct.pack("<HHI", tag, 4, 1))
        if at < 0:
            at = data.find(struct.pack("<HHI", tag, 3, 1))
            data[at + 2 : at + 4] = struct.pack("<H", 4)
        data[at + 8 : at + 12] = struct.pack("<I", side)
    return bytes(data)


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
    with tifffile.TiffWriter(target) as tiff:
        tiff.write(IMAGE)
        tiff.write(IMAGE[:30, :30])
    return target.getvalue()


def geojson(*rings: list[list[float]]) -> str:
    geometry = {"type": "Polygon", "coordinates": list(rings)}
    return json.dumps({"type": "Feature", "geometry": geometry, "properties": {}})


def square(low: float, high: float) -> list[list[float]]:
    return [[low, low], [high, low], [high, high], [low, high], [low, low]]


def roi_bytes() -> bytes:
    from roifile import ImagejRoi

    return ImagejRoi.frompoints(np.array([[5, 5], [25, 5], [25, 25], [5, 25]], float)).tobytes()


def roi_zip(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, roi_bytes())
    return target.getvalue()


def zip_bomb() -> bytes:
    """264 MB of zeros in a megabyte."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("0001.roi", "w", force_zip64=True) as member,
    ):
        for _ in range(264):
            member.write(bytes(2**20))
    return target.getvalue()


def lying_zip_bomb() -> bytes:
    """A zip whose directory says that a long member is short."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0001.roi", bytes(2**22))
    return target.getvalue().replace(struct.pack("<I", 2**22), struct.pack("<I", 64))


def coco(segmentation: object, *, height: int = SHAPE[0], file_name: str = "a.tif") -> str:
    image = {"id": 1, "file_name": file_name, "height": height, "width": SHAPE[1]}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation}
    return json.dumps({"images": [image], "annotations": [annotation], "categories": []})


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "[" * 50_000
ZERO, STRIP = np.zeros(SHAPE, np.uint8), np.zeros((1, 200), np.uint8)
BOW_TIE = [[5.0, 5.0], [25.0, 25.0], [25.0, 5.0], [5.0, 25.0], [5.0, 5.0]]
TINY_CELL = np.pad(np.ones((4, 4), np.uint16), ((5, SHAPE[0] - 9), (5, SHAPE[1] - 9)))
MICRON = tiff_bytes(IMAGE, imagej=True, resolution=(1, 1), metadata={"unit": "um"})
UNREADABLE = "can't be read as an image"
NOT_ROI = "can't be read as an ImageJ selection"

CORPUS = {
    "Image files": [
        refused("TIFF, truncated", image_file("c.tif", tiff_bytes(IMAGE)[:2000]), UNREADABLE),
        refused("TIFF, compressed, truncated",
                image_file("c.tif", tiff_bytes(IMAGE, compression="zlib")[:-300]), UNREADABLE),
        refused("TIFF of zero bytes", image_file("c.tif", b""), UNREADABLE),
        refused("PNG, truncated", image_file("c.png", png_bytes(GREY)[:400]), UNREADABLE),
        refused("PNG of zero bytes", image_file("c.png", b""), UNREADABLE),
        refused("PNG called .tif", image_file("c.tif", png_bytes(ZERO)), UNREADABLE),
        refused("TIFF called .png", image_file("c.png", tiff_bytes(IMAGE)), UNREADABLE),
        refused("Text called .tif", image_file("c.tif", b"hello\n" * 50), UNREADABLE),
        refused("TIFF header announcing 10¹² pixels", image_file("c.tif", giant_tiff()),
                "must hold 1 to 2147483648 values"),
        refused("TIFF header announcing a billion pixels in a kilobyte",
                image_file("c.tif", giant_tiff(30_000)), "it announces 900000000 bytes of pixels"),
        refused("PNG header announcing 10¹² pixels",
                image_file("c.png", png_file(10**6, 10**6, 0, b"")),
                "must hold 1 to 2147483648 values"),
        refused("NaN", image_file("c.tif", spoiled(np.nan)),
                "must hold finite numbers. Got NaN or infinity in 1 of 5120 values"),
        refused("Infinity", image_file("c.tif", spoiled(np.inf)),
                "must hold finite numbers. Got NaN or infinity in 1 of 5120 values"),
        refused("Complex numbers", image_file("c.tif", IMAGE.astype(np.complex64)),
                "must hold integers or floats. Got complex64"),
        refused("Smaller than the field of view", image_file("c.tif", IMAGE[:12, :12]),
                "at least 18 pixels a side"),
        refused("Strip of 1×N pixels", image_file("c.tif", STRIP), "at least 18 pixels a side"),
        refused("Several pages of different size", image_file("c.tif", mixed_pages()),
                "must hold one image. Got 2"),
        refused("Unknown axes: three dimensions without names",
                image_file("c.tif", tiff_bytes(STACK, metadata=None)), "must be 2-D with channels"),
        refused("Stack of planes",
                image_file("c.tif", tiff_bytes(STACK, imagej=True, metadata={"axes": "ZYX"})),
                "split a stack into one file per plane"),
        refused("Different channel counts in one folder",
                image_file("c.tif", tiff_bytes(RGB, photometric="rgb")),
                "must all have the same number of channels"),
    ],
    "Unusual images": [
        warned("Constant image", only_image("c.tif", np.full(SHAPE, 7, np.uint8)),
               "can't be trusted: no object was found"),
        warned("All-zero image", only_image("c.tif", ZERO),
               "can't be trusted: no object was found"),
        accepted("Signed 16-bit image", image_file("c.tif", IMAGE.astype(np.int16) - 500),
                 "read as it is, negative values too"),
        warned("Alpha channel in a PNG", only_image("c.png", RGBA), "dropped the alpha channel"),
        accepted("Palette PNG", only_image("c.png", palette_png()), "the palette is applied: RGB"),
        accepted("Folder with one image", only_image("c.tif", IMAGE), "worked on like any other"),
        accepted("Folder that links to itself within the images",
                 having({"images/again": Path("images")}),
                 "folders within the folder are not looked into"),
    ],
    "Names and folders": [
        refused("Duplicate stems", image_file("a.png", GREY), "must have different names"),
        accepted("Names with spaces", image_file("c d  e.tif", IMAGE),
                 "results have the same name"),
        accepted("Names with newlines", image_file("c\nd.tif", IMAGE),
                 "results have the same name"),
        accepted("Names in Unicode", image_file("Zählung-細胞-🔬.tif", IMAGE),
                 "results have the same name"),
        accepted("Names that tables take for missing: NA, nan", image_file("NA.tif", IMAGE),
                 "results have the same name"),
        accepted("Names with HTML", image_file("<script>alert(1)<script>.tif", IMAGE),
                 "shown in the report as text"),
        refused("Names of 255 bytes", image_file(f"{'n' * 251}.tif", IMAGE),
                "must have at most 240 bytes without suffix. Got 251"),
        refused("Names that are not UTF-8", image_file("c\udcff.tif", IMAGE),
                "must be valid UTF-8"),
        refused("Names with terminal codes", image_file("\x1b[31mred.tif", b""),
                "\\x1b[31mred.tif can't be read as an image"),
        refused("Link to itself as image", having({"images/loop.tif": Path("images/loop.tif")}),
                "must lead to a file. Got a link that leads nowhere"),
        refused("Link to itself as folder",
                having({"loop": Path("loop")}, "pseudo {0}/loop -o {0}/out"), "must exist"),
        refused("Unreadable file", having({"images/a.tif": 0}), "Permission denied"),
        refused("Unreadable folder", having({"images": 0}), "Permission denied"),
        refused("Output where nothing may be written",
                having({"locked": 0o500}, PSEUDO.replace("/out", "/locked/out")),
                "can't be read or written: Permission denied"),
        refused("Output that is a file", having({"out": "mine"}), "can't be read or written"),
        refused("Empty folder", having({"nothing": 0o700}, "pseudo {0}/nothing -o {0}/out"),
                "must hold images"),
    ],
    "Label images": [
        refused("Float labels", mask_file("a.tif", LABELS.astype(np.float32)),
                "must be integer. Got float32"),
        refused("Negative labels", mask_file("a.tif", INT_LABELS - 5),
                "must lie from -1 to 2147483647. Got -5"),
        refused("Ids above 2³¹", mask_file("a.tif", LABELS.astype(np.uint32) + 2**31),
                "must lie from -1 to 2147483647"),
        refused("Colours in place of ids", mask_file("a.tif", tiff_bytes(RGB, photometric="rgb")),
                "must hold one channel of labels"),
        refused("Mask of another size", mask_file("a.tif", LABELS[:30]),
                "must have the shape of their image"),
        accepted("Mask without cells", mask_file("a.tif", ZERO), "nothing is known of that image"),
        accepted("Single-pixel objects", mask_file("a.tif", np.eye(*SHAPE, dtype=np.uint16) * 7),
                 "kept as they are"),
        accepted("Signed 16-bit labels", mask_file("a.tif", LABELS.astype(np.int16)),
                 "read as they are"),
        warned("Mask without image", having({"masks/stranger.tif": LABELS}, MERGE),
               "match no image"),
        accepted("Image without mask", having({"masks/b.tif": None}, MERGE),
                 "not every image needs annotations"),
        refused("No mask that matches an image",
                having({"masks/a.tif": None, "masks/b.tif": None, "masks/x.tif": LABELS}, MERGE),
                "must be named after the images"),
        refused("Truth without prediction", having({"masks/c.tif": LABELS}, EVALUATE),
                "must have a prediction"),
        refused("Two annotations of one image",
                having({"masks/a.geojson": geojson(square(5, 25))}, MERGE),
                "must have its annotations in one file"),
        warned("Annotations at another scale than the pseudo labels",
               having({"masks/a.tif": TINY_CELL, "masks/b.tif": TINY_CELL}, MERGE),
               "one of them is not at the scale of the cells"),
        refused("Annotations where the result is written",
                having({"run/training/a.tif": LABELS}, MERGE.replace("masks", "run/training")),
                "inputs must lie outside of what a run writes"),
    ],
    "Outlines": [
        accepted("ROI zip with names that lead out of its folder",
                 mask_file("a.zip", roi_zip("../../evil.roi", "/tmp/evil2.roi")),
                 "read in memory; nothing is unpacked"),
        refused("ROI zip, a bomb of 264 MB", mask_file("a.zip", zip_bomb()),
                "and 268435456 bytes of them"),
        refused("ROI zip that lies about its sizes", mask_file("a.zip", lying_zip_bomb()), NOT_ROI),
        refused("ROI zip without selections", mask_file("a.zip", roi_zip("notes.txt")),
                "must hold ImageJ selections"),
        refused("ROI zip, truncated", mask_file("a.zip", roi_zip("1.roi", "2.roi")[:200]),
                "can't be read as a zip of ImageJ selections"),
        refused("ROI of zero bytes", mask_file("a.roi", b""), NOT_ROI),
        refused("ROI, truncated", mask_file("a.roi", roi_bytes()[:70]), NOT_ROI),
        accepted("GeoJSON, self-crossing polygon", mask_file("a.geojson", geojson(BOW_TIE)),
                 "filled by the even-odd rule, as ImageJ does"),
        accepted("GeoJSON, polygon with a hole",
                 mask_file("a.geojson", geojson(square(5, 35), square(10, 20))),
                 "the hole does not belong to the cell"),
        refused("GeoJSON, coordinates outside", mask_file("a.geojson", geojson(square(5, 500))),
                "must lie inside its image"),
        refused("GeoJSON, coordinates that are not finite",
                mask_file("a.geojson", geojson(square(5, float("inf")))),
                "must have finite coordinates"),
        refused("GeoJSON, a ring of two points",
                mask_file("a.geojson", geojson([[1.0, 1.0], [2.0, 2.0]])),
                "can't be read as GeoJSON"),
        refused("JSON, cut off", mask_file("a.geojson", geojson(BOW_TIE)[:40]),
                "can't be read as JSON"),
        refused("JSON, nested 50,000 deep", mask_file("a.geojson", DEEP), "can't be read as JSON"),
        refused("COCO, another image size", mask_file("c.json", coco([], height=9)),
                "must have the size of the image"),
        refused("COCO, run lengths that do not fill the image",
                mask_file("c.json", coco({"size": list(SHAPE), "counts": [1, 10**12]})),
                "can't be read as a COCO annotation"),
        refused("COCO, broken compressed run lengths",
                mask_file("c.json", coco({"size": list(SHAPE), "counts": "~~~"})),
                "can't be read as a COCO annotation"),
    ],
    "Configs": [
        refused("YAML with tabs", config("stardist:\n\talpha: 0.5\n"), "the config is not YAML"),
        refused("Bomb of anchors", config(ALIASES), "must hold at most 10000 values"),
        refused("Anchor that holds itself", config("seed: &a [*a]\n"),
                "must hold at most 10000 values"),
        refused("Nested 50,000 deep", config(DEEP), "nested at most 20 deep"),
        refused("Unknown key", config("stardist: {alfa: 0.5}"),
                "stardist.alfa must be a known setting"),
        refused("Wrong type", config("seed: red"), "Got 'red' instead"),
        refused("Value out of range", config("stardist: {batch_size: 0}"),
                "stardist.batch_size must be"),
        refused("NaN", config("pseudo: {working_diameter: .nan}"),
                "pseudo.working_diameter must be a finite number"),
        refused("Number of 5,000 digits", config("seed: " + "9" * 5000), "the config is not YAML"),
        refused("A list", config("- seed\n"), "must be a mapping of keys. Got list"),
        refused("Python object", config("seed: !!python/object/apply:os.getpid []"),
                "the config is not YAML"),
        refused("Not text", config(b"\xff\xfe\x00\x01"), "the config can't be read"),
        refused("Two megabytes", config("# " + "x" * 2_000_000),
                "must be smaller than 1000000 bytes"),
        refused("A folder", having({}, "pseudo {0}/images -o {0}/out --config {0}/masks"),
                "the config can't be read"),
    ],
    "Runs": [
        refused("Run of something else", having({"run/pseudo/stage.yaml": "- a list"}, MERGE),
                "must be as a run wrote it"),
        refused("Run that was interrupted",
                having({"run/pseudo/stage.yaml": "{finished: false, settings: {}}"}, MERGE),
                "must be a finished run"),
        refused("Run with a broken stage.yaml", having({"out/oce/stage.yaml": "finished: ["}),
                "must be as a run wrote it"),
        refused("Output that holds files of something else",
                having({"out/pseudo/labels/mine.tif": LABELS}),
                "must be empty or hold a run. Got labels of something else"),
    ],
    "Models": [
        refused("Folder without a model",
                having({}, "predict {0}/images --model {0}/masks -o {0}/out"),
                "must be a StarDist model folder"),
        refused("No config.json", model_file("config.json", None), "It lacks config.json"),
        refused("No weights", model_file("weights_best.h5", None), "It lacks weights"),
        refused("Truncated weights", model_file("weights_best.h5", b"\x89HDF\r\n\x1a\n" * 9),
                "must be a StarDist model folder"),
        refused("config.json, cut off", model_file("config.json", '{"n_rays": 32, '),
                "must be the config of a StarDist2D model"),
        refused("config.json of another tool",
                model_file("config.json", '{"axes": "YXC", "unet_n_depth": 2}'),
                "must be the config of a StarDist2D model"),
        refused("config.json that asks for 10⁹ rays",
                model_file("config.json", '{"n_dim": 2, "n_rays": 1000000000}'),
                "n_rays must be at most 1024"),
        warned("Thresholds never set", model_file("thresholds.json", None), "thresholds of"),
        refused("Thresholds that are no numbers", model_file("thresholds.json", "[]"),
                "must be a StarDist model folder"),
        warned("Images of another pixel size",
               having({f"images/{stem}.tif": MICRON for stem in "ab"}
                      | {"model/run.yaml": "inputs: {pixel_size_um: [0.5, 0.5]}"}, PREDICT),
               "have pixels of another size"),
        refused("Output on the images",
                having({}, "predict {0}/images --model {0}/model -o {0}/images"),
                "labels must not replace a file of something else"),
    ],
}  # fmt: skip


def as_page() -> str:
    """The table as a page of the docs."""
    counts = {
        outcome: sum(one.outcome == outcome for group in CORPUS.values() for one in group)
        for outcome in ("refused", "warned", "accepted")
    }
    lines = [
        "# Bad input",
        "",
        "<!-- Written by `python tests/faults/corpus.py`; do not edit. -->",
        "",
        f"{sum(counts.values())} bad inputs, each made by `tests/faults/corpus.py` and given to "
        f"the commands by the tests: {counts['refused']} are refused, {counts['warned']} are "
        f"worked on with a warning, {counts['accepted']} are worked on.",
        "",
        "- **refused**: one line, exit code 2, and no file is written or changed;",
        "- **warned**: the result is whole, and a warning says so;",
        "- **accepted**: the result is whole; the last column says what is done.",
    ]
    for group, inputs in CORPUS.items():
        lines += ["", f"## {group}", ""]
        lines += ["| input | outcome | message or treatment |", "|---|---|---|"]
        for one in inputs:
            said = one.says.replace("\x1b", "\\x1b").replace("|", "\\|")
            said = said if one.outcome == "accepted" else f"“… {said} …”"
            lines.append(f"| {one.title} | {one.outcome} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
    page.write_text(as_page(), encoding="utf-8")
