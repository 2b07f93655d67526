"""Squares that stand for points: their size and how they lie."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.geometry.point_squares import LONELY, local_spacing, squares
from recon4d.scene.cloud import PointCloud

DOWN = np.array([0.0, 1.0, 0.0])


def grid(count: int, step: float) -> np.ndarray:
    x, y = np.meshgrid(np.arange(count) * step, np.arange(count) * step)
    return np.stack([x, y, np.full_like(x, 2.0)], axis=-1).reshape(-1, 3)


def cloud_of(points: np.ndarray, normal: tuple[float, float, float]) -> PointCloud:
    return PointCloud(points, np.zeros((len(points), 3)), np.broadcast_to(normal, (len(points), 3)))


def test_spacing_of_a_grid_is_its_step():
    spacing = local_spacing(grid(9, 0.25)).reshape(9, 9)
    np.testing.assert_allclose(spacing[1:-1, 1:-1], 0.25, rtol=1e-6)


def test_a_point_far_from_all_others_is_not_drawn_large():
    spacing = local_spacing(np.concatenate([grid(9, 0.1), [[5.0, 5.0, 9.0]]]))
    assert spacing[-1] == pytest.approx(LONELY * np.median(spacing[:-1]), rel=0.5)


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [0]), (2, [3, 3])])
def test_spacing_of_a_handful_of_points(count, expected):
    points = np.array([[0.0, 0, 0], [3.0, 0, 0]])[:count].reshape(-1, 3)
    np.testing.assert_allclose(local_spacing(points), expected)


def test_squares_of_a_grid_that_faces_the_camera_close_it():
    points = grid(5, 0.5)
    corners = squares(cloud_of(points, (0, 0, -1)), np.full(25, 0.5), np.zeros((1, 3)), DOWN).corners
    np.testing.assert_allclose(corners[..., 2], 2.0)
    whole = np.sort(np.unique(np.round(corners[..., :2], 6).reshape(-1, 2), axis=0), axis=0)
    assert len(whole) == 36  # neighbours share their corners: 6 x 6 instead of 100
    np.testing.assert_allclose(corners.mean(axis=1), points, atol=1e-7)


@pytest.mark.parametrize("down", [(0, 1, 0), (0, 0, -1), (1, 1, 1), (-0.6, 0.8, 0)])
def test_squares_are_square_and_lie_in_the_tangent_plane(down):
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(200, 3))
    normals = np.concatenate([normals / np.linalg.norm(normals, axis=1, keepdims=True), np.eye(3), -np.eye(3)])
    normals = np.concatenate([normals, np.full((1, 3), 3**-0.5), [np.array(down) / np.linalg.norm(down)]])
    widths = rng.uniform(0.5, 2, len(normals))
    cloud = PointCloud(rng.normal(size=(len(normals), 3)), np.zeros((len(normals), 3)), normals)
    made = squares(cloud, widths, np.zeros((1, 3)), np.array(down, dtype=np.float64)).corners
    sides = np.roll(made, -1, axis=1) - made
    np.testing.assert_allclose(np.linalg.norm(sides, axis=2), np.repeat(widths[:, None], 4, axis=1), rtol=1e-4)
    turned = np.cross(sides[:, 0], sides[:, 1]) / widths[:, None] ** 2
    np.testing.assert_allclose(turned, cloud.normals, atol=1e-4)  # right angles, counter-clockwise from outside


def test_where_the_normal_is_not_known_a_square_faces_the_nearest_camera():
    eyes = np.array([[0.0, 0, -5], [9.0, 0, 0]])
    cloud = PointCloud([[0, 0, 0], [6, 0, 0]], np.zeros((2, 3)))
    made = squares(cloud, np.ones(2), eyes, DOWN).corners
    turned = np.cross(made[:, 1] - made[:, 0], made[:, 2] - made[:, 1])
    np.testing.assert_allclose(turned, [[0, 0, -1], [1, 0, 0]], atol=1e-6)
