"""What must be set before any test module imports TensorFlow."""

import os

# As oce2stardist sets it in processes of its own: with another setting sums are rounded
# differently, and a run that a subprocess began would not go on here to the bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
