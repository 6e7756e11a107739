"""Drawn inputs: readers read or refuse; merge, metrics and configs keep their promises."""

import json

import numpy as np
import pytest
import yaml
from fuzz import SEEDS, check, draw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import score_image
from oce2stardist.images.read import read_image
from oce2stardist.training_labels.merge import merge_annotations

# Slow is the machine, not the drawing; and the same inputs each time.
bounded = settings(
    derandomize=True,
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", SEEDS)
def test_a_changed_file_is_read_or_refused(name, tmp_path):
    assert check(name, SEEDS[name][2](), tmp_path) == "read"
    ends = [check(name, draw(name, seed), tmp_path) for seed in range(40)]
    assert "refused" in ends  # the changes are no mere cosmetics


def test_a_category_that_is_no_number_is_refused(tmp_path):
    """Found by the test above: a list can't be looked up among categories."""
    document = json.loads(SEEDS["coco"][2]())
    document["annotations"][0]["category_id"] = []
    assert check("coco", json.dumps(document).encode(), tmp_path) == "refused"


def test_a_png_with_a_wrong_checksum_is_refused(tmp_path):
    """Found by the longer run: the decoder remarks it on its own and goes on with what it has."""
    data = bytearray(SEEDS["png"][2]())
    at = data.index(b"IDAT") + 400
    data[at] ^= 1
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match="the checksum of its IDAT is wrong"):
        read_image(path)
    path.write_bytes(SEEDS["png"][2]()[:-12])
    with pytest.raises(InputError, match="ends before its last chunk"):
        read_image(path)


def test_a_smooth_outline_with_a_point_that_is_no_number_is_refused(tmp_path):
    """Found by atheris: a curve can't be drawn through it."""
    roi = ImagejRoi.frompoints(np.array([[5, 5], [30, 5], [28, 25], [5, 30]], np.float32))
    roi.roitype, roi.options = ROI_TYPE.POLYGON, roi.options | ROI_OPTIONS.SPLINE_FIT
    roi.subpixel_coordinates[2, 0] = np.nan
    path = tmp_path / "a.roi"
    path.write_bytes(roi.tobytes())
    with pytest.raises(InputError, match="must have finite coordinates"):
        SEEDS["roi"][1](path)


@st.composite
def label_pairs(draw):
    """Two label images of one shape: pseudo labels, and annotations with unknown pixels."""
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
    pseudo = draw(arrays(np.int32, shape, elements=st.integers(0, 5)))
    known = draw(arrays(np.int32, shape, elements=st.integers(-1, 4)))
    return pseudo, known


@bounded
@given(label_pairs(), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 3.0]))
def test_merging_keeps_every_annotated_pixel(pair, overlap, distance):
    pseudo, known = pair
    merged = merge_annotations(pseudo, known, background_distance=distance, overlap=overlap)
    cells = known > 0
    for ids in (merged.pseudo, merged.sparse):
        np.testing.assert_array_equal(ids[cells], known[cells])
    assert (merged.pseudo[known == 0] <= 0).all()
    own = set(np.unique(known[cells]).tolist())
    assert not own & set(np.unique(merged.pseudo[~cells]).tolist())


@bounded
@given(label_pairs(), st.floats(0.1, 1.0), st.integers(1, 1000))
def test_scores_stay_in_range_and_do_not_know_the_numbering(pair, iou, offset):
    predicted, truth = pair[0], np.maximum(pair[1], 0)
    score = score_image(predicted, truth, iou_threshold=iou)
    assert 0 <= score.f1 <= 1
    assert np.isnan(score.seg) or 0 <= score.seg <= 1
    renumbered = np.where(predicted > 0, predicted.max() - predicted + offset, 0)
    again = score_image(renumbered.astype(np.int32), truth, iou_threshold=iou)
    np.testing.assert_equal((again.f1, again.seg), (score.f1, score.seg))
    assert score_image(truth, truth, iou_threshold=iou).f1 == 1.0


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a: b", "é"])
)
odd_keys = st.sampled_from(["", "steps", "x.y"])
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(odd_keys, scalars, max_size=2)
sections = st.sampled_from(["embedding", "pseudo", "merge", "stardist"])
keys = st.sampled_from(
    [
        key
        for section in Config().model_dump().values()
        if isinstance(section, dict)
        for key in section
    ]
)


@bounded
@given(st.dictionaries(sections, st.dictionaries(keys, values, max_size=3) | values, max_size=2))
def test_a_drawn_config_is_valid_or_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "drawn.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    refusal = None
    try:
        config = Config.from_yaml(path)
    except InputError as error:
        refusal = str(error)
    if refusal is None:
        path.write_text(config.to_yaml(), encoding="utf-8")
        assert Config.from_yaml(path) == config
    else:
        assert "drawn.yaml" in refusal and len(refusal) < 1000
