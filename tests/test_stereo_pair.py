"""Two eyes from one camera, and their pictures."""

import numpy as np
import pytest

from recon4d.errors import OptionsError
from recon4d.fill.path_base import CameraPath
from recon4d.fill.stereo_pair import anaglyph, half_side_by_side, side_by_side, stereo_pair, stereo_paths
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(64, 48, 60.0, 62.0, 30.0, 25.0)
QUARTER = Rigid3(np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]), np.array([1.0, 2.0, 3.0]))


def test_the_focus_plane_has_no_disparity_and_nearer_is_crossed():
    pair = stereo_pair(QUARTER, CAMERA, focus_depth=6.0)
    assert pair.baseline == pytest.approx(0.2)
    rng = np.random.default_rng(0)
    in_cam = np.concatenate([rng.uniform(-2, 2, (20, 2)), np.full((20, 1), 6.0)], axis=1)
    for depth_factor, disparity in ((1.0, 0.0), (0.5, 60 * 0.2 * (1 / 3 - 1 / 6)), (2.0, 60 * 0.2 * (1 / 12 - 1 / 6))):
        world = QUARTER @ (in_cam * depth_factor)
        left = pair.left.project(pair.world_from_left.inverse() @ world)
        right = pair.right.project(pair.world_from_right.inverse() @ world)
        np.testing.assert_allclose(left[:, 0] - right[:, 0], disparity, atol=1e-9)
        np.testing.assert_allclose(left[:, 1], right[:, 1], atol=1e-9)
        np.testing.assert_allclose((left + right) / 2, CAMERA.project(in_cam * depth_factor), atol=1e-9)


def test_the_left_eye_is_left():
    pair = stereo_pair(QUARTER, CAMERA, 6.0, baseline=1.0)
    np.testing.assert_allclose(QUARTER.inverse() @ pair.world_from_left.translation, [-0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(QUARTER.inverse() @ pair.world_from_right.translation, [0.5, 0, 0], atol=1e-12)
    for bad in ((0.0, None), (6.0, -1.0), (np.nan, None)):
        with pytest.raises(OptionsError, match="above 0"):
            stereo_pair(QUARTER, CAMERA, *bad)


def test_paths_of_the_eyes_are_the_pairs_of_its_pictures():
    poses = Rigid3(np.stack([QUARTER.rotation] * 3), np.arange(9.0).reshape(3, 3))
    path = CameraPath(poses, (CAMERA, CAMERA, CAMERA.resized(128, 96)), np.arange(3.0))
    depths = path.depth_of(poses.translation + np.array([[2.0], [6.0], [7.0]]) * poses.rotation[:, :, 2])
    np.testing.assert_allclose(depths, [2, 6, 7])
    eyes = stereo_paths(path, depths)
    for i in range(3):
        pair = stereo_pair(poses[i], path.cameras[i], depths[i], baseline=6.0 / 30)
        np.testing.assert_allclose(eyes[0].world_from_cam[i].matrix, pair.world_from_left.matrix, atol=1e-12)
        np.testing.assert_allclose(eyes[1].world_from_cam[i].matrix, pair.world_from_right.matrix, atol=1e-12)
        assert (eyes[0].cameras[i], eyes[1].cameras[i]) == (pair.left, pair.right)


def test_equal_greys_stay_and_come_back_to_the_byte():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(anaglyph(grey, grey), grey)


def test_red_is_the_left_eye_and_cyan_the_right():
    white, black = np.full((1, 1, 3), 255, np.uint8), np.zeros((1, 1, 3), np.uint8)
    np.testing.assert_array_equal(anaglyph(white, black), [[[255, 0, 0]]])
    np.testing.assert_array_equal(anaglyph(black, white), [[[0, 255, 255]]])
    # A red left picture by hand: 0.4561 of light is sRGB 1.055 * 0.4561 ** (1 / 2.4) - 0.055 = 0.7056, byte 180.
    red = np.array([[[255, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(anaglyph(red, black), [[[180, 0, 0]]])


def test_side_by_side_and_half():
    left, right = np.full((2, 4, 3), 0, np.uint8), np.full((2, 4, 3), 200, np.uint8)
    left[:, ::2] = 255
    full = side_by_side(left, right)
    assert full.shape == (2, 8, 3)
    assert (full[:, 4:] == 200).all()
    half = half_side_by_side(left, right)
    assert half.shape == (2, 4, 3)
    assert (half[:, :2] == 188).all()
    assert (half[:, 2:] == 200).all()
    with pytest.raises(OptionsError, match="even width"):
        half_side_by_side(left[:, :3], right[:, :3])
    with pytest.raises(ValueError, match="no pair"):
        side_by_side(left, right[:1])
