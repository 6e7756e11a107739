"""Every bad input that we could think of, made by code, and what must come of it.

`docs/bad-input.md` is written from this table by `python tests/faults/corpus.py`.
"""

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
import yaml
from labs import SHAPE, scene

Outcome = Literal["refused", "warned", "accepted"]
Prepare = Callable[[Path], list[object]]


@dataclass(frozen=True)
class BadInput:
    """One bad input.

    Attributes
    ----------
    title : str
        What is wrong.
    prepare : function of the lab's folder
        Makes it there; returns the command.
    outcome : {"refused", "warned", "accepted"}
        refused: one line, exit code 2, and nothing written. Else the result is whole.
    says : str
        What the message or warning holds; for what is accepted, what is done with it.
    needs : {"", "pseudo", "model"}
        What is slow about it: it trains, or it needs a StarDist model.
    """

    title: str
    prepare: Prepare
    outcome: Outcome
    says: str
    needs: Literal["", "pseudo", "model"] = ""


# Commands


def pseudo(lab: Path, *more: object) -> list[object]:
    tiny = lab / "tiny.yaml"
    return ["pseudo", lab / "images", "-o", lab / "out", "--config", tiny, "--diameter", 18, *more]


def merge(lab: Path, *more: object) -> list[object]:
    return ["merge", lab / "run", "--annotations", lab / "masks", *more]


def evaluate(lab: Path) -> list[object]:
    return ["evaluate", lab / "run" / "pseudo" / "labels", lab / "masks"]


def predict(lab: Path) -> list[object]:
    return ["predict", lab / "images", "--model", lab / "model", "-o", lab / "out"]


# Makers: each returns a function that spoils the lab and names the command


def image_file(name: str, content: bytes | np.ndarray, **options: object) -> Prepare:
    """Add an image of this content."""

    def prepare(lab: Path) -> list[object]:
        write(lab / "images" / name, content, **options)
        return pseudo(lab)

    return prepare


def only_image(name: str, content: bytes | np.ndarray, **options: object) -> Prepare:
    """Have this image and no other."""

    def prepare(lab: Path) -> list[object]:
        for path in (lab / "images").iterdir():
            path.unlink()
        write(lab / "images" / name, content, **options)
        return pseudo(lab)

    return prepare


def mask_file(name: str, content: bytes | np.ndarray | str, **options: object) -> Prepare:
    """Annotate image a, or that of the name, by this file instead of a mask."""

    def prepare(lab: Path) -> list[object]:
        (lab / "masks" / "a.tif").unlink()
        write(lab / "masks" / name, content, **options)
        return merge(lab)

    return prepare


def config(text: str | bytes) -> Prepare:
    """Pass this config."""

    def prepare(lab: Path) -> list[object]:
        write(lab / "bad.yaml", text)
        return ["pseudo", lab / "images", "-o", lab / "out", "--config", lab / "bad.yaml"]

    return prepare


def model_file(name: str, content: bytes | str | None) -> Prepare:
    """Replace a file of the model, or take it away."""

    def prepare(lab: Path) -> list[object]:
        (lab / "model" / name).unlink()
        if content is not None:
            write(lab / "model" / name, content)
        return predict(lab)

    return prepare


def write(path: Path, content: bytes | np.ndarray | str, **options: object) -> None:
    if isinstance(content, np.ndarray):
        if path.suffix == ".png":
            content = bytes(imagecodecs.png_encode(content))
        else:
            tifffile.imwrite(path, content, **options)
            return
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# Contents


IMAGE, LABELS = scene()
INT_LABELS = LABELS.astype(np.int32)


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


def rgba() -> np.ndarray:
    grey = (IMAGE // 8).astype(np.uint8)
    return np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)


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


# Spoilers that need more than one file


def two_stems(lab: Path) -> list[object]:
    write(lab / "images" / "a.png", (IMAGE // 8).astype(np.uint8))
    return pseudo(lab)


def link_to_itself(lab: Path) -> list[object]:
    (lab / "images" / "loop.tif").symlink_to(lab / "images" / "loop.tif")
    return pseudo(lab)


def folder_link_loop(lab: Path) -> list[object]:
    (lab / "images" / "again").symlink_to(lab / "images", target_is_directory=True)
    return pseudo(lab)


def linked_folder(lab: Path) -> list[object]:
    (lab / "loop").symlink_to(lab / "loop", target_is_directory=True)
    return ["pseudo", lab / "loop", "-o", lab / "out"]


def unreadable_image(lab: Path) -> list[object]:
    (lab / "images" / "a.tif").chmod(0)
    return pseudo(lab)


def unreadable_folder(lab: Path) -> list[object]:
    (lab / "images").chmod(0)
    return pseudo(lab)


def unwritable_output(lab: Path) -> list[object]:
    (lab / "locked").mkdir()
    (lab / "locked").chmod(0o500)
    return ["pseudo", lab / "images", "-o", lab / "locked" / "out", "--config", lab / "tiny.yaml"]


def output_is_a_file(lab: Path) -> list[object]:
    (lab / "out").write_text("mine")
    return pseudo(lab)


def empty_folder(lab: Path) -> list[object]:
    (lab / "nothing").mkdir()
    return ["pseudo", lab / "nothing", "-o", lab / "out"]


def mask_without_image(lab: Path) -> list[object]:
    write(lab / "masks" / "stranger.tif", LABELS)
    return merge(lab)


def image_without_mask(lab: Path) -> list[object]:
    (lab / "masks" / "b.tif").unlink()
    return merge(lab)


def truth_without_prediction(lab: Path) -> list[object]:
    write(lab / "masks" / "c.tif", LABELS)
    return evaluate(lab)


def no_mask_matches(lab: Path) -> list[object]:
    for path in (lab / "masks").iterdir():
        path.rename(path.with_name(f"other {path.name}"))
    return merge(lab)


def two_annotations(lab: Path) -> list[object]:
    write(lab / "masks" / "a.geojson", geojson(square(5, 25)))
    return merge(lab)


def config_as_folder(lab: Path) -> list[object]:
    return ["pseudo", lab / "images", "-o", lab / "out", "--config", lab / "masks"]


def no_model_at_all(lab: Path) -> list[object]:
    return ["predict", lab / "images", "--model", lab / "masks", "-o", lab / "out"]


def run_of_something_else(lab: Path) -> list[object]:
    write(lab / "run" / "pseudo" / "stage.yaml", "- a list\n")
    return merge(lab)


def interrupted_run(lab: Path) -> list[object]:
    write(lab / "run" / "pseudo" / "stage.yaml", "{finished: false, settings: {}}")
    return merge(lab)


def broken_stage(lab: Path) -> list[object]:
    (lab / "out" / "oce").mkdir(parents=True)
    write(lab / "out" / "oce" / "stage.yaml", "finished: [")
    return pseudo(lab)


def foreign_results(lab: Path) -> list[object]:
    (lab / "out" / "pseudo" / "labels").mkdir(parents=True)
    write(lab / "out" / "pseudo" / "labels" / "mine.tif", LABELS)
    return pseudo(lab)


def output_on_images(lab: Path) -> list[object]:
    return ["predict", lab / "images", "--model", lab / "model", "-o", lab / "images"]


def annotations_in_output(lab: Path) -> list[object]:
    (lab / "run" / "training").mkdir()
    (lab / "masks").rename(lab / "run" / "training" / "sparse")
    return ["merge", lab / "run", "--annotations", lab / "run" / "training" / "sparse"]


def thresholds_missing(lab: Path) -> list[object]:
    (lab / "model" / "thresholds.json").unlink()
    return predict(lab)


def other_pixel_size(lab: Path) -> list[object]:
    write(lab / "model" / "run.yaml", yaml.safe_dump({"inputs": {"pixel_size_um": [0.5, 0.5]}}))
    for name in ("a.tif", "b.tif"):
        write(lab / "images" / name, IMAGE, imagej=True, resolution=(1, 1), metadata={"unit": "um"})
    return predict(lab)


def annotations_at_another_scale(lab: Path) -> list[object]:
    for stem in "ab":
        labels = np.zeros(SHAPE, np.uint16)
        labels[5:9, 5:9] = 1
        write(lab / "masks" / f"{stem}.tif", labels)
    return merge(lab)


ZERO, STRIP = np.zeros(SHAPE, np.uint8), np.zeros((1, 200), np.uint8)
BOW_TIE = [[5.0, 5.0], [25.0, 25.0], [25.0, 5.0], [5.0, 25.0], [5.0, 5.0]]
UNREADABLE = "can't be read as an image"
NOT_ROI = "can't be read as an ImageJ selection"

CORPUS = {
    "Image files": [
        BadInput("TIFF, truncated", image_file("c.tif", tiff_bytes(IMAGE)[:2000]), "refused",
                 UNREADABLE),
        BadInput("TIFF, compressed, truncated",
                 image_file("c.tif", tiff_bytes(IMAGE, compression="zlib")[:-300]), "refused",
                 UNREADABLE),
        BadInput("TIFF of zero bytes", image_file("c.tif", b""), "refused", UNREADABLE),
        BadInput("PNG, truncated",
                 image_file("c.png", png_bytes((IMAGE // 8).astype(np.uint8))[:400]), "refused",
                 UNREADABLE),
        BadInput("PNG of zero bytes", image_file("c.png", b""), "refused", UNREADABLE),
        BadInput("PNG called .tif", image_file("c.tif", png_bytes(ZERO)), "refused", UNREADABLE),
        BadInput("TIFF called .png", image_file("c.png", tiff_bytes(IMAGE)), "refused",
                 UNREADABLE),
        BadInput("Text called .tif", image_file("c.tif", b"hello\n" * 50), "refused", UNREADABLE),
        BadInput("TIFF header announcing 10¹² pixels", image_file("c.tif", giant_tiff()),
                 "refused", "must hold 1 to 2147483648 values"),
        BadInput("TIFF header announcing a billion pixels in a kilobyte",
                 image_file("c.tif", giant_tiff(30_000)), "refused",
                 "it announces 900000000 bytes of pixels"),
        BadInput("PNG header announcing 10¹² pixels",
                 image_file("c.png", png_file(10**6, 10**6, 0, b"")), "refused",
                 "must hold 1 to 2147483648 values"),
        BadInput("NaN", image_file("c.tif", spoiled(np.nan)), "refused",
                 "must hold finite numbers. Got NaN or infinity in 1 of 5120 values"),
        BadInput("Infinity", image_file("c.tif", spoiled(np.inf)), "refused",
                 "must hold finite numbers. Got NaN or infinity in 1 of 5120 values"),
        BadInput("Complex numbers", image_file("c.tif", IMAGE.astype(np.complex64)), "refused",
                 "must hold integers or floats. Got complex64"),
        BadInput("Smaller than the field of view", image_file("c.tif", IMAGE[:12, :12]),
                 "refused", "at least 18 pixels a side"),
        BadInput("Strip of 1×N pixels", image_file("c.tif", STRIP), "refused",
                 "at least 18 pixels a side"),
        BadInput("Several pages of different size", image_file("c.tif", mixed_pages()),
                 "refused", "must hold one image. Got 2"),
        BadInput("Unknown axes: three dimensions without names",
                 image_file("c.tif", np.stack([IMAGE] * 5), metadata=None), "refused",
                 "must be 2-D with channels"),
        BadInput("Stack of planes",
                 image_file("c.tif", np.stack([IMAGE] * 5), imagej=True, metadata={"axes": "ZYX"}),
                 "refused", "split a stack into one file per plane"),
        BadInput("Different channel counts in one folder",
                 image_file("c.tif", rgba()[..., :3], photometric="rgb"), "refused",
                 "must all have the same number of channels"),
    ],
    "Unusual images": [
        BadInput("Constant image", only_image("c.tif", np.full(SHAPE, 7, np.uint8)), "warned",
                 "can't be trusted: no object was found", "pseudo"),
        BadInput("All-zero image", only_image("c.tif", ZERO), "warned",
                 "can't be trusted: no object was found", "pseudo"),
        BadInput("Signed 16-bit image", image_file("c.tif", IMAGE.astype(np.int16) - 500),
                 "accepted", "read as it is, negative values too", "pseudo"),
        BadInput("Alpha channel in a PNG", only_image("c.png", rgba()), "warned",
                 "dropped the alpha channel", "pseudo"),
        BadInput("Palette PNG", only_image("c.png", palette_png()), "accepted",
                 "the palette is applied: RGB", "pseudo"),
        BadInput("Folder with one image", only_image("c.tif", IMAGE), "accepted",
                 "worked on like any other", "pseudo"),
        BadInput("Folder that links to itself within the images", folder_link_loop, "accepted",
                 "folders within the folder are not looked into", "pseudo"),
    ],
    "Names and folders": [
        BadInput("Duplicate stems", two_stems, "refused", "must have different names"),
        BadInput("Names with spaces", image_file("c d  e.tif", IMAGE), "accepted",
                 "results have the same name", "pseudo"),
        BadInput("Names with newlines", image_file("c\nd.tif", IMAGE), "accepted",
                 "results have the same name", "pseudo"),
        BadInput("Names in Unicode", image_file("Zählung-細胞-🔬.tif", IMAGE), "accepted",
                 "results have the same name", "pseudo"),
        BadInput("Names that tables take for missing: NA, nan", image_file("NA.tif", IMAGE),
                 "accepted", "results have the same name", "pseudo"),
        BadInput("Names with HTML", image_file("<script>alert(1)<script>.tif", IMAGE),
                 "accepted", "shown in the report as text", "pseudo"),
        BadInput("Names of 255 bytes", image_file(f"{'n' * 251}.tif", IMAGE), "refused",
                 "must have at most 240 bytes without suffix. Got 251"),
        BadInput("Names that are not UTF-8", image_file("c\udcff.tif", IMAGE), "refused",
                 "must be valid UTF-8"),
        BadInput("Names with terminal codes", image_file("\x1b[31mred.tif", b""), "refused",
                 "\\x1b[31mred.tif can't be read as an image"),
        BadInput("Link to itself as image", link_to_itself, "refused",
                 "must lead to a file. Got a link that leads nowhere"),
        BadInput("Link to itself as folder", linked_folder, "refused", "must exist"),
        BadInput("Unreadable file", unreadable_image, "refused", "Permission denied"),
        BadInput("Unreadable folder", unreadable_folder, "refused", "Permission denied"),
        BadInput("Output where nothing may be written", unwritable_output, "refused",
                 "can't be read or written: Permission denied"),
        BadInput("Output that is a file", output_is_a_file, "refused",
                 "can't be read or written"),
        BadInput("Empty folder", empty_folder, "refused", "must hold images"),
    ],
    "Label images": [
        BadInput("Float labels", mask_file("a.tif", LABELS.astype(np.float32)), "refused",
                 "must be integer. Got float32"),
        BadInput("Negative labels", mask_file("a.tif", INT_LABELS - 5), "refused",
                 "must lie from -1 to 2147483647. Got -5"),
        BadInput("Ids above 2³¹", mask_file("a.tif", LABELS.astype(np.uint32) + 2**31), "refused",
                 "must lie from -1 to 2147483647"),
        BadInput("Colours in place of ids",
                 mask_file("a.tif", rgba()[..., :3], photometric="rgb"), "refused",
                 "must hold one channel of labels"),
        BadInput("Mask of another size", mask_file("a.tif", LABELS[:30]), "refused",
                 "must have the shape of their image"),
        BadInput("Mask without cells", mask_file("a.tif", ZERO), "accepted",
                 "nothing is known of that image"),
        BadInput("Single-pixel objects",
                 mask_file("a.tif", np.eye(*SHAPE, dtype=np.uint16) * 7), "accepted",
                 "kept as they are"),
        BadInput("Signed 16-bit labels", mask_file("a.tif", LABELS.astype(np.int16)), "accepted",
                 "read as they are"),
        BadInput("Mask without image", mask_without_image, "warned", "match no image"),
        BadInput("Image without mask", image_without_mask, "accepted",
                 "not every image needs annotations"),
        BadInput("No mask that matches an image", no_mask_matches, "refused",
                 "must be named after the images"),
        BadInput("Truth without prediction", truth_without_prediction, "refused",
                 "must have a prediction"),
        BadInput("Two annotations of one image", two_annotations, "refused",
                 "must have its annotations in one file"),
        BadInput("Annotations at another scale than the pseudo labels",
                 annotations_at_another_scale, "warned",
                 "one of them is not at the scale of the cells"),
        BadInput("Annotations where the result is written", annotations_in_output, "refused",
                 "inputs must lie outside of what a run writes"),
    ],
    "Outlines": [
        BadInput("ROI zip with names that lead out of its folder",
                 mask_file("a.zip", roi_zip("../../evil.roi", "/tmp/evil2.roi")), "accepted",
                 "read in memory; nothing is unpacked"),
        BadInput("ROI zip, a bomb of 264 MB", mask_file("a.zip", zip_bomb()), "refused",
                 "and 268435456 bytes of them"),
        BadInput("ROI zip that lies about its sizes", mask_file("a.zip", lying_zip_bomb()),
                 "refused", NOT_ROI),
        BadInput("ROI zip without selections", mask_file("a.zip", roi_zip("notes.txt")),
                 "refused", "must hold ImageJ selections"),
        BadInput("ROI zip, truncated", mask_file("a.zip", roi_zip("1.roi", "2.roi")[:200]),
                 "refused", "can't be read as a zip of ImageJ selections"),
        BadInput("ROI of zero bytes", mask_file("a.roi", b""), "refused", NOT_ROI),
        BadInput("ROI, truncated", mask_file("a.roi", roi_bytes()[:70]), "refused", NOT_ROI),
        BadInput("GeoJSON, self-crossing polygon", mask_file("a.geojson", geojson(BOW_TIE)),
                 "accepted", "filled by the even-odd rule, as ImageJ does"),
        BadInput("GeoJSON, polygon with a hole",
                 mask_file("a.geojson", geojson(square(5, 35), square(10, 20))), "accepted",
                 "the hole does not belong to the cell"),
        BadInput("GeoJSON, coordinates outside",
                 mask_file("a.geojson", geojson(square(5, 500))), "refused",
                 "must lie inside its image"),
        BadInput("GeoJSON, coordinates that are not finite",
                 mask_file("a.geojson", geojson(square(5, float("inf")))), "refused",
                 "must have finite coordinates"),
        BadInput("GeoJSON, a ring of two points",
                 mask_file("a.geojson", geojson([[1.0, 1.0], [2.0, 2.0]])), "refused",
                 "can't be read as GeoJSON"),
        BadInput("JSON, cut off", mask_file("a.geojson", geojson(BOW_TIE)[:40]), "refused",
                 "can't be read as JSON"),
        BadInput("JSON, nested 50,000 deep", mask_file("a.geojson", DEEP), "refused",
                 "can't be read as JSON"),
        BadInput("COCO, another image size", mask_file("c.json", coco([], height=9)), "refused",
                 "must have the size of the image"),
        BadInput("COCO, run lengths that do not fill the image",
                 mask_file("c.json", coco({"size": list(SHAPE), "counts": [1, 10**12]})),
                 "refused", "can't be read as a COCO annotation"),
        BadInput("COCO, broken compressed run lengths",
                 mask_file("c.json", coco({"size": list(SHAPE), "counts": "~~~"})), "refused",
                 "can't be read as a COCO annotation"),
    ],
    "Configs": [
        BadInput("YAML with tabs", config("stardist:\n\talpha: 0.5\n"), "refused",
                 "the config is not YAML"),
        BadInput("Bomb of anchors", config(ALIASES), "refused",
                 "must hold at most 10000 values"),
        BadInput("Anchor that holds itself", config("seed: &a [*a]\n"), "refused",
                 "must hold at most 10000 values"),
        BadInput("Nested 50,000 deep", config(DEEP), "refused", "nested at most 20 deep"),
        BadInput("Unknown key", config("stardist: {alfa: 0.5}"), "refused",
                 "stardist.alfa must be a known setting"),
        BadInput("Wrong type", config("seed: red"), "refused", "Got 'red' instead"),
        BadInput("Value out of range", config("stardist: {batch_size: 0}"), "refused",
                 "stardist.batch_size must be"),
        BadInput("NaN", config("pseudo: {working_diameter: .nan}"), "refused",
                 "pseudo.working_diameter must be a finite number"),
        BadInput("Number of 5,000 digits", config("seed: " + "9" * 5000), "refused",
                 "the config is not YAML"),
        BadInput("A list", config("- seed\n"), "refused", "must be a mapping of keys. Got list"),
        BadInput("Python object", config("seed: !!python/object/apply:os.getpid []"), "refused",
                 "the config is not YAML"),
        BadInput("Not text", config(b"\xff\xfe\x00\x01"), "refused", "the config can't be read"),
        BadInput("Two megabytes", config("# " + "x" * 2_000_000), "refused",
                 "must be smaller than 1000000 bytes"),
        BadInput("A folder", config_as_folder, "refused", "the config can't be read"),
    ],
    "Runs": [
        BadInput("Run of something else", run_of_something_else, "refused",
                 "must be as a run wrote it"),
        BadInput("Run that was interrupted", interrupted_run, "refused", "must be a finished run"),
        BadInput("Run with a broken stage.yaml", broken_stage, "refused",
                 "must be as a run wrote it"),
        BadInput("Output that holds files of something else", foreign_results, "refused",
                 "must be empty or hold a run. Got labels of something else"),
    ],
    "Models": [
        BadInput("Folder without a model", no_model_at_all, "refused",
                 "must be a StarDist model folder", "model"),
        BadInput("No config.json", model_file("config.json", None), "refused",
                 "It lacks config.json", "model"),
        BadInput("No weights", model_file("weights_best.h5", None), "refused",
                 "It lacks weights", "model"),
        BadInput("Truncated weights", model_file("weights_best.h5", b"\x89HDF\r\n\x1a\n" * 9),
                 "refused", "must be a StarDist model folder", "model"),
        BadInput("config.json, cut off", model_file("config.json", '{"n_rays": 32, '), "refused",
                 "must be the config of a StarDist2D model", "model"),
        BadInput("config.json of another tool",
                 model_file("config.json", '{"axes": "YXC", "unet_n_depth": 2}'), "refused",
                 "must be the config of a StarDist2D model", "model"),
        BadInput("config.json that asks for 10⁹ rays",
                 model_file("config.json", '{"n_dim": 2, "n_rays": 1000000000}'), "refused",
                 "n_rays must be at most 1024", "model"),
        BadInput("Thresholds never set", thresholds_missing, "warned",
                 "thresholds of", "model"),
        BadInput("Thresholds that are no numbers", model_file("thresholds.json", "[]"), "refused",
                 "must be a StarDist model folder", "model"),
        BadInput("Images of another pixel size", other_pixel_size, "warned",
                 "have pixels of another size", "model"),
        BadInput("Output on the images", output_on_images, "refused",
                 "labels must not replace a file of something else", "model"),
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
