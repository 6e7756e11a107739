"""Where each image's scale comes from: a number, a CSV file, annotations or an estimate."""

import numpy as np
import pytest
import tifffile
from scenes import disc, discs_scene

from oce2stardist.annotations.known import read_known
from oce2stardist.errors import InputError
from oce2stardist.images.image_set import ImageSet, read_images
from oce2stardist.images.scale import choose_scales, to_working_scale
from oce2stardist.labels import resize_labels

WORKING = 28.0


def image_set(images):
    return ImageSet(
        paths={stem: f"{stem}.tif" for stem in images},
        images={stem: image[..., None].astype(np.float32) for stem, image in images.items()},
    )


@pytest.fixture
def three():
    """Three images whose content does not matter; one has a dot in its name."""
    return image_set({stem: np.zeros((40, 50)) for stem in ("a", "b.1", "c")})


def scales(found, *, diameter=None, annotations=None, mode="auto"):
    return choose_scales(
        found, working=WORKING, mode=mode, diameter=diameter, annotations=annotations, seed=0
    )


def csv_file(folder, text):
    path = folder / "diameters.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_given_diameter_is_the_same_for_all(three):
    chosen = scales(three, diameter=14.0)
    assert chosen.factors == {"a": 2.0, "b.1": 2.0, "c": 2.0}
    assert (chosen.median, chosen.diameter, chosen.low) == (2.0, 14.0, None)
    assert "14 px was given" in chosen.reason


@pytest.mark.parametrize("diameter", [WORKING / 1.09, WORKING * 1.09])
def test_images_that_are_close_enough_are_not_resampled(three, diameter):
    chosen = scales(three, diameter=diameter)
    assert set(chosen.factors.values()) == {1.0}
    assert "original scale" in chosen.reason


@pytest.mark.parametrize("diameter", [1.0, 5000.0, float("nan")])
def test_a_diameter_out_of_range_is_refused(three, diameter):
    with pytest.raises(InputError, match=f"between 2 and 2000 pixels. Got {diameter:g}"):
        scales(three, diameter=diameter)


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "as Excel writes it"])
def test_a_csv_file_gives_each_image_its_scale(three, tmp_path, start):
    text = f"{start}diameter,image,note\n14,a,x\n56,b.1.tif,\n 28 ,c.ome.tif,y\n"
    chosen = scales(three, diameter=csv_file(tmp_path, text))
    assert chosen.factors == {"a": 2.0, "b.1": 0.5, "c": 1.0}
    assert chosen.diameter == 28.0 and "diameters.csv" in chosen.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,diameter\na,14\n", r"a diameter for every image. Got none for b.1 and 1 more"),
        ("image,diameter\na,14\nb.1,14\n", r"Got none for c\.$"),
        ("image,diameter\na,14\nb.1,wide\nc,3\n", r"a number of pixels. Got 'wide' for b.1"),
        ("image,diameter\na,14\nb.1\nc,3\n", r"a number of pixels. Got None for b.1"),
        ("image,diameter\na,14\nb.1,-3\nc,3\n", r"between 2 and 2000 pixels. Got -3"),
        ("name,size\na,14\n", r"must have the columns image and diameter. Got name, size"),
        ("", r"must have the columns image and diameter. Got no row"),
    ],
)
def test_a_csv_file_that_lacks_something_is_refused(three, tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        scales(three, diameter=csv_file(tmp_path, text))


def test_a_file_that_is_no_csv_is_refused(three, tmp_path):
    with pytest.raises(InputError, match="a number of pixels or a CSV file"):
        scales(three, diameter=tmp_path / "nowhere.csv")
    (tmp_path / "image.tif").write_bytes(b"II*\0\xff\xfe\x80")
    with pytest.raises(InputError, match="can't be read"):
        scales(three, diameter=tmp_path / "image.tif")


@pytest.fixture
def annotated(tmp_path):
    """Three images; discs of diameter 14 are annotated in the first, of 56 in the second."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for stem in ("a", "b", "c"):
        tifffile.imwrite(tmp_path / "images" / f"{stem}.tif", np.zeros((100, 200), np.uint8))
    for stem, radii in (("a", (7, 7)), ("b", (28, 28, 28)), ("c", ())):
        labels = np.zeros((100, 200), np.uint16)
        for index, radius in enumerate(radii):
            labels[disc(labels.shape, (50, 35 + 62 * index), radius)] = index + 1
        tifffile.imwrite(tmp_path / "masks" / f"{stem}.tif", labels)
    found = read_images(tmp_path / "images")
    return found, read_known(found, tmp_path / "masks").labels


def test_annotated_cells_tell_the_diameter(annotated):
    found, masks = annotated
    chosen = scales(found, annotations=masks)  # two of 14 px, three of 56
    assert chosen.diameter == pytest.approx(56, rel=0.02)
    assert set(chosen.factors.values()) == {WORKING / chosen.diameter}
    assert "annotated cells" in chosen.reason
    assert scales(found, annotations=masks, diameter=7.0).median == 4.0  # which counts more


def test_each_image_can_take_the_scale_of_its_own_annotated_cells(annotated):
    found, masks = annotated
    chosen = scales(found, annotations=masks, mode="image")
    assert chosen.factors == pytest.approx({"a": 2.0, "b": 0.5, "c": 0.5}, rel=0.03)
    assert chosen.reason.startswith("2 images have annotated cells of their own")


def drawn(n, radius, seed, size):
    return discs_scene(n, (size, size), radius, seed=seed)[0]


def test_without_anything_the_diameter_is_estimated():
    found = image_set({f"image {seed}": drawn(8, 9, seed, 150) for seed in range(3)})
    chosen = scales(found)
    assert chosen.diameter == pytest.approx(18, rel=0.15)
    assert chosen.low <= chosen.diameter <= chosen.high
    assert chosen.trusted
    assert set(chosen.factors.values()) == {WORKING / chosen.diameter}
    assert "90 % interval" in chosen.reason


def test_each_image_of_a_mixed_set_gets_its_own_scale():
    small = {f"small {seed}": drawn(8, 9, seed, 150) for seed in range(5)}
    large = {f"large {seed}": drawn(8, 27, seed, 400) for seed in range(5)}
    found = image_set(small | large)
    chosen = scales(found)
    for stem, factor in chosen.factors.items():
        diameter = 18 if stem.startswith("small") else 54
        assert factor == pytest.approx(WORKING / diameter, rel=0.15)
    assert "each has its own scale" in chosen.reason
    together = scales(found, mode="set")
    assert len(set(together.factors.values())) == 1


def test_images_with_nothing_in_them_keep_their_scale(three):
    chosen = scales(three)
    assert set(chosen.factors.values()) == {1.0} and chosen.diameter == WORKING
    assert not chosen.trusted and "pass --diameter" in chosen.reason


def test_images_are_rescaled_in_space_and_not_in_intensity():
    image = np.full((30, 50, 2), (7.0, -1000.0), np.float32)
    assert to_working_scale(image, 1.0) is image
    for factor in (0.5, 2.0):
        scaled = to_working_scale(image, factor)
        assert scaled.shape == (30 * factor, 50 * factor, 2) and scaled.dtype == np.float32
        np.testing.assert_allclose(scaled, np.broadcast_to((7.0, -1000.0), scaled.shape), rtol=1e-5)


def test_labels_grow_by_repetition_and_shrink_to_the_middle_of_each_block():
    labels = np.random.default_rng(0).integers(-1, 70_000, (7, 9)).astype(np.int32)
    large = np.repeat(np.repeat(labels, 3, axis=0), 5, axis=1)
    np.testing.assert_array_equal(resize_labels(labels, (21, 45)), large)
    np.testing.assert_array_equal(resize_labels(large, (7, 9)), labels)
    assert resize_labels(labels, (7, 9)) is labels


@pytest.mark.parametrize("shape", [(31, 77), (100, 50), (64, 129), (1, 1)])
def test_resized_labels_turn_with_the_image_and_stay_in_place(shape):
    labels = np.zeros((64, 100), np.int32)
    labels[16:48, 25:75] = 5  # the middle half
    resized = resize_labels(labels, shape)
    assert resized.shape == shape
    assert set(np.unique(resized)) <= {0, 5}
    np.testing.assert_array_equal(resize_labels(labels.T, shape[::-1]), resized.T)
    for axis, size in enumerate(shape):
        if size > 1:
            edges = np.flatnonzero(resized.any(axis=1 - axis))[[0, -1]] + (0, 1)
            np.testing.assert_allclose(edges / size, (0.25, 0.75), atol=1 / size)
