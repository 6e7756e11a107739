"""Images and training labels in, a StarDist model and its predictions out.

The only place that imports TensorFlow.
"""

import os

from oce2stardist.stardist_model.quiet import quiet_native_code

# TensorFlow leaves oneDNN off on processors without AVX-512, where it is faster, too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
with quiet_native_code():  # before any other module of this package makes it speak
    import tensorflow  # noqa: F401
