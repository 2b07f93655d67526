"""Up and the ground: from made planes, normals, readings and poses, and in real rooms."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from test_gravity_files import note, photo
from true_scene import publish

from recon4d.errors import AlignmentError, InputError, WorkspaceError
from recon4d.formats.gravity import CAM_FROM_PHONE, GravitySamples, write_gravity_table, write_photo_ups
from recon4d.geometry.ground import GroundPlane, find_ground
from recon4d.geometry.levelling import (
    UpEstimate,
    UpSource,
    angle_deg,
    choose_up,
    levelled_from_up,
    up_from_cameras,
    up_from_gravity,
    up_from_planes,
)
from recon4d.geometry.world_points import WorldPoints, surface_points
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import SceneDepth
from recon4d.scene.scene4d import Scene4D
from recon4d.scene.trajectory import PoseOrigin, Trajectory, View
from recon4d.scene.transforms import Rigid3
from recon4d.stages.common import PICTURES_BY_CONTENT, content_hash, pictures_hash, stage_key
from recon4d.stages.levelling import Evidence, LevelOptions, level, write_world_up
from recon4d.synthetic.scene import synthetic_scene
from recon4d.workspace import Workspace

TILT = Rigid3.from_quat_xyzw(np.array([0.3, -0.2, 0.4, 0.8]), np.array([3.0, -1.0, 2.0]))  # scene_from_level
UP = TILT.rotation[:, 2]


def looking(yaw: float, pitch: float, roll: float = 0.0) -> np.ndarray:
    """cam_from_level rotation of a camera in a z-up world."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    level = np.stack([right, np.cross(forward, right), forward])
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return turn @ level


def trajectory_at(rotations, heights=1.5, origin=PoseOrigin.MEASURED) -> Trajectory:
    """Cameras ``cam_from_level`` rotations 1.5 above the ground, ten a second, in the tilted scene frame."""
    count = len(rotations)
    centres = np.stack([0.05 * np.arange(count), np.zeros(count), np.broadcast_to(heights, count)], axis=1)
    rotation = np.stack(rotations)
    cam_from_level = Rigid3(rotation, -np.einsum("nij,nj->ni", rotation, centres))
    poses = [cam_from_level[i] @ TILT.inverse() for i in range(count)]
    return Trajectory(
        names=tuple(f"{i:06d}" for i in range(count)),
        timestamps_s=0.1 * np.arange(count),
        cam_from_world=Rigid3(np.stack([p.rotation for p in poses]), np.stack([p.translation for p in poses])),
        cameras=(Camera(64, 48, 50.0, 50.0, 32.0, 24.0),) * count,
        origin=(origin,) * count,
    )


def plane_points(rng, count, height, extent, centre=(2.0, 0.0), rough=0.0):
    """Level points, in the z-up frame."""
    flat = rng.uniform(-extent, extent, (count, 2)) + centre
    return np.column_stack([flat, height + rough * rng.normal(0, 1, count)])


def wall_points(rng, count):
    return np.column_stack([np.full(count, 5.0), rng.uniform(-3, 3, count), rng.uniform(0, 2.6, count)])


# -- cameras ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("yaws", [np.linspace(0, 1.5, 9), np.linspace(0, 0.02, 9)])
def test_up_is_found_though_the_camera_looks_down(yaws):
    pitch = -0.3 if np.ptp(yaws) > 1 else 0.0
    poses = trajectory_at([looking(yaw, pitch) for yaw in yaws]).cam_from_world
    assert angle_deg(up_from_cameras(poses).up, UP) < 1.0


def test_cameras_that_turn_tell_up_better():
    still = up_from_cameras(trajectory_at([looking(0.01 * k, -0.2) for k in range(9)]).cam_from_world)
    turning = up_from_cameras(trajectory_at([looking(0.7 * k, -0.2) for k in range(9)]).cam_from_world)
    assert 15 < still.sigma_deg < 25
    assert 3 < turning.sigma_deg < 7  # two angles, each known to the roll of a hand
    assert angle_deg(still.up, UP) < still.sigma_deg


# -- the ground -------------------------------------------------------------------------------------------------------


def centres():
    return TILT @ np.array([[0.0, 0, 1.5], [0.4, 0.1, 1.4], [0.8, 0, 1.6]])


def hint(rng, off_deg=10.0):
    across = np.cross(UP, rng.normal(size=3))
    return np.cos(np.radians(off_deg)) * UP + np.sin(np.radians(off_deg)) * across / np.linalg.norm(across)


def test_ground_by_hand():
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [plane_points(rng, 800, 0.0, 2.0), wall_points(rng, 800), plane_points(rng, 600, 0.75, 0.5)]
    )
    plane = find_ground(WorldPoints.of(TILT @ points), centres(), hint(rng)).plane
    assert angle_deg(plane.normal, UP) < 0.05
    assert plane.camera_height == pytest.approx(1.5, abs=0.005)
    np.testing.assert_allclose(plane.height(TILT @ np.array([[9.0, 9, 0], [1, 2, 0.7]])), [0, 0.7], atol=0.01)
    assert plane.share == pytest.approx(800 / 2200, abs=0.03)
    assert plane.inliers == pytest.approx(800, abs=60)


def test_ground_moves_with_the_world():
    rng = np.random.default_rng(1)
    world = np.concatenate([plane_points(rng, 800, 0.0, 2.0, rough=0.01), wall_points(rng, 800)])
    eyes, up = np.array([[0.0, 0, 1.5]]), np.array([0.1, 0, 1.0])
    first = find_ground(WorldPoints.of(world), eyes, up).plane
    scaled = find_ground(WorldPoints.of(7.0 * (TILT @ world)), 7.0 * (TILT @ eyes), TILT.rotation @ up).plane
    assert scaled.camera_height == pytest.approx(7 * first.camera_height, rel=0.003)
    assert scaled.sigma == pytest.approx(7 * first.sigma, rel=0.2)
    assert angle_deg(scaled.normal, TILT.rotation @ first.normal) < 0.2


def test_uncertainty_of_the_height_covers_the_error():
    """Depth errs by 3 % of itself, each patch of 40 points by an error of its own."""
    errors, angles = [], []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        patches = np.column_stack([rng.uniform(1, 5, 40), rng.uniform(-2, 2, 40), np.zeros(40)])
        flat = (patches[:, None] + rng.uniform(-0.2, 0.2, (40, 40, 3)) * [1, 1, 0]).reshape(-1, 3)
        eye = np.array([0, 0, 1.5])
        depth_error = 1 + np.repeat(rng.normal(0, 0.03, 40), 40) + rng.normal(0, 0.01, 1600)
        points = np.concatenate([eye + (flat - eye) * depth_error[:, None], wall_points(rng, 1000)])
        plane = find_ground(WorldPoints.of(points), eye[None], hint(rng, 5.0) @ TILT.rotation).plane
        errors.append(abs(plane.camera_height - 1.5) / plane.sigma)
        angles.append(angle_deg(plane.normal, np.array([0, 0, 1.0])) / plane.tilt_sigma_deg)
    assert 0.6 < np.mean(np.array(errors) < 1) <= 1.0
    assert np.sqrt(np.mean(np.square(errors))) > 0.25  # and it is no empty promise
    assert 0.6 < np.mean(np.array(angles) < 1.2) <= 1.0
    assert np.sqrt(np.mean(np.square(angles))) > 0.25


def test_a_large_table_is_not_the_ground_when_the_floor_is_seen():
    rng = np.random.default_rng(2)
    points = np.concatenate(
        [plane_points(rng, 2500, 0.75, 1.0), plane_points(rng, 400, 0.0, 2.5), wall_points(rng, 800)]
    )
    plane = find_ground(WorldPoints.of(TILT @ points), centres(), hint(rng)).plane
    assert plane.camera_height == pytest.approx(1.5, abs=0.02)


def test_a_table_over_a_floor_that_is_no_plane_is_refused():
    """Things below the table, but no layer among them: none rather than a wrong one."""
    rng = np.random.default_rng(3)
    below = np.column_stack([rng.uniform(0, 4, 500), rng.uniform(-2, 2, 500), rng.uniform(-0.2, 0.6, 500)])
    points = np.concatenate([plane_points(rng, 2500, 0.75, 1.0), below, wall_points(rng, 800)])
    finding = find_ground(WorldPoints.of(TILT @ points), centres(), hint(rng))
    assert finding.plane is None
    assert "below" in finding.reason


def test_no_ground_without_a_level_plane():
    rng = np.random.default_rng(4)
    steep = plane_points(rng, 1000, 0.0, 1.5) @ np.array([[0.6, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.6]])  # by 53 degrees
    for points in (steep - np.array([0, 0, 1]), rng.normal(0, 1, (2000, 3)), wall_points(rng, 1000), np.zeros((5, 3))):
        assert find_ground(WorldPoints.of(TILT @ points), centres(), UP).plane is None


def test_a_ceiling_is_not_the_ground():
    rng = np.random.default_rng(5)
    points = np.concatenate([plane_points(rng, 2000, 2.6, 2.0), wall_points(rng, 800)])
    assert find_ground(WorldPoints.of(TILT @ points), centres(), UP).plane is None


def test_normals_keep_walls_out_of_the_ground():
    """At the foot of a tilted wall of depth noise, only normals tell."""
    rng = np.random.default_rng(6)
    floor, wall = plane_points(rng, 500, 0.0, 2.0, rough=0.02), wall_points(rng, 3000) * [1, 1, 0.2]
    points, normals = np.concatenate([floor, wall]), np.repeat([[0.0, 0, 1], [1, 0, 0]], [500, 3000], axis=0)
    world = WorldPoints.of(TILT @ points, normals @ TILT.rotation.T)
    plane = find_ground(world, centres(), hint(rng)).plane
    assert angle_deg(plane.normal, UP) < 1.0
    assert plane.inliers < 520


def test_points_that_are_not_finite_are_left_out():
    rng = np.random.default_rng(7)
    points = np.concatenate([plane_points(rng, 800, 0.0, 2.0), np.full((50, 3), np.nan), np.full((50, 3), np.inf)])
    with np.errstate(invalid="ignore"):
        world = TILT @ points
    assert find_ground(WorldPoints.of(world), centres(), UP).plane.inliers == 800
    with pytest.raises(ValueError, match="no cameras"):
        find_ground(WorldPoints.of(points), centres(), np.zeros(3))
    with pytest.raises(ValueError, match="weights"):
        WorldPoints(points, np.ones(3), points, np.zeros(len(points)))


def test_ground_of_the_synthetic_room():
    scene = synthetic_scene(size=(96, 72), count=10, fps=1.0, movers=False)
    clouds, trajectory = [], scene.trajectory
    for k, frame in enumerate(scene.frames()):
        surface = SceneDepth(
            frame.depth, np.ones(frame.depth.shape, bool), 0.01 * frame.depth, np.zeros(frame.depth.shape)
        )
        clouds.append(surface_points(trajectory[frame.name], surface, k))
    world, held = WorldPoints.concatenate(clouds), up_from_cameras(trajectory.cam_from_world)
    plane = find_ground(world, trajectory.centres, held.up).plane
    z = np.array([0, 0, 1.0])
    assert angle_deg(plane.normal, z) < 0.3
    assert plane.camera_height == pytest.approx(trajectory.centres[:, 2].mean(), abs=0.02)  # the rug is 1.4 cm thick
    planes = up_from_planes(world, held)
    assert angle_deg(planes.up, z) < 0.3
    assert planes.sigma_deg == pytest.approx(2.0, abs=0.01)  # the normals agree: what houses and bending leave open


# -- normals ----------------------------------------------------------------------------------------------------------


def test_normals_of_a_plane_by_hand():
    """n . X = 1 with n = (0, -0.5, 0.25): z = 1 / (0.25 - 0.5 y), seen by a camera that is turned in the world."""
    camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
    depth = 1.0 / (camera.rays() @ np.array([0, -0.5, 0.25]))
    depth = np.where(depth > 0, depth, 0)
    surface = SceneDepth(depth, depth > 0, 0.01 * depth, np.zeros(depth.shape))
    view = View("000000", 0.0, TILT.inverse(), camera, PoseOrigin.MEASURED)
    world = surface_points(view, surface, group=3)
    known = np.isfinite(world.normals[:, 0])
    assert known.mean() > 0.7
    expected = TILT.rotation @ (np.array([0, -2.0, 1]) / np.sqrt(5))
    np.testing.assert_allclose(np.abs(world.normals[known] @ expected), 1.0, atol=1e-6)
    assert world.weights.sum() == pytest.approx(1.0)
    assert set(world.groups) == {3}
    ignored = np.zeros(depth.shape, dtype=bool)
    ignored[:24] = True
    assert len(surface_points(view, surface, 0, ignored)) < len(world)


def made_normals(rng, floors, walls, clutter, spread_deg=3.0):
    turn = np.array([0.3, 1.9])[rng.integers(0, 2, walls)]
    normals = np.concatenate(
        [
            np.tile([0.0, 0, 1], (floors, 1)),
            np.column_stack([np.cos(turn), np.sin(turn), np.zeros(walls)]),
            rng.normal(0, 1, (clutter, 3)),
        ]
    )
    normals += np.radians(spread_deg) * rng.normal(0, 1, normals.shape)
    return WorldPoints(
        np.zeros((len(normals), 3)),
        np.ones(len(normals)),
        normals / np.linalg.norm(normals, axis=1, keepdims=True) @ TILT.rotation.T,
        np.arange(len(normals)) % 20,
    )


@pytest.mark.parametrize(("floors", "walls"), [(600, 0), (0, 600), (150, 450)])
def test_floors_and_walls_tell_up(floors, walls):
    rng = np.random.default_rng(floors)
    start = UpEstimate(hint(rng, 12.0), 10.0, UpSource.CAMERAS, 10)
    found = up_from_planes(made_normals(rng, floors, walls, 400), start)
    assert angle_deg(found.up, UP) < 1.0
    assert angle_deg(found.up, UP) < 2.5 * found.sigma_deg


def test_errors_that_repeat_from_frame_to_frame_by_hand():
    """40 frames whose floors lean by 3 degrees, 10 each to four sides.

    Each pulls by s = sin(3 degrees), all with one weight: the trace of the covariance is s^2 / (40 - 2), and as more
    than ten frames tell nothing new it is multiplied by 40 / 10. What normals leave open (2 degrees) comes on top.
    """
    s, c = np.sin(np.radians(3)), np.cos(np.radians(3))
    sides = np.array([[s, 0, c], [-s, 0, c], [0, s, c], [0, -s, c]])
    normals, groups = np.tile(sides, (100, 1)), np.repeat(np.arange(100) % 10, 4) * 4 + np.tile(np.arange(4), 100)
    world = WorldPoints(np.zeros((400, 3)), np.ones(400), normals, groups)
    found = up_from_planes(world, UpEstimate(np.array([0, 0, 1.0]), 10.0, UpSource.CAMERAS, 10))
    assert angle_deg(found.up, np.array([0, 0, 1.0])) < 1e-6
    assert found.sigma_deg == pytest.approx(np.hypot(2.0, np.degrees(np.sqrt(4 * s**2 / 38))), rel=1e-6)


def test_normals_that_say_nothing_are_refused():
    rng = np.random.default_rng(0)
    start = UpEstimate(UP, 10.0, UpSource.CAMERAS, 10)
    assert up_from_planes(made_normals(rng, 0, 0, 1000), start) is None
    one_wall = WorldPoints.of(np.zeros((500, 3)), np.tile(TILT.rotation[:, 0], (500, 1)))
    assert up_from_planes(one_wall, start) is None
    assert up_from_planes(WorldPoints.of(np.zeros((500, 3))), start) is None


# -- gravity ----------------------------------------------------------------------------------------------------------


def walk(count=60):
    return trajectory_at([looking(0.03 * k, -0.4 + 0.01 * k, 0.1 * np.sin(k)) for k in range(count)])


def readings(trajectory, seed=0, shake=0.4, sensor_noise=0.05):
    """Specific force in camera axes at the frames: gravity, a hand's acceleration, noise; m/s2."""
    rng = np.random.default_rng(seed)
    force = 9.81 * UP + shake * rng.normal(0, 1, (len(trajectory), 3))
    in_cam = np.einsum("nij,nj->ni", trajectory.cam_from_world.rotation, force)
    return in_cam + sensor_noise * rng.normal(0, 1, in_cam.shape)


def test_gravity_is_turned_into_the_world():
    trajectory = walk()
    estimate = up_from_gravity(
        readings(trajectory, shake=0, sensor_noise=0), trajectory.cam_from_world, trajectory.timestamps_s
    )
    assert angle_deg(estimate.up, UP) < 1e-6
    assert estimate.sigma_deg == pytest.approx(0.7)  # what a sensor leaves open


def test_a_blow_does_not_tip_gravity():
    trajectory, rows = walk(), slice(20, 24)
    force = readings(trajectory, shake=0.1)
    force[rows] += [40.0, 0, 0]
    assert angle_deg(up_from_gravity(force, trajectory.cam_from_world, trajectory.timestamps_s).up, UP) < 1.5


def test_uncertainty_of_gravity_covers_the_error():
    inside = []
    for seed in range(60):
        trajectory = walk(40)
        force = readings(trajectory, seed, shake=1.5)
        estimate = up_from_gravity(force, trajectory.cam_from_world, trajectory.timestamps_s)
        inside.append(angle_deg(estimate.up, UP) / np.sqrt(max(estimate.sigma_deg**2 - 0.7**2, 1e-9)))
    assert 0.45 < np.mean(np.array(inside) < 1) < 0.85  # two angles together: 63 % of a Rayleigh lie within its rms


def test_choice_goes_by_uncertainty_and_tells_contradictions():
    tilted = TILT.rotation @ np.array([np.sin(0.15), 0, np.cos(0.15)])
    imu = UpEstimate(UP, 0.8, UpSource.IMU, 100)
    ground, held = UpEstimate(tilted, 1.5, UpSource.GROUND, 900), UpEstimate(tilted, 10.0, UpSource.CAMERAS, 9)
    choice = choose_up([held, ground, imu])
    assert choice.chosen is imu
    [(other, angle)] = choice.contradicting  # 10 degrees are within what cameras leave open
    assert other is ground
    assert angle == pytest.approx(np.degrees(0.15))
    assert choose_up([held]).chosen is held
    with pytest.raises(ValueError):
        choose_up([])


# -- the levelled world -----------------------------------------------------------------------------------------------


def test_levelled_world_stands_on_the_ground():
    ground = GroundPlane(UP, float(-UP @ TILT.translation), 0.01, 0.5, 100, 0.3, 1.5)
    levelled = levelled_from_up(UP, ground, TILT @ np.array([0, 0, 1.5]))
    flat = TILT @ np.array([[0.0, 0, 0], [5, 2, 0], [1, 1, 1.7]])
    np.testing.assert_allclose((levelled @ flat)[:, 2], [0, 0, 1.7], atol=1e-12)
    unturned = levelled_from_up(np.array([0, 0, 1.0]))
    np.testing.assert_allclose(unturned.matrix, np.eye(4), atol=1e-12)  # nothing to do: no turn about z either


def test_exports_carry_the_ground_at_zero_in_metres():
    """What readers do with the stored motion: rotation, then its translation in scene units, then metres, once."""
    ground = GroundPlane(UP, float(-UP @ TILT.translation), 0.01, 0.5, 100, 0.3, 1.5)
    levelled = levelled_from_up(UP, ground, np.zeros(3))
    flat = (TILT @ np.array([[0.0, 0, 0], [5, 2, 0], [1, 1, 1.7]])).astype(np.float64)
    count = len(flat)
    cloud = PointCloud(flat, np.zeros((count, 3)), np.zeros((count, 3)), np.ones(count), np.zeros(count))
    trajectory = walk(3)
    stored = Rigid3.from_matrix(np.array(json.loads(json.dumps(levelled.matrix.tolist()))))
    scene = Scene4D(cloud, lambda name: cloud, trajectory, 0.5, stored)
    delivered = scene.delivered_from_scene()
    np.testing.assert_allclose((delivered @ flat)[:, 2], [0, 0, 0.85], atol=1e-9)
    cameras = delivered.apply_to_pose(trajectory.cam_from_world).inverse().translation
    np.testing.assert_allclose(cameras[:, 2], 0.75, atol=1e-9)
    view = trajectory[trajectory.names[1]]
    moved = delivered.apply_to_pose(view.cam_from_world)
    np.testing.assert_allclose(moved @ (delivered @ flat), 0.5 * (view.cam_from_world @ flat), atol=1e-9)


@pytest.fixture
def workspace(tmp_path):
    made = Workspace.create(tmp_path / "scene")
    publish(made, "frames", lambda folder: None)
    return made


def room(rng):
    points = np.concatenate([plane_points(rng, 900, 0.0, 2.0, rough=0.01), wall_points(rng, 700)])
    return WorldPoints.of(TILT @ points, group=-1)


def test_ground_levels_the_scene_and_is_told(workspace, tmp_path):
    trajectory = walk()
    done = level(workspace, trajectory, Evidence(room(np.random.default_rng(0)), None), LevelOptions())
    assert done.source == "the ground plane"
    assert angle_deg(done.choice.chosen.up, UP) < 0.5
    assert done.warnings == ()
    heights = (done.levelled_from_scene @ trajectory.centres)[:, 2]
    np.testing.assert_allclose(heights, 1.5, atol=0.02)
    write_world_up(tmp_path / "world_up.json", done)
    told = json.loads((tmp_path / "world_up.json").read_text())
    np.testing.assert_allclose(told["levelled_from_scene"], done.levelled_from_scene.matrix)
    assert told["ground"]["camera_height"] == pytest.approx(1.5, abs=0.02)
    assert told["sigma_deg"] == done.choice.chosen.sigma_deg
    assert [e["source"] for e in told["estimates"]] == ["the ground plane", "cameras held level"]
    bare = level(workspace, trajectory, Evidence(None, None), LevelOptions())
    assert bare.source == "cameras held level"
    assert bare.ground is None
    np.testing.assert_array_equal(bare.levelled_from_scene.translation, 0)
    assert (
        level(workspace, trajectory, Evidence(room(np.random.default_rng(0)), None), LevelOptions(ground=False)).ground
        is None
    )


@pytest.mark.parametrize(
    ("axes", "turns", "sign"), [("camera", 0, 1), ("camera", 0, -1), ("phone", 0, 1), ("phone", 3, -1)]
)
def test_readings_of_phones_in_any_pose_and_sign(workspace, tmp_path, axes, turns, sign):
    trajectory = walk()
    force = readings(trajectory, shake=0.1)
    if axes == "phone":
        quarter = np.linalg.matrix_power(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), turns)
        force = force @ quarter @ CAM_FROM_PHONE
    write_gravity_table(tmp_path / "imu.csv", GravitySamples(trajectory.timestamps_s, sign * force / 9.81))
    options = LevelOptions(tmp_path / "imu.csv", axes)
    done = level(workspace, trajectory, Evidence(room(np.random.default_rng(0)), None), options)
    assert done.source == "gravity measured by an IMU"
    assert angle_deg(done.choice.chosen.up, UP) < 0.5
    assert done.ground is not None
    np.testing.assert_allclose((done.levelled_from_scene @ trajectory.centres)[:, 2].mean(), 1.5, atol=0.02)


def test_up_that_the_photos_told_is_found_by_name_and_a_sloping_ground_is_told(workspace):
    trajectory = walk()
    ups = dict(zip(trajectory.names, readings(trajectory) / 9.81))
    write_photo_ups(
        workspace.unit_dir("frames") / "gravity.csv", {"left out": np.ones(3)} | dict(list(ups.items())[9:])
    )
    slope = np.radians(9)
    turn = np.array([[np.cos(slope), 0, np.sin(slope)], [0, 1, 0], [-np.sin(slope), 0, np.cos(slope)]])
    points = (plane_points(np.random.default_rng(0), 900, 0.0, 2.0, rough=0.01)) @ turn.T
    done = level(workspace, trajectory, Evidence(WorldPoints.of(TILT @ points), None), LevelOptions())
    assert done.source == "gravity in the photos"
    assert done.choice.chosen.samples == len(trajectory) - 9
    assert len(done.warnings) == 1
    assert done.warnings[0].startswith("align: gravity in the photos and the ground plane disagree by 9 degrees")


def test_a_damaged_table_of_the_frames_is_told(workspace):
    (workspace.unit_dir("frames") / "gravity.csv").write_text("name,ax,ay\n000000,0,1\n")
    with pytest.raises(WorkspaceError, match=r"damaged .*name,ax,ay,az"):
        level(workspace, walk(), Evidence(None, None), LevelOptions())


def test_a_folder_of_originals_is_read_by_name(workspace, tmp_path):
    trajectory, photos = trajectory_at([looking(0.5 * k, 0.0) for k in range(3)]), tmp_path / "photos"
    photos.mkdir()
    for name in trajectory.names[1:]:
        photo(photos / f"{name}.jpg", note(0, -1, 0))  # held upright, level
    done = level(workspace, trajectory, Evidence(None, None), LevelOptions(photos))
    assert done.source == "gravity in the photos"
    assert angle_deg(done.choice.chosen.up, UP) < 1e-3
    (photos / "000000.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"align: --align.gravity: .*000000.jpg is not a picture"):
        level(workspace, trajectory, Evidence(None, None), LevelOptions(photos))


@dataclass(frozen=True)
class GravityOptions:
    gravity: Path | None = field(default=None, metadata=PICTURES_BY_CONTENT)


def test_a_scene_below_the_photos_does_not_change_their_key(tmp_path):
    key = lambda: stage_key("align", 1, GravityOptions(tmp_path), {})  # noqa: E731
    (tmp_path / "a.JPG").write_bytes(b"first")
    first = key()
    (tmp_path / "scene" / "frames").mkdir(parents=True)
    (tmp_path / "scene" / "frames" / "b.jpg").write_bytes(b"made")
    (tmp_path / "notes.txt").write_text("bought milk")
    assert key() == first
    (tmp_path / "a.JPG").write_bytes(b"second")
    assert key() != first
    (tmp_path / "a.JPG").write_bytes(b"first")
    (tmp_path / "b.png").write_bytes(b"")
    assert key() != first
    table = tmp_path / "notes.txt"
    assert pictures_hash(table) == content_hash(table)
    assert pictures_hash(tmp_path / "none") == ""


def test_frames_of_equal_times_keep_their_readings(workspace, tmp_path):
    trajectory, table = walk(), tmp_path / "imu.csv"
    write_gravity_table(table, GravitySamples(trajectory.timestamps_s, readings(trajectory, shake=0.1)))
    times = trajectory.timestamps_s.copy()
    times[10] = times[9]
    done = level(workspace, replace(trajectory, timestamps_s=times), Evidence(None, None), LevelOptions(table))
    assert done.source == "gravity measured by an IMU"
    assert angle_deg(done.choice.chosen.up, UP) < 0.5


@pytest.mark.parametrize(("rate", "used"), [(100, 50), (2, 1), (1, 1)])
def test_a_single_frame_takes_the_readings_around_it(workspace, tmp_path, rate, used):
    still, table = trajectory_at([looking(0.3, -0.1)]), tmp_path / "imu.csv"
    single = replace(still, timestamps_s=np.array([0.305]))
    count = rate + 1
    force = np.repeat(readings(still, shake=0, sensor_noise=0), count, axis=0)
    at = np.arange(count) / rate
    force[np.abs(at - 0.3) > 0.4] = [0, -1, -9.75]  # turned away: not what the frame saw
    write_gravity_table(table, GravitySamples(at, force))
    done = level(workspace, single, Evidence(None, None), LevelOptions(table))
    assert done.choice.chosen.samples == used
    assert angle_deg(done.choice.chosen.up, UP) < 0.01
    late = replace(still, timestamps_s=np.array([1.6]))
    with pytest.raises(AlignmentError, match=r"from 0\.00 to 1\.00 s, the frames lie at 1\.60 to 1\.60 s"):
        level(workspace, late, Evidence(None, None), LevelOptions(table))


def test_readings_that_cannot_belong_to_the_clip(workspace, tmp_path):
    trajectory, table = walk(), tmp_path / "imu.csv"
    write_gravity_table(table, GravitySamples(trajectory.timestamps_s + 100, readings(trajectory)))
    with pytest.raises(AlignmentError, match=r"align: .*imu\.csv has readings from 100"):
        level(workspace, trajectory, Evidence(None, None), LevelOptions(table))
    sideways = readings(trajectory) @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    write_gravity_table(table, GravitySamples(trajectory.timestamps_s, sideways))
    done = level(workspace, trajectory, Evidence(None, None), LevelOptions(table))
    assert done.source == "cameras held level"
    assert "--align.gravity-axes" in done.warnings[0]
    with pytest.raises(AlignmentError, match="no photo in"):
        level(workspace, trajectory, Evidence(None, None), LevelOptions(tmp_path))


def test_a_tripod_is_taken_as_level(workspace):
    still = trajectory_at([looking(0.3, -0.1)] * 4, origin=PoseOrigin.STATIC)
    done = level(workspace, still, Evidence(None, None), LevelOptions())
    assert done.source == "a tripod's camera, taken as level"


def test_rough_depth_does_not_hide_a_ground_that_structure_shows(workspace):
    """Depth in which every plane is a cloud, some of it below the floor: the structure's floor stands."""
    rng, trajectory = np.random.default_rng(0), walk()
    cloud = np.column_stack([rng.uniform(0, 5, 6000), rng.uniform(-3, 3, 6000), rng.uniform(-0.35, 2.5, 6000)])
    done = level(workspace, trajectory, Evidence(room(rng), WorldPoints.of(TILT @ cloud)), LevelOptions())
    assert angle_deg(done.ground.normal, UP) < 1.0


@pytest.mark.shared
def test_floor_and_up_of_a_real_kitchen(shared_data):
    """Depth camera: the floor lies 1.42 m below the hand, and walls agree with it about up within 2 degrees."""
    import cv2

    from recon4d.formats.trajectories import read_tum

    folder = shared_data / "data" / "rgbd_static"
    lens = json.loads((folder / "intrinsics.json").read_text())["color_camera_estimated"]
    camera = Camera(640, 480, lens["fx"], lens["fy"], lens["cx"] + 0.5, lens["cy"] + 0.5)
    world_from_cam, clouds, rows = read_tum(folder / "poses_color_tum.txt")[1], [], range(0, 100, 8)
    for row in rows:
        z = cv2.imread(str(folder / "depth_registered" / f"{3 * row:06d}.png"), cv2.IMREAD_UNCHANGED) / 1000.0
        valid = (z > 0.3) & (z < 8)
        z = np.where(valid, z, 0)
        view = View("", 0.0, world_from_cam[row].inverse(), camera, PoseOrigin.IMPORTED)
        clouds.append(surface_points(view, SceneDepth(z, valid, 0.01 * z, np.zeros(z.shape)), row))
    world, held = WorldPoints.concatenate(clouds), up_from_cameras(world_from_cam.inverse())
    ground, planes = find_ground(world, world_from_cam.translation, held.up).plane, up_from_planes(world, held)
    documented = np.array([0, -0.89, -0.45])  # "gravity along about (0, 0.89, 0.45)"
    assert angle_deg(ground.normal, documented) < 2.5
    assert angle_deg(planes.up, documented) < 2.5
    assert angle_deg(planes.up, ground.normal) < 2.0
    assert ground.camera_height == pytest.approx(1.42, abs=0.03)
    assert not choose_up([replace(held, sigma_deg=10.0), planes]).contradicting
