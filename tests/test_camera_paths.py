"""Camera paths, what they start from, and framing: by hand on a camera whose numbers are plain."""

import numpy as np
import pytest

from recon4d.errors import OptionsError
from recon4d.fill.autopilot import steer
from recon4d.fill.camera_paths import PATHS, PathShape, make_path, usual_amplitude
from recon4d.fill.framing import covered_share, framed, output_camera, sized, worst_share
from recon4d.fill.keyed_path import keyed_path
from recon4d.fill.path_base import central_depth, follow_times, freeze_times, looking, path_base, slowmo_times
from recon4d.geometry.pose_splines import poses_between, steadied
from recon4d.scene.camera import Camera
from recon4d.scene.path_keys import PathKeys
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)


def turned(axis, deg):
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(np.radians(deg) * np.asarray(axis, dtype=float)).as_matrix()


def clip(count=9, rotation=None):
    """A camera that walks along x, shaking and nodding."""
    rng = np.random.default_rng(4)
    centres = np.stack([0.1 * np.arange(count), 0.01 * rng.normal(size=count), np.zeros(count)], axis=1)
    turns = np.stack([turned([1, 0, 0], 8 + 1.5 * rng.normal()) @ turned([0, 0, 1], 2.0) for _ in range(count)])
    world_from_cam = Rigid3(turns if rotation is None else np.broadcast_to(rotation, (count, 3, 3)), centres)
    names = tuple(f"{i:06d}" for i in range(count))
    return Trajectory(
        names, np.arange(count) / 30, world_from_cam.inverse(), (CAMERA,) * count, (PoseOrigin.MEASURED,) * count
    )


def plain_base(frames=12, rotation=None, **kwargs):
    trajectory = clip(rotation=np.eye(3) if rotation is None else rotation)
    return path_base(trajectory, freeze_times(len(trajectory), frames), focus_depth=2.0, reference=4, **kwargs)


def directions(path):
    return path.world_from_cam.rotation[:, :, 2]


def towards(path, focus):
    way = focus - path.centres
    return way / np.linalg.norm(way, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", sorted(PATHS))
def test_at_amplitude_0_every_path_is_the_recorded_camera(kind):
    trajectory = clip()
    depth = np.random.default_rng(0).uniform(1, 9, (12, 16))
    base = looking(path_base(trajectory, follow_times(9, 9), 2.0), depth)
    path = make_path(kind, base, PathShape(amplitude=0.0, offset=(1.0, 2.0, 3.0)))
    recorded = trajectory.cam_from_world.inverse()
    np.testing.assert_allclose(path.world_from_cam.matrix, recorded.matrix, atol=1e-12)
    np.testing.assert_array_equal(path.times, np.arange(9))
    assert path.cameras == trajectory.cameras


def test_orbit_keeps_distance_height_and_gaze_and_closes():
    rotation = turned([1, 0, 0], -20)  # looks down: y is down
    base = plain_base(frames=200, rotation=rotation, up=np.array([0, -1.0, 0]))
    focus = base.focus[0]
    np.testing.assert_allclose(focus, base.world_from_cam.translation[0] + 2.0 * rotation[:, 2])
    for shape in (PathShape(0.4), PathShape(whole_turn=True)):
        path = make_path("orbit", base, shape)
        np.testing.assert_allclose(np.linalg.norm(path.centres - focus, axis=1), 2.0)
        np.testing.assert_allclose(path.centres[:, 1], base.world_from_cam.translation[0, 1], atol=1e-12)
        np.testing.assert_allclose(directions(path), towards(path, focus), atol=1e-12)
        steps = np.linalg.norm(np.diff(path.centres, axis=0, append=path.centres[:1]), axis=1)
        assert steps[-1] == pytest.approx(steps[0], rel=1e-2)  # the step over the seam is one like the others
        np.testing.assert_allclose(path.world_from_cam.rotation[:, 1, 0], 0, atol=1e-12)  # right stays level: no roll


def test_orbit_swings_to_the_right_first_by_the_amplitude():
    path = make_path("orbit", plain_base(frames=8, up=np.array([0, -1.0, 0])), PathShape(np.pi / 2))
    # A quarter of the cycle: 90 degrees to the right of a focus 2 ahead of (0.4, y, 0), looking left.
    np.testing.assert_allclose(path.centres[2][[0, 2]], [0.4 + 2.0, 2.0], atol=1e-12)
    np.testing.assert_allclose(directions(path)[2], [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(path.centres[6][[0, 2]], [0.4 - 2.0, 2.0], atol=1e-12)


def test_orbit_of_a_view_straight_down_moves():
    path = make_path("orbit", plain_base(up=np.array([0, 0, -1.0])), PathShape(0.3))
    assert np.ptp(path.centres[:, 0]) > 1.0
    assert np.isfinite(make_path("circle", plain_base(up=np.array([0, 0, -1.0])), PathShape(0.1)).centres).all()


def test_dolly_goes_straight_to_the_focus_and_starts_and_stops_gently():
    base = plain_base(frames=101)
    path = make_path("dolly", base, PathShape(0.5))
    np.testing.assert_array_equal(path.world_from_cam.rotation, base.world_from_cam.rotation)
    moved = path.centres - base.world_from_cam.translation
    np.testing.assert_allclose(moved[-1], [0, 0, 1.0])  # half of 2
    np.testing.assert_allclose(moved[50], [0, 0, 0.5])
    np.testing.assert_allclose(moved[:, :2], 0, atol=1e-12)
    steps = np.diff(moved[:, 2])
    assert steps.min() > 0
    assert steps[0] < 0.05 * steps.max()
    assert steps[-1] < 0.05 * steps.max()
    with pytest.raises(OptionsError, match="reaches the focus"):
        make_path("dolly", base, PathShape(1.0))


def test_dolly_zoom_keeps_the_size_of_what_is_looked_at():
    base = plain_base(frames=7)
    path = make_path("dolly", base, PathShape(0.6, dolly_zoom=True))
    edge = base.focus[0] + np.array([0.3, -0.2, 0.0])
    pixels = [c.project(p.inverse() @ edge) for c, p in zip(path.cameras, path.world_from_cam)]
    np.testing.assert_allclose(pixels, np.broadcast_to(pixels[0], (7, 2)), atol=1e-9)
    assert path.cameras[-1].fx == pytest.approx(60 * 0.4)


@pytest.mark.parametrize("kind", ["orbit", "dolly", "spiral", "line", "circle"])
@pytest.mark.parametrize("frames", [10, 11])
def test_there_and_back_is_a_palindrome(kind, frames):
    path = make_path(kind, plain_base(frames=frames), PathShape(0.2, there_and_back=True))
    matrices = path.world_from_cam.matrix
    np.testing.assert_array_equal(matrices, matrices[::-1])
    assert np.ptp(matrices[:, :3, 3]) > 0.05


def test_circle_has_a_radius_and_looks_at_the_focus():
    base = plain_base(frames=40)
    path = make_path("circle", base, PathShape(0.1))
    away = path.centres - base.world_from_cam.translation
    np.testing.assert_allclose(np.linalg.norm(away[:, :2], axis=1), 0.2)
    np.testing.assert_allclose(away[:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(away[[0, 10]], [[0, -0.2, 0], [0.2, 0, 0]], atol=1e-12)  # above, then right
    np.testing.assert_allclose(directions(path), towards(path, base.focus), atol=1e-12)


def test_looking_paths_keep_the_roll_of_the_base():
    rolled = turned([0, 0, 1], 25)
    base = plain_base(frames=40, rotation=rolled, up=np.array([0, -1.0, 0]))
    path = make_path("circle", base, PathShape(0.05))
    right = path.world_from_cam.rotation[:, :, 0]
    level = np.cross(directions(path), [0, -1.0, 0])
    level /= np.linalg.norm(level, axis=1, keepdims=True)
    roll = np.degrees(np.arccos(np.einsum("ni,ni->n", right, level)))
    np.testing.assert_allclose(roll, 25, atol=1e-6)


def test_spiral_goes_forward_and_returns():
    base = plain_base(frames=40)
    path = make_path("spiral", base, PathShape(0.3, turns=2))
    away = path.centres - base.world_from_cam.translation
    np.testing.assert_allclose(away[0], 0, atol=1e-12)
    np.testing.assert_allclose(away[20, 2], 0.6)
    np.testing.assert_allclose(np.linalg.norm(away[20, :2]), 0.3)
    np.testing.assert_allclose(directions(path), towards(path, base.focus), atol=1e-12)
    steps = np.linalg.norm(np.diff(away, axis=0, append=away[:1]), axis=1)
    assert steps[-1] < 0.2 * steps.max()
    assert steps[0] < 0.2 * steps.max()


def test_line_sideways_and_between_two_recorded_cameras():
    base = plain_base(frames=5)
    path = make_path("line", base, PathShape(0.1))
    np.testing.assert_allclose(path.centres[:, 0] - 0.4, [-0.2, -0.1375, 0, 0.1375, 0.2], atol=1e-12)
    trajectory = clip()
    base = path_base(trajectory, freeze_times(9, 5), 2.0, reference=4)
    shape = PathShape(1.0, ends=(2, 7))
    assert usual_amplitude("line", shape) == 1.0
    path, recorded = make_path("line", base, shape), trajectory.cam_from_world.inverse()
    np.testing.assert_allclose(path.world_from_cam.matrix[[0, -1]], recorded.matrix[[2, 7]], atol=1e-12)
    np.testing.assert_allclose(path.centres[2], recorded.translation[[2, 7]].mean(axis=0), atol=1e-12)
    with pytest.raises(OptionsError, match="two different frames"):
        make_path("line", base, PathShape(ends=(3, 30)))


def test_follow_is_beside_the_recorded_camera():
    trajectory = clip(rotation=np.eye(3))
    base = path_base(trajectory, follow_times(9, 17), 2.0)
    path = make_path("follow", base, PathShape(1.0, offset=(0.1, 0.2, 0.3)))
    away = path.centres - base.world_from_cam.translation
    np.testing.assert_allclose(away, np.broadcast_to([0.1, -0.2, -0.3], (17, 3)), atol=1e-12)
    np.testing.assert_allclose(base.world_from_cam.translation[::2], trajectory.centres, atol=1e-12)


def test_autopilot_turns_to_the_open_side_and_keeps_clear():
    camera = Camera(40, 30, 40, 40, 20, 15)
    depth = np.full((30, 40), 2.0)
    depth[:, 30:] = 20.0
    steering = steer(depth, camera)
    assert steering.look[0] > 0.2
    assert abs(steering.look[1]) < 1e-9
    blocked = np.where(np.arange(40) < 10, 0.2, 2.0) * np.ones((30, 1))
    ahead = steer(blocked, camera)
    assert ahead.move[0] > 0.05
    assert ahead.look[0] == pytest.approx(0)
    np.testing.assert_array_equal(steer(np.zeros((30, 40)), camera).look, [0, 0, 1])
    base = looking(plain_base(frames=30), depth)
    path = make_path("autopilot", base, PathShape(0.3))
    assert path.centres[-1, 2] == pytest.approx(0.6, rel=0.1)
    assert path.centres[-1, 0] > 0.4
    camera_like = base.cameras[0].resized(40, 30)
    np.testing.assert_allclose(directions(path)[-1], steer(depth, camera_like).look, atol=1e-12)
    with pytest.raises(OptionsError, match="depth"):
        make_path("autopilot", plain_base(), PathShape(0.3))


def test_times():
    np.testing.assert_allclose(follow_times(9, 5), [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(freeze_times(9, 3, 2.5), [2.5, 2.5, 2.5])
    np.testing.assert_allclose(slowmo_times(3, 4), np.arange(9) / 4)
    np.testing.assert_allclose(slowmo_times(9, 2, frames=3, start=4), [4, 4.5, 5])
    for bad in (lambda: slowmo_times(3, 4, frames=10), lambda: slowmo_times(3, 0), lambda: freeze_times(9, 2, 9)):
        with pytest.raises(OptionsError):
            bad()


def test_central_depth_is_of_the_middle():
    depth = np.full((30, 30), 9.0)
    depth[10:20, 10:20] = 3.0
    valid = np.ones((30, 30), bool)
    assert central_depth(depth, valid) == 3.0
    valid[5:25, 5:25] = False
    assert central_depth(depth, valid) == 9.0
    with pytest.raises(OptionsError, match="no depth"):
        central_depth(depth, valid & False)


def test_wrong_names_and_numbers_are_named():
    with pytest.raises(OptionsError, match="'loop' is not known, use one of orbit"):
        make_path("loop", plain_base(), PathShape())
    with pytest.raises(OptionsError, match="amplitude"):
        make_path("orbit", plain_base(), PathShape(-1.0))
    with pytest.raises(OptionsError, match="reference frame 12"):
        path_base(clip(), np.zeros(3), 2.0, reference=12)
    with pytest.raises(OptionsError, match="focus distance"):
        path_base(clip(), np.zeros(3), float("nan"))


def test_poses_between_meets_keys_and_half_turns():
    keys = Rigid3(
        np.stack([np.eye(3), turned([0, 1, 0], 180), np.eye(3)]), np.array([[0, 0, 0], [1, 0, 0], [4, 0, 0.0]])
    )
    found = poses_between(np.array([0.0, 1.0, 2.0]), keys, np.array([-1, 0, 1, 2, 3.0, 0.5]))
    np.testing.assert_array_equal(found.matrix[:5], keys.matrix[[0, 0, 1, 2, 2]])
    assert np.isfinite(found.matrix[5]).all()
    quarter = poses_between(np.array([0.0, 1.0]), keys[:2], np.array([0.5]))
    np.testing.assert_allclose(np.abs(quarter.rotation[0] @ [0, 0, 1]), [1, 0, 0], atol=1e-9)
    # Catmull-Rom goes through a parabola's points exactly: x = t^2 at 0, 1, 2 would be 0, 1, 4.
    np.testing.assert_allclose(found.translation[5], [0.25, 0, 0])


def test_steadied_leaves_even_motion_and_stills_shake():
    even = Rigid3(np.stack([turned([0, 1, 0], 2.0 * i) for i in range(30)]), np.arange(30)[:, None] * [0.1, 0, 0])
    np.testing.assert_allclose(steadied(even, 3.0).matrix, even.matrix, atol=1e-9)
    shaky = clip(60).cam_from_world.inverse()
    calm = steadied(shaky, 4.0)
    assert np.std(np.diff(calm.translation[5:-5, 1])) < 0.2 * np.std(np.diff(shaky.translation[5:-5, 1]))
    assert steadied(shaky, 0.0) is shaky


def wall(spread=3.0, z=2.0):
    x, y = np.meshgrid(np.linspace(-spread, spread, 300), np.linspace(-spread, spread, 300))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], axis=1)


def test_covered_share_by_hand():
    points = wall(spread=50.0)[::7]
    half = points[points[:, 0] > 0]
    dense = wall(spread=2.0)
    assert covered_share(dense, Rigid3.identity(), CAMERA) == 1.0
    assert covered_share(dense[dense[:, 0] > 0], Rigid3.identity(), CAMERA) == pytest.approx(0.5)
    assert covered_share(-dense, Rigid3.identity(), CAMERA) == 0.0
    assert covered_share(half, Rigid3.identity(), CAMERA) < 0.5


def test_framing_shrinks_until_enough_is_seen():
    base = plain_base(frames=20)
    # What the reference camera sees of a wall 2 away, half a picture wide: 64 / 60 units to each side of x = 0.4.
    points = wall()
    points = points[np.abs(points[:, 0] - 0.4) < 64 / 60]
    make = lambda amplitude: make_path("line", base, PathShape(amplitude))  # noqa: E731
    result = framed(make, 1.0, lambda time: points)
    assert result.shrunk
    assert worst_share(result.path, lambda time: points) == result.covered >= 0.9
    # A tenth of the picture's width, 2 * 64 / 60 units, is a share 0.107 of the distance; cells are 1/32 wide.
    assert 0.1 < result.amplitude < 0.14
    free = framed(make, 0.05, lambda time: points)
    assert not free.shrunk
    assert free.amplitude == 0.05
    # Half of the reference picture is sky: that is no reason to stay.
    sky = points[points[:, 1] > 0]
    assert framed(make, 1.0, lambda time: sky).amplitude == pytest.approx(result.amplitude, abs=0.02)


def test_output_camera_covers_the_source():
    source = Camera(640, 480, 500, 520, 330, 236)
    wide = output_camera(source, 1280, 720)
    assert wide.fx == wide.fy == 1000  # as wide as the source, less high
    assert (wide.cx, wide.cy) == (pytest.approx(640 + 20), pytest.approx(360 - 4 * 1000 / 520))
    high = output_camera(source, 480, 640)
    assert high.fx == pytest.approx(520 * 640 / 480)
    for camera in (wide, high, output_camera(source, 100, 100)):
        corners = camera.rays_at(np.array([0.0, camera.width]), np.array([0.0, camera.height]))
        pixels = source.project(corners)
        assert (pixels > -1e-9).all()
        assert (pixels < np.array([640, 480]) + 1e-9).all()
    assert output_camera(source.resized(500, 375), 500, 375).width == 500
    base = plain_base()
    assert {c.shape for c in sized(make_path("orbit", base, PathShape()), 32, 20).cameras} == {(20, 32)}
    with pytest.raises(OptionsError, match="0x4"):
        output_camera(source, 0, 4)


def test_keyed_path_meets_its_keys_zooms_and_steers_time():
    keys = PathKeys(
        clip(3).cam_from_world.inverse(), np.array([0, 1, 4.0]), np.array([0.5, 0.25, 0.5]), np.array([8, 2, 2.0])
    )
    path = keyed_path(keys, CAMERA, np.zeros(9))
    np.testing.assert_array_equal(path.world_from_cam.matrix[[0, 2, 8]], keys.world_from_cam.matrix)
    assert [path.cameras[i].fy for i in (0, 2, 8)] == pytest.approx([48, 96, 48])
    np.testing.assert_allclose(path.times[[0, 2, 5, 8]], [8, 2, 2, 2])
    plain = keyed_path(PathKeys(keys.world_from_cam), CAMERA, np.arange(5.0))
    assert plain.cameras == (CAMERA,) * 5
    np.testing.assert_array_equal(plain.times, np.arange(5.0))
    with pytest.raises(ValueError, match="do not increase"):
        PathKeys(keys.world_from_cam, np.array([0, 2, 2.0]))
