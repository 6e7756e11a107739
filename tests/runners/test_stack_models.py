"""A StarDist3D model from files to files: outlined planes, pseudo labels, finetune, predict."""

import json

import numpy as np
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import disc

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.label_files import read_labels, write_labels
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.images.stacks import Reading, read_stacks
from oce2stardist.runners.finetune import finetune_stardist
from oce2stardist.runners.merge import merge_run
from oce2stardist.runners.predict import predict_images

SHAPE = (16, 40, 40)
SMALL = {
    "stardist.width": 4, "stardist.features": 8, "stardist.n_rays": 16, "stardist.patch_planes": 8,
    "stardist.patch_size": 32, "stardist.batch_size": 2, "stardist.steps": 4, "stardist.checks": 1,
    "stardist.grid": 2,
}  # fmt: skip


def balls():
    labels = np.zeros(SHAPE, np.int32)
    for number, place in enumerate([(8, 10, 10), (8, 10, 29), (8, 29, 10), (8, 29, 29)], 1):
        labels[disc(SHAPE, place, 6)] = number
    return labels


@pytest.fixture
def files(tmp_path):
    """A stack of four balls with its voxel size, plane 8 outlined, and pseudo labels."""
    (tmp_path / "stacks").mkdir()
    rng = np.random.default_rng(0)
    pixels = 100 * (balls() > 0) + 10 * rng.standard_normal(SHAPE) + 50
    tifffile.imwrite(
        tmp_path / "stacks" / "a.tif", pixels.clip(0).astype(np.uint16), imagej=True,
        resolution=(2, 2), metadata={"axes": "ZYX", "spacing": 0.5, "unit": "um"},
    )  # fmt: skip
    write_labels(tmp_path / "planes" / "a_z008.tif", balls()[8])
    labels = tmp_path / "run" / "pseudo" / "labels"
    write_labels(labels / "a.tif", balls())
    return tmp_path


def write_config(path, **changes):
    path.write_text(yaml.safe_dump(Config().replace(**(SMALL | changes)).model_dump(mode="json")))
    return path


def run_command(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def finetune(files, **options):
    settings = {
        "annotations": files / "planes",
        "pseudo": files / "run",
        "config": Config().replace(**SMALL),
    } | options
    return finetune_stardist(files / "stacks", files / "model", **settings)


def test_the_commands_train_on_a_plane_predict_a_stack_and_plain_stardist_agrees(files):
    from stardist.models import StarDist3D

    (files / "run" / "pseudo" / "stage.yaml").write_text("finished: true\n")
    config = write_config(files / "small.yaml")
    code, said = run_command(
        "finetune", files / "stacks", "--annotations", files / "planes", "--pseudo", files / "run",
        "-o", files / "model", "--config", config, "--zero", "background", "--json",
    )  # fmt: skip
    assert code == 0, said
    told = json.loads(said.splitlines()[-1] if said.splitlines()[-1][0] == "{" else said)
    assert told["report"] is None and told["parameters"]["alpha"]["value"] == 0.5
    training = files / "model" / "training"
    assert np.array_equal(read_labels(training / "pseudo" / "a.tif") > 0, balls() > 0)
    sparse = read_labels(training / "sparse" / "a.tif")
    assert np.flatnonzero((sparse > -1).any(axis=(1, 2))).tolist() == [8]
    # the weights of a few steps find anything or nothing: a low threshold makes them find much
    (files / "model" / "thresholds.json").write_text('{"prob": 0.45, "nms": 0.3}')
    code, said = run_command(
        "predict", files / "stacks", "--model", files / "model", "-o", files / "out"
    )
    assert code == 0, said
    found = read_labels(files / "out" / "a.tif")
    plain = StarDist3D(None, name="model", basedir=str(files))
    stack = read_stacks(files / "stacks", Reading(None, None)).images["a"]
    low, high = np.percentile(stack, [1, 99.8])
    scale = json.loads((files / "model" / "scale.json").read_text())["scale"]
    theirs, _ = plain.predict_instances(
        ((stack - low) / (high - low)).astype(np.float32),
        axes="ZYXC",
        scale=None if scale == [1, 1, 1] else (*scale, 1),
    )
    assert np.array_equal(found > 0, theirs > 0)
    # the same command again says that it is finished
    again = finetune_stardist(
        files / "stacks", files / "model", annotations=files / "planes", pseudo=files / "run",
        config=Config().replace(**SMALL), overwrite=True,
    )  # fmt: skip
    assert again.report is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pseudo": None}, "how far cells reach along z; pseudo labels do. Got no --pseudo"),
        ({"config": Config().replace(**SMALL, **{"stardist.alpha": 0.0})}, "Got --alpha 0"),
        ({"pseudo": None, "annotations": None}, "annotations, pseudo labels or both"),
        (
            {"pseudo": None, "config": Config().replace(**{"stardist.alpha": 0.3})},
            "alpha 0.3 needs",
        ),
        ({"init": "drawn"}, "--init does not work on stacks yet"),
        (
            {"config": Config().replace(**{"stardist.start_share": 0.5})},
            "start_share does not work on stacks yet",
        ),
        (
            {"config": Config().replace(**{"stardist.how_many_more": True})},
            "how_many_more does not work on stacks yet",
        ),
        ({"config": Config().replace(**{"stardist.rounds": 2})}, "rounds does not work on stacks"),
        ({"config": Config().replace(**{"stardist.folds": 3})}, "folds does not work on stacks"),
        ({"config": Config().replace(**{"stardist.n_rays": 8})}, "at least 16 for stacks. Got 8"),
        ({"config": Config().replace(**{"stardist.blocks": "paper"})}, "blocks does not work"),
    ],
)
def test_what_does_not_work_on_stacks_is_refused_before_anything_is_written(
    files, options, message
):
    (files / "run" / "pseudo" / "stage.yaml").write_text("finished: true\n")
    with pytest.raises(InputError, match=message):
        finetune(files, **options)
    assert not (files / "model").exists()


def test_stacks_need_a_model_of_stacks_and_images_one_of_images(files, tmp_path):
    from oce2stardist.stardist_model.checkpoint import write_weights
    from oce2stardist.stardist_model.network import create_model, open_model
    from oce2stardist.stardist_model.volume_network import create_volume_model

    settings = Config().replace(**SMALL).stardist
    flat = create_model(tmp_path / "flat", settings, channels=1, seed=0)
    deep = create_volume_model(
        tmp_path / "deep", settings, anisotropy=1.0, channels=1, half_precision=False, seed=0
    )
    for name, model in (("flat", flat), ("deep", deep)):
        write_weights(tmp_path / name / "weights_best.h5", model)
    with pytest.raises(InputError, match="StarDist3D model"):
        predict_images(files / "stacks", model=tmp_path / "flat")
    with pytest.raises(InputError, match="StarDist2D model"):
        open_model(tmp_path / "deep")
    with pytest.raises(InputError, match=r"labels can be written\. Got csv, rois"):
        predict_images(files / "stacks", model=tmp_path / "deep", write="labels,csv,rois")
    with pytest.raises(InputError, match="--diameter does not work on stacks"):
        predict_images(files / "stacks", model=tmp_path / "deep", diameter=12)
    sizes = {"a": VoxelSize(1, 1, 1)}
    two = ImageSet({}, {"a": np.zeros((8, 16, 16, 2), np.float32)}, voxel_sizes=sizes)
    with pytest.raises(InputError, match=r"the model's 1 channels\. Got 2"):
        predict_images(two, model=tmp_path / "deep")
    (tmp_path / "out").mkdir()
    tifffile.imwrite(tmp_path / "out" / "a.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="must not replace a file of something else"):
        predict_images(files / "stacks", tmp_path / "out", model=tmp_path / "deep")


def test_merge_refuses_stacks_and_says_what_merges_them(files):
    with pytest.raises(InputError, match=r"Got pseudo labels of the stack a"):
        merge_run(files / "run", files / "planes")


def test_images_without_planes_take_no_voxel_size(files):
    tifffile.imwrite(files / "flat.tif", np.zeros((40, 40), np.uint8))
    for call in (finetune_stardist, predict_images):
        with pytest.raises(InputError, match="--voxel-size is for stacks"):
            call(
                files / "flat.tif",
                files / "o",
                voxel_size=VoxelSize(1, 1, 1),
                **(
                    {"model": files}
                    if call is predict_images
                    else {"annotations": files / "planes"}
                ),
            )
