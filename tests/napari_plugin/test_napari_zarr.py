"""Labels that were predicted in blocks, as napari shows them over their OME-Zarr."""

import numpy as np
import pytest
import zarr
from napari_import import ViewerModel, npe2
from ngff import write_ome_zarr
from scenes import discs_scene

from oce2stardist.images.ome_zarr import read_attributes
from oce2stardist.images.sources import list_images
from oce2stardist.images.zarr_labels import create_labels


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_in_an_ome_zarr_lie_pixel_on_pixel_over_the_image(tmp_path, version):
    image, truth = discs_scene(12, (200, 300), 12, seed=1)
    path = write_ome_zarr(tmp_path / "a.zarr", image, "yx", version=version, scale=0.5)
    (lazy,) = list_images(path)
    levels = create_labels(path, "cells", lazy, n_times=1, chunk=128, version=version)
    assert len(levels) == 3
    for level, name in enumerate(levels):
        zarr.open_group(str(path))[name][:] = truth[:: 2**level, :: 2**level]

    below, above = drop_into_napari(path)
    assert (below._type_string, above._type_string) == ("image", "labels")
    np.testing.assert_array_equal(np.asarray(below.data), image)
    np.testing.assert_array_equal(np.asarray(above.data[0]), truth)
    np.testing.assert_array_equal(above.scale, [0.5, 0.5])
    np.testing.assert_array_equal(above.extent.world, below.extent.world)
    assert len(above.data) == 3


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_of_a_movie_lie_over_its_time_points_and_not_over_its_only_plane(tmp_path, version):
    movie = np.zeros((3, 2, 1, 200, 300), np.uint16)
    path = write_ome_zarr(
        tmp_path / "m.zarr",
        movie, "tczyx", version=version, scale=0.5, time=2.5, start=100.0, levels=2,
    )  # fmt: skip
    lazy = list_images(path)[0]
    levels = create_labels(path, "cells", lazy, n_times=3, chunk=64, version=version)
    assert len(levels) == 2  # as the specification demands, and not until it fits into a chunk

    *channels, above = drop_into_napari(path)
    assert len(channels) == 2
    for below in channels:
        assert above.axis_labels == below.axis_labels == ("t", "z", "y", "x")
        np.testing.assert_array_equal(above.extent.world, below.extent.world)
        np.testing.assert_array_equal(above.level_shapes, below.level_shapes)


def test_labels_in_a_store_of_their_own_lie_where_the_image_does(tmp_path):
    pixels = np.zeros((200, 300), np.uint16)
    path = write_ome_zarr(
        tmp_path / "a.zarr", pixels, "yx", version="0.5", scale=0.5, start=100.0, levels=3
    )
    (lazy,) = list_images(path)
    store = tmp_path / "out" / "a.ome.zarr"
    create_labels(store, "cells", lazy, n_times=1, chunk=64, version="0.5")
    group = store / "labels" / "cells"
    image, labels = (read_attributes(one)[0] for one in (path, group))
    assert labels["multiscales"][0]["datasets"] == image["multiscales"][0]["datasets"]
    assert labels["multiscales"][0]["axes"] == image["multiscales"][0]["axes"]
    assert (group / labels["image-label"]["source"]["image"]).resolve() == path.resolve()

    (below,) = drop_into_napari(path)
    (above,) = drop_into_napari(group)
    assert above._type_string == "labels"
    np.testing.assert_array_equal(above.extent.world, below.extent.world)


def test_labels_keep_the_scale_that_an_image_has_for_all_its_levels(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", np.zeros((40, 60), "u1"), "yx", version="0.5")
    root = zarr.open_group(str(path))
    content = dict(root.attrs["ome"])
    outer = [{"type": "scale", "scale": [0.2, 0.3]}]
    content["multiscales"][0]["coordinateTransformations"] = outer
    root.attrs["ome"] = content
    (lazy,) = list_images(path)
    create_labels(path, "cells", lazy, n_times=1, chunk=64, version="0.5")
    below, above = drop_into_napari(path)
    np.testing.assert_array_equal(above.scale, [0.2, 0.3])
    np.testing.assert_array_equal(above.extent.world, below.extent.world)


def drop_into_napari(path):
    viewer = ViewerModel()
    manifest = npe2.PluginManifest.from_distribution("napari-ome-zarr")
    (reader,) = manifest.contributions.commands
    read = npe2.manifest.utils.import_python_name(reader.python_name)(str(path))
    for data, options, kind in read(str(path)):
        getattr(viewer, f"add_{kind}")(data, **options)
    return list(viewer.layers)
