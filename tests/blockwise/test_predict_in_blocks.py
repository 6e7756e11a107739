"""Images predicted block by block: the same objects as at once, each once and whole."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from distributed import Client, LocalCluster
from scenes import discs_scene
from sklearn.metrics import adjusted_rand_score
from small_models import small_model, train, write_model
from stardist.matching import matching

from oce2stardist.errors import InputError
from oce2stardist.images.blocks import BlockGrid, widen
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_image
from oce2stardist.runs.interruption import Interrupted
from oce2stardist.stardist_model.checkpoint import write_thresholds, write_weights
from oce2stardist.stardist_model.network import open_model
from oce2stardist.stardist_model.polygons import Objects, draw_objects, drop_doubles, find_objects
from oce2stardist.stardist_model.predict import predict_labels
from oce2stardist.stardist_model.scale import ModelScale, write_scale

zarr = pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
from ngff import write_ome_zarr  # noqa: E402

from oce2stardist.blockwise.predict import predict_in_blocks  # noqa: E402
from oce2stardist.runs.cluster import ClusterSettings, connected, limited_to  # noqa: E402


def ring(points, radius, probs):
    """Round polygons of one radius."""
    dist = np.full((len(points), 32), radius, np.float32)
    return Objects(np.array(points, np.int32), np.array(probs, np.float32), dist)


def whole(shape):
    return slice(0, shape[0]), slice(0, shape[1])


def test_blocks_cover_every_pixel_once():
    hits = np.zeros((300, 410), int)
    for block in BlockGrid(hits.shape, 128):
        hits[block.core] += 1
    assert (hits == 1).all()


@pytest.mark.parametrize("distance", [1, 127, 129, 300])
def test_blocks_near_are_those_with_pixels_within_the_distance(distance):
    grid = BlockGrid((700, 900), 128)
    block = grid.at(2, 3)
    reached = widen(block.core, distance, grid.shape)
    near = {one.name for one in grid.near(block, distance)}
    for one in grid:
        sides = zip(one.core, reached, strict=True)
        if all(a.start < b.stop and b.start < a.stop for a, b in sides):
            assert one.name in near


def test_windows_begin_at_multiples_and_end_with_the_plane():
    assert widen((slice(40, 60), slice(0, 30)), 10, (65, 90), align=16) == (
        slice(16, 65), slice(0, 48),
    )  # fmt: skip


def test_an_object_across_four_blocks_is_drawn_whole():
    disc = ring([(64, 64)], 20.0, [0.9])
    ids = np.array([7], np.int32)
    at_once = draw_objects(disc, ids, whole((128, 128)))
    pieces = np.zeros_like(at_once)
    for block in BlockGrid((128, 128), 64):
        pieces[block.core] = draw_objects(disc, ids, block.core)
    np.testing.assert_array_equal(pieces, at_once)
    assert abs((at_once == 7).sum() - np.pi * 20**2) < 0.03 * np.pi * 20**2


def test_of_overlapping_objects_the_more_probable_is_on_top():
    pair = ring([(30, 30), (30, 42)], 10.0, [0.6, 0.9])
    labels = draw_objects(pair, np.array([1, 2], np.int32), whole((60, 80)))
    assert labels[30, 36] == 2 and labels[30, 24] == 1


@pytest.mark.parametrize(("at", "stay"), [(56, [True, False]), (73, [True, True])])
def test_of_a_cell_found_by_two_blocks_one_stays_and_of_neighbours_both(at, stay):
    one, other = ring([(30, 55)], 10.0, [0.8]), ring([(30, at)], 10.0, [0.8])
    pairs = (one, other), (other, one)
    assert [bool(drop_doubles(*pair, nms_thresh=0.3)[0]) for pair in pairs] == stay


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model folder that finds bright discs."""
    folder = tmp_path_factory.mktemp("models") / "discs"
    model, _ = train(folder, discs_scene(12, (160, 160), 12, seed=2), steps=200)
    write_weights(folder / "weights_best.h5", model)
    write_thresholds(folder, prob=0.35, nms=0.3)
    return folder


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def discs():
    """uint16 of shape (300, 400), and the true labels."""
    image, truth = discs_scene(70, (300, 400), 12, seed=5)
    return np.rint(1000 * (image - image.min())).astype(np.uint16), truth


def at_once(folder, image):
    return predict_labels(open_model(folder), normalise_percentiles(image))


def read_zarr_labels(store, level=0):
    return zarr.open_group(str(store), mode="r")[f"labels/cells/{level}"][:]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_blocks_of_any_size_give_the_objects_of_one_pass(trained, client, discs, tmp_path, version):
    image, truth = discs
    path = write_ome_zarr(tmp_path / "a.ome.zarr", image[None], "cyx", version=version)
    wanted = at_once(trained, image[..., None].astype(np.float32))
    assert matching(truth, wanted, thresh=0.5).f1 > 0.9
    found = []
    for side in (64, 128, 1024):
        output = tmp_path / str(side)
        counts = predict_in_blocks(path, output, model=trained, client=client, side=side)
        labels = read_zarr_labels(output / "a.ome.zarr")
        found.append(labels)
        assert counts == {"a": wanted.max()}
        assert labels.dtype == np.int32
        assert adjusted_rand_score(wanted.ravel(), labels.ravel()) > 0.999
        assert not (output / ".a.blocks").exists()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "radius"), [(0.6, 20), (1.7, 7)])
def test_blocks_of_a_zoomed_image_give_the_objects_of_one_pass(
    trained, client, tmp_path, factor, radius
):
    model = shutil.copytree(trained, tmp_path / "model")
    write_scale(model, ModelScale(factor, 24.0, "by hand"))
    image, truth = discs_scene(20, (300, 410), radius, seed=5)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image)
    wanted = at_once(model, read_image(path))
    assert matching(truth, wanted, thresh=0.5).f1 > 0.9
    found = []
    for side in (64, 128):
        counts = predict_in_blocks(
            path, tmp_path / str(side), model=model, client=client, side=side
        )
        found.append(read_labels(tmp_path / str(side) / "a.tif"))
        assert counts == {"a": wanted.max()}
        assert adjusted_rand_score(wanted.ravel(), found[-1].ravel()) > 0.999
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_several_time_points_are_images_of_their_own(trained, client, discs, tmp_path):
    image, _ = discs
    movie = np.stack([image, image[::-1]])
    path = write_ome_zarr(tmp_path / "m.zarr", movie, "tyx", version="0.5")
    counts = predict_in_blocks(path, tmp_path / "out", model=trained, client=client, side=256)
    assert list(counts) == ["m_t0000", "m_t0001"]
    labels = read_zarr_labels(tmp_path / "out" / "m.ome.zarr")
    for frame, found in zip(movie, labels, strict=True):
        wanted = at_once(trained, frame[..., None].astype(np.float32))
        assert wanted.max() > 20
        assert adjusted_rand_score(wanted.ravel(), found.ravel()) > 0.999


@pytest.mark.slow
def test_a_tiff_gives_a_tiff_that_is_known_to_be_finished(trained, client, discs, tmp_path):
    path = tmp_path / "b.ome.tif"
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(path, discs[0], tile=(128, 128), metadata={"axes": "YX", **size})
    output = tmp_path / "out"
    counts = predict_in_blocks(path, output, model=trained, client=client, side=128)
    labels = read_labels(output / "b.tif")
    wanted = at_once(trained, read_image(path))
    assert wanted.max() > 20
    assert adjusted_rand_score(wanted.ravel(), labels.ravel()) > 0.999
    with tifffile.TiffFile(output / "b.tif") as file:
        assert file.pages[0].get_resolution("MICROMETER") == pytest.approx((2.0, 4.0))
    before = (output / "b.tif").stat().st_mtime_ns
    assert predict_in_blocks(path, output, model=trained, client=client, side=128) == counts
    assert (output / "b.tif").stat().st_mtime_ns == before
    predict_in_blocks(path, tmp_path / "other", model=trained, client=client, side=128)
    assert (tmp_path / "other" / "b.tif").read_bytes() == (output / "b.tif").read_bytes()


def times(found):
    """When each block was written."""
    return {one.name: one.stat().st_mtime_ns for one in found.glob("0*.safetensors")}


@pytest.mark.slow
def test_a_stopped_prediction_goes_on_with_what_is_left(trained, client, discs, tmp_path):
    path = write_ome_zarr(tmp_path / "c.zarr", discs[0], "yx", version="0.5")
    options = {"model": trained, "client": client, "side": 100}
    predict_in_blocks(path, tmp_path / "straight", **options)
    done = tmp_path / "halting" / ".c.blocks" / "found"
    with pytest.raises(Interrupted, match="goes on from there"):
        predict_in_blocks(
            path, tmp_path / "halting", should_stop=lambda: len(times(done)) >= 4, **options
        )
    time.sleep(1)  # what was under way may still end
    kept = times(done)
    assert 4 <= len(kept) < 12
    seen = {}

    def look():
        seen.update(times(done))
        return False

    predict_in_blocks(path, tmp_path / "halting", should_stop=look, **options)
    assert len(seen) == 12
    assert kept.items() <= seen.items()
    np.testing.assert_array_equal(
        read_zarr_labels(tmp_path / "halting" / "c.ome.zarr"),
        read_zarr_labels(tmp_path / "straight" / "c.ome.zarr"),
    )


@pytest.mark.slow
def test_an_object_wider_than_expected_is_found_in_a_wider_window(trained, discs):
    model = open_model(trained)
    image = normalise_percentiles(discs[0][..., None])
    n_found = 0
    for block in BlockGrid(image.shape[:2], 128):
        narrow, wide = (
            find_objects(model, image.__getitem__, block.core, image.shape[:2], reach=reach)
            for reach in (1.0, 60.0)
        )
        n_found += len(wide)
        np.testing.assert_array_equal(narrow.points, wide.points)
    assert n_found > 50


def test_three_channels_are_predicted_as_at_once(client, tmp_path):
    folder = tmp_path / "three"
    model = small_model(folder, channels=3)
    write_weights(folder / "weights_best.h5", model)
    stored = np.random.default_rng(0).random((3, 200, 180), np.float32)
    image = normalise_percentiles(np.moveaxis(stored, 0, -1))
    probability, _ = model.predict(image, axes="YXC")
    write_thresholds(folder, prob=float(np.quantile(probability, 0.9)), nms=0.3)
    path = write_ome_zarr(tmp_path / "e.zarr", stored, "cyx", version="0.4")
    predict_in_blocks(path, tmp_path / "out", model=folder, client=client, side=96)
    labels = read_zarr_labels(tmp_path / "out" / "e.ome.zarr")
    wanted = predict_labels(open_model(folder), image)
    assert wanted.max() > 3
    assert adjusted_rand_score(wanted.ravel(), labels.ravel()) > 0.999


def test_labels_of_others_are_not_replaced(client, tmp_path):
    folder = write_model(tmp_path / "one", prob=0.5, nms=0.4)
    path = write_ome_zarr(tmp_path / "f.zarr", np.ones((80, 80), "u1"), "yx", version="0.5")
    zarr.open_group(str(path)).create_group("labels/cells")
    with pytest.raises(InputError, match="which oce2stardist did not write"):
        predict_in_blocks(path, tmp_path / "o", model=folder, client=client, in_place=True)
    other = path.rename(tmp_path / "f.ome.zarr")
    with pytest.raises(InputError, match="must not replace their image"):
        predict_in_blocks(other, tmp_path, model=folder, client=client)


def test_an_image_of_other_channels_is_refused(client, tmp_path):
    folder = write_model(tmp_path / "one", prob=0.5, nms=0.4)
    path = write_ome_zarr(tmp_path / "g.zarr", np.ones((2, 80, 80), "u1"), "cyx", version="0.5")
    with pytest.raises(InputError, match=r"the model's 1 channels\. Got 2 in g;"):
        predict_in_blocks(path, tmp_path / "out", model=folder, client=client)


@pytest.mark.long
def test_when_one_of_two_workers_is_killed_the_labels_are_the_same(trained, discs, tmp_path):
    path = write_ome_zarr(tmp_path / "h.zarr", np.tile(discs[0], (3, 3)), "yx", version="0.5")
    results = []
    for kill in (False, True):
        output = tmp_path / f"kill-{kill}"
        with connected(ClusterSettings(workers=2), environment=limited_to(1)) as client:
            killed = []

            def should_stop(output=output, killed=killed, client=client, kill=kill):
                found = list((output / ".h.blocks" / "found").glob("0*.safetensors"))
                if kill and not killed and len(found) >= 5:
                    killed.append(next(iter(client.run(os.getpid).values())))
                    os.kill(killed[0], signal.SIGKILL)
                return False

            counts = predict_in_blocks(
                path, output, model=trained, client=client, side=256, should_stop=should_stop
            )
            assert len(killed) == kill
        assert counts["h"] > 100
        results.append((counts, read_zarr_labels(output / "h.ome.zarr")))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


PROGRAM = """
import sys
from oce2stardist.cli.main import main
if __name__ == "__main__":
    main(sys.argv[1:], standalone_mode=False)
    print("tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_the_command_predicts_a_store_without_tensorflow(trained, discs, tmp_path):
    path = write_ome_zarr(tmp_path / "i.ome.zarr", discs[0], "yx", version="0.5")
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    ended = subprocess.run(
        [sys.executable, script, "predict", path, "--model", trained, "-o", tmp_path / "out",
         "--workers", "1", "-q"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = ended.stdout.strip().splitlines()
    assert int(lines[0].split()[0]) > 20
    assert lines[0].endswith(f"cells in 1 image: {tmp_path / 'out'}")
    assert lines[-1] == "False"
    assert read_zarr_labels(tmp_path / "out" / "i.ome.zarr").max() == int(lines[0].split()[0])
