"""Every preset, and several channels, through all stages."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scenes import discs_scene

from oce2stardist import (
    Config,
    evaluate_folders,
    finetune_stardist,
    make_pseudo_labels,
    predict_images,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PRESETS = [CONFIGS / f"{name}.yaml" for name in ("fast", "quick", "paper")]

FEW_STEPS = {
    "embedding.steps": 2,
    "embedding.crop_size": 60,
    "embedding.batch_size": 1,
    "embedding.copies": 2,
    "stardist.steps": 2,
    "stardist.patch_size": 64,
    "stardist.batch_size": 2,
    "stardist.folds": 0,
}

NARROW = {"embedding.feature_maps": 16, "stardist.width": 16}  # the drawn start has its own width


def write_scene(folder, *, n_cells=6, shape=(96, 110), channels=0):
    image, truth = discs_scene(n_cells, shape, 12, seed=0)
    if channels:
        image = np.stack([image * (1 + channel) for channel in range(channels)])
    for name, array in (("images", image), ("truth", truth)):
        (folder / name).mkdir(exist_ok=True)
        axes = "CYX" if array.ndim == 3 else "YX"
        tifffile.imwrite(folder / name / "scene.ome.tif", array, metadata={"axes": axes})


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_leads_from_images_to_scores(path, tmp_path):
    # Small: the paper's clustering takes a minute where nothing was learned yet.
    write_scene(tmp_path, n_cells=3, shape=(72, 80))
    config = Config.from_yaml(path).replace(**FEW_STEPS)
    if path.stem == "paper":
        config = config.replace(**NARROW)
    make_pseudo_labels(tmp_path / "images", tmp_path / "run", config=config, diameter=24)
    finetune_stardist(
        tmp_path / "images",
        tmp_path / "model",
        annotations=tmp_path / "truth",
        pseudo=tmp_path / "run",
        config=config,
    )
    predict_images(tmp_path / "images", tmp_path / "out", model=tmp_path / "model")
    assert evaluate_folders(tmp_path / "out", tmp_path / "truth").pooled.n_true == 3


@pytest.mark.slow
def test_channels_and_scale_go_through_all_stages(tmp_path):
    write_scene(tmp_path, channels=2)
    config = Config().replace(**FEW_STEPS)
    result = make_pseudo_labels(
        tmp_path / "images", tmp_path / "run", config=config, annotations=tmp_path / "truth"
    )
    # Discs of radius 12 are brought from 24 to 28 pixels, labels back to the original size.
    assert result.parameters["scale"]["value"] == pytest.approx(28 / 24, rel=0.05)
    assert result.labels["scene"].shape == (96, 110)
    model = finetune_stardist(
        tmp_path / "images",
        tmp_path / "model",
        annotations=tmp_path / "truth",
        config=config.replace(**{"stardist.alpha": 0.0}),
    ).model
    predicted = predict_images(tmp_path / "images", tmp_path / "out", model=model)
    assert predicted["scene"].shape == (96, 110)
    assert predicted["scene"].dtype == np.int32
