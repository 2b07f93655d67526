"""Resampling, silhouettes, normals."""

import numpy as np
import pytest

from recon4d.geometry.meshing import cut_silhouettes, grid_normals, well_joined
from recon4d.geometry.resample import resize_grid, sample_grid
from recon4d.scene.camera import Camera
from recon4d.scene.depth import SceneDepth

CAMERA = Camera(40, 30, 40.0, 40.0, 20.0, 15.0)


def surface(depth: np.ndarray, valid: np.ndarray | None = None) -> SceneDepth:
    valid = np.ones(depth.shape, dtype=bool) if valid is None else valid
    return SceneDepth(np.where(valid, depth, 0), valid, 0.01 * depth, np.zeros(depth.shape))


def test_sampling_by_hand():
    values = np.array([[0.0, 1.0], [2.0, 3.0]])
    valid = np.ones((2, 2), dtype=bool)
    got, ok = sample_grid(values, valid, np.array([0.5, 1.0, 1.5, 1.0, 2.6]), np.array([0.5, 0.5, 1.5, 1.0, 1.0]))
    np.testing.assert_allclose(got[:4], [0.0, 0.5, 3.0, 1.5])
    assert ok.tolist() == [True, True, True, True, False]


def test_sampling_takes_the_nearest_beside_a_hole():
    values, valid = np.array([[1.0, 9.0]]), np.array([[True, False]])
    got, ok = sample_grid(values, valid, np.array([0.9, 1.1]), np.array([0.5, 0.5]))
    assert got[0] == 1.0
    assert ok.tolist() == [True, False]


def test_resizing_keeps_a_ramp_a_ramp():
    ramp = np.tile(np.arange(20) + 0.5, (10, 1)) * 2.0  # value = 2 x
    bigger, valid = resize_grid(ramp, np.ones(ramp.shape, dtype=bool), 40, 20)
    np.testing.assert_allclose(bigger[:, 1:-1], np.tile(np.arange(40) + 0.5, (20, 1))[:, 1:-1])
    assert valid.all()


def test_step_is_cut_and_slope_is_not():
    depth = np.full((30, 40), 2.0)
    depth[:, 20:] = 3.0
    mesh = cut_silhouettes(surface(depth), CAMERA, max_ratio=1.04, min_angle_deg=4.0)
    assert not mesh.join_right[:, 19].any()
    assert mesh.join_right[:, :19].all()
    assert mesh.join_down[:-1].all()


@pytest.mark.parametrize(("angle_deg", "joined"), [(8.0, True), (2.0, False)])
def test_plane_is_cut_by_its_angle_to_the_ray(angle_deg, joined):
    camera = Camera(400, 3, 4000.0, 4000.0, 200.0, 1.5)  # narrow: all rays run along z within 3 degrees
    slope = 1 / np.tan(np.radians(angle_deg))
    x = camera.rays()[1, 195:205, 0]
    depth = np.tile(2.0 / (1 - slope * x), (3, 1))  # z = 2 + slope * (x z)
    mesh = cut_silhouettes(surface(depth), Camera(10, 3, 4000, 4000, 5.0, 1.5), max_ratio=10.0, min_angle_deg=4.0)
    assert mesh.join_right[:, :-1].all() == joined
    assert mesh.join_right[:, :-1].any() == joined


def test_invalid_pixels_join_nothing():
    valid = np.ones((30, 40), dtype=bool)
    valid[10, 10] = False
    mesh = cut_silhouettes(surface(np.full((30, 40), 2.0), valid), CAMERA, 1.04, 4.0)
    assert not mesh.join_right[10, 9:11].any()
    assert not mesh.join_down[9:11, 10].any()
    assert not (mesh.triangles() == 10 * 40 + 10).any()


def test_normals_of_a_slanted_plane():
    normal = np.array([0.2, -0.3, -1.0]) / np.linalg.norm([0.2, -0.3, -1.0])
    depth = -2.0 / (CAMERA.rays() @ normal)  # plane n . x = -2
    mesh = cut_silhouettes(surface(depth), CAMERA, 1.5, 1.0)
    normals = grid_normals(CAMERA.unproject(depth), mesh)
    np.testing.assert_allclose(normals, np.broadcast_to(normal, normals.shape), atol=1e-4)


def test_lone_pixel_floats():
    depth = np.full((30, 40), 2.0)
    depth[15, 20] = 3.0
    mesh = cut_silhouettes(surface(depth), CAMERA, 1.04, 4.0)
    assert well_joined(mesh).sum() == 30 * 40 - 1
