"""Imports napari for tests, where it is to be had: it has no release for Python 3.10."""

import sys
import warnings

import pytest

if sys.version_info < (3, 11):
    pytest.skip("napari 0.6 needs Python 3.11", allow_module_level=True)

with warnings.catch_warnings():
    # napari 0.9 and npe2 0.10 are written for pydantic before 2.14.
    warnings.simplefilter("ignore", DeprecationWarning)
    import napari.layers
    import npe2
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager

__all__ = ["ViewerModel", "napari", "notification_manager", "npe2"]
