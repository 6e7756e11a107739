"""Images zoomed to the size of cells that a network knows, polygons brought back."""

import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import discs_scene
from scipy import ndimage as ndi
from small_models import FINETUNING, write_model
from stardist.models import StarDist2D

from oce2stardist import finetune_stardist, predict_images
from oce2stardist.config import StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.images.blocks import BlockGrid
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.pixel_size import PixelSize
from oce2stardist.labels import rescale_labels
from oce2stardist.stardist_model.network import open_model
from oce2stardist.stardist_model.predict import find_scale
from oce2stardist.stardist_model.scale import (
    ModelScale,
    choose_scale,
    choose_scale_for,
    read_scale,
    warn_of_large_cells,
    write_scale,
    zoom_image,
    zoom_labels,
    zoom_window,
    zoomed_core,
    zoomed_shape,
)

FACTORS = [0.254, 0.7, 1.0, 2.8]


def disc(shape, centre, radius):
    y, x = np.indices(shape)
    return (np.hypot(y - centre[0], x - centre[1]) <= radius).astype(np.int32)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


# --- zooming


@pytest.mark.parametrize("factor", FACTORS)
def test_windows_of_an_image_are_zoomed_as_the_whole_image_is(factor):
    image = np.random.default_rng(0).random((61, 83, 2), dtype=np.float32)
    zoomed = zoom_image(image, factor)
    assert zoomed.shape[:2] == zoomed_shape(image.shape, factor)
    for block in BlockGrid(zoomed.shape[:2], 17):
        window = zoom_window(image.__getitem__, block.core, image.shape[:2], factor)
        np.testing.assert_allclose(window, zoomed[block.core], atol=1e-6)


@pytest.mark.parametrize("factor", FACTORS)
def test_blocks_of_an_image_share_out_the_zoomed_one(factor):
    hits = np.zeros(zoomed_shape((61, 83), factor), int)
    for block in BlockGrid((61, 83), 16):
        hits[zoomed_core(block.core, (61, 83), factor)] += 1
    assert (hits == 1).all()


@pytest.mark.parametrize(("radius", "side", "least"), [(150, 340, 0.98), (4.5, 20, 0.92)])
def test_a_disc_of_any_size_is_a_disc_at_the_working_diameter(radius, side, least):
    factor = 14 / radius
    labels = zoom_labels(disc((side, side), (side / 2, side / 2), radius), factor)
    # corners stay in the corners: where the centre comes to
    step = (labels.shape[0] - 1) / (side - 1)
    true = disc(labels.shape, (side / 2 * step, side / 2 * step), radius * step)
    assert iou(labels > 0, true > 0) > least


def test_enlarged_outlines_have_no_steps():
    labels = rescale_labels(disc((20, 20), (10, 10), 5), (120, 120))
    smooth = ndi.binary_opening(ndi.binary_closing(labels > 0, iterations=2), iterations=2)
    assert (smooth != (labels > 0)).sum() < 0.01 * labels.sum()


def test_what_is_unlabelled_stays_so_and_ids_stay():
    labels = np.full((40, 40), -1, np.int32)
    labels[5:20, 5:20] = 0
    labels[8:16, 8:16] = 70_000
    zoomed = rescale_labels(labels, (100, 100))
    assert set(np.unique(zoomed)) == {-1, 0, 70_000}
    assert zoomed[30, 30] == 70_000 and zoomed[15, 30] == 0 and zoomed[80, 80] == -1
    assert rescale_labels(labels, (1, 1)).shape == (1, 1)


# --- which scale


def two_sizes():
    """Small cells 1 and 2 and large ones 3 and 4."""
    centres = {1: (12, 12), 2: (12, 40), 3: (50, 22), 4: (50, 70)}
    labels = np.zeros((90, 100), np.int32)
    for label, centre in centres.items():
        labels[disc(labels.shape, centre, 7 if label < 3 else 14) > 0] = label
    return {"a": labels}


def chosen(ids=(), pseudo=None, init=None, **settings):
    """The scale chosen for `two_sizes`, of which some cells are used."""
    config = StarDistConfig(**settings)
    return choose_scale(config, two_sizes(), {"a": list(ids)}, pseudo or {}, init=init).model


def test_the_annotated_cells_that_are_used_tell_the_scale():
    scale = chosen([1, 2])
    assert scale.factor == pytest.approx(2, rel=0.03)
    assert "annotated cells have a median diameter of 13.77 px" in scale.reason
    assert chosen([3, 4]).factor == 1
    labels = two_sizes()["a"]
    scale = chosen(pseudo={"a": np.where(labels < 3, labels, 0)})
    assert scale.factor == pytest.approx(2, rel=0.03) and "pseudo objects" in scale.reason


def test_without_a_working_diameter_images_stay_as_they_are():
    assert chosen([1], working_diameter=None).factor == 1


def test_a_model_to_start_from_keeps_its_scale(tmp_path):
    scale = chosen([1], init=tmp_path)
    assert scale.factor == 1 and scale.working_diameter is None
    write_scale(tmp_path, ModelScale(0.5, 56.0, "by hand"))
    scale = chosen([1], init=tmp_path)
    assert scale.factor == pytest.approx(4, rel=0.03) and scale.working_diameter == 56


def test_cells_larger_than_what_the_network_sees_are_warned_of(tmp_path):
    """Discs 268 px wide are zoomed to 28 px unless nothing says to what size."""
    labels = {"a": disc((300, 300), (150, 150), 134)}
    for settings, init, warned in (
        ({}, None, False),
        ({"working_diameter": None}, None, True),
        ({}, tmp_path, True),  # of plain stardist
    ):
        scale = choose_scale(StarDistConfig(**settings), labels, {"a": [1]}, {}, init=init)
        told = warn_of_large_cells(scale, labels, {}, patch_size=96)
        assert [line.startswith("the median cell is 268 px wide where") for line in told] == (
            [True] if warned else []
        )
    assert "make the images 10 times smaller" in told[0]


def test_images_whose_cells_differ_have_a_scale_each():
    radii = {f"image{index}": radius for index, radius in enumerate((4, 7, 7, 14, 21, 28))}
    pseudo = {
        name: discs_scene(6, (13 * radius, 13 * radius), radius, seed=0)[1].astype(np.int32)
        for name, radius in radii.items()
    }
    scale = choose_scale(StarDistConfig(), {}, {}, pseudo, init=None)
    assert scale.model.per_image
    for name, radius in radii.items():
        assert scale.of(name) == pytest.approx(14 / radius, rel=0.08)
    assert scale.of("unknown") == scale.model.factor
    alike = choose_scale(
        StarDistConfig(), {}, {}, dict.fromkeys(radii, pseudo["image1"]), init=None
    )
    assert not alike.model.per_image and alike.of("image5") == alike.model.factor


def test_other_pixels_or_a_diameter_change_the_scale(tmp_path):
    write_scale(tmp_path, ModelScale(0.5, 28.0, "by hand"))
    (tmp_path / "run.yaml").write_text("inputs: {pixel_size_um: [0.2, 0.2]}")
    half, unknown = PixelSize(0.1, 0.1), None
    assert choose_scale_for(tmp_path, unknown, None).factor == 0.5
    assert choose_scale_for(tmp_path, half, None).factor == 0.25  # cells look twice as large
    assert choose_scale_for(tmp_path, half, 14.0).factor == 2.0


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"scale": 0}', '{"scale": "a", "working_diameter": 1}', "[" * 9999]
)
def test_a_broken_scale_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "scale.json").write_text(content)
    with pytest.raises(InputError, match="two numbers"):
        read_scale(tmp_path)


# --- models


@pytest.mark.parametrize("factor", [0.5, 1.7, 3.0])
def test_plain_stardist_with_scale_gives_the_same_labels(tmp_path, factor):
    folder = write_model(tmp_path / "model", prob=0.4, nms=0.4, longer=6.0)
    write_scale(folder, ModelScale(factor, 28.0, "by hand"))
    image, _ = discs_scene(9, (130, 151), 10, seed=3)
    ours = predict_images(ImageSet.from_arrays({"a": image}), model=folder)["a"]
    assert ours.max() > 3
    plain = StarDist2D(None, name="model", basedir=str(tmp_path))
    seen = normalise_percentiles(np.asarray(image, np.float32)[..., None])
    scale = json.loads((folder / "scale.json").read_text())["scale"]
    np.testing.assert_array_equal(ours, plain.predict_instances(seen, scale=scale)[0])


def test_a_diameter_needs_a_model_that_knows_one(tmp_path):
    folder = write_model(tmp_path / "model", prob=0.4, nms=0.4)
    tifffile.imwrite(tmp_path / "a.tif", discs_scene(5, (80, 80), 10, seed=0)[0])
    command = [
        "predict",
        str(tmp_path / "a.tif"),
        "--model",
        str(folder),
        "-o",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(main, [*command, "--diameter", "20"])
    assert result.exit_code == 2
    assert "scale.json" in result.output and len(result.output.splitlines()) == 1
    for diameter in (0.0, -20.0, 1e-9, float("nan")):
        with pytest.raises(InputError, match="px wide for this model"):
            ModelScale(1.0, 28.0).for_diameter(diameter)


def test_a_scale_is_only_looked_for_where_images_differ(tmp_path):
    folder = write_model(tmp_path / "model", prob=0.999, nms=0.4)
    model, nothing = open_model(folder), np.zeros((96, 96, 1), np.float32)
    assert find_scale(model, nothing, ModelScale(0.5, 28.0)) == 0.5
    # No cell tells it: the set's own stays.
    assert find_scale(model, nothing, ModelScale(0.5, 28.0, per_image=True)) == 0.5


@pytest.mark.usefixtures("without_pages")
def test_a_model_carries_the_scale_of_its_annotated_cells(tmp_path):
    image, truth = discs_scene(6, (180, 180), 18, seed=0)
    images = ImageSet.from_arrays({"a": image})
    config = FINETUNING.replace(**{"stardist.working_diameter": 18.0})
    result = finetune_stardist(
        images, tmp_path / "model", annotations={"a": truth.astype(np.int32)}, config=config
    )
    scale = read_scale(result.model)
    assert scale.factor == pytest.approx(0.5, rel=0.03)
    assert result.parameters["scale"]["value"] == scale.factor
    assert "annotated cells" in result.parameters["scale"]["reason"]
    training = tifffile.imread(tmp_path / "model" / "training" / "sparse" / "a.tif")
    assert training.shape == truth.shape  # what a person looks at has the images' own size
