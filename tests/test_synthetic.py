"""The synthetic scene: its truth is exact, its files are like a user's, and it is the same every time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recon4d.formats.arrays import read_arrays
from recon4d.formats.pictures import read_grey
from recon4d.formats.trajectories import read_tum
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3
from recon4d.synthetic.clip import write_clip
from recon4d.synthetic.motion import Placement, yaw
from recon4d.synthetic.room import BALL, BLOB, CRATE, FLOOR, TOY_BALL, WALLS, Solid, moving_solids
from recon4d.synthetic.scene import SyntheticFrame, SyntheticScene, synthetic_scene
from recon4d.synthetic.solids import BOX, CYLINDER, ELLIPSOID, ROOM, distance, hit, normal

SMALL = (160, 120)
LOOKING_ALONG_Y = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # rows: right = x, down = -z, forward = y
CAMERA = Camera(31, 21, 30.0, 30.0, 15.5, 10.5)  # a pixel centre on the axis


def _still(position: tuple[float, float, float]):
    pose = Rigid3(LOOKING_ALONG_Y, -LOOKING_ALONG_Y @ np.array(position))
    return lambda time_s: pose


def _scene(solids: list[Solid], position: tuple[float, float, float]) -> SyntheticScene:
    room = Solid(ROOM, (10.0, 10.0, 10.0), Rigid3.identity(), WALLS)
    return SyntheticScene(CAMERA, 10, 1.0, 0, 1, (room, *solids), _still(position))


def _mover(placement_at) -> Solid:
    return Solid(ELLIPSOID, (1.0, 1.0, 1.0), Rigid3.identity(), TOY_BALL, 7, placement_at)


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return synthetic_scene(size=SMALL)


def test_depth_of_a_wall_is_z_not_ray_length():
    frame = _scene([], (0.0, 4.0, 0.0)).frame(0)
    np.testing.assert_allclose(frame.depth, 6.0, rtol=1e-6)  # wall at y = 10, camera at y = 4, the corners too
    assert not frame.object_id.any()


def test_depth_of_a_ball_by_hand():
    frame = _scene([_mover(lambda t: Placement(np.eye(3), np.zeros(3), np.ones(3)))], (0.0, -5.0, 0.0)).frame(0)
    assert frame.depth[10, 15] == pytest.approx(4.0)  # front of a unit ball, 5 m away
    assert frame.object_id[10, 15] == 7
    # One pixel right of the axis the ray is (1/30, 1): t solves t^2 (1 + 1/900) - 10 t + 24 = 0.
    a = 1 + 1 / 900
    assert frame.depth[10, 16] == pytest.approx((10 - np.sqrt(100 - 96 * a)) / (2 * a), rel=1e-6)


@pytest.mark.parametrize(
    ("then", "flow"),
    [
        (Placement(np.eye(3), np.array([0.1, 0.2, -0.3]), np.ones(3)), [0.1, 0.2, -0.3]),
        (Placement(yaw(np.pi / 2), np.zeros(3), np.ones(3)), [1.0, 1.0, 0.0]),  # (0, -1, 0) turns to (1, 0, 0)
        (Placement(np.eye(3), np.zeros(3), np.array([1.0, 0.5, 2.0])), [0.0, 0.5, 0.0]),  # flattened along y
    ],
)
def test_flow_of_a_ball_by_hand(then, flow):
    rest = Placement(np.eye(3), np.zeros(3), np.ones(3))
    frame = _scene([_mover(lambda t: rest if t < 0.5 else then)], (0.0, -5.0, 0.0)).frame(0)
    np.testing.assert_allclose(frame.flow_next[10, 15], flow, atol=1e-6)
    assert not frame.flow_prev.any()
    assert not frame.flow_next[frame.object_id == 0].any()


def test_rays_meet_solids_by_hand():
    assert hit(CYLINDER, -3.0, 0.0, 0.2, 1.0, 0.0, 0.0, 0.5, 0.5, 1.0) == pytest.approx(2.5)
    assert hit(CYLINDER, 0.1, 0.0, 5.0, 0.0, 0.0, -2.0, 0.5, 0.5, 1.0) == pytest.approx(2.0)  # through the lid
    assert hit(BOX, 0.0, -4.0, 0.0, 0.0, 1.0, 0.0, 1.0, 2.0, 3.0) == pytest.approx(2.0)
    assert hit(BOX, 0.0, 4.0, 0.0, 0.0, 1.0, 0.0, 1.0, 2.0, 3.0) == np.inf  # behind
    assert hit(ELLIPSOID, 0.0, 0.0, -9.0, 0.0, 0.0, 1.0, 1.0, 1.0, 3.0) == pytest.approx(6.0)
    assert hit(ROOM, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 1.0, 3.0) == pytest.approx(1.5)


@pytest.mark.parametrize("kind", [BOX, ELLIPSOID, CYLINDER])
def test_distance_and_normal_agree_with_the_surface(kind):
    rng, half = np.random.default_rng(0), (0.7, 0.7, 1.1)
    for _ in range(50):
        direction = rng.normal(size=3)
        origin = -3.0 * direction / np.linalg.norm(direction) + rng.uniform(-0.2, 0.2, 3)
        t = hit(kind, *origin, *direction, *half)
        point = origin + t * direction
        assert abs(distance(kind, *point, *half)) < 1e-9
        outward = np.array(normal(kind, *point, *half))
        assert distance(kind, *(point + 1e-4 * outward), *half) == pytest.approx(1e-4, rel=1e-2)


def _carried(scene: SyntheticScene, frame: SyntheticFrame, other: SyntheticFrame, flow: np.ndarray) -> tuple:
    """Relative depth error and colour difference of every pixel carried into another frame; NaN outside."""
    world = frame.cam_from_world.inverse() @ scene.camera.unproject(frame.depth.astype(float)).reshape(-1, 3)
    in_other = other.cam_from_world @ (world + flow.reshape(-1, 3))
    x, y = (scene.camera.project(in_other) - 0.5).T
    inside = (x >= 0) & (y >= 0) & (x < scene.camera.width - 1) & (y < scene.camera.height - 1)
    error, colour = np.full(len(x), np.nan), np.full(len(x), np.nan)
    x, y = x[inside], y[inside]
    i, j = x.astype(int), y.astype(int)
    weights = [(1 - x + i) * (1 - y + j), (x - i) * (1 - y + j), (1 - x + i) * (y - j), (x - i) * (y - j)]
    corners = [(j, i), (j, i + 1), (j + 1, i), (j + 1, i + 1)]
    disparity = sum(w / other.depth[c] for w, c in zip(weights, corners))  # exact on planes
    error[inside] = np.abs(in_other[inside, 2] * disparity - 1)
    seen = sum(w[:, None] * other.picture[c].astype(float) for w, c in zip(weights, corners))
    colour[inside] = np.abs(seen - frame.picture.reshape(-1, 3)[inside]).mean(axis=1)
    return error.reshape(frame.depth.shape), colour.reshape(frame.depth.shape)


@pytest.mark.parametrize("step", [1, -1])
def test_depth_flow_and_poses_carry_one_frame_into_the_next(step):
    scene = synthetic_scene()
    frame, other = scene.frame(30), scene.frame(30 + step)
    error, colour = _carried(scene, frame, other, frame.flow_next if step == 1 else frame.flow_prev)
    for object_id in (0, CRATE, BALL, BLOB):
        here = (frame.object_id == object_id) & np.isfinite(error)
        assert here.sum() > 400
        visible = error[here] < 0.02  # the rest is hidden in the other frame or at an edge
        assert visible.mean() > 0.8
        # Bilinear sampling is exact on planes, not on a ball of 40 pixels.
        assert np.median(error[here]) < (1e-5 if object_id in (0, CRATE) else 2e-4)
        assert np.mean(error[here][visible] < 1e-3) > 0.9
        assert np.median(colour[here]) < 6


def test_flow_is_needed_to_carry_the_movers(scene):
    frame, other = scene.frame(30), scene.frame(31)
    still, _ = _carried(scene, frame, other, np.zeros_like(frame.flow_next))
    for object_id in (CRATE, BALL, BLOB):
        assert np.nanmedian(still[frame.object_id == object_id]) > 1e-3
    lengths = np.linalg.norm(frame.flow_next, axis=-1)
    assert not lengths[frame.object_id == 0].any()
    assert (lengths[frame.object_id > 0] > 0).mean() > 0.99


def test_blob_keeps_its_volume_and_stands_on_the_table():
    blob = next(solid for solid in moving_solids() if solid.object_id == BLOB)
    for time_s in np.linspace(0, 7, 20):
        place = blob.at(time_s)
        assert np.prod(place.stretch) == pytest.approx(1.0)
        assert place.centre[2] - place.stretch[2] * blob.half[2] == pytest.approx(0.72)


def test_ball_rolls_without_slipping():
    ball = next(solid for solid in moving_solids() if solid.object_id == BALL)
    before, after = ball.at(1.0), ball.at(1.0 + 1e-4)
    lowest = before.rotation.T @ np.array([0, 0, -ball.half[2]])  # material point that touches the floor
    speed = (after.centre + after.rotation @ lowest - before.centre - before.rotation @ lowest) / 1e-4
    assert np.linalg.norm(after.centre - before.centre) / 1e-4 > 0.3
    assert np.linalg.norm(speed) < 1e-3


def test_crate_and_ball_never_meet():
    crate, ball = (next(s for s in moving_solids() if s.object_id == k) for k in (CRATE, BALL))
    times = np.linspace(0, 16, 400)  # their common period
    gaps = [np.linalg.norm((crate.at(t).centre - ball.at(t).centre)[:2]) for t in times]
    assert min(gaps) > np.hypot(*crate.half[:2]) + ball.half[0]


def test_same_seed_same_bits_and_another_seed_another_picture(scene):
    again = synthetic_scene(size=SMALL).frame(7)
    for field in ("picture", "depth", "object_id", "flow_next", "flow_prev"):
        np.testing.assert_array_equal(getattr(scene.frame(7), field), getattr(again, field))
    assert np.abs(synthetic_scene(seed=1, size=SMALL).frame(7).picture.astype(int) - again.picture).mean() > 5


def test_recording_is_fit_for_structure_from_motion(scene):
    shares = [np.mean(scene.frame(i).object_id > 0) for i in range(0, 60, 12)]
    assert 0.02 < np.mean(shares) < 0.08  # movers disturb, they do not dominate
    centres = scene.trajectory.centres
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert 0.02 < np.median(steps) < 0.08
    assert np.linalg.norm(centres[-1] - centres[0]) > 2


def test_movers_can_be_left_away():
    frame = synthetic_scene(size=SMALL, movers=False).frame(20)
    assert not frame.object_id.any()
    assert not frame.flow_next.any()


def test_clip_files_are_like_a_users_and_come_back(tmp_path):
    import av

    scene = synthetic_scene(size=(96, 64), count=4)
    files = write_clip(tmp_path / "a", scene)
    with av.open(str(files.video)) as container:
        assert container.streams.video[0].average_rate == 10
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 4
    frame = scene.frame(2)
    brightness = decoded[2].mean(axis=-1) - frame.picture.mean(axis=-1)  # colour is stored at half the resolution
    assert np.abs(brightness).mean() < 4
    np.testing.assert_allclose(read_grey(files.depth / "000002.png") / 1000, frame.depth, atol=5.1e-4)
    np.testing.assert_array_equal(read_grey(files.mask / "000002.png"), frame.object_id)
    flow = read_arrays(files.scene_flow / "000002.npz")
    np.testing.assert_allclose(flow["next"], frame.flow_next, atol=1e-4)
    np.testing.assert_allclose(flow["prev"], frame.flow_prev, atol=1e-4)
    times, world_from_cam = read_tum(files.trajectory)
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(world_from_cam.inverse().matrix[2], frame.cam_from_world.matrix, atol=1e-9)
    assert json.loads(files.intrinsics.read_text())["fx"] == pytest.approx(0.785 * 96)
    simulated = read_arrays(files.simulated_depth)
    assert list(simulated["names"]) == ["000000", "000001", "000002", "000003"]
    assert simulated["depth"].shape == (4, 64, 96)
    again = write_clip(tmp_path / "b", scene)
    for field in ("video", "simulated_depth", "trajectory"):
        assert getattr(files, field).read_bytes() == getattr(again, field).read_bytes()


def test_odd_size_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="odd side"):
        write_clip(tmp_path / "odd", synthetic_scene(size=(95, 64), count=2))
    assert not (tmp_path / "odd").exists()


def test_materials_have_four_colours():
    np.testing.assert_allclose(FLOOR.linear_palette()[0], (np.array([0xB9, 0x86, 0x55]) / 255) ** 2.2)


def test_video_has_the_same_bytes_every_time(tmp_path):
    scene = synthetic_scene(count=3)
    videos = {write_clip(tmp_path / str(k), scene).video.read_bytes() for k in range(2)}
    assert len(videos) == 1
