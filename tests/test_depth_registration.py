"""Depth brought from the camera that measured it to the camera of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.geometry.depth_registration import SURFACE_STEP, coincide, finer_grid, registered
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(40, 30, 100.0, 100.0, 20.0, 15.0)
LEFT = Rigid3(np.eye(3), np.array([-0.1, 0.0, 0.0]))  # at z, everything moves by -10 / z px


def turned(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[a, a], rotation[a, b], rotation[b, a], rotation[b, b] = c, -s, s, c
    return rotation


def test_wall_moves_by_focal_length_times_baseline_over_depth():
    moved = registered(np.full((30, 40), 2.0, dtype=np.float32), CAMERA, CAMERA, LEFT)
    assert (moved.values[:, :35] == 2).all()
    assert (moved.values[:, 35:] == 0).all()
    np.testing.assert_array_equal(moved.source[:, 0], np.arange(30) * 40 + 5)


def test_near_square_hides_the_wall_on_one_side_and_leaves_a_gap_on_the_other():
    depth = np.full((30, 40), 2.0, dtype=np.float32)
    depth[10:20, 20:30] = 1.0
    row = registered(depth, CAMERA, CAMERA, LEFT).values[15]
    expected = np.full(40, 2.0)
    expected[10:20] = 1.0  # 10 px to the left; the wall only 5
    expected[20:25] = 0.0  # seen by the colour camera alone
    expected[35:] = 0.0
    np.testing.assert_allclose(row, expected, atol=1e-6)


def test_finer_picture_has_neither_pinholes_nor_depth_between_surfaces():
    depth = np.full((30, 40), 2.0, dtype=np.float32)
    depth[10:20, 20:30] = 1.0
    fine = Camera(140, 105, 350.0, 350.0, 70.0, 52.5)
    moved = registered(depth, CAMERA, fine, LEFT).values
    assert set(np.unique(moved.round(6))) == {0.0, 1.0, 2.0}
    assert (moved[35:70, 35:70] == 1).all()  # the square of 10 px is one of 35, 35 px further left
    assert (moved[35:70, 70:87] == 0).all()
    assert (moved[:, :34] == 2).all()


def test_plane_keeps_its_equation():
    """Depth of n . x = 1 is 1 / (n . ray) in any camera, the plane's equation moved along."""
    normal = np.array([0.25, -0.15, 0.4])
    depth = (1 / (CAMERA.rays() @ normal)).astype(np.float32)
    motion = Rigid3(turned(2.0, 0) @ turned(-3.0, 1), np.array([0.03, -0.02, 0.05]))
    target = Camera(64, 48, 150.0, 155.0, 31.0, 25.0)
    moved = registered(depth, CAMERA, target, motion)
    n = motion.rotation @ normal
    truth = (1 + n @ motion.translation) / (target.rays() @ n)
    inner = moved.values[12:36, 16:48]
    assert (inner > 0).all()
    np.testing.assert_allclose(inner, truth[12:36, 16:48], rtol=1e-5)


def test_same_camera_of_another_size_changes_nothing():
    depth = np.random.default_rng(1).uniform(1, 3, (30, 40)).astype(np.float32)
    depth[3, 4] = 0
    assert coincide(CAMERA, CAMERA.resized(160, 120), Rigid3.identity())
    moved = registered(depth, CAMERA, CAMERA.resized(160, 120), Rigid3.identity())
    assert (moved.values == depth).all()
    assert moved.source[3, 4] == -1
    np.testing.assert_array_equal(moved.carried(depth), depth)


def test_holes_stay_holes_and_do_not_grow():
    depth = np.full((30, 40), 2.0, dtype=np.float32)
    depth[7, 15] = depth[20:23, 12:17] = 0
    moved = registered(depth, CAMERA, CAMERA, LEFT).values
    assert ((moved == 0)[:, :35] == (depth == 0)[:, 5:]).all()


def test_thin_pole_of_one_sample_stands_before_the_wall():
    depth = np.full((30, 40), 2.0, dtype=np.float32)
    depth[:, 20] = 1.0
    moved = registered(depth, CAMERA, CAMERA, LEFT).values
    assert (moved[:, 10] == 1).all()
    assert (moved[:, [9, 11]] == 2).all()


def test_much_coarser_picture_keeps_the_depths_grid():
    small = Camera(20, 15, 50.0, 50.0, 10.0, 7.5)
    assert finer_grid(CAMERA, small).shape == (30, 40)
    assert finer_grid(CAMERA, Camera(36, 27, 90.0, 90.0, 18.0, 13.5)).shape == (27, 36)
    assert (registered(np.full((30, 40), 2.0), CAMERA, small, LEFT).values[:, :35] == 2).all()


def test_nothing_behind_the_picture_is_drawn():
    back = Rigid3(np.eye(3), np.array([0.0, 0.0, -5.0]))
    assert not registered(np.full((30, 40), 2.0), CAMERA, CAMERA, back).values.any()


def test_depth_of_another_size_is_refused():
    with pytest.raises(ValueError, match="its camera"):
        registered(np.ones((3, 4)), CAMERA, CAMERA, LEFT)


def test_fast_and_readable_registration_agree():
    rng = np.random.default_rng(7)
    depth = np.cumsum(rng.normal(0, 0.015, (30, 40)), axis=1).astype(np.float32) + 2
    depth[8:20, 10:22] -= 0.9
    depth[rng.random((30, 40)) < 0.05] = 0
    motion = Rigid3(turned(1.0, 2) @ turned(-1.5, 1), np.array([-0.08, 0.03, 0.02]))
    target = Camera(50, 40, 120.0, 118.0, 24.0, 21.0)
    fast = registered(depth, CAMERA, target, motion)
    slow = readable(depth, CAMERA, target, motion)
    assert (slow > 0).mean() > 0.5
    np.testing.assert_allclose(fast.values, slow, rtol=1e-5)


def readable(depth: np.ndarray, camera: Camera, target: Camera, motion: Rigid3) -> np.ndarray:
    """The same in whole arrays: every triangle over the whole picture."""
    rows, columns = np.indices(depth.shape)

    def seen(du: float, dv: float) -> np.ndarray:
        points = motion @ (camera.rays_at(columns + du, rows + dv) * depth[..., None])
        return np.concatenate([target.project(points), points[..., 2:]], axis=-1)

    def one_surface(*at: tuple[int, int]) -> bool:
        z = np.array([depth[place] for place in at])
        return bool(z.min() > 0 and z.max() < SURFACE_STEP * z.min())

    surfaces, alone = np.full(target.shape, np.inf), np.full(target.shape, np.inf)
    centres, whole = seen(0.5, 0.5), np.zeros(depth.shape, dtype=int)
    for y in range(depth.shape[0] - 1):
        for x in range(depth.shape[1] - 1):
            a, b, c, d = (y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                inverse = {at: 1 / np.float64(depth[at]) for at in (a, b, c, d)}
                falling = abs(inverse[a] - inverse[d]) if np.isfinite([inverse[a], inverse[d]]).all() else np.inf
                rising = abs(inverse[b] - inverse[c]) if np.isfinite([inverse[b], inverse[c]]).all() else np.inf
            corners = [(a, b, d), (a, d, c)] if falling <= rising else [(a, b, c), (b, d, c)]
            drawn = [three for three in corners if one_surface(*three)]
            for three in drawn:
                paint(surfaces, target, *(centres[at] for at in three))
            if len(drawn) == 2:
                whole[y : y + 2, x : x + 2] += 1
    own = [seen(0, 0), seen(1, 0), seen(1, 1), seen(0, 1)]
    for y, x in np.argwhere((depth > 0) & (whole < 4)):
        paint(alone, target, own[0][y, x], own[1][y, x], own[2][y, x])
        paint(alone, target, own[0][y, x], own[2][y, x], own[3][y, x])
    merged = np.where(alone * SURFACE_STEP < surfaces, alone, surfaces)
    return np.where(np.isfinite(merged), merged, 0)


def paint(values: np.ndarray, target: Camera, p: np.ndarray, q: np.ndarray, r: np.ndarray) -> None:
    v, u = np.indices(target.shape) + 0.5

    def area(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return (one[0] - u) * (two[1] - v) - (two[0] - u) * (one[1] - v)

    parts = np.array([area(q, r), area(r, p), area(p, q)])
    total = parts.sum(axis=0)
    inside = (parts >= -1e-9 * total).all(axis=0) & (total > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = total / (parts / np.array([p[2], q[2], r[2]])[:, None, None]).sum(axis=0)
    values[inside] = np.minimum(values, z)[inside]
