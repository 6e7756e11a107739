"""Drawn scenes: what they say of themselves is so, and a seed gives them again."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from scipy import ndimage as ndi

from oce2stardist.drawn import DIAMETER
from oce2stardist.drawn.looks import LOOKS, Cells, draw_brightness
from oce2stardist.drawn.scenes import draw_scenes
from oce2stardist.drawn.shapes import draw_outline, draw_population, place_cells
from oce2stardist.drawn.surroundings import SURROUNDINGS
from oce2stardist.labels import median_diameter, object_sizes


@pytest.fixture(scope="module")
def scenes():
    return list(draw_scenes(24, seed=3))


def test_a_seed_gives_the_same_scenes_however_many_are_drawn(scenes):
    again = list(draw_scenes(2, seed=3))
    for one, other in zip(again, scenes, strict=False):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert (next(draw_scenes(1, seed=4)).labels != scenes[0].labels).any()


def test_scenes_are_normalised_images_with_their_labels(scenes):
    for scene in scenes:
        assert scene.image.shape == (192, 192, 1) and scene.image.dtype == np.float32
        assert scene.labels.shape == (192, 192) and scene.labels.dtype == np.int32
        low, high = np.percentile(scene.image, [1, 99.8])
        assert (low, high) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert len({scene.look for scene in scenes}) > 4


def test_cells_are_whole_pieces_of_the_working_diameter(scenes):
    for scene in scenes:
        for label in object_sizes(scene.labels)[0]:
            assert ndi.label(scene.labels == label)[1] == 1
    diameters = [median_diameter([scene.labels]) for scene in scenes]
    assert np.median([one for one in diameters if one]) == pytest.approx(DIAMETER, rel=0.25)


def test_scenes_range_from_a_few_cells_to_tissue(scenes):
    covered = [(scene.labels > 0).mean() for scene in scenes]
    assert min(covered) < 0.25 and max(covered) > 0.6


def test_some_scenes_hold_cells_of_half_or_twice_the_size():
    rng = np.random.default_rng(5)
    sizes = [draw_population(rng, DIAMETER).diameter / DIAMETER for _ in range(400)]
    assert np.median(sizes) == pytest.approx(1, abs=0.1)
    far = np.abs(np.log2(sizes)) > 0.6
    assert 0.08 < far.mean() < 0.3


def test_arms_make_outlines_less_convex():
    rng = np.random.default_rng(6)
    plain = replace(draw_population(rng, 60.0), roughness=0.0, bend=0.0, arms=0.0)
    solidity = {
        arms: np.median(
            [_solidity(draw_outline(replace(plain, arms=arms), rng)) for _ in range(30)]
        )
        for arms in (0.0, 1.5)
    }
    assert solidity[0.0] > 0.98 and solidity[1.5] < 0.95


def _solidity(outline):
    polygon = shapely.Polygon(outline.T)
    return polygon.area / polygon.convex_hull.area


@pytest.mark.parametrize("paint", [*LOOKS, *SURROUNDINGS], ids=lambda paint: paint.__name__)
def test_every_look_and_surrounding_paints_something(paint):
    rng = np.random.default_rng(0)
    labels = place_cells((120, 120), draw_population(rng, DIAMETER), rng)
    painted = paint(Cells(labels, draw_brightness(labels, rng)), rng)
    assert painted.shape == labels.shape
    assert np.isfinite(painted).all() and painted.std() > 0
