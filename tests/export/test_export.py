"""Models in other formats: run by the programs that read these, compared with Keras."""

import hashlib
import importlib.util
import io
import json
import re
import zipfile
from dataclasses import replace

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import discs_scene
from small_models import N_RAYS, small_model, write_model
from stardist.models import StarDist2D
from tensorflow.core.protobuf import saved_model_pb2

from oce2stardist import export_model
from oce2stardist.errors import InputError
from oce2stardist.export import Facts, describe_package, write_readme
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.stardist_model.convert import run_network, run_onnx, write_onnx
from oce2stardist.stardist_model.network import open_model
from oce2stardist.stardist_model.onnx_graph import make_onnx
from oce2stardist.stardist_model.predict import predict_labels

FACTS = Facts("nuclei", 2, N_RAYS, (2, 2), 16, 0.45, 0.3, pixel_size=(0.5, 0.25))
FILES = ("README.md", "test_input.npy", "test_output.npy", "weights.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with weights as initialised: what it finds is nonsense, but not constant."""
    return write_model(tmp_path_factory.mktemp("models") / "nuclei", prob=0.5, nms=0.3)


def scene(shape=(96, 112)):
    image, _ = discs_scene(4, shape, 8, seed=0)
    return image[..., None]


def keras_output(folder, image):
    prob, dist = open_model(folder).keras_model([image[None]], training=False)
    return np.asarray(prob), np.asarray(dist)


# --- what is said about a model


def test_the_metadata_of_a_model_are_json():
    metadata = {name: json.loads(value) for name, value in FACTS.metadata(axes="BCYX").items()}
    assert metadata["axes"] == "BCYX"
    assert metadata["percentiles"] == [1, 99.8]
    assert metadata["grid"] == [2, 2]
    assert (metadata["prob_thresh"], metadata["nms_thresh"]) == (0.45, 0.3)
    assert metadata["n_rays"] == N_RAYS
    assert metadata["pixel_size_um"] == [0.5, 0.25]


@pytest.mark.parametrize("to", ["onnx", "savedmodel", "bioimageio"])
def test_read_me_files_name_thresholds_percentiles_and_pixel_size(to):
    text = write_readme(to, FACTS, file="nuclei.onnx")
    for said in ("0.45", "0.3", "99.8", "0.5 × 0.25 µm"):
        assert said in text


def test_read_me_files_say_how_each_program_is_given_the_scale():
    half = replace(FACTS, scale=0.5, working_diameter=28.0)
    assert "28 / their median diameter in pixels" in write_readme("onnx", half)
    # QuPath's pixels are the mean of height and width; those of the network are twice as large.
    assert "def pixelSize = 0.75 " in write_readme("onnx", half)
    unknown = write_readme("onnx", replace(half, pixel_size=None))
    assert "getAveragedPixelSize() / 0.5\n" in unknown
    assert "with 0.5 for X and Y" in write_readme("savedmodel", half)
    assert "for X and Y" not in write_readme("savedmodel", FACTS)
    own = write_readme("onnx", replace(half, scale=1.0, per_image=True))
    assert "every image has its own" in own


def test_a_package_is_described_in_the_fields_of_the_specification():
    """The fields of bioimage.io model 0.5; bioimageio.spec itself fails in pydantic 2.14."""
    files = dict.fromkeys((*FILES, "config.json", "weights_best.h5"), "0" * 64)
    description = describe_package(
        FACTS, stardist_config={"n_rays": 8}, files=files, opset=17, authors=["A. Person"]
    )
    assert yaml.safe_load(yaml.safe_dump(description)) == description
    assert "&id" not in yaml.safe_dump(description)
    assert description["format_version"].startswith("0.5.")
    assert re.fullmatch(r"[A-Za-z0-9_+\- ()]{5,64}", description["name"])
    (given,), (made,) = description["inputs"], description["outputs"]
    assert [axis.get("id", axis["type"]) for axis in given["axes"]] == ["batch", *"yx", "channel"]
    assert given["axes"][1]["size"] == {"min": 64, "step": 16}
    assert given["preprocessing"][0]["kwargs"]["max_percentile"] == 99.8
    # Size of the output = size of the input * its scale / own scale.
    assert [axis["scale"] for axis in given["axes"][1:3]] == [0.5, 0.25]
    assert [axis["scale"] for axis in made["axes"][1:3]] == [1.0, 0.5]
    assert len(made["axes"][3]["channel_names"]) == 1 + N_RAYS
    assert description["weights"]["onnx"]["opset_version"] == 17
    attached = [one["source"] for one in description["attachments"]]
    assert attached == ["config.json", "weights_best.h5"]
    assert description["config"]["stardist"]["thresholds"] == {"prob": 0.45, "nms": 0.3}


# --- exports


NETWORKS = [
    {"grid": 1, "channels": 2, "batch_norm": False},
    {"grid": 4, "batch_norm": True},
    {"blocks": "paper", "batch_norm": True},
]


@pytest.mark.parametrize("changes", NETWORKS, ids=["two channels", "grid 4", "paper's blocks"])
def test_onnx_has_channels_in_front_and_no_node_that_opencv_misreads(tmp_path, changes):
    """benchmarks/open_exports.py opens such files with OpenCV."""
    model = small_model(tmp_path / "m", **changes)
    normalised = [one for one in model.keras_model.layers if "BatchNorm" in type(one).__name__]
    for index, layer in enumerate(normalised):
        rng = np.random.default_rng(index)
        layer.set_weights([0.5 + rng.random(one.shape) for one in layer.get_weights()])
    write_onnx(tmp_path / "m.onnx", model, layout="split", metadata={})
    made = onnx.load(tmp_path / "m.onnx")
    assert {node.op_type for node in made.graph.node} <= {
        *("Conv", "Relu", "Sigmoid", "BatchNormalization", "MaxPool", "Resize", "Concat")
    }
    (given,) = made.graph.input
    sides = [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim]
    channels = changes.get("channels", 1)
    assert sides == ["batch", channels, "height", "width"]
    side = 2 * model.multiple
    image = np.random.default_rng(0).random((side, 3 * side, channels), np.float32)
    for output, wanted in zip(
        run_onnx(tmp_path / "m.onnx", image), run_network(model, image), strict=True
    ):
        np.testing.assert_allclose(output, wanted, atol=1e-5)


def test_a_layer_that_cannot_be_written_as_onnx_is_named():
    image = keras.Input((None, None, 1), name="input")
    layer = keras.layers.AveragePooling2D(2, name="middle")(image)
    prob, dist = (keras.layers.Conv2D(n, 1)(layer) for n in (1, 8))
    with pytest.raises(InputError, match=r"Got the layer middle \(AveragePooling2D\); export to"):
        make_onnx(keras.Model(image, [prob, dist]), grid=(2, 2), joined=False)
    layer = keras.layers.Conv2D(4, 1, activation="gelu", name="curved")(image)
    prob, dist = (keras.layers.Conv2D(n, 1)(layer) for n in (1, 8))
    with pytest.raises(InputError, match="Got the layer curved"):
        make_onnx(keras.Model(image, [prob, dist]), grid=(1, 1), joined=False)


def test_onnx_gives_the_output_of_keras_at_every_size(folder, tmp_path):
    exported = export_model(folder, tmp_path, to="onnx", pixel_size=0.5)
    assert exported.difference < 1e-4
    assert [path.name for path in exported.files] == ["nuclei.onnx", "nuclei.onnx.README.md"]
    session = onnxruntime.InferenceSession(tmp_path / "nuclei.onnx")
    for shape in ((64, 64), (96, 112), (160, 80)):
        image = normalise_percentiles(scene(shape))
        for made, expected in zip(
            session.run(["prob", "dist"], {"input": image.transpose(2, 0, 1)[None]}),
            keras_output(folder, image),
            strict=True,
        ):
            np.testing.assert_allclose(made.transpose(0, 2, 3, 1), expected, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["pixel_size_um"]) == [0.5, 0.5]

    # The code of the README finds the labels that we predict, on sides it has to fill up.
    code = re.search(r"```python\n(.*?)```", exported.files[1].read_text(), re.DOTALL)[1]
    image = scene((90, 101))
    names = {"image": image}
    exec(code.replace("nuclei.onnx", str(tmp_path / "nuclei.onnx")), names)
    expected = predict_labels(open_model(folder), normalise_percentiles(image))
    assert names["labels"].shape == expected.shape
    assert (names["labels"] == expected).mean() > 0.99


@pytest.mark.slow
def test_a_saved_model_is_as_large_as_its_input_with_zeros_between_grid_points(folder, tmp_path):
    exported = export_model(folder, tmp_path, to="savedmodel")
    with zipfile.ZipFile(exported.files[0]) as archive:
        archive.extractall(tmp_path / "unzipped")
    image = normalise_percentiles(scene())
    loaded = tf.saved_model.load(str(tmp_path / "unzipped"))
    (made,) = loaded.signatures["serving_default"](tf.constant(image[None])).values()
    prob, dist = keras_output(folder, image)
    expected = np.zeros((1, 96, 112, 1 + N_RAYS), np.float32)
    expected[:, ::2, ::2, :1] = prob
    expected[..., 1:] = dist.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(made, expected, atol=1e-4)

    # TensorFlow 1 knows neither resources as they are today nor new attributes of its operations;
    # benchmarks/open_exports.py opens such files with it.
    stored = saved_model_pb2.SavedModel()
    stored.ParseFromString((tmp_path / "unzipped" / "saved_model.pb").read_bytes())
    (graph,) = stored.meta_graphs
    assert list(graph.meta_info_def.tags) == ["serve"]
    assert graph.meta_info_def.stripped_default_attrs
    assert not graph.graph_def.library.function
    operations = {node.op for node in graph.graph_def.node}
    assert "Const" in operations
    assert not {one for one in operations if "Var" in one or "Call" in one or "Resource" in one}


def test_plain_stardist_opens_the_zip_of_the_folder(folder, tmp_path):
    exported = export_model(folder, tmp_path / "out", to="stardist")
    assert exported.difference == 0
    with zipfile.ZipFile(exported.files[0]) as archive:
        archive.extractall(tmp_path)
    model = StarDist2D(None, name="nuclei", basedir=str(tmp_path))
    image = normalise_percentiles(scene())
    made = model.keras_model([image[None]], training=False)
    np.testing.assert_allclose(made[0], keras_output(folder, image)[0], atol=1e-6)


@pytest.mark.slow
def test_a_bioimageio_package_holds_what_it_describes(folder, tmp_path, monkeypatch):
    """Without the test of bioimageio.core, which fails in pydantic 2.14: see pyproject.toml."""
    tested = []
    monkeypatch.setattr("oce2stardist.export.model._check_packages", lambda to: None)
    monkeypatch.setattr("oce2stardist.export.model._test_package", tested.append)
    (package,) = export_model(folder, tmp_path, to="bioimageio", authors=["A. Person"]).files
    assert len(tested) == 1
    with zipfile.ZipFile(package) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    description = yaml.safe_load(held.pop("rdf.yaml"))
    (given,), (made,) = description["inputs"], description["outputs"]
    described = [
        *(given["test_tensor"], made["test_tensor"], description["documentation"]),
        *(description["weights"]["onnx"], *description["attachments"]),
    ]
    assert {one["source"]: one["sha256"] for one in described} == {
        name: hashlib.sha256(content).hexdigest() for name, content in held.items()
    }
    image, expected = (
        np.load(io.BytesIO(held[f"test_{name}.npy"])) for name in ("input", "output")
    )
    session = onnxruntime.InferenceSession(held["weights.onnx"])
    (output,) = session.run(None, {"input": normalise_percentiles(image[0])[None]})
    np.testing.assert_allclose(output, expected, atol=1e-4)


# --- when it fails


def test_an_output_unlike_the_models_is_one_line_and_leaves_nothing(folder, tmp_path, monkeypatch):
    changed = [np.full((128, 128, 1), 0.1), np.zeros((128, 128, N_RAYS))]
    monkeypatch.setattr("oce2stardist.stardist_model.convert.write_saved_model", lambda *_, **__: 0)
    monkeypatch.setattr(
        "oce2stardist.stardist_model.convert.run_saved_model", lambda *_, **__: changed
    )
    command = ["export", str(folder), "--to", "savedmodel", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert re.match(r"Error: the savedmodel file must give .* Got a difference of ", result.output)
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_the_command_for_it(folder, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )
    with pytest.raises(InputError, match=r"Got no onnx; pip install 'oce2stardist\[export\]'"):
        export_model(folder, tmp_path / "out", to="onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"to": "tflite"}, "Got 'tflite'"),
        ({"to": "stardist", "pixel_size": 0.0}, "Got 0; measure it"),
        ({"to": "stardist", "image": "nowhere.tif"}, r"nowhere\.tif"),
    ],
)
def test_unusable_options_are_named(folder, tmp_path, options, got):
    with pytest.raises(InputError, match=got):
        export_model(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_takes_the_others_with_it(folder, tmp_path, monkeypatch):
    from oce2stardist.export import model as export

    write = export.write_bytes

    def fail(path, content):
        if path.name.endswith("README.md"):
            raise OSError("disk full")
        write(path, content)

    monkeypatch.setattr(export, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        export._place({"a.onnx": b"1", "a.README.md": b"2"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_with_an_axis_too_many_is_not_the_model_s():
    from oce2stardist.export.model import _compare

    prob, dist = np.zeros((4, 4, 1)), np.ones((4, 4, 8))
    assert _compare([prob, dist], [prob, dist], grid=(1, 1)) == 0
    assert np.isnan(_compare([prob[None], dist], [prob, dist], grid=(1, 1)))
