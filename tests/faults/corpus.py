"""Every bad input that we could think of, made by code, and what must come of it.

`docs/bad-input.md` is written from this table by `python tests/faults/corpus.py`.
"""

import functools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from contents import (  # isort: skip
    ALIASES, BOW_TIE, DEEP, GREY, IMAGE, INT_LABELS, LABELS, MICRON, POINTS, RGB_TIFF, RGBA,
    STACK, STRIP, TINY_CELL, ZERO, coco, geojson, giant_tiff, jpeg, lying_zip_bomb, mixed_pages,
    palette_png, png, png_file, roi, roi_zip, runs, spoiled, square, tiff, zip_bomb,
)  # fmt: skip

FIRST = np.argwhere(LABELS == 1)  # pixels of an object
Change = bytes | np.ndarray | str | Path | int | None
"""Content of a file; or a path in the lab to link to, permissions, None to take it away."""


PSEUDO = "pseudo {0}/images -o {0}/out --config {0}/tiny.yaml --diameter 18"
MERGE = "merge {0}/run --annotations {0}/masks"
EVALUATE = "evaluate {0}/run/pseudo/labels {0}/masks"
PREDICT = "predict {0}/images --model {0}/model -o {0}/out"


class Lab(NamedTuple):
    """Changes to files of the lab, by name, and the command that meets them there."""

    changes: dict[str, Change]
    command: str = PSEUDO

    def prepare(self, lab: Path) -> list[str]:
        """Make the changes; returns the words of the command."""
        for name, content in self.changes.items():
            _change(lab / name, lab / content if isinstance(content, Path) else content)
        return [word.format(lab) for word in self.command.split()]


def _change(path: Path, content: Change) -> None:
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
            path.write_bytes((png if path.suffix == ".png" else tiff)(content))
        case _:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


class BadInput(NamedTuple):
    """One bad input; `HEAD` has the outcomes, `says` is what the message or the page says."""

    outcome: str
    title: str
    given: Lab
    says: str


refused = functools.partial(BadInput, "refused")
warned = functools.partial(BadInput, "warned")
accepted = functools.partial(BadInput, "accepted")

# What spoils the lab, and the command that meets it there


def image(content: Change, name: str = "c.tif") -> Lab:
    return Lab({f"images/{name}": content})


def only_image(content: Change, name: str = "c.tif") -> Lab:
    return Lab({"images/a.tif": None, "images/b.tif": None, f"images/{name}": content})


def mask(content: Change, name: str = "a.tif") -> Lab:
    """Annotate image a, or that of the name, by this file instead of a mask."""
    return Lab({"masks/a.tif": None} | {f"masks/{name}": content}, MERGE)


def hints(text: str, command: str = MERGE) -> Lab:
    """Annotate by a table of points or verdicts alone."""
    return Lab({"masks/a.tif": None, "masks/b.tif": None, "masks/clicks.csv": text}, command)


def config(text: str | bytes) -> Lab:
    return Lab({"bad.yaml": text}, "pseudo {0}/images -o {0}/out --config {0}/bad.yaml")


def model(content: Change, name: str) -> Lab:
    return Lab({f"model/{name}": content}, PREDICT)


# The messages of more than one

UNREADABLE = "can't be read as an image"
HUGE = "must hold 1 to 2147483648 values"
NOT_FINITE = "must hold finite numbers. Got NaN or infinity in 1 of 5120 values"
NOTHING_FOUND = "can't be trusted: no object was found"
SAME_NAME = "results have the same name"
NO_INSTANCES = "must have one number for each cell"
NOT_ROI = "can't be read as an ImageJ selection"
NOT_COCO = "can't be read as a COCO annotation"
NOT_YAML = "the config is not YAML"
NOT_A_RUN = "must be as a run wrote it"
NOT_A_MODEL = "must be a StarDist model folder"
NOT_A_MODEL_CONFIG = "must be the config of a StarDist2D model"

CORPUS = {
    "Image files": [
        refused("TIFF, truncated", image(tiff(IMAGE)[:2000]), UNREADABLE),
        refused("TIFF, compressed, truncated", image(tiff(IMAGE, compression="zlib")[:-300]),
                UNREADABLE),
        refused("TIFF of zero bytes", image(b""), UNREADABLE),
        refused("PNG, truncated", image(png(GREY)[:400], "c.png"), UNREADABLE),
        refused("PNG of zero bytes", image(b"", "c.png"), UNREADABLE),
        refused("JPEG, truncated", image(jpeg(GREY)[:-40], "c.jpg"),
                "it ends before its pixels do"),
        refused("Text called .czi", image(b"hello\n" * 50, "c.czi"), "can't be read as CZI"),
        refused("PNG called .tif", image(png(ZERO)), UNREADABLE),
        refused("TIFF called .png", image(tiff(IMAGE), "c.png"), UNREADABLE),
        refused("Text called .tif", image(b"hello\n" * 50), UNREADABLE),
        refused("TIFF header announcing 10¹² pixels", image(giant_tiff(10**6)), HUGE),
        refused("TIFF header announcing a billion pixels in a kilobyte",
                image(giant_tiff(30_000)), "it announces 900000000 bytes of pixels"),
        refused("PNG header announcing 10¹² pixels",
                image(png_file(10**6, 10**6, 0, b""), "c.png"), HUGE),
        refused("NaN", image(spoiled(np.nan)), NOT_FINITE),
        refused("Infinity", image(spoiled(np.inf)), NOT_FINITE),
        refused("Complex numbers", image(IMAGE.astype(np.complex64)),
                "must hold integers or floats. Got complex64"),
        refused("Smaller than the field of view", image(IMAGE[:12, :12]),
                "at least 18 pixels a side"),
        refused("Strip of 1×N pixels", image(STRIP), "at least 18 pixels a side"),
        refused("Several pages of different size", image(mixed_pages()),
                "must hold one image. Got 2"),
        refused("Unknown axes: three dimensions without names",
                image(tiff(STACK, metadata=None)), "must be 2-D with channels"),
        refused("Stack of planes among images",
                image(tiff(STACK, imagej=True, metadata={"axes": "ZYX"})),
                "split a stack into one file per plane"),
        refused("Stack that does not say how far its planes lie apart",
                only_image(tiff(STACK, imagej=True, metadata={"axes": "ZYX"})),
                "must say how large its voxels are"),
        refused("Different channel counts in one folder", image(RGB_TIFF),
                "must all have the same number of channels"),
    ],
    "Unusual images": [
        warned("Constant image", only_image(ZERO + 7), NOTHING_FOUND),
        warned("All-zero image", only_image(ZERO), NOTHING_FOUND),
        accepted("Signed 16-bit image", image(IMAGE.astype(np.int16) - 500),
                 "read as it is, negative values too"),
        warned("Alpha channel in a PNG", only_image(RGBA, "c.png"), "dropped the alpha channel"),
        warned("Alpha channel in a TIFF", only_image(tiff(RGBA, photometric="rgb")),
               "dropped the alpha channel"),
        warned("JPEG", only_image(jpeg(GREY), "c.jpg"), "is JPEG, which changes intensities"),
        warned("Formats that aren't read beside the images", image(b"", "scan.svs"),
               "left out, in formats that aren't read: scan.svs"),
        accepted("Grey TIFF with 0 as white", image(tiff(255 - GREY, photometric="miniswhite")),
                 "turned, so that bright is bright"),
        accepted("Palette PNG", only_image(palette_png(), "c.png"), "the palette is applied: RGB"),
        accepted("Folder with one image", only_image(IMAGE), "worked on like any other"),
        accepted("Folder that links to itself within the images", image(Path("images"), "again"),
                 "folders within the folder are not looked into"),
    ],
    "Names and folders": [
        refused("Duplicate stems", image(GREY, "a.png"), "must have different names"),
        accepted("Names with spaces", image(IMAGE, "c d  e.tif"), SAME_NAME),
        accepted("Names with newlines", image(IMAGE, "c\nd.tif"), SAME_NAME),
        accepted("Names in Unicode", image(IMAGE, "Zählung-細胞-🔬.tif"), SAME_NAME),
        accepted("Names that tables take for missing: NA, nan", image(IMAGE, "NA.tif"), SAME_NAME),
        accepted("Names with HTML", image(IMAGE, "<script>alert(1)<script>.tif"),
                 "shown in the report as text"),
        refused("Names of 255 bytes", image(IMAGE, f"{'n' * 251}.tif"),
                "must have at most 240 bytes without suffix. Got 251"),
        refused("Names that are not UTF-8", image(IMAGE, "c\udcff.tif"), "must be valid UTF-8"),
        refused("Names with terminal codes", image(b"", "\x1b[31mred.tif"),
                "\\x1b[31mred.tif can't be read as an image"),
        refused("Link to itself as image", image(Path("images/loop.tif"), "loop.tif"),
                "must lead to a file. Got a link that leads nowhere"),
        refused("Link to itself as folder",
                Lab({"loop": Path("loop")}, "pseudo {0}/loop -o {0}/out"), "must exist"),
        refused("Unreadable file", image(0, "a.tif"), "Permission denied"),
        refused("Unreadable folder", Lab({"images": 0}), "Permission denied"),
        refused("Output where nothing may be written",
                Lab({"locked": 0o500}, PSEUDO.replace("/out", "/locked/out")),
                "can't be read or written: Permission denied"),
        refused("Output that is a file", Lab({"out": "mine"}), "can't be read or written"),
        refused("Empty folder", Lab({"nothing": 0o700}, "pseudo {0}/nothing -o {0}/out"),
                "holds no images"),
    ],
    "Label images": [
        refused("Float labels", mask(LABELS.astype(np.float32)), "must be integer. Got float32"),
        refused("Negative labels", mask(INT_LABELS - 5), "must lie from -1 to 2147483647. Got -5"),
        refused("Ids above 2³¹", mask(LABELS.astype(np.uint32) + 2**31),
                "must lie from -1 to 2147483647"),
        refused("Colours in place of ids",
                mask(tiff(np.dstack([GREY, GREY // 2, GREY // 3]), photometric="rgb")),
                "must hold one channel of labels"),
        refused("Mask of another size", mask(LABELS[:30]), "must have the shape of their image"),
        refused("Foreground mask of 0 and 255", mask(((LABELS > 0) * 255).astype(np.uint8)),
                NO_INSTANCES),
        refused("The image in place of its labels", mask(IMAGE), NO_INSTANCES),
        accepted("Mask without cells", mask(ZERO), "nothing is known of that image"),
        accepted("Single-pixel objects", mask(POINTS), "kept as they are"),
        accepted("Signed 16-bit labels", mask(LABELS.astype(np.int16)), "read as they are"),
        warned("Mask without image", Lab({"masks/stranger.tif": LABELS}, MERGE), "match no image"),
        accepted("Image without mask", Lab({"masks/b.tif": None}, MERGE),
                 "not every image needs annotations"),
        refused("No mask that matches an image",
                Lab({"masks/a.tif": None, "masks/b.tif": None, "masks/x.tif": LABELS}, MERGE),
                "must be named after the images"),
        refused("Truth without prediction", Lab({"masks/c.tif": LABELS}, EVALUATE),
                "must have a prediction"),
        refused("Two annotations of one image",
                Lab({"masks/a.geojson": geojson(square(5, 25))}, MERGE),
                "must have its annotations in one file"),
        warned("Annotations at another scale than the pseudo labels",
               Lab({"masks/a.tif": TINY_CELL, "masks/b.tif": TINY_CELL}, MERGE),
               "one of them is not at the scale of the cells"),
        refused("Annotations where the result is written",
                Lab({"run/training/a.tif": LABELS}, MERGE.replace("masks", "run/training")),
                "inputs must lie outside of what a run writes"),
    ],
    "Outlines": [
        accepted("ROI zip with names that lead out of its folder",
                 mask(roi_zip("../../evil.roi", "/tmp/evil2.roi"), "a.zip"),
                 "read in memory; nothing is unpacked"),
        refused("ROI zip, a bomb of 264 MB", mask(zip_bomb(264 * 2**20), "a.zip"),
                "and 268435456 bytes of them"),
        refused("ROI zip that lies about its sizes", mask(lying_zip_bomb(), "a.zip"), NOT_ROI),
        refused("ROI zip without selections", mask(roi_zip("notes.txt"), "a.zip"),
                "must hold ImageJ selections"),
        refused("ROI zip, truncated", mask(roi_zip("1.roi", "2.roi")[:200], "a.zip"),
                "can't be read as a zip of ImageJ selections"),
        refused("ROI of zero bytes", mask(b"", "a.roi"), NOT_ROI),
        refused("ROI, truncated", mask(roi()[:70], "a.roi"), NOT_ROI),
        refused("Cellpose's _seg.npy",
                Lab({"masks/a.tif": None, "masks/b.tif": None, "masks/a_seg.npy": b""}, MERGE),
                "is a pickle, which may run any program"),
        accepted("GeoJSON, self-crossing polygon", mask(geojson(BOW_TIE), "a.geojson"),
                 "filled by the even-odd rule, as ImageJ does"),
        accepted("GeoJSON, polygon with a hole",
                 mask(geojson(square(5, 35), square(10, 20)), "a.geojson"),
                 "the hole does not belong to the cell"),
        warned("GeoJSON, outline over the border of the image",
               mask(geojson(square(-6, 20)), "a.geojson"), "1 shape cut at the border"),
        refused("GeoJSON, coordinates outside", mask(geojson(square(5, 500)), "a.geojson"),
                "must lie inside its image"),
        refused("GeoJSON, coordinates that are not finite",
                mask(geojson(square(5, float("inf"))), "a.geojson"),
                "must have finite coordinates"),
        refused("GeoJSON, a ring of two points",
                mask(geojson([[1.0, 1.0], [2.0, 2.0]]), "a.geojson"), "can't be read as GeoJSON"),
        refused("JSON, cut off", mask(geojson(BOW_TIE)[:40], "a.geojson"), "can't be read as JSON"),
        refused("JSON, nested 50,000 deep", mask(DEEP, "a.geojson"), "can't be read as JSON"),
        refused("COCO, another image size", mask(coco([], height=9), "c.json"),
                "must have the size of the image"),
        refused("COCO, run lengths that do not fill the image",
                mask(runs([1, 10**12]), "c.json"), NOT_COCO),
        refused("COCO, broken compressed run lengths", mask(runs("~~~"), "c.json"), NOT_COCO),
    ],
    "Points and verdicts": [
        refused("Point outside of its image", hints("image,y,x\na,9,500\n"),
                "must lie inside its image of 80 x 64 pixels"),
        refused("Point that is not a number", hints("image,y,x\na,9,nan\n"),
                "x must be a finite number. Got 'nan'"),
        refused("Points of an image that is not there", hints("image,y,x\nz,9,9\n"),
                "must be named after the images"),
        refused("A cell and background in one object",
                hints("image,y,x,label\n" + "".join(
                    f"a,{y},{x},{label}\n"
                    for (y, x), label in zip(FIRST[::len(FIRST) - 1], (1, 0), strict=True))),
                "what is said of pseudo object 1 of a must agree"),
        refused("Verdict in another word", hints("image,id,verdict\na,1,fine\n"),
                "must be one of right, wrong, background. Got 'fine'"),
        refused("Verdict on an object that is not there", hints("image,id,verdict\na,99,right\n"),
                "Got 99 in a, which has no such object"),
        refused("Two verdicts on one object",
                hints("image,id,verdict\na,1,right\na,1,wrong\n"), "Got right and wrong for 1"),
        refused("Verdicts on the labels of another run",
                hints("image,label,y,x,verdict\na,1,0,0,right\n"),
                "the pseudo labels were made anew"),
        refused("Verdicts for the command that makes the labels",
                hints("image,id,verdict\na,1,right\n", f"{PSEUDO} --annotations {{0}}/masks"),
                "whose labels this command makes anew"),
        refused("Points without pseudo labels",
                hints("image,y,x\na,9,9\n",
                      "finetune {0}/images --annotations {0}/masks -o {0}/out"),
                "need pseudo labels to say something about"),
        warned("Points where only one witness is asked",
               hints("image,y,x\na,9,9\n", f"{PSEUDO} --annotations {{0}}/masks"),
               "they count in merge and finetune"),
        accepted("The same points twice",
                 hints("image,y,x\na,9,9\na,9,9\na.tif,9.1,9\n"), "count once"),
        accepted("Points in no object", hints("image,y,x\na,0,0\n"),
                 "background around them is unknown"),
    ],
    "Configs": [
        refused("YAML with tabs", config("stardist:\n\talpha: 0.5\n"), NOT_YAML),
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
        refused("Number of 5,000 digits", config("seed: " + "9" * 5000), NOT_YAML),
        refused("A list", config("- seed\n"), "must be a mapping of keys. Got list"),
        refused("Python object", config("seed: !!python/object/apply:os.getpid []"), NOT_YAML),
        refused("Not text", config(b"\xff\xfe\x00\x01"), "the config can't be read"),
        refused("Two megabytes", config("# " + "x" * 2_000_000),
                "must be smaller than 1000000 bytes"),
        refused("A folder", Lab({}, "pseudo {0}/images -o {0}/out --config {0}/masks"),
                "the config can't be read"),
    ],
    "Runs": [
        refused("Run of something else", Lab({"run/pseudo/stage.yaml": "- a list"}, MERGE),
                NOT_A_RUN),
        refused("Run that was interrupted",
                Lab({"run/pseudo/stage.yaml": "{finished: false, settings: {}}"}, MERGE),
                "must be a finished run"),
        refused("Run with a broken stage.yaml",
                Lab({"out/oce/stage.yaml": "finished: ["}), NOT_A_RUN),
        refused("Output that holds files of something else",
                Lab({"out/pseudo/labels/mine.tif": LABELS}, f"{PSEUDO} --overwrite"),
                "must be empty or hold a run. Got labels of something else"),
    ],
    "Models": [
        refused("Folder without a model",
                Lab({}, "predict {0}/images --model {0}/masks -o {0}/out"), NOT_A_MODEL),
        refused("No config.json", model(None, "config.json"), "It lacks config.json"),
        refused("No weights", model(None, "weights_best.h5"), "It lacks weights"),
        refused("Truncated weights", model(b"\x89HDF\r\n\x1a\n" * 9, "weights_best.h5"),
                NOT_A_MODEL),
        refused("config.json, cut off", model('{"n_rays": 32, ', "config.json"),
                NOT_A_MODEL_CONFIG),
        refused("config.json of another tool",
                model('{"axes": "YXC", "unet_n_depth": 2}', "config.json"), NOT_A_MODEL_CONFIG),
        refused("config.json that asks for 10⁹ rays",
                model('{"n_dim": 2, "n_rays": 1000000000}', "config.json"),
                "n_rays must be at most 1024"),
        warned("Thresholds never set", model(None, "thresholds.json"), "thresholds of"),
        refused("Thresholds that are no numbers", model("[]", "thresholds.json"), NOT_A_MODEL),
        warned("Images of another pixel size",
               Lab({"images/a.tif": MICRON, "images/b.tif": MICRON,
                      "model/run.yaml": "inputs: {pixel_size_um: [0.5, 0.5]}"}, PREDICT),
               "have pixels of another size"),
        refused("Output on the images",
                Lab({}, "predict {0}/images --model {0}/model -o {0}/images"),
                "labels must not replace a file of something else"),
    ],
}  # fmt: skip

HEAD = """\
# Bad input

<!-- Written by `python tests/faults/corpus.py`; do not edit. -->

{total} bad inputs, each made by `tests/faults/corpus.py` and given to the commands by the tests: \
{refused} are refused, {warned} are worked on with a warning, {accepted} are worked on.

- **refused**: one line, exit code 2, and no file is written or changed;
- **warned**: the result is whole, and a warning says so;
- **accepted**: the result is whole; the last column says what is done.
"""


def as_page() -> str:
    """The table as a page of the docs."""
    counts = Counter(bad.outcome for group in CORPUS.values() for bad in group)
    page = HEAD.format(total=counts.total(), **counts)
    for group, inputs in CORPUS.items():
        page += f"\n## {group}\n\n| input | outcome | message or treatment |\n|---|---|---|\n"
        for bad in inputs:
            said = bad.says.replace("\x1b", "\\x1b").replace("|", "\\|")
            said = said if bad.outcome == "accepted" else f"“… {said} …”"
            page += f"| {bad.title} | {bad.outcome} | {said} |\n"
    return page


if __name__ == "__main__":
    page = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
    page.write_text(as_page(), encoding="utf-8")
