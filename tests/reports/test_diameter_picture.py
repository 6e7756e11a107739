"""The figure on cell diameters: circles on cells, and a page can always show it."""

import imagecodecs
import numpy as np
import pytest
from scenes import discs_scene

from oce2stardist.images.diameter import estimate_diameter
from oce2stardist.reports.drawing.diameter_picture import diameter_picture

ORANGE, BLUE = (230, 159, 0), (0, 114, 178)


def images_of(*radii):
    scenes = {f"{radius}": discs_scene(15, (300, 300), radius, 0) for radius in radii}
    return {name: image[..., None] for name, (image, _) in scenes.items()}


def draw(images):
    return diameter_picture(images, estimate_diameter(list(images.values())))


def count_pixels(png, colour):
    picture = imagecodecs.png_decode(png)[..., :3].astype(int)
    return int((np.abs(picture - colour).max(axis=2) <= 12).sum())


def test_circles_and_the_estimate_are_drawn():
    picture = draw(images_of(12))
    assert count_pixels(picture, ORANGE) > 500
    assert count_pixels(picture, BLUE) > 100


def test_at_most_three_images_are_shown():
    pictures = {n: imagecodecs.png_decode(draw(images_of(*range(8, 8 + n)))) for n in (1, 2, 3, 5)}
    widths = {n: picture.shape[1] for n, picture in pictures.items()}
    assert widths[1] < widths[2] < widths[3] == widths[5]


def test_images_without_cells_are_shown_without_circles():
    picture = draw({"a": np.zeros((64, 64, 3), np.float32)})
    assert count_pixels(picture, ORANGE) == count_pixels(picture, BLUE) == 0


def test_same_numbers_give_the_same_bytes():
    images = images_of(10)
    assert draw(images) == draw(images)


def test_images_must_be_those_of_the_estimate():
    estimate = estimate_diameter(list(images_of(10).values()))
    with pytest.raises(ValueError, match="Got 2 images and an estimate from 1"):
        diameter_picture(images_of(10, 11), estimate)
