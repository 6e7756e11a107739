"""Models in other formats: run by the programs that read these, compared with Keras."""

import hashlib
import importlib.util
import io
import json
import re
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from oce2stardist.cli.main import main
from scenes import discs_scene
from stardist.models import StarDist2D

from oce2stardist import export_model
from oce2stardist.config import StarDistConfig
from oce2stardist.errors import InputError
from oce2stardist.export import Facts, describe_package, write_readme
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.stardist_model.checkpoint import write_thresholds, write_weights
from oce2stardist.stardist_model.network import create_model, open_model
from oce2stardist.stardist_model.predict import predict_labels

N_RAYS = 8
FACTS = Facts("nuclei", 2, N_RAYS, (2, 2), 16, 0.45, 0.3, pixel_size=(0.5, 0.25))
FILES = ("README.md", "test_input.npy", "test_output.npy", "weights.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with weights as initialised: what it finds is nonsense, but not constant."""
    path = tmp_path_factory.mktemp("models") / "nuclei"
    model = create_model(
        path,
        StarDistConfig(n_rays=N_RAYS, width=4, features=8, patch_size=64),
        channels=1,
        seed=0,
    )
    write_weights(path / "weights_best.h5", model)
    write_thresholds(path, prob=0.5, nms=0.3)
    return path


def scene(shape=(96, 112)):
    image, _ = discs_scene(4, shape, 8, seed=0)
    return image[..., None]


def keras_output(folder, image):
    prob, dist = open_model(folder).keras_model([image[None]], training=False)
    return np.asarray(prob), np.asarray(dist)


# --- what is said about a model


def test_the_metadata_of_a_model_are_json():
    metadata = {name: json.loads(value) for name, value in FACTS.metadata().items()}
    assert metadata["axes"] == "BYXC"
    assert metadata["percentiles"] == [1, 99.8]
    assert metadata["grid"] == [2, 2]
    assert (metadata["prob_thresh"], metadata["nms_thresh"]) == (0.45, 0.3)
    assert metadata["n_rays"] == N_RAYS
    assert metadata["pixel_size_um"] == [0.5, 0.25]


@pytest.mark.parametrize("to", ["onnx", "savedmodel", "bioimageio"])
def test_read_me_files_name_thresholds_percentiles_and_pixel_size(to):
    text = write_readme(to, FACTS, file="nuclei.onnx", tensorflow="2.21.0")
    for said in ("0.45", "0.3", "99.8", "0.5 × 0.25 µm"):
        assert said in text


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


@pytest.mark.slow
def test_no_output_of_onnx_hangs_on_a_reshape(folder, tmp_path):
    """At the end of a graph tf2onnx now and then forgets the squeeze that its reshapes need."""
    export_model(folder, tmp_path, to="onnx")
    graph = onnx.load(tmp_path / "nuclei.onnx").graph
    maker = {name: node for node in graph.node for name in node.output}
    last = [maker[output.name] for output in graph.output]
    before = [maker[node.input[0]] for node in last]
    assert len(last) == 2
    assert "Reshape" not in [node.op_type for node in (*last, *before)]


def test_onnx_gives_the_output_of_keras_at_every_size(folder, tmp_path):
    exported = export_model(folder, tmp_path, to="onnx", pixel_size=0.5)
    assert exported.difference < 1e-4
    assert [path.name for path in exported.files] == ["nuclei.onnx", "nuclei.onnx.README.md"]
    session = onnxruntime.InferenceSession(tmp_path / "nuclei.onnx")
    for shape in ((64, 64), (96, 112), (160, 80)):
        image = normalise_percentiles(scene(shape))
        for made, expected in zip(
            session.run(["prob", "dist"], {"input": image[None]}),
            keras_output(folder, image),
            strict=True,
        ):
            np.testing.assert_allclose(made, expected, atol=1e-4)
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
        importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find(name)
    )
    with pytest.raises(InputError, match=r"Got no tf2onnx; pip install 'oce2stardist\[export\]'"):
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
