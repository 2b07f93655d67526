"""Motion of something that bends, and the patches it is made of."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon4d.motion.followed import Followed
from recon4d.motion.local_motion import fit_local
from recon4d.motion.patches import Patches, laplacian
from recon4d.motion.rigid_fit import fit_rigid
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(320, 240, 300.0, 300.0, 160.0, 120.0)


def bent_sheet(bend=0.6, noise=0.03, seed=0):
    """A flag 2 away whose right half swings towards the camera about its middle line; truth and what is followed."""
    x, y = np.meshgrid(np.arange(80.5, 240, 3), np.arange(60.5, 180, 3))
    pixels = np.stack([x.ravel(), y.ravel()], axis=-1)
    points = CAMERA.rays_at(*pixels.T) * 2.0
    angle = bend * np.clip(points[:, 0], 0, None)  # radians, growing to the right
    moved = Rotation.from_rotvec(np.outer(angle, [0, 1.0, 0])).apply(points - [0, 0, 2.0])
    moved = moved + np.array([0.02, 0, 2.0])
    rng = np.random.default_rng(seed)
    error = rng.normal(0, noise)  # depth of the other frame is off by a common gain, and a little everywhere
    there = moved[:, 2] * np.exp(error + rng.normal(0, 0.005, len(moved)))
    return points, moved, Followed(points, pixels, CAMERA.project(moved), there, 9.0)


def test_bending_is_followed_where_a_rigid_motion_fails():
    points, moved, found = bent_sheet(noise=0.0)
    rigid = fit_rigid(found, CAMERA, Rigid3.identity())
    # How far the whole goes along the ray is the clip's to say, see `rigid_track`.
    off = float(np.mean(moved[:, 2]) - np.mean((rigid.motion @ points)[:, 2]))
    start = Rigid3(rigid.motion.rotation, rigid.motion.translation + np.array([0, 0, off]))
    local = fit_local(found, CAMERA, start, 0.02)
    error = np.linalg.norm(local(points, found.pixels) - moved, axis=1)
    stiff = np.linalg.norm(rigid.motion @ points - moved, axis=1)
    assert local.residual_px < 0.3 * rigid.residual_px
    assert error.mean() < 0.5 * stiff.mean()
    assert error.mean() < 0.35 * np.linalg.norm(moved - points, axis=1).mean()


def test_a_rigid_motion_stays_one():
    points, _, found = bent_sheet(bend=0.0)
    motion = Rigid3(Rotation.from_rotvec([0, 0.05, 0.02]).as_matrix(), np.array([0.03, 0.0, -0.05]))
    moved = motion @ points
    found = Followed(points, found.pixels, CAMERA.project(moved), np.full(len(points), np.nan), 9.0)
    local = fit_local(found, CAMERA, fit_rigid(found, CAMERA, Rigid3.identity()).motion, 0.02)
    assert np.linalg.norm(local(points, found.pixels) - moved, axis=1).max() < 0.01


def test_depth_that_flickers_as_a_whole_moves_nothing():
    """The mean way along the ray is that of the start, whatever the other frame's depth says of the whole."""
    points, moved, found = bent_sheet(bend=0.0, noise=0.0)
    flickered = Followed(points, found.pixels, found.found, found.depth * 1.05, 9.0)
    local = fit_local(flickered, CAMERA, Rigid3(np.eye(3), np.array([0.02, 0, 0])), 0.03)
    assert abs((local(points, found.pixels) - moved)[:, 2].mean()) < 0.01


def test_patches_blend_a_linear_function_exactly():
    pixels = np.random.default_rng(0).uniform([10, 20], [90, 60], (500, 2))
    patches = Patches.over(pixels, 3200.0, 5, (4.0, 64.0))
    rows, columns = np.mgrid[: patches.shape[0], : patches.shape[1]]
    grid = 2.0 * (patches.origin[0] + patches.spacing * columns) - (patches.origin[1] + patches.spacing * rows) + 1
    np.testing.assert_allclose(patches.read(grid, pixels), 2 * pixels[:, 0] - pixels[:, 1] + 1)
    assert patches.spacing == pytest.approx(np.sqrt(3200) / 5)


def test_patches_without_points_take_their_neighbours_value():
    pixels = np.array([[0.5, 0.5], [100.5, 0.5]])
    patches = Patches.over(pixels, 100.0, 1, (10.0, 10.0))
    grid = patches.on_grid(np.where(patches.used % patches.shape[1] < 5, 1.0, 2.0))
    assert set(np.unique(grid)) == {1.0, 2.0}
    assert grid[0, 3] == 1.0
    assert grid[0, -1] == 2.0


def test_laplacian_by_hand():
    expected = [[2, -2, 0], [-2, 5, -3], [0, -3, 3]]
    np.testing.assert_array_equal(laplacian(np.array([0, 1]), np.array([1, 2]), np.array([2.0, 3.0]), 3), expected)
