"""Depth steps and the picture's edges: a disc grown too large, a readable twin, and what must stay as it is."""

import numpy as np
import pytest

from recon4d.geometry.silhouettes import (
    COLOUR,
    DOUBTED_PX,
    DOUBTED_WEIGHT,
    MOVED_PX,
    REACH_PX,
    SPREAD_PX,
    STEP,
    distance_to_step,
    snapped_to_picture,
)

SHAPE = (64, 80)
NEAR, FAR = 0.5, 0.2
CENTRE, RADIUS = (32.0, 40.0), 15.0


def disc(radius, shape=SHAPE):
    y, x = np.indices(shape) + 0.5
    return (y - CENTRE[0]) ** 2 + (x - CENTRE[1]) ** 2 < radius**2


def depth_of(near):
    return np.where(near, NEAR, FAR).astype(np.float32)


def picture_of(near, noise=4.0):
    """A red thing before a blue wall, with a little noise."""
    rgb = np.where(near[..., None], [190, 70, 60], [60, 90, 150])
    return np.clip(rgb + np.random.default_rng(0).normal(0, noise, rgb.shape), 0, 255).astype(np.uint8)


def likeness(found, true):
    """Intersection over union."""
    return (found & true).sum() / (found | true).sum()


def readable_snap(inverse_depth, rgb):
    """The weighted median around each pixel close to a step, in float64."""
    import cv2

    picture = cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(float)
    distance = distance_to_step(inverse_depth)
    out = inverse_depth.copy()
    for y, x in zip(*np.nonzero(distance <= MOVED_PX)):
        rows = slice(max(0, y - REACH_PX), y + REACH_PX + 1)
        columns = slice(max(0, x - REACH_PX), x + REACH_PX + 1)
        down, right = np.mgrid[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        unlike = np.abs(picture[rows, columns] - picture[y, x]).sum(axis=-1)
        near_by = inverse_depth[rows, columns]
        down, right = (grid[: near_by.shape[0], : near_by.shape[1]] for grid in (down, right))
        weight = np.exp(-unlike / COLOUR - (down**2 + right**2) / (2 * SPREAD_PX**2))
        weight *= np.where(distance[rows, columns] > DOUBTED_PX, 1, DOUBTED_WEIGHT)
        order = np.argsort(near_by, axis=None)
        reached = np.cumsum(weight.ravel()[order])
        out[y, x] = near_by.ravel()[order][np.searchsorted(reached, 0.5 * reached[-1])]
    return out


@pytest.mark.parametrize(("grown", "left"), [(2.0, 0.3), (-2.0, 0.45)], ids=["too large", "too small"])
def test_a_disc_of_the_wrong_size_takes_the_size_it_has_in_the_picture(grown, left):
    true = disc(RADIUS)
    before = disc(RADIUS + grown)
    after = snapped_to_picture(depth_of(before), picture_of(true))
    assert likeness(before, true) < 0.8
    assert 1 - likeness(after > 0.35, true) < left * (1 - likeness(before, true))
    assert set(np.unique(after)) == {np.float32(NEAR), np.float32(FAR)}  # nothing in between


def test_a_disc_of_the_right_size_keeps_it():
    true = disc(RADIUS)
    after = snapped_to_picture(depth_of(true), picture_of(true))
    assert likeness(after > 0.35, true) > 0.97


def test_a_map_without_steps_does_not_change():
    y, x = np.indices(SHAPE)
    ripples = 0.002 * np.sin(1.3 * x + 0.7 * y)
    smooth = (0.3 + 0.001 * x - 0.0008 * y + ripples).astype(np.float32)
    assert not np.isfinite(distance_to_step(smooth)).any()
    after = snapped_to_picture(smooth, picture_of(disc(RADIUS)))
    assert after.tobytes() == smooth.tobytes()


def test_far_from_steps_nothing_changes():
    rng = np.random.default_rng(1)
    rough = (depth_of(disc(RADIUS)) * rng.uniform(0.99, 1.01, SHAPE)).astype(np.float32)
    after = snapped_to_picture(rough, picture_of(disc(RADIUS - 2)))
    far = distance_to_step(rough) > MOVED_PX
    assert far.mean() > 0.5
    np.testing.assert_array_equal(after[far], rough[far])
    assert (after[~far] != rough[~far]).any()


def test_where_the_picture_says_nothing_a_straight_step_stays():
    near = np.zeros(SHAPE, dtype=bool)
    near[:, :37] = True
    after = snapped_to_picture(depth_of(near), np.full((*SHAPE, 3), 130, dtype=np.uint8))
    ends = (after > 0.35).sum(axis=1)
    assert (np.abs(ends - 37) <= 1).all()
    assert (np.diff(after, axis=1) <= 0).all()  # and stays one step


def test_a_round_step_in_a_uniform_picture_moves_by_less_than_a_pixel():
    after = snapped_to_picture(depth_of(disc(RADIUS)), np.full((*SHAPE, 3), 130, dtype=np.uint8)) > 0.35
    assert not (after & ~disc(RADIUS + 1)).any()
    assert not (~after & disc(RADIUS - 1)).any()


def test_snapping_matches_its_readable_twin():
    rng = np.random.default_rng(2)
    shape = (18, 22)
    values = (depth_of(rng.random(shape) < 0.1) * rng.uniform(0.98, 1.02, shape)).astype(np.float32)
    rgb = rng.integers(90, 150, (*shape, 3), dtype=np.uint8)
    after, expected = snapped_to_picture(values, rgb), readable_snap(values, rgb)
    assert (expected != values).mean() > 0.3
    # Rounding decides where half of the weight is reached exactly.
    assert (after == expected).mean() > 0.99


def test_depth_and_its_unit_do_not_matter_only_ratios_do():
    true, before = disc(RADIUS), depth_of(disc(RADIUS + 2))
    for unit in (1e-3, 0.125, 1000.0):
        after = snapped_to_picture((unit * before).astype(np.float32), picture_of(true))
        np.testing.assert_allclose(after, unit * snapped_to_picture(before, picture_of(true)), rtol=1e-6)


def test_distance_to_a_step_by_hand():
    values = np.full((20, 30), 1.0, dtype=np.float32)
    values[:, 12:] = 1.1 * STEP
    # Both pixels beside the step are on it; the others are as many columns away as they are.
    expected = np.maximum(0, np.abs(np.arange(30) - 11.5) - 0.5)
    np.testing.assert_allclose(distance_to_step(values)[10], expected, rtol=0.05)


@pytest.mark.parametrize(("ratio", "is_step"), [(0.99 * STEP, False), (1.01 * STEP, True)], ids=["less", "more"])
def test_a_step_is_a_ratio_between_neighbours(ratio, is_step):
    values = np.full((9, 9), 0.02, dtype=np.float32)
    values[4, 4] *= ratio
    distance = distance_to_step(values)
    assert np.isfinite(distance).all() == is_step
    if is_step:
        expected = np.ones((9, 9), dtype=bool)
        expected[3:6, 3:6] = False
        np.testing.assert_array_equal(distance > 0, expected)
