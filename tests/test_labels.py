"""Small functions on label images, beside the same of scipy."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from oce2stardist.labels import centroids


@pytest.mark.parametrize("shape", [(40, 30), (6, 9, 11)])
def test_centroids_are_those_of_scipy_in_any_order_and_of_any_choice_of_ids(shape):
    rng = np.random.default_rng(0)
    labels = rng.choice([-1, 0, 2, 5, 7, 1_000_000_007], shape)
    for ids in ([7, 2, 1_000_000_007], [2, 5, 7], [5]):
        expected = ndi.center_of_mass(labels > 0, labels, ids)
        assert np.array_equal(centroids(labels, np.array(ids)), expected)


def test_no_ids_have_no_centroids():
    assert centroids(np.ones((4, 5), int), np.empty(0, np.int64)).shape == (0, 2)
