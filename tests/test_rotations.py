"""Matrices that belong to rotations."""

import numpy as np

from recon4d.geometry.rotations import cross_matrix


def test_cross_matrix_by_hand():
    np.testing.assert_array_equal(cross_matrix(np.array([1.0, 2, 3])), [[0, -3, 2], [3, 0, -1], [-2, 1, 0]])


def test_cross_matrices_of_a_batch_are_cross_products():
    v, w = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
    np.testing.assert_allclose((cross_matrix(v) @ w[..., None])[..., 0], np.cross(v, w), atol=1e-12)
