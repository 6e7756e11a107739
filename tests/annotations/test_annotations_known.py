"""Annotations of a run given as arrays, and what tells two of them apart."""

import numpy as np
import pytest

from oce2stardist.annotations.known import digest_annotations, read_known
from oce2stardist.errors import InputError
from oce2stardist.images.image_set import ImageSet


def mask():
    drawn = np.zeros((40, 60), np.uint8)
    drawn[5:10, 5:10] = drawn[5:10, 45:50] = drawn[30:35, 20:25] = 1
    return drawn


def images():
    return ImageSet.from_arrays({"x": np.zeros((40, 60))})


def test_a_mask_given_as_array_is_refused_or_taken_by_pieces():
    with pytest.raises(InputError, match=r"annotations of x must have one number .* in 3 pieces"):
        read_known(images(), {"x": mask()})
    found = read_known(images(), {"x": mask()}, instances="components").labels["x"]
    assert found.max() == 3 and ((found > 0) == (mask() > 0)).all()


def test_one_mask_taken_two_ways_is_not_the_same_annotation():
    """A run with other annotations is another run."""
    taken = [read_known(images(), {"x": mask()}, instances=how) for how in ("labels", "components")]
    assert len({digest_annotations(known) for known in taken}) == 2
    single = {"x": np.pad(np.ones((5, 5), np.int32), ((0, 35), (0, 55)))}
    ways = [read_known(images(), single, instances=how) for how in ("auto", "components")]
    assert len({digest_annotations(known) for known in ways}) == 2
