"""Transforms, cameras, trajectories and meshes, by hand and by invariance."""

import numpy as np
import pytest

from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import DepthKind, DepthMap, SceneDepth
from recon4d.scene.mesh import DepthMesh, TriMesh
from recon4d.scene.scene4d import frame_rate
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3, Sim3, quat_xyzw_from_rotation, rotation_from_quat_xyzw

QUARTER_TURN_ABOUT_X = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def test_rays_through_single_pixels_by_hand():
    camera = Camera(64, 48, 50.0, 40.0, 32.0, 24.0)
    np.testing.assert_allclose(camera.rays_at(57.0, 4.0), [0.5, -0.5, 1])
    rays = camera.rays_at(np.array([32.0, 82.0]), np.array([64.0, 24.0]))
    np.testing.assert_allclose(rays, [[0, 1, 1], [1, 0, 1]])
    np.testing.assert_array_equal(camera.rays()[5, 7], camera.rays_at(7.5, 5.5))
    np.testing.assert_allclose(camera.project(3 * rays), [[32, 64], [82, 24]])


def random_rigid(seed: int, *batch: int) -> Rigid3:
    rng = np.random.default_rng(seed)
    return Rigid3.from_quat_xyzw(rng.normal(size=(*batch, 4)), rng.normal(size=(*batch, 3)))


def test_rotation_then_translation_by_hand():
    cam_from_world = Rigid3(QUARTER_TURN_ABOUT_X, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(cam_from_world @ np.array([1.0, 2.0, 3.0]), [2.0, -1.0, 5.0])


def test_inverse_undoes_for_batches_and_points():
    b_from_a = random_rigid(1, 4)
    points = np.random.default_rng(2).normal(size=(4, 7, 3))
    np.testing.assert_allclose(b_from_a.inverse() @ (b_from_a @ points), points, atol=1e-12)
    np.testing.assert_allclose((b_from_a @ b_from_a.inverse()).matrix, np.tile(np.eye(4), (4, 1, 1)), atol=1e-12)


def test_composition_is_matrix_product():
    c_from_b, b_from_a = random_rigid(3, 5), random_rigid(4, 5)
    np.testing.assert_allclose((c_from_b @ b_from_a).matrix, c_from_b.matrix @ b_from_a.matrix, atol=1e-12)


def test_quaternion_by_hand():
    half = np.sqrt(0.5)
    np.testing.assert_allclose(quat_xyzw_from_rotation(QUARTER_TURN_ABOUT_X), [half, 0, 0, half], atol=1e-12)
    np.testing.assert_allclose(rotation_from_quat_xyzw([half, 0, 0, half]), QUARTER_TURN_ABOUT_X, atol=1e-12)


def test_quaternion_round_trip_also_at_half_turns():
    quats = np.random.default_rng(5).normal(size=(50, 4))
    quats[:10, 3] = 0  # half turns, where formulas that divide by w fail
    rotation = rotation_from_quat_xyzw(quats)
    np.testing.assert_allclose(rotation_from_quat_xyzw(quat_xyzw_from_rotation(rotation)), rotation, atol=1e-10)


def test_reflection_is_no_rotation():
    with pytest.raises(ValueError, match="orthonormal"):
        Rigid3(np.diag([1.0, 1.0, -1.0]), np.zeros(3))


def test_similarity_of_a_pose_moves_camera_and_points_together():
    cam_from_a = random_rigid(6)
    b_from_a = Sim3(2.5, random_rigid(7).rotation, np.array([0.3, -1.0, 4.0]))
    points_in_a = np.random.default_rng(8).normal(size=(9, 3))
    seen_in_b = b_from_a.apply_to_pose(cam_from_a) @ (b_from_a @ points_in_a)
    np.testing.assert_allclose(seen_in_b, 2.5 * (cam_from_a @ points_in_a), atol=1e-12)


def test_similarity_inverse_and_composition():
    b_from_a = Sim3(0.5, random_rigid(9).rotation, np.array([1.0, 2.0, 3.0]))
    points = np.random.default_rng(10).normal(size=(4, 3))
    np.testing.assert_allclose(b_from_a.inverse() @ (b_from_a @ points), points, atol=1e-12)
    np.testing.assert_allclose((b_from_a @ b_from_a.inverse()).matrix, np.eye(4), atol=1e-12)


def test_pixel_centre_of_first_pixel_is_half():
    camera = Camera(4, 2, 2.0, 2.0, 2.0, 1.0)
    np.testing.assert_allclose(camera.rays()[0, 0], [(0.5 - 2) / 2, (0.5 - 1) / 2, 1.0])
    np.testing.assert_allclose(camera.project(np.array([0.0, 0.0, 5.0])), [2.0, 1.0])


def test_project_undoes_unproject():
    camera = Camera(8, 6, 7.0, 6.5, 4.1, 2.8)
    depth = np.random.default_rng(11).uniform(1, 5, (6, 8))
    v, u = np.mgrid[0:6, 0:8] + 0.5
    np.testing.assert_allclose(camera.project(camera.unproject(depth)), np.stack([u, v], axis=-1), atol=1e-12)


def test_points_behind_the_camera_do_not_project():
    assert np.isnan(Camera(4, 4, 2, 2, 2, 2).project(np.array([0.0, 0.0, -1.0]))).all()


def test_resized_camera_sees_the_same_ray():
    camera = Camera(640, 480, 520.0, 530.0, 322.0, 238.0)
    point = np.array([0.3, -0.2, 2.0])
    np.testing.assert_allclose(camera.resized(320, 120).project(point), camera.project(point) * [0.5, 0.25])


def test_trajectory_finds_frames_by_name():
    poses = random_rigid(12, 2)
    camera = Camera(4, 4, 2, 2, 2, 2)
    trajectory = Trajectory(("b", "a"), np.array([0.0, 0.1]), poses, (camera, camera), (PoseOrigin.MEASURED,) * 2)
    np.testing.assert_array_equal(trajectory["a"].cam_from_world.translation, poses.translation[1])
    np.testing.assert_allclose(trajectory.cam_from_world @ trajectory.centres[:, None], 0, atol=1e-12)
    with pytest.raises(KeyError):
        trajectory["c"]


def test_depth_map_refuses_valid_nan():
    values = np.full((2, 2), np.nan, dtype=np.float32)
    ones = np.ones((2, 2))
    with pytest.raises(ValueError, match="finite"):
        DepthMap(DepthKind.METRIC_Z, values, ones, ones, ones)


def grid_mesh(depth: np.ndarray, join_right: np.ndarray | None = None) -> DepthMesh:
    valid = np.ones(depth.shape, dtype=bool)
    right, down = valid.copy(), valid.copy()
    right[:, -1], down[-1] = False, False
    surface = SceneDepth(depth, valid, np.zeros(depth.shape), np.zeros(depth.shape))
    return DepthMesh(surface, right if join_right is None else join_right, down)


def test_full_grid_has_two_triangles_a_cell_facing_the_camera():
    mesh = grid_mesh(np.full((3, 4), 2.0))
    triangles = mesh.triangles()
    assert triangles.shape == (2 * 2 * 3, 3)
    points = Camera(4, 3, 3, 3, 2, 1.5).unproject(mesh.surface.depth).reshape(-1, 3)
    a, b, c = points[triangles].swapaxes(0, 1)
    normals = np.cross(b - a, c - a)
    assert (normals[:, 2] < 0).all()  # towards the camera
    np.testing.assert_allclose(
        np.linalg.norm(normals, axis=1).sum() / 2, 3 * 2 * (2.0 / 3) ** 2
    )  # covers the area once


def test_triangles_take_the_flatter_diagonal():
    depth = np.array([[1.0, 5.0], [1.0, 1.0]])  # b sticks out: the diagonal a-d keeps it in one triangle
    assert {frozenset(t) for t in grid_mesh(depth).triangles().tolist()} == {frozenset({0, 2, 3}), frozenset({0, 3, 1})}


def test_cut_pixel_leaves_the_other_triangle():
    join_right = np.array([[False, False], [True, False]])  # a and b are cut apart
    triangles = grid_mesh(np.ones((2, 2)), join_right).triangles()
    assert {frozenset(t) for t in triangles.tolist()} in ({frozenset({0, 2, 3})}, {frozenset({1, 2, 3})})


def test_mesh_refuses_a_face_without_vertex():
    with pytest.raises(ValueError, match="vertex"):
        TriMesh(np.zeros((2, 3)), np.array([[0, 1, 2]]), np.zeros((2, 3)))


def test_cloud_keeps_rows_together():
    cloud = PointCloud(np.arange(9).reshape(3, 3), np.arange(9).reshape(3, 3), object_id=np.array([7, 8, 9]))
    picked = cloud[np.array([False, True, True])]
    np.testing.assert_array_equal(picked.object_id, [8, 9])
    np.testing.assert_array_equal(picked.points[0], [3, 4, 5])
    assert len(PointCloud.concatenate([picked, cloud])) == 5


def test_cloud_turns_normals_without_scaling_them():
    cloud = PointCloud(np.array([[0.0, 0, 1]]), np.zeros((1, 3)), normals=np.array([[0.0, 0, 1]]))
    moved = cloud.transformed(Sim3(3.0, QUARTER_TURN_ABOUT_X, np.array([1.0, 0, 0])))
    np.testing.assert_allclose(moved.points, [[1, -3, 0]], atol=1e-6)
    np.testing.assert_allclose(moved.normals, [[0, -1, 0]], atol=1e-6)


@pytest.mark.parametrize("rate", [23.976, 25.0, 29.97, 30.0, 59.94])
def test_the_frame_rate_survives_times_in_milliseconds_and_dropped_frames(rate):
    times_s = np.round(5.0 + np.arange(300) / rate, 3)  # as in Matroska: gaps of 33 and 34 ms
    assert frame_rate(times_s) == pytest.approx(rate, rel=2e-5)
    kept = np.delete(times_s, [7, 8, 40, 41, 42, 200])
    assert frame_rate(kept) == pytest.approx(rate, rel=2e-5)


def test_the_frame_rate_by_hand():
    assert frame_rate(np.array([1.0, 1.1, 1.2])) == pytest.approx(10.0)
    assert frame_rate(np.array([3.0])) == 30.0
    assert frame_rate(np.array([0.0, 0.5, 2.0, 2.5])) == pytest.approx(2.0)  # one gap of three frames
