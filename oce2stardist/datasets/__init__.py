"""Read labelled data sets of experiments: a training and a test part, all kinds alike.

=================  =====================================================================
kind               is
=================  =====================================================================
``folders``        ``train`` and ``test``, each with a folder of images and one of labels
``tissuenet``      TissueNet 1.0 or 1.1, whole or one tissue of it
``cell_tracking``  a two-dimensional data set of the Cell Tracking Challenge
=================  =====================================================================
"""

from oce2stardist.datasets.cell_tracking import (
    FIELD_BORDERS,
    keep_field_of_interest,
    open_cell_tracking,
)
from oce2stardist.datasets.folders import open_folders, pair_folders
from oce2stardist.datasets.labelled import LabelledImage, LabelledImages, LabelledSet
from oce2stardist.datasets.opening import open_data_set
from oce2stardist.datasets.tissuenet import open_tissuenet

__all__ = [
    "FIELD_BORDERS",
    "LabelledImage",
    "LabelledImages",
    "LabelledSet",
    "keep_field_of_interest",
    "open_cell_tracking",
    "open_data_set",
    "open_folders",
    "open_tissuenet",
    "pair_folders",
]
