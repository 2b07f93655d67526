"""Smooth filling, and where a clip is cut into slabs."""

import numpy as np
import pytest

from recon4d.fill.depth_edges import depth_edges
from recon4d.fill.push_pull import push_pull


def test_a_ramp_goes_on_through_holes_within_it():
    y, x = np.mgrid[:70, :93]
    plane = 0.2 + 0.003 * x - 0.001 * y
    known = np.ones(plane.shape, dtype=bool)
    known[20:45, 30:70] = known[5:9, 3:6] = False
    filled = push_pull(plane, known)
    np.testing.assert_array_equal(filled[known], plane[known].astype(np.float32))
    assert np.abs(filled - plane).max() < 0.01 * np.ptp(plane)


def test_of_two_pixels_the_one_between_is_the_mean():
    filled = push_pull(np.array([[2.0, -99, 6.0]]), np.array([[True, False, True]]))
    np.testing.assert_allclose(filled, [[2, 4, 6]], atol=1e-4)


def test_one_known_pixel_fills_all_and_nothing_leaves_the_range():
    known = np.zeros((33, 17), dtype=bool)
    known[4, 5] = True
    np.testing.assert_array_equal(push_pull(np.full(known.shape, 3.5), known), np.full(known.shape, np.float32(3.5)))
    rng = np.random.default_rng(0)
    values, known = rng.uniform(-1, 2, (41, 50)), rng.random((41, 50)) < 0.02
    filled = push_pull(np.where(known, values, np.nan), known)
    assert filled.min() >= values[known].min().astype(np.float32)
    assert filled.max() <= values[known].max().astype(np.float32)


def test_nothing_known_is_refused():
    with pytest.raises(ValueError, match="no pixel is known"):
        push_pull(np.ones((3, 3)), np.zeros((3, 3), dtype=bool))


def test_edges_lie_in_the_gaps_of_disparity():
    depths = [1.0] * 30 + [2.0] * 40 + [10.0] * 30
    # Disparity 1, 0.5, 0.1: the gaps' middles are 0.75 and 0.3.
    np.testing.assert_allclose(depth_edges(depths, 3), [1 / 0.75, 1 / 0.3])
    assert depth_edges(depths, 2) == pytest.approx([1 / 0.75])  # 1 | 0.5, 0.1: the sum of squares is 2.74, else 6.0


def test_edges_do_not_depend_on_the_order_and_scale_with_the_scene():
    rng = np.random.default_rng(1)
    depths = rng.uniform(1, 20, 5000)
    edges = depth_edges(depths, 4)
    assert len(edges) == 3
    assert list(edges) == sorted(edges)
    assert depth_edges(rng.permutation(depths), 4) == edges
    np.testing.assert_allclose(depth_edges(7 * depths, 4), 7 * np.array(edges), rtol=1e-6)


def test_a_flat_wall_is_one_slab():
    rng = np.random.default_rng(2)
    assert depth_edges(rng.uniform(4.9, 5.1, 1000), 3) == ()
    assert depth_edges([3.0], 3) == ()
    assert len(depth_edges([3.0] * 50 + [6.0] * 50, 5)) == 1


def test_samples_without_depth_do_not_count():
    assert depth_edges([np.nan, np.inf, 0, -1], 3) == ()
    assert depth_edges([1.0, 4.0, 0.0, np.nan], 2) == depth_edges([1.0, 4.0], 2) == pytest.approx((1 / 0.625,))
