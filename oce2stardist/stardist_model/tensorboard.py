"""Write the course of a training for TensorBoard."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from oce2stardist.stardist_model.backend import tf
from oce2stardist.stardist_model.train import Row


@contextmanager
def scalar_writer(folder: Path | None) -> Iterator[Callable[[Row], None]]:
    """Give a function that writes the numbers of a step as event files; None: to nowhere.

    Needs the package tensorboard, which writes them.
    """
    if folder is None:
        yield lambda row: None
        return
    writer = tf.summary.create_file_writer(str(folder))

    def write(row: Row) -> None:
        with writer.as_default():
            for name, value in row.items():
                if name != "step" and not math.isnan(value):  # a check that judged nothing
                    tf.summary.scalar(name, value, step=int(row["step"]))

    try:
        yield write
    finally:
        writer.close()
