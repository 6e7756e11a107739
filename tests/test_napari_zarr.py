"""Labels that were predicted in blocks, as napari shows them over their OME-Zarr."""

import numpy as np
import pytest
import zarr
from napari_import import ViewerModel, npe2
from ngff import write_ome_zarr
from scenes import discs_scene

from oce2stardist.big_images import list_images
from oce2stardist.big_images.ome_zarr import create_labels


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_in_an_ome_zarr_lie_pixel_on_pixel_over_the_image(tmp_path, version):
    image, truth = discs_scene(12, (200, 300), 12, seed=1)
    path = write_ome_zarr(tmp_path / "a.zarr", image, "yx", version=version, scale=0.5)
    (lazy,) = list_images(path)
    levels = create_labels(path, "cells", lazy, n_times=1, chunk=128, version=version)
    assert len(levels) == 3
    for level, name in enumerate(levels):
        zarr.open_group(str(path))[name][:] = truth[:: 2**level, :: 2**level]

    viewer = ViewerModel()
    manifest = npe2.PluginManifest.from_distribution("napari-ome-zarr")
    (reader,) = manifest.contributions.commands
    read = npe2.manifest.utils.import_python_name(reader.python_name)(str(path))
    for data, options, kind in read(str(path)):
        getattr(viewer, f"add_{kind}")(data, **options)
    below, above = viewer.layers
    assert (below._type_string, above._type_string) == ("image", "labels")
    np.testing.assert_array_equal(np.asarray(below.data), image)
    np.testing.assert_array_equal(np.asarray(above.data[0]), truth)
    np.testing.assert_array_equal(above.scale, [0.5, 0.5])
    np.testing.assert_array_equal(above.extent.world, below.extent.world)
    assert len(above.data) == 3
