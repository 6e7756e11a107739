"""What of its start stays in a model."""

import numpy as np
import pytest
from small_models import FINETUNING, fields, small_model, write_model

from oce2stardist import finetune_stardist
from oce2stardist.errors import InputError
from oce2stardist.files.records import read_yaml
from oce2stardist.images.image_set import ImageSet
from oce2stardist.stardist_model.blend import Blend, choose_share


@pytest.mark.parametrize(
    ("annotated", "images", "drawn", "share"),
    [(1, 4, True, 0.5), (2, 4, True, 0.0), (0, 4, True, 0.0), (1, 4, False, 0.0)],
)
def test_half_of_the_drawn_start_stays_where_few_of_the_images_are_annotated(
    annotated, images, drawn, share
):
    facts = {"n_annotated": annotated, "n_images": images, "begins_drawn": drawn}
    assert choose_share("auto", **facts) == share
    assert choose_share(0.25, **facts) == 0.25


def test_what_is_judged_and_kept_is_the_blend_and_training_goes_on_from_its_own(tmp_path):
    model = small_model(tmp_path / "model")
    trained = [weight + 1 for weight in model.keras_model.get_weights()]
    start = [np.zeros_like(weight) for weight in trained]
    model.keras_model.set_weights(trained)
    seen = Blend(start, 0.25).applied(lambda blended: blended.keras_model.get_weights())(model)
    for ours, theirs, now in zip(seen, trained, model.keras_model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, 0.75 * theirs, rtol=1e-6)
        np.testing.assert_array_equal(now, theirs)


def test_a_share_of_nothing_is_refused_before_anything_is_written(tmp_path):
    images, truth = fields()
    settings = FINETUNING.stardist.model_copy(update={"start_share": 0.5})
    config = FINETUNING.model_copy(update={"stardist": settings})
    with pytest.raises(InputError, match=r"share of what training begins with\. Got 0\.5"):
        finetune_stardist(
            ImageSet.from_arrays(images.images),
            tmp_path / "model",
            annotations=truth,
            init="none",
            config=config,
        )
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_the_best_weights_of_a_run_lie_between_the_start_and_the_last(tmp_path):
    from oce2stardist.stardist_model.network import open_model

    images, truth = fields()
    start = write_model(tmp_path / "start", prob=0.5, nms=0.4)
    config = FINETUNING.model_copy(
        update={"stardist": FINETUNING.stardist.model_copy(update={"start_share": 0.25})}
    )
    result = finetune_stardist(
        ImageSet.from_arrays(images.images),
        tmp_path / "model",
        annotations=truth,
        init=start,
        config=config,
    )
    model = open_model(result.model)
    best = model.keras_model.get_weights()
    model.load_weights("weights_last.h5")
    last = model.keras_model.get_weights()
    first = open_model(start).keras_model.get_weights()
    for kept, was, became in zip(best, first, last, strict=True):
        np.testing.assert_allclose(kept, 0.25 * was + 0.75 * became, rtol=1e-5, atol=1e-6)
    assert read_yaml(result.model / "parameters.yaml")["start_share"]["value"] == 0.25
