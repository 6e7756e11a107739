"""Learning rates over a training, against what the paper and the documentation say of them."""

import numpy as np
import pytest

from oce2stardist.runs.schedule import cosine_rate, dropping_rate, one_cycle_rate


def test_the_paper_s_rate_of_embeddings_drops_after_epochs_20_and_30_of_50():
    steps = 50 * 7
    rates = [
        dropping_rate(step, steps=steps, peak=4e-5, drop_at=(0.4, 0.6)) for step in range(steps)
    ]
    epochs = np.reshape(rates, (50, 7))
    np.testing.assert_allclose(epochs[:20], 4e-5)
    np.testing.assert_allclose(epochs[20:30], 4e-6)
    np.testing.assert_allclose(epochs[30:], 4e-7)


@pytest.mark.parametrize(
    "rate_at",
    [
        lambda step: one_cycle_rate(step / 200, peak=3.0),
        lambda step: cosine_rate(step, steps=200, peak=3.0, warm_up=0.2),
    ],
    ids=["one cycle", "cosine"],
)
def test_a_rate_rises_over_a_fifth_of_the_steps_and_falls_to_zero(rate_at):
    rates = np.array([rate_at(step) for step in range(201)])
    assert rates.argmax() == 40
    assert rates.max() == pytest.approx(3.0)
    assert (np.diff(rates[:41]) > 0).all()
    assert (np.diff(rates[40:]) < 0).all()
    assert rates[120] == pytest.approx(1.5)  # half way down the cosine
    assert 0 < rates[0] < 0.05 * 3.0
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
