"""Around the energy of a frame: springs of its prior, opinions of other frames, the way to the picture's size."""

import numpy as np
import pytest
from refine_scene import WALL, camera_of, pose_at, seen_by

from recon4d.refine.prior import COLOR_STEP, DEPTH_STEP, prior_springs
from recon4d.refine.upsample import DETAIL, upsample
from recon4d.refine.votes import MOST, VOTE_SIGMA, Found, opinion_of_votes


def grey_rgb(shape, value=128):
    return np.full((*shape, 3), value, dtype=np.uint8)


def plane(shape, size, slope):
    """A ramp of x over a grid that covers ``size`` (height, width) of whatever resolution."""
    v, u = ((np.arange(n) + 0.5) * s / n for n, s in zip(shape, size))
    return (-0.5 + slope[0] * u + slope[1] * v[:, None]).astype(np.float32)


# Springs


def test_springs_are_whole_on_a_plain_surface_and_end_at_the_border():
    right, down = prior_springs(plane((9, 12), (9, 12), (0, 0)), grey_rgb((9, 12)))
    whole = (1 + 1e-3) * (1 + 0.1)
    np.testing.assert_allclose(right[:, :-1], whole, rtol=1e-5)
    np.testing.assert_allclose(down[:-1], whole, rtol=1e-5)
    assert (right[:, -1] == 0).all()
    assert (down[-1] == 0).all()


def test_springs_weaken_with_steps_of_depth_by_hand():
    x = np.zeros((8, 10), dtype=np.float32)
    x[:, 4:] = 2 * DEPTH_STEP
    right, down = prior_springs(x, grey_rgb((8, 10)))
    np.testing.assert_allclose(right[:, 3], (np.exp(-2) + 1e-3) * 1.1, rtol=1e-5)
    np.testing.assert_allclose(right[:, 5], 1.001 * 1.1, rtol=1e-5)
    np.testing.assert_allclose(down[:-1], 1.001 * 1.1, rtol=1e-5)


def test_springs_weaken_with_steps_of_the_picture():
    rgb = grey_rgb((16, 20), 60)
    rgb[8:] = 200
    right, down = prior_springs(np.zeros((16, 20), dtype=np.float32), rgb)
    np.testing.assert_allclose(down[7], 1.001 * (np.exp(-140 / COLOR_STEP) + 0.1), rtol=0.02)
    np.testing.assert_allclose(down[3], 1.001 * 1.1, rtol=1e-3)
    np.testing.assert_allclose(right[:, :-1], 1.001 * 1.1, rtol=1e-3)


def test_no_spring_ends_where_the_prior_has_nothing():
    x = np.zeros((8, 10), dtype=np.float32)
    x[3, 4] = np.nan
    right, down = prior_springs(x, grey_rgb((8, 10)))
    assert right[3, 3] == right[3, 4] == down[2, 4] == down[3, 4] == 0
    assert (right[:, :-1] > 0).sum() == 8 * 9 - 2


# Upsampling


def upsampled(x, prior, rgb, fine_prior, fine_rgb):
    return upsample(x, np.ones_like(x), (prior, rgb), (fine_prior, fine_rgb))


@pytest.mark.parametrize("times", [2, 3])
def test_a_plane_stays_a_plane(times):
    """Whatever the pictures show, and even where coarse and fine pixels do not fall on each other."""
    chance = np.random.default_rng(0)
    shape, fine = (12, 16), (12 * times, 16 * times)
    prior, fine_prior = (np.zeros(s, dtype=np.float32) for s in (shape, fine))
    rgb, fine_rgb = (chance.integers(0, 255, (*s, 3), dtype=np.uint8) for s in (shape, fine))
    x = plane(shape, (12, 16), (0.003, -0.002))
    found, carried = upsampled(x, prior, rgb, fine_prior, fine_rgb)
    inner = (slice(times, -times), slice(times, -times))
    np.testing.assert_allclose(found[inner], plane(fine, (12, 16), (0.003, -0.002))[inner], atol=2e-6)
    np.testing.assert_allclose(carried, 1, rtol=1e-5)


def test_a_step_lies_where_the_fine_picture_has_it():
    """Not where the coarse pixels end: the near thing is three fine pixels wider than they tell."""
    shape, fine = (10, 12), (40, 48)
    x = np.full(shape, -1.0, dtype=np.float32)
    x[:, :6] = -0.5
    rgb, fine_rgb = grey_rgb(shape, 60), grey_rgb(fine, 60)
    rgb[:, :6] = 200
    fine_rgb[:, :25] = 200
    prior, fine_prior = (np.full(s, -0.7, dtype=np.float32) for s in (shape, fine))
    values = np.where(x > -0.7, 3.0, 8.0).astype(np.float32)
    found, carried = upsample(x, values, (prior, rgb), (fine_prior, fine_rgb))
    np.testing.assert_allclose(found[:, :25], -0.5, atol=1e-6)
    np.testing.assert_allclose(found[:, 25:], -1.0, atol=1e-6)
    np.testing.assert_allclose(carried[:, :25], 3, rtol=1e-5)
    np.testing.assert_allclose(carried[:, 25:], 8, rtol=1e-5)


def test_relief_of_the_fine_prior_is_kept_and_its_steps_are_not():
    shape, fine = (10, 12), (40, 48)
    relief = (0.5 * DETAIL * np.sin(np.arange(48) / 2)).astype(np.float32) * np.ones((40, 1), dtype=np.float32)
    x, prior = (np.full(shape, value, dtype=np.float32) for value in (-0.5, -0.6))
    found, _ = upsampled(x, prior, grey_rgb(shape), -0.6 + relief, grey_rgb(fine))
    np.testing.assert_allclose(found, -0.5 + relief, atol=1e-6)
    found, _ = upsampled(x, prior, grey_rgb(shape), np.full(fine, -0.6 + 2 * DETAIL, dtype=np.float32), grey_rgb(fine))
    np.testing.assert_allclose(found, -0.5, atol=1e-6)


def test_holes_are_no_larger_than_the_pixels_without_depth():
    shape, fine = (10, 12), (40, 48)
    x = np.full(shape, -0.5, dtype=np.float32)
    x[4:6, 5:8] = np.nan
    prior, fine_prior = (np.full(s, -0.5, dtype=np.float32) for s in (shape, fine))
    found, _ = upsampled(x, prior, grey_rgb(shape), fine_prior, grey_rgb(fine))
    hole = np.isnan(found)
    assert hole[18:22, 22:30].all()
    assert not hole[:, :20].any()
    np.testing.assert_allclose(found[~hole], -0.5, atol=1e-6)


# Votes


def frame_at(centre, x_change=0.0, sure=1.0):
    view = seen_by(WALL, camera_of(32, 24), pose_at(centre))
    x = (view.x + x_change).astype(np.float32)
    return Found(x, np.full(x.shape, sure, dtype=np.float32), np.ones_like(x)), view


INNER = (slice(4, -4), slice(6, -6))


def test_frames_that_agree_by_hand():
    own, posed = frame_at((0, 0, 0))
    other, theirs = frame_at((0.1, 0.05, 0))
    opinion = opinion_of_votes(own, posed, [other], [theirs])
    # Its own word weighs twice, and a weight of three is enough.
    np.testing.assert_allclose(opinion.chance[INNER], MOST, rtol=1e-5)
    np.testing.assert_allclose(opinion.x[INNER], own.x[INNER], atol=1e-3)
    assert (opinion.sigma == np.float32(VOTE_SIGMA)).all()


def test_a_frame_alone_against_another_by_hand():
    own, posed = frame_at((0, 0, 0), x_change=0.1)
    other, theirs = frame_at((0.1, 0.05, 0))
    opinion = opinion_of_votes(own, posed, [other], [theirs])
    np.testing.assert_allclose(opinion.chance[INNER], MOST * (2 / 3 - 0.2) / 0.8 * 2 / 3, rtol=1e-5)
    np.testing.assert_allclose(opinion.x[INNER], own.x[INNER], atol=1e-5)


def test_most_frames_correct_the_one_that_is_wrong():
    own, posed = frame_at((0, 0, 0), x_change=0.1, sure=0.8)
    truth, _ = frame_at((0, 0, 0))
    found = [frame_at(centre) for centre in ((0.1, 0.05, 0), (-0.1, 0, 0), (0, 0.1, 0), (0, -0.1, 0))]
    opinion = opinion_of_votes(own, posed, [f for f, _ in found], [p for _, p in found])
    np.testing.assert_allclose(opinion.x[INNER], truth.x[INNER], atol=2e-3)


def test_doubted_depth_has_no_opinion():
    own, posed = frame_at((0, 0, 0), sure=0.1)
    own.x[5:8, 5:9] = np.nan
    opinion = opinion_of_votes(own, posed, [], [])
    assert (opinion.chance == 0).all()
    assert np.isfinite(opinion.x).all()
