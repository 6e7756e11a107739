"""Files from strangers are data: they run nothing, lead nowhere, and take bounded memory."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
from contents import IMAGE, roi_zip, zip_bomb
from corpus import image
from labs import find_in_package, make_lab, run

from oce2stardist.errors import InputError
from oce2stardist.files.archives import check_archive

FORBIDDEN = {
    # "rows" is what a docstring tells the user to do once, with a file that they trust
    r"pickle\.(load|Unpickler)|joblib|^(?!\s+rows = ).*allow_pickle=True": "pickle runs code",
    r"(?<![\w.])(eval|exec)\(": "text from files is never code",
    r"yaml\.(load|full_load|unsafe_load)\(": "yaml.safe_load",
    r"torch\.load\((?!.*weights_only=True)": "torch.load without weights_only runs code",
    r"load_model\(|safe_mode=False": "Keras models hold code; only weights are read",
    r"shell=True|os\.system\(": "file names reach no shell",
    r"autoescape=False|\|\s*safe\b|Markup\(": "HTML is escaped",
}


MARKUP = ("<script>alert(1)<script>", "<img src=x onerror=alert(1)>")


class Payload(str):
    """What pickle would run: it makes a file of this name."""

    def __reduce__(self):
        return Path.touch, (Path(self),)


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_the_package_has_nothing_that_runs_what_it_reads(pattern):
    assert find_in_package(pattern) == [], FORBIDDEN[pattern]


def test_a_training_state_that_is_a_pickle_runs_nothing(tmp_path):
    from oce2stardist.embeddings.checkpoint import read_state

    path, target = tmp_path / "state.pt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(InputError, match="which can't be read"):
        read_state(path)
    assert not target.exists()
    pickle.loads(path.read_bytes())  # that it would have run
    assert target.exists()


def test_weights_that_announce_a_network_they_are_not_are_refused(tmp_path):
    from safetensors.torch import save

    from oce2stardist.embeddings.checkpoint import read_weights
    from oce2stardist.embeddings.network import OffsetNetwork

    tensors = OffsetNetwork(channels=1, feature_maps=2, growth=1).state_dict()
    shape = {"channels": 1, "feature_maps": 10**9, "growth": 1}
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save(tensors, metadata={"network": json.dumps(shape)}))
    with pytest.raises(InputError, match=r"said to be .*1000000000"):
        read_weights(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="must hold the weights of an offset network"):
        read_weights(path)


def test_a_report_of_images_with_markup_in_their_names_runs_none(tmp_path):
    lab = make_lab(tmp_path)
    for name in MARKUP:
        command = image(IMAGE, f"{name}.tif").prepare(lab)
    assert run(command).exit_code == 0
    page = (lab / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert not [name for name in MARKUP if name in page]
    assert "&lt;script&gt;alert(1)&lt;script&gt;" in page


def test_a_published_model_that_unpacks_to_too_much_is_refused():
    with zipfile.ZipFile(io.BytesIO(zip_bomb(2000))) as archive:
        check_archive(archive, at_most=2000)
        with pytest.raises(InputError, match=r"at most 1999 bytes unpacked. Got 2000"):
            check_archive(archive, at_most=1999)


@pytest.mark.parametrize("name", ["../evil.h5", "/tmp/evil.h5", "a/../../evil.h5", "c:\\evil.h5"])
def test_a_published_model_with_a_name_that_leads_out_is_refused(name):
    with (
        zipfile.ZipFile(io.BytesIO(roi_zip(name))) as archive,
        pytest.raises(InputError, match="must hold plain file names"),
    ):
        check_archive(archive)
