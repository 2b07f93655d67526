"""The point renderer against pixels counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.render.points import splat_points
from recon4d.scene.camera import Camera

CAMERA = Camera(9, 7, 10.0, 10.0, 4.5, 3.5)  # its axis meets the centre of pixel (row 3, column 4)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_point_on_a_pixel_centre_covers_exactly_what_its_radius_says():
    point = np.array([[0.2, -0.1, 1.0]])  # 2 pixels right, 1 up: row 2, column 6
    for radius, covered in ((0.5, {(2, 6)}), (1.0, {(2, 6), (1, 6), (3, 6), (2, 5), (2, 7)})):
        picture, depth = splat_points(point, [RED], CAMERA, radius)
        assert {tuple(map(int, at)) for at in np.argwhere(depth > 0)} == covered
        assert (picture[depth > 0] == RED).all()
    assert depth[2, 6] == np.float32(1.0)


def test_disc_between_pixels_by_hand():
    # u = 5.0, v = 3.5: between columns 4 and 5, both centres 0.5 px away; rows 2 and 4 are 1.118 px away.
    _, depth = splat_points([[0.05, 0.0, 1.0]], [RED], CAMERA, 0.6)
    assert {tuple(map(int, at)) for at in np.argwhere(depth > 0)} == {(3, 4), (3, 5)}


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_near_beats_far_in_any_order(order):
    points, colors = np.array([[0.0, 0, 2.0], [0.0, 0, 3.0]]), np.array([RED, BLUE])
    picture, depth = splat_points(points[order], colors[order], CAMERA, 0.5)
    assert tuple(picture[3, 4]) == RED
    assert depth[3, 4] == 2.0


def test_points_behind_outside_or_not_finite_leave_the_background():
    points = [[0, 0, -1.0], [0, 0, 0.0], [5.0, 0, 1.0], [np.nan, 0, 1.0], [0, 0, np.inf]]
    picture, depth = splat_points(points, [RED] * 5, CAMERA, 1.0, background=(1, 2, 3))
    assert not depth.any()
    assert (picture == (1, 2, 3)).all()


def test_disc_at_the_border_is_clipped_not_wrapped():
    _, depth = splat_points([[-0.46, 0.0, 1.0]], [RED], CAMERA, 1.0)  # u = -0.1: outside, its disc reaches column 0
    assert {tuple(map(int, at)) for at in np.argwhere(depth > 0)} == {(3, 0)}


def test_matches_a_plain_numpy_twin_on_random_points():
    rng = np.random.default_rng(5)
    points = rng.uniform([-1, -1, -0.5], [1, 1, 3], (300, 3))
    colors = rng.integers(0, 256, (300, 3), dtype=np.uint8)
    radius = 1.3
    _, depth = splat_points(points, colors, CAMERA, radius)
    pixels = CAMERA.project(points)
    rows, columns = np.mgrid[: CAMERA.height, : CAMERA.width]
    expected = np.zeros(CAMERA.shape, dtype=np.float32)
    for (u, v), z in zip(pixels, points[:, 2]):
        if not z > 0:
            continue
        hit = (columns + 0.5 - u) ** 2 + (rows + 0.5 - v) ** 2 <= radius**2
        expected = np.where(hit & ((expected == 0) | (z < expected)), np.float32(z), expected)
    np.testing.assert_array_equal(depth, expected)


def test_each_point_may_have_its_own_radius():
    points, colors = np.array([[-0.2, 0, 1.0], [0.2, 0, 1.0]]), [RED, BLUE]  # columns 2 and 6
    picture, _ = splat_points(points, colors, CAMERA, np.array([0.5, 1.0]))
    assert [tuple(map(int, at)) for at in np.argwhere((picture == RED).all(axis=2))] == [(3, 2)]
    assert (picture == BLUE).all(axis=2).sum() == 5


def test_counts_must_agree():
    with pytest.raises(ValueError, match="2 points but 1 colours"):
        splat_points(np.zeros((2, 3)), [RED], CAMERA)
