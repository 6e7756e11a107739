"""What must be set before any test module imports TensorFlow or napari."""

import logging
import os
import tempfile
from pathlib import Path

import pytest

# As oce2stardist sets it in processes of its own: with another setting sums are rounded
# differently, and a run that a subprocess began would not go on here to the bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# As oce2stardist sets it for its workers, also for those that tests start: see runs/cluster.py.
os.environ.setdefault("DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED", "False")

# Tests run beside each other: threads that wait for work must not take the time of others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# The start that is trained on drawn cells is unpacked here, not in the home of whoever tests.
os.environ.setdefault("KERAS_HOME", str(Path(tempfile.gettempdir()) / "oce2stardist-test-keras"))

# No window is opened, and settings of whoever runs the tests are neither read nor written.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("NAPARI_CONFIG", "")


@pytest.fixture(autouse=True)
def _level_of_the_log():
    """Let no test hear less because another ran a command with --quiet."""
    logger = logging.getLogger("oce2stardist")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def without_pages(monkeypatch):
    """Draw no page of a run here: the tests that look at pages draw theirs."""
    from oce2stardist.runners import finetune, pseudo

    monkeypatch.setattr(finetune, "_preview_predictions", lambda *_: {})
    for module, name in (
        (finetune, "write_finetune_report"),
        (pseudo, "write_pseudo_report"),
        (pseudo, "write_choices"),
    ):
        monkeypatch.setattr(module, name, lambda folder, *_, **__: folder / "report" / "index.html")
