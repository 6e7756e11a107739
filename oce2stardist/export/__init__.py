"""Describe a StarDist model in other formats: metadata, read-me files, bioimage.io.

Nothing here imports TensorFlow; the network itself is converted in
`oce2stardist.stardist_model.convert`.
"""

from oce2stardist.export.bioimageio import describe_package
from oce2stardist.export.facts import LOST, Facts
from oce2stardist.export.readme import write_readme

__all__ = ["LOST", "Facts", "describe_package", "write_readme"]
