"""How often a run opens the files that it reads."""

import sys
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import yaml
from small_models import FINETUNING, fields

from oce2stardist.files.digests import digest
from oce2stardist.runners.finetune import finetune_stardist


def test_fine_tuning_opens_each_image_file_once(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    drawn, truth = fields(4)
    *tiffs, png = ((name, np.uint16(1000 * image[..., 0])) for name, image in drawn.images.items())
    half_a_micrometre = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}}
    for name, pixels in tiffs:
        tifffile.imwrite(folder / f"{name}.tif", pixels, **half_a_micrometre)
    (folder / f"{png[0]}.png").write_bytes(imagecodecs.png_encode(png[1]))
    files = sorted(folder.iterdir())
    opened = Counter()

    def count(event, args):  # as long as the process lives, but of this folder alone
        if event == "open" and Path(str(args[0])).parent == folder:
            opened[Path(args[0])] += 1

    sys.addaudithook(count)
    result = finetune_stardist(folder, tmp_path / "model", annotations=truth, config=FINETUNING)
    assert opened == dict.fromkeys(files, 1)
    inputs = yaml.safe_load((result.model / "run.yaml").read_text())["inputs"]
    assert inputs["pixel_size_um"] == [0.5, 0.5]
    assert inputs["sha256"] == digest(files)
