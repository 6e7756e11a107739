"""Event files of a training, read again by the tensorboard package."""

import contextlib
import math

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oce2stardist.stardist_model.tensorboard import scalar_writer


def curve(folder, name):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {one.step: float(tf.make_ndarray(one.tensor_proto)) for one in events.Tensors(name)}


def test_tensorboard_reads_the_steps_that_were_written(tmp_path):
    with scalar_writer(tmp_path / "logs") as write:
        for step in (1, 2, 3):
            write({"step": step, "loss": 1 / step, "score": 0.25 if step == 3 else math.nan})
    assert curve(tmp_path / "logs", "loss") == pytest.approx({1: 1, 2: 1 / 2, 3: 1 / 3})
    assert curve(tmp_path / "logs", "score") == {3: 0.25}  # where nothing was judged, no point


def test_steps_before_an_interruption_are_kept(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), scalar_writer(tmp_path) as write:
        write({"step": 1, "loss": 2.0})
        raise KeyboardInterrupt
    with scalar_writer(tmp_path) as write:
        write({"step": 2, "loss": 1.0})
    assert curve(tmp_path, "loss") == {1: 2.0, 2: 1.0}


def test_without_request_nothing_is_written(tmp_path):
    with scalar_writer(None) as write:
        write({"step": 1, "loss": 2.0})
    assert not any(tmp_path.iterdir())
