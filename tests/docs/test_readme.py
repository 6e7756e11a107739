"""The README's Python example, run as it stands on a drawn scene."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scenes import discs_scene

import oce2stardist as o2s
from oce2stardist import config
from oce2stardist.runners import finetune, pseudo

README = Path(__file__).resolve().parents[2] / "README.md"

FEW_STEPS = {
    "embedding.steps": 60,
    "embedding.crop_size": 76,
    "embedding.feature_maps": 8,
    "embedding.copies": 2,
    "stardist.steps": 4,
    "stardist.patch_size": 64,
    "stardist.batch_size": 2,
    "stardist.folds": 0,
}


@pytest.mark.slow
def test_ten_lines_of_the_readme_lead_from_images_to_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, seed in (("images", 0), ("new_images", 1)):
        image, truth = discs_scene(9, (128, 144), 12, seed=seed)
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "field1.tif", image)
        if folder == "images":
            outlined = np.where(truth <= 3, truth, -1)
            outlined[truth == 0] = -1
    short = config.Config().replace(**FEW_STEPS)
    for runner in (pseudo, finetune):  # the example's length is for people, not for tests
        monkeypatch.setattr(runner, "Config", lambda: short)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "make_pseudo_labels" in block]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    names = {"outlined": outlined}
    exec(compile(example, str(README), "exec"), names)
    assert names["labels"]["field1"].shape == (128, 144)
    assert set(np.unique(outlined[outlined > 0])) <= set(np.unique(names["merged"].sparse))
    assert o2s.__all__ == sorted(o2s.__all__)
