"""Depth of what moves, steadied by the frames about it."""

import numpy as np
import pytest

from recon4d.motion.rim import core_of, on_surface, surface_beyond
from recon4d.motion.steady import Heard, hear, steady, weighted_median
from recon4d.scene.camera import Camera


def heard(*values):
    return [Heard(np.array([value]), 1.0) for value in values]


def test_mean_of_what_frames_say():
    found = steady(heard(0.004, -0.004, 0.002, 0.002), np.ones(1))
    assert found.log_change[0] == pytest.approx(0.0008, abs=3e-4)
    assert (found.agreeing[0], found.heard[0], found.own_counts[0]) == (4, 4, True)


def test_another_surface_is_not_mixed_in():
    found = steady(heard(0.0, 0.001, 0.4, -0.001), np.ones(1))
    assert abs(found.log_change[0]) < 1e-3
    assert (found.agreeing[0], found.heard[0]) == (3, 4)


def test_own_outlier_gives_way_to_the_others():
    found = steady(heard(0.2, 0.201, 0.199, 0.2), np.ones(1))
    assert found.log_change[0] == pytest.approx(0.2, abs=1e-3)
    assert not found.own_counts[0]


def test_pixel_without_depth_takes_that_of_others_and_one_without_words_keeps_its_own():
    words = [Heard(np.array([0.1, np.nan]), 1.0), Heard(np.array([0.1, np.nan]), 0.5)]
    found = steady(words, np.array([0.0, 1.0]))
    np.testing.assert_allclose(found.log_change, [0.1, 0.0], atol=1e-9)
    np.testing.assert_array_equal(found.heard, [2, 0])


def test_weighted_median_by_hand():
    values = np.array([[1.0, 5.0], [2.0, 6.0], [10.0, 7.0]])
    weights = np.array([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    np.testing.assert_array_equal(weighted_median(values, weights), [10.0, 0.0])


def test_a_frame_says_how_its_depth_differs_and_nothing_outside_the_object():
    camera = Camera(20, 10, 10.0, 10.0, 10.0, 5.0)
    core = np.zeros((10, 20), dtype=bool)
    core[:, :10] = True
    points = camera.rays_at(np.array([5.0, 15.0, 5.0]), np.full(3, 5.0)) * np.array([2.0, 2.0, -1.0])[:, None]
    word = hear(points, camera, np.full((10, 20), np.log(2.2)), core, 1.0).log_ratio
    assert word[0] == pytest.approx(np.log(1.1), abs=1e-6)
    assert np.isnan(word[1:]).all()


def test_rim_that_hangs_between_object_and_background_is_no_surface():
    own = np.zeros((30, 30), dtype=bool)
    own[8:22, 8:22] = True
    core = np.zeros_like(own)
    core[11:19, 11:19] = True
    log_depth = np.full(own.shape, np.log(3.0))
    log_depth[9:21, 9:21] = np.log(2.0)
    log_depth[:, 20] = np.log(2.4)  # between the two
    good = on_surface(log_depth, core, own)
    assert good[10:19, 10:19].all()
    assert not good[8].any()
    assert not good[:, 20].any()
    surface, near = surface_beyond(log_depth, core, own)
    np.testing.assert_allclose(surface[own], np.log(2.0), atol=1e-5)
    assert near[9, 12]
    assert not near[0, 0]


def test_a_mask_too_wide_by_more_than_the_rim_leaves_the_background_out():
    own = np.zeros((60, 60), dtype=bool)
    own[10:50, 10:50] = True
    log_depth = np.full(own.shape, np.log(3.0))
    log_depth[14:46, 14:46] = np.log(2.0)
    expected = np.zeros_like(own)
    expected[14:46, 14:46] = True
    np.testing.assert_array_equal(core_of(own, log_depth, np.ones_like(own)), expected)
