"""What --deterministic fixes, and what is remembered of it; test_faults.py trains with it."""

import numpy as np
import pytest
import tensorflow as tf
from threadpoolctl import threadpool_info

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.experiments.studies import _part
from oce2stardist.runs.determinism import (
    THREADS,
    describe_determinism,
    fixed_threads,
    one_thread_for_sums,
)
from oce2stardist.runs.folder import Stage
from oce2stardist.stardist_model.network import prepare_tensorflow


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_matrices_are_multiplied_in_one_thread_only_where_that_is_asked_for():
    before = blas_threads()
    with one_thread_for_sums(True):
        assert blas_threads() == {1}
    with one_thread_for_sums(False):
        assert blas_threads() == before
    assert blas_threads() == before


def test_tensorflow_gets_its_threads_only_where_that_is_asked_for():
    assert (fixed_threads(True), fixed_threads(False)) == (THREADS, None)


def test_threads_that_come_too_late_are_refused():
    tf.constant(1)  # starts TensorFlow's threads
    with pytest.raises(InputError, match="before TensorFlow computes in this process"):
        prepare_tensorflow("auto", threads=THREADS + 3)


def test_a_run_is_not_continued_with_sums_of_another_order(tmp_path):
    plain, fixed = Config(), Config(deterministic=True)
    Stage(tmp_path, describe_determinism(plain), overwrite=False, results=[])
    assert Stage(tmp_path, describe_determinism(plain), overwrite=False, results=[]).resumes
    with pytest.raises(InputError, match="Got deterministic: True where it has None"):
        Stage(tmp_path, describe_determinism(fixed), overwrite=False, results=[])


def test_grid_cells_are_other_ones_only_where_the_order_is_fixed():
    """So that cells of experiments that were run before the setting existed are used again."""
    assert "deterministic" not in _part(Config(), "merge")
    assert _part(Config(deterministic=True), "merge")["deterministic"] is True
