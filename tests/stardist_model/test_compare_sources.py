"""A model beside what went into it, on the annotated cells that judged it."""

import numpy as np
import pytest
from pages import Page
from run_folders import pseudo_run
from small_models import FINETUNING, fields

from oce2stardist import finetune_stardist
from oce2stardist.evaluation.held_back import IOUS, difference
from oce2stardist.images.image_set import ImageSet
from oce2stardist.stardist_model.compare import MODEL, PSEUDO, START, Comparison


def counts(found):
    """Found or missed, by cell: the same at every IoU."""
    one = [[[1, 0, 0] if hit else [0, 0, 1]] * len(IOUS) for hit in found]
    return np.array(one, np.int64)


def test_a_difference_is_that_of_the_scores_and_of_the_same_cells():
    half, most = counts([1, 1, 0, 0]), counts([1, 1, 1, 0])
    ahead, error = difference(most, half, seed=0)
    assert ahead == pytest.approx(2 * 3 / 7 - 2 * 2 / 6)  # F1 of 3 and of 2 cells of 4
    assert error > 0
    assert difference(half, half, seed=0) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("best", "worse", "said"),
    [
        (MODEL, False, "; the model is best"),
        (START, False, "; the drawn start did best, by no more than chance"),
        (START, True, "the model is clearly worse than the drawn start: train longer (--steps)"),
        (PSEUDO, True, "for these images the pseudo labels are the better answer"),
    ],
)
def test_a_comparison_says_what_is_best_and_what_to_do(best, worse, said):
    scores = {MODEL: (0.6, 0.05), PSEUDO: (0.7, 0.04)}
    sentence = Comparison(scores, best, worse, 12).say()
    assert sentence.startswith("mean F1 at IoU 0.5 to 0.9 on 12 annotated cells: model 0.60 ± 0.05")
    assert said in sentence


def test_a_comparison_on_a_handful_of_cells_claims_nothing():
    sentence = Comparison({MODEL: (1.0, 0.0), PSEUDO: (0.8, 0.0)}, MODEL, False, 1).say()
    assert "on 1 annotated cell: model 1.00" in sentence
    assert sentence.endswith("; the model did best, but on too few cells to tell")


@pytest.mark.slow
def test_a_run_says_that_perfect_pseudo_labels_beat_a_model_that_learned_nothing(tmp_path):
    images, truth = fields()
    run = pseudo_run(tmp_path / "run", truth)
    (run / "pseudo" / "stage.yaml").write_text("finished: true")
    result = finetune_stardist(
        ImageSet.from_arrays(images.images),
        tmp_path / "model",
        annotations=truth,
        pseudo=run,
        config=FINETUNING.replace(**{"stardist.held_back": 0.5}),
    )
    best = result.parameters["best"]
    assert best["value"] == "pseudo labels"
    # Zoomed to the working diameter, outlines stay where they are.
    assert best["scores"]["pseudo labels"]["mean_f1"] > 0.95
    assert "the model is clearly worse" in best["reason"]
    assert "clearly worse" in (tmp_path / "model" / "log.txt").read_text()
    page = Page(result.report)
    assert "What the annotated cells say" in page.texts["h2"]
    assert any("is clearly worse than the pseudo labels" in text for text in page.texts["p"])
