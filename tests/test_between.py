"""Moments between two frames: displacement, blending and the point clouds, with numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recon4d.fill.between import (
    blended,
    cloud_between,
    finished,
    known_motion,
    moved_cloud,
    moved_splats,
    without_rims,
)
from recon4d.render.splatting import NOTHING, Rendered, Splats, splat
from recon4d.render.surface_splats import grid_splats
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import SceneDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.trajectory import PoseOrigin, View
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(40, 30, 40.0, 40.0, 20.0, 15.0)
VIEW = View("000000", 0.0, Rigid3.identity(), CAMERA, PoseOrigin.MEASURED)


def wall(z: float = 2.0) -> DepthMesh:
    shape = CAMERA.shape
    right, down = np.ones(shape, bool), np.ones(shape, bool)
    right[:, -1], down[-1] = False, False
    depth = np.full(shape, z)
    return DepthMesh(SceneDepth(depth, np.ones(shape, bool), 0.01 * depth, np.zeros(shape)), right, down)


def smooth_picture() -> np.ndarray:
    x, y = np.arange(40) + 0.5, (np.arange(30) + 0.5)[:, None]
    red = 128 + 60 * np.sin(x / 6) + 40 * np.cos(y / 5)
    return np.stack([red, 255 - red, 0 * red + 77], axis=-1).astype(np.uint8)


def shifted_wall(picture: np.ndarray, way: np.ndarray) -> Splats:
    splats = grid_splats(wall(), picture, VIEW.cam_from_world, CAMERA)
    return moved_splats(splats, wall(), way, np.zeros(3))


def plain(color: float, alpha: float, depth: float, provenance: int = 0) -> Rendered:
    return Rendered(
        np.full((1, 1, 3), color, np.float32),
        np.full((1, 1), alpha, np.float32),
        np.full((1, 1), depth, np.float32),
        np.full((1, 1), provenance, np.uint8),
    )


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_constant_flow_shifts_by_its_share(share):
    # 0.2 units at depth 2 and focal length 40 are 4 px.
    way = np.broadcast_to(np.float32([0.2, 0, 0]), (30, 40, 3))
    forward = splat(shifted_wall(smooth_picture(), share * way), VIEW.cam_from_world, CAMERA)
    there = np.arange(40) + 0.5 - 4 * share
    shifted = np.stack(
        [
            [np.interp(there, np.arange(40) + 0.5, row) for row in channel.T]
            for channel in smooth_picture().astype(float).transpose(2, 1, 0)
        ],
        axis=-1,
    )
    assert np.abs(forward.color - shifted)[3:-3, 8:-3].max() < 4
    assert (forward.alpha[:, 0] < 0.5).all()  # left of it there is nothing


def test_both_directions_meet():
    way = np.broadcast_to(np.float32([0.2, 0, 0]), (30, 40, 3))
    later = np.roll(smooth_picture(), 4, axis=1)  # what frame 1 shows of a flow of 4 px
    forward = splat(shifted_wall(smooth_picture(), 0.25 * way), VIEW.cam_from_world, CAMERA)
    backward = splat(shifted_wall(later, -0.75 * way), VIEW.cam_from_world, CAMERA)
    assert np.abs(forward.color - backward.color)[3:-3, 8:-8].max() < 1e-2


def test_what_stays_is_drawn_as_it_was():
    splats = grid_splats(wall(), smooth_picture(), VIEW.cam_from_world, CAMERA)
    keep = np.ones(CAMERA.shape, bool)
    keep[:, :20] = False
    half = grid_splats(wall(), smooth_picture(), VIEW.cam_from_world, CAMERA, keep)
    way = np.zeros((30, 40, 3), np.float32)
    assert np.array_equal(moved_splats(splats, wall(), way, np.zeros(3)).points, splats.points)
    way[4, 25] = [0, 0, 0.1]
    moved = moved_splats(half, wall(), way, np.zeros(3), keep)
    changed = (moved.points != half.points).any(axis=1)
    assert changed.nonzero()[0].tolist() == [4 * 20 + 5]
    assert np.allclose(moved.points[changed] - half.points[changed], [0, 0, 0.1], atol=1e-6)


def test_what_turns_away_is_not_shown_from_behind():
    # Mirroring the wall about a vertical axis turns its back to the camera.
    points = CAMERA.unproject(wall().surface.depth.astype(np.float64))
    way = np.zeros_like(points)
    way[..., 0] = -2 * points[..., 0]
    splats = shifted_wall(smooth_picture(), way)
    assert len(splats) == 0


@pytest.mark.parametrize(("share", "color"), [(0.0, 10), (1.0, 90)])
def test_at_the_ends_one_frame_counts_alone(share, color):
    made = blended(plain(10, 0.9, 2.0, 1), plain(90, 0.7, 1.0, 2), share)
    assert made.color[0, 0, 0] == pytest.approx(color)
    assert made.alpha[0, 0] == pytest.approx(0.7 if share else 0.9)
    assert made.depth[0, 0] == pytest.approx(1.0 if share else 2.0)
    assert made.provenance[0, 0] == (2 if share else 1)
    nothing = blended(plain(0, 0, 0, NOTHING), plain(90, 1, 1.0), 0.0)
    assert nothing.alpha[0, 0] == 0
    assert nothing.provenance[0, 0] == NOTHING


def test_weights_by_hand():
    # Disparities 1/2 and 1, mean 3/4; nearness 3: exponents 2 and 4. w0 = 0.75 * 0.8 * e^2, w1 = 0.25 * 0.6 * e^4.
    made = blended(plain(10, 0.8, 2.0), plain(90, 0.6, 1.0), 0.25, nearness=3.0)
    first, second = 0.75 * 0.8 * np.exp(2), 0.25 * 0.6 * np.exp(4)
    assert made.color[0, 0, 0] == pytest.approx((10 * first + 90 * second) / (first + second), rel=1e-5)
    assert blended(plain(10, 1, 2.0), plain(90, 1, 1.0), 0.25, nearness=0).color[0, 0, 0] == pytest.approx(30)


def test_what_one_frame_sees_it_shows_alone():
    made = blended(plain(10, 0.8, 50.0), plain(0, 0, 0, NOTHING), 0.9)
    assert made.color[0, 0, 0] == pytest.approx(10)
    assert made.alpha[0, 0] == pytest.approx(0.8)
    far = blended(plain(10, 1, 1e6), plain(90, 1, 0.01), 0.5, nearness=1e4)
    assert np.isfinite(far.color).all()
    assert far.color[0, 0, 0] == pytest.approx(90)


def test_unknown_flow_is_that_of_its_object():
    flow = np.zeros((1, 6, 3), np.float32)
    flow[0, 1:4] = [[1, 0, 0], [3, 0, 0], [2, 0, 0]]
    flow[0, 4:] = np.nan
    object_id = np.array([[0, 1, 1, 1, 1, 2]])
    known = known_motion(flow, object_id)
    assert known[0, 4].tolist() == [2, 0, 0]  # the median of object 1
    assert known[0, 5].tolist() == [0, 0, 0]  # nothing is known of object 2
    assert known[0, :4].tolist() == flow[0, :4].tolist()
    assert np.isnan(flow[0, 4]).all()  # the input is left alone


def test_rim_is_background_beside_what_moves():
    object_id = np.zeros((7, 7), int)
    object_id[3, 3] = 4
    keep = without_rims(object_id)
    assert keep[3, 3]
    assert (~keep).sum() == 8
    assert not keep[2, 2]
    assert keep[1, 3]
    assert without_rims(np.zeros((7, 7), int)).all()


def test_holes_are_filled_and_counted():
    color = np.full((9, 9, 3), 120, np.float32)
    color[4, 4] = 0
    alpha = np.ones((9, 9), np.float32)
    alpha[4, 4] = 0
    rendered = Rendered(color, alpha, alpha, np.zeros((9, 9), np.uint8))
    picture, hole = finished(rendered)
    assert hole.sum() == 1
    assert abs(int(picture[4, 4, 0]) - 120) <= 1
    nothing, everywhere = finished(Rendered(0 * color, 0 * alpha, 0 * alpha, np.zeros((9, 9), np.uint8)))
    assert everywhere.all()
    assert not nothing.any()


def test_cloud_moves_as_its_pixels():
    way = np.zeros((30, 40, 3), np.float32)
    way[10, 25] = [0.1, 0.2, 0.3]
    points = CAMERA.unproject(wall().surface.depth.astype(np.float64))
    cloud = PointCloud(np.stack([points[10, 25], points[11, 25]]), np.zeros((2, 3)), object_id=np.ones(2))
    moved = moved_cloud(cloud, VIEW, way)
    assert np.allclose(moved.points - cloud.points, [[0.1, 0.2, 0.3], [0, 0, 0]], atol=1e-6)
    assert len(moved_cloud(cloud[:0], VIEW, way)) == 0


def test_clouds_change_over_at_constant_density():
    def cloud(label, value, count=1000):
        return PointCloud(np.full((count, 3), value), np.zeros((count, 3)), object_id=np.full(count, label))

    forward = PointCloud.concatenate([cloud(1, 0.0), cloud(2, 7.0, 10)])
    backward = cloud(1, 1.0)
    for share in (0.75, 0.5, 0.25):
        made = cloud_between(forward, backward, share)
        of_both = made[made.object_id == 1]
        assert abs(len(of_both) - 1000) <= 4
        assert abs((of_both.points[:, 0] == 1).mean() - share) < 0.01
        assert (made.object_id == 2).sum() == 10  # only the first frame has it
    assert len(cloud_between(forward, backward, 0.0)) == 1010
    assert (cloud_between(forward, backward, 1.0).object_id == 1).sum() == 1000
