"""Pseudo labels of images larger than memory: those of the image at once, block by block."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from click.testing import CliRunner
from distributed import Client, LocalCluster
from oce2stardist.cli.main import main
from scenes import discs_scene
from skimage.measure import regionprops
from sklearn.metrics import adjusted_rand_score

from oce2stardist.blockwise.masks import Masks, draw_masks, drop_double_masks
from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.evaluation.scores import score_image
from oce2stardist.images.blocks import BlockGrid
from oce2stardist.images.channels import ChannelChoice, choose_channels
from oce2stardist.images.intensity import compress
from oce2stardist.images.label_files import read_labels
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.images.read import read_image
from oce2stardist.images.scale import to_working_scale
from oce2stardist.runners.pseudo import label_set, make_pseudo_labels
from oce2stardist.runs.interruption import Interrupted

zarr = pytest.importorskip("zarr", reason="zarr 3 has no release for this Python")
from ngff import write_ome_zarr  # noqa: E402

from oce2stardist.blockwise.pseudo import label_whole_images  # noqa: E402
from oce2stardist.images.crops import LargeImages  # noqa: E402
from oce2stardist.images.sources import (  # noqa: E402
    find_sources,
    list_images,
    open_in_blocks,
)
from oce2stardist.images.working import RescaledImage  # noqa: E402

LEARNS = {
    "embedding.feature_maps": 8,
    "embedding.crop_size": 64,
    "embedding.batch_size": 4,
    "embedding.steps": 200,
    "embedding.learning_rate": 0.004,
    "embedding.copies": 4,
    "pseudo.working_diameter": 24.0,
    "pseudo.witness": "none",  # nobody corrects what is taken in blocks
}


def mixed_image(*shape):
    return np.random.default_rng(1).integers(0, 60000, shape, dtype=np.uint16)


def lazy(path, stored, axes="cyx"):
    (image,) = list_images(write_ome_zarr(path, stored, axes, version="0.5"))
    return image


@pytest.mark.parametrize("factor", [0.37, 1.0, 1.63])
@pytest.mark.parametrize("knee", [None, 3.0])
def test_windows_are_those_of_the_image_rescaled_and_normalised_at_once(tmp_path, factor, knee):
    stored = mixed_image(2, 131, 97)
    image = lazy(tmp_path / "a.zarr", stored)
    working = RescaledImage(image, factor, ChannelChoice("as_is", "")).with_levels(
        knee=knee, seed=0
    )
    scaled = to_working_scale(np.moveaxis(stored, 0, -1).astype(np.float32), factor)
    wanted = normalise_percentiles(scaled if knee is None else compress(scaled, knee=knee))
    assert working.shape == wanted.shape
    for block in BlockGrid(wanted.shape[:2], 29):
        np.testing.assert_allclose(working[block.core], wanted[block.core], atol=1e-5)
        linear = normalise_percentiles(scaled)[block.core]
        np.testing.assert_allclose(working.linear(block.core), linear, atol=1e-5)


def test_channels_of_a_window_are_those_of_the_whole_image(tmp_path):
    stained = np.random.default_rng(0).integers(120, 250, (3, 60, 50)).astype(np.uint8)
    pixels = np.moveaxis(stained, 0, -1).astype(np.float32)
    image = lazy(tmp_path / "b.zarr", stained)
    for mode, count in (("stains", 2), ("grey", 1)):
        chosen = choose_channels([pixels], mode=mode)
        working = RescaledImage(image, 1.0, chosen)
        assert working.shape == (60, 50, count)
        window = slice(10, 40), slice(5, 45)
        np.testing.assert_allclose(
            working.scaled(window), chosen.apply(pixels)[window], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7])
def test_working_windows_of_blocks_lie_side_by_side(tmp_path, factor):
    working = RescaledImage(
        lazy(tmp_path / "c.zarr", mixed_image(1, 90, 70)), factor, ChannelChoice("as_is", "")
    )
    hits = np.zeros(working.shape[:2], int)
    for block in BlockGrid((90, 70), 16):
        hits[working.to_working(block.core)] += 1
    assert (hits == 1).all()


def found_in(labels, block, margin=30):
    rows, columns = (slice(max(0, s.start - margin), s.stop + margin) for s in block.core)
    window = labels[rows, columns]
    ids = np.unique(window)
    assert ids[0] == 0
    table = np.searchsorted(ids, window).astype(np.int32)
    confidence = np.linspace(0, 1, int(table.max()))
    return Masks.from_labels(table, confidence, corner=(rows.start, columns.start), core=block.core)


def test_every_object_belongs_to_one_block_and_is_drawn_whole_in_all():
    _, truth = discs_scene(25, (200, 230), 11, seed=4)
    grid = BlockGrid(truth.shape, 64)
    found = [found_in(truth, block) for block in grid]
    assert sum(map(len, found)) == truth.max()
    joined = Masks.join(found)
    ids = np.array([truth[tuple(np.rint(point).astype(int))] for point in joined.points], np.int32)
    drawn = np.zeros_like(truth)
    for block in grid:
        seen = joined.touching(block.core)
        drawn[block.core] = draw_masks(joined[seen], ids[seen], block.core)
    np.testing.assert_array_equal(drawn, truth)
    np.testing.assert_array_equal(joined.areas, np.bincount(truth.ravel())[ids])
    for one in regionprops(truth):
        at = np.flatnonzero(ids == one.label)
        np.testing.assert_allclose(joined.points[at], [one.centroid])


def square(top, left, side):
    return Masks(
        np.array([[top + (side - 1) / 2, left + (side - 1) / 2]]),
        np.array([[top, left]]),
        np.ones(1),
        (np.ones((side, side), bool),),
    )


@pytest.mark.parametrize(
    ("one", "other", "stay"),
    [
        (square(9, 9, 10), square(10, 10, 8), [True, False]),  # the larger
        (square(10, 10, 8), square(10, 11, 8), [True, False]),  # equal ones: the first
        (square(10, 10, 8), square(10, 15, 8), [True, True]),  # neighbours that share a rim
    ],
)
def test_of_a_cell_that_two_blocks_found_one_outline_stays(one, other, stay):
    assert [*drop_double_masks(one, other), *drop_double_masks(other, one)] == stay


def test_of_overlapping_objects_the_smaller_is_on_top():
    masks = Masks.join([square(2, 2, 9), square(5, 5, 3)])
    labels = draw_masks(masks, np.array([7, 8], np.int32), (slice(0, 12), slice(0, 12)))
    assert np.bincount(labels.ravel())[[7, 8]].tolist() == [81 - 9, 9]


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """An image of cells of 24 px as TIFF and as OME-Zarr, and a run on each."""
    lab = tmp_path_factory.mktemp("lab")
    image, truth = discs_scene(40, (250, 290), 12, seed=3)
    stored = np.rint(3000 * (image - image.min())).astype(np.uint16)
    (lab / "images").mkdir()
    tifffile.imwrite(lab / "images" / "cells.tif", stored)
    write_ome_zarr(lab / "cells.ome.zarr", stored, "yx", version="0.5", scale=0.5)
    np.save(lab / "truth.npy", truth)
    config = Config().replace(**LEARNS)
    make_pseudo_labels(lab / "images", lab / "at-once", config=config, diameter=24.0)
    return lab


def whole_run(lab, output, *, diameter=24.0, **changes):
    """Run stage one on the store; returns what was made."""
    images = open_in_blocks(find_sources(lab / "cells.ome.zarr"))
    whole = LargeImages.sample(images, seed=0).with_files(output / "crops")
    config = Config().replace(**LEARNS | changes)
    return label_set(whole, output, config=config, diameter=diameter)


def labels_of(output, level=0):
    store = output / "pseudo" / "whole" / "cells.ome.zarr"
    return zarr.open_group(str(store), mode="r")[f"labels/pseudo/{level}"][:]


@pytest.fixture(scope="module")
def made(lab):
    return whole_run(lab, lab / "whole")


@pytest.mark.slow
def test_training_on_windows_of_a_store_gives_the_network_of_the_image_at_once(lab, made):
    one, other = (
        (lab / run / "oce" / "weights.safetensors").read_bytes() for run in ("at-once", "whole")
    )
    assert one == other
    np.testing.assert_array_equal(
        made.labels["cells_y000000_x000000"],
        read_labels(lab / "at-once" / "pseudo" / "labels" / "cells.tif"),
    )


@pytest.mark.slow
def test_blocks_of_any_size_give_the_pseudo_labels_of_the_image_at_once(
    lab, made, client, tmp_path
):
    wanted = read_labels(lab / "at-once" / "pseudo" / "labels" / "cells.tif")
    assert score_image(wanted, np.load(lab / "truth.npy")).f1 > 0.9
    for side in (64, 128, 1024):
        run = shutil.copytree(lab / "whole", tmp_path / str(side))
        counts = label_whole_images(made.made, run, client=client, side=side)
        labels = labels_of(run)
        assert counts == {"cells": labels.max()}
        assert adjusted_rand_score(wanted.ravel(), labels.ravel()) >= 0.999
        table = pd.read_csv(run / "pseudo" / "whole" / "cells.csv")
        assert table["label"].tolist() == list(range(1, counts["cells"] + 1))
        np.testing.assert_array_equal(table["area"], np.bincount(labels.ravel())[1:])
        centres = [one.centroid for one in regionprops(labels)]
        np.testing.assert_allclose(table[["y", "x"]], centres, atol=0.01)
        assert table["confidence"].between(0, 1).all()


@pytest.mark.slow
def test_labels_of_an_image_at_another_scale_fit_its_pixels(lab, client, tmp_path):
    result = whole_run(lab, tmp_path, diameter=18.0, **{"embedding.steps": 40})
    label_whole_images(result.made, tmp_path, client=client, side=96)
    labels = labels_of(tmp_path)
    assert labels.shape == (250, 290)
    assert (
        adjusted_rand_score(result.labels["cells_y000000_x000000"].ravel(), labels.ravel()) >= 0.99
    )


@pytest.mark.slow
def test_a_stopped_labelling_goes_on_with_the_blocks_that_are_left(lab, made, client, tmp_path):
    straight, halting = (
        shutil.copytree(lab / "whole", tmp_path / name) for name in ("straight", "halting")
    )
    options = {"client": client, "side": 64}
    label_whole_images(made.made, straight, **options)
    done = halting / "pseudo" / "whole" / ".cells.blocks" / "found"

    def is_found(count=4):
        return len(list(done.glob("0*.safetensors"))) >= count

    with pytest.raises(Interrupted, match="goes on from there"):
        label_whole_images(made.made, halting, should_stop=is_found, **options)
    assert is_found(4) and not is_found(20)
    label_whole_images(made.made, halting, **options)
    np.testing.assert_array_equal(labels_of(halting), labels_of(straight))


@pytest.mark.slow
def test_the_command_labels_a_store_and_leaves_crops_to_annotate(lab, tmp_path):
    config = tmp_path / "few.yaml"
    settings = Config().replace(**LEARNS | {"embedding.steps": 40})
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [
        "pseudo", str(lab / "cells.ome.zarr"), "-o", str(tmp_path / "run"), "--diameter", "24",
        "--config", str(config), "--workers", "1", "--block", "128", "-q",
    ]  # fmt: skip
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    labels = labels_of(tmp_path / "run")
    n_objects = len(np.unique(labels[labels > 0]))
    assert f"{n_objects} objects in 1 whole image: {tmp_path / 'run'}/pseudo/whole" in result.output
    crop = tmp_path / "run" / "crops" / "cells_y000000_x000000.tif"
    stored = tifffile.imread(lab / "images" / "cells.tif")
    np.testing.assert_array_equal(read_image(crop)[..., 0], stored)
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert "Finding cells in cells: 6 of 6, after" in log and "Drawing cells: 6 of 6" in log
    again = CliRunner().invoke(main, command)
    assert again.output == result.output


def test_a_large_image_is_sampled_in_crops_that_do_not_leave_it(tmp_path):
    path = write_ome_zarr(tmp_path / "large.zarr", np.zeros((9, 9), "u1"), "yx", version="0.5")
    large = {"shape": (20_000, 30_000), "chunks": (1000, 1000), "dtype": "uint8", "fill_value": 3}
    zarr.open_group(str(path)).create_array("0", overwrite=True, **large)
    (image,) = list_images(path)
    whole = LargeImages.sample([image], seed=0)
    assert 12 <= len(whole.windows) <= 16
    for name, (rows, columns) in whole.windows.items():
        assert whole.crops.images[name].shape == (768, 768, 1)
        assert rows.start >= 0 and rows.stop <= 20_000 and columns.stop <= 30_000
        assert name == f"large_y{rows.start:06d}_x{columns.start:06d}"


def test_crops_of_many_images_come_from_at_most_sixty_four_of_them(tmp_path):
    one = lazy(tmp_path / "one.zarr", mixed_image(1, 40, 40))
    whole = LargeImages.sample([replace(one, name=f"f{n:03d}") for n in range(100)], seed=0)
    assert len(whole.images) == 100
    assert len(set(whole.image_of.values())) == len(whole.crops.images) == 64


def test_a_png_beside_a_store_is_refused(tmp_path):
    lazy(tmp_path / "a.zarr", mixed_image(1, 40, 40))
    from skimage.io import imsave

    imsave(tmp_path / "b.png", np.zeros((40, 40), np.uint8), check_contrast=False)
    with pytest.raises(InputError, match=r"must be TIFF, OME-Zarr, CZI, LIF or ND2\. Got .*b\.png"):
        open_in_blocks(find_sources(tmp_path))


def test_labels_in_place_need_a_store(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40), np.uint8))
    result = CliRunner().invoke(
        main, ["pseudo", str(tmp_path / "a.tif"), "-o", str(tmp_path / "run"), "--in-place"]
    )
    assert result.exit_code == 2
    assert "--in-place needs an OME-Zarr" in result.output
    assert not (tmp_path / "run").exists()


def test_diameters_in_a_file_are_refused_for_a_store(lab, tmp_path):
    sizes = tmp_path / "sizes.csv"
    sizes.write_text("image,diameter\ncells,24\n")
    with pytest.raises(InputError, match="must be a number for images that are read in blocks"):
        whole_run(lab, tmp_path / "run", diameter=sizes)
