"""Points that a frame sees by its depth, by hand; and parts of a trajectory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fabricated import fabricated_trajectory

from recon4d.geometry.depth_tracks import seen_by_depth
from recon4d.scene.camera import Camera
from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.scene.transforms import Rigid3


def test_a_point_is_seen_where_depth_agrees_within_two_sigmas():
    view = View("0", 0.0, Rigid3.identity(), Camera(8, 6, 4.0, 4.0, 4.0, 3.0), PoseOrigin.STATIC)
    valid, usable = np.ones((6, 8), dtype=bool), np.ones((6, 8), dtype=bool)
    valid[3, 6], usable[3, 2] = False, False
    depth = SceneDepth(np.where(valid, 2.0, 0), valid, np.full((6, 8), 0.1), np.zeros((6, 8)))
    points = np.array(
        [
            [0.1, 0.2, 2.0],  # on the surface: pixel 4 + 4 * 0.05, 3 + 4 * 0.1
            [0.1, 0.2, 2.19],  # a little behind
            [0.1, 0.2, 2.21],  # hidden
            [0.1, 0.2, -2.0],  # behind the camera
            [2.1, 0.2, 2.0],  # beside the picture
            [1.1, 0.2, 2.0],  # no depth there
            [-0.9, 0.2, 2.0],  # not to be used
            [-1.9, -1.4, 2.0],  # first pixel
        ]
    )
    rows, pixels = seen_by_depth(points, view, depth, usable)
    assert rows.tolist() == [0, 1, 7]
    np.testing.assert_allclose(pixels[[0, 2]], [[4.2, 3.4], [0.2, 0.2]])


def test_part_of_a_trajectory_keeps_what_belongs_together():
    whole = fabricated_trajectory(4, 64, 48)
    origin = (PoseOrigin.MEASURED, PoseOrigin.INTERPOLATED, PoseOrigin.STATIC, PoseOrigin.IMPORTED)
    part = replace(whole, origin=origin).part(["000009", "000003"])
    assert part.names == ("000009", "000003")
    assert part.origin == (PoseOrigin.IMPORTED, PoseOrigin.INTERPOLATED)
    for name in part.names:
        assert part[name].timestamp_s == whole[name].timestamp_s
        np.testing.assert_array_equal(part[name].cam_from_world.matrix, whole[name].cam_from_world.matrix)
    assert part.without_interpolated().names == ("000009",)
    assert len(whole.part([])) == 0
    with pytest.raises(KeyError):
        whole.part(["000001"])
