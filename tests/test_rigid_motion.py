"""The rigid motion of an object between two frames and over a clip."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon4d.motion.followed import Followed, MovingFrame, rounded
from recon4d.motion.object_path import BRIDGE, ObjectPath, Sighting, Sightings, _without_gaps, paths
from recon4d.motion.rigid_fit import about, fit_rigid, log_depth_rows, reprojection
from recon4d.motion.rigid_track import (
    LEAST_SHIFT,
    SHIFT_SHARE,
    Course,
    Step,
    _at_gain,
    _change,
    _strengths,
    prolonged,
    smooth_course,
    step_durations,
)
from recon4d.motion.rim import off_rim
from recon4d.scene.camera import Camera
from recon4d.scene.motion import FrameMotion
from recon4d.scene.trajectory import PoseOrigin, Trajectory, View
from recon4d.scene.transforms import Rigid3

CAMERA = Camera(320, 240, 300.0, 300.0, 160.0, 120.0)


def body(count=400, seed=0):
    """(N, 3) points of a lump 0.5 wide, 2 in front of the camera, off its axis."""
    points = np.random.default_rng(seed).uniform(-1, 1, (count, 3)) * [0.3, 0.25, 0.15]
    return points + np.array([0.3, -0.1, 2.0])


def followed(points, motion, depth_gain=0.0, pixels_each=300.0):
    """What exact flow would tell, with depth that is off by a common gain in the first frame."""
    moved = motion @ points
    measured = points * np.exp(depth_gain)
    return Followed(measured, CAMERA.project(points), CAMERA.project(moved), moved[:, 2], pixels_each)


def turned(deg, shift):
    return Rigid3(Rotation.from_rotvec(np.radians(deg)).as_matrix(), np.array(shift))


def close(motion, other, angle_deg, length):
    angle = np.degrees(Rotation.from_matrix(motion.rotation @ other.rotation.T).magnitude())
    assert angle < angle_deg, angle
    assert np.linalg.norm(motion.translation - other.translation) < length


def test_exact_points_give_their_motion():
    motion = about(np.array([0.05, -0.1, 0.03, 0.02, -0.01, 0.04]), np.array([0.3, -0.1, 2.0]))
    fit = fit_rigid(followed(body(), motion), CAMERA, Rigid3.identity())
    close(fit.motion, motion, 0.1, 0.005)
    assert fit.residual_px < 0.05
    assert fit.depth_gap == pytest.approx(0, abs=0.002)


def test_depth_ten_per_cent_off_leaves_the_turn_and_scales_the_shift():
    motion = turned([1.0, -2.0, 0.5], [0.05, 0.02, 0.03])
    gain = np.log(1.1)
    fit = fit_rigid(followed(body(), motion, gain), CAMERA, Rigid3.identity())
    close(fit.motion, Rigid3(motion.rotation, 1.1 * motion.translation), 0.1, 0.005)
    # The moved points are 10 % too far, the other frame's depth is not.
    assert fit.depth_gap == pytest.approx(-gain, abs=0.002)


def test_background_in_the_mask_does_not_hold_an_object_back():
    motion = turned([0, 0, 0], [0.12, 0, 0])  # 18 px
    points = followed(body(), motion)
    still = np.arange(len(points)) % 4 == 0
    found = np.where(still[:, None], points.pixels, points.found)
    fit = fit_rigid(Followed(points.x_in_cam, points.pixels, found, points.depth), CAMERA, Rigid3.identity())
    moved = np.median((fit.motion @ points.x_in_cam - points.x_in_cam)[:, 0])
    assert moved == pytest.approx(0.12, abs=0.003)


def test_what_moves_with_the_camera_stands_still():
    camera_motion = turned([0, 1.0, 0], [0.1, 0.0, 0.02])
    points = followed(body(), camera_motion)
    fit = fit_rigid(points, CAMERA, camera_motion)
    close(fit.motion, camera_motion, 0.05, 0.002)
    assert fit.moved_px < 1e-6


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="12 are needed"):
        fit_rigid(followed(body(11), Rigid3.identity()), CAMERA, Rigid3.identity())


def test_jacobians_are_those_of_the_numbers():
    points, middle, found = body(5), np.array([0.1, 0.0, 1.9]), np.zeros((5, 2))
    _, jacobian = reprojection(points, middle, found, CAMERA)
    rows = log_depth_rows(points, middle)
    for i in range(6):
        twist = np.zeros(6)
        twist[i] = 1e-6
        ahead, back = about(twist, middle) @ points, about(-twist, middle) @ points
        pixels = (reprojection(ahead, middle, found, CAMERA)[0] - reprojection(back, middle, found, CAMERA)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[..., i], pixels, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(rows[:, i], (np.log(ahead[:, 2]) - np.log(back[:, 2])) / 2e-6, rtol=1e-5, atol=1e-7)


def test_covariance_tells_how_well_the_ray_is_known():
    """Depth from how a thing grows: noise of the flow over its size in the picture."""
    motion, errors, said = turned([0, 0, 0], [0.02, 0, 0.0]), [], []
    rng = np.random.default_rng(1)
    for _ in range(40):
        points = followed(body(), motion)
        noisy = Followed(points.x_in_cam, points.pixels, points.found + rng.normal(0, 0.5, (400, 2)), points.depth, 300)
        fit = fit_rigid(noisy, CAMERA, Rigid3.identity())
        errors.append(np.median(np.log((fit.motion @ points.x_in_cam)[:, 2] / points.x_in_cam[:, 2])))
        said.append(fit.depth_sigma)
    assert 0.5 < np.std(errors) / np.median(said) < 2


def ball_frame(centre=(0.5, 0.3, 2.0), radius=0.2):
    """A ball off the axis before nothing, its depth as flat as a plate."""
    rays = CAMERA.rays()
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    along = unit @ np.array(centre)
    hit = along**2 - np.dot(centre, centre) + radius**2
    own = hit > 0
    distance = along - np.sqrt(np.maximum(hit, 0))
    true = np.where(own, (unit * distance[..., None])[..., 2], 0)
    flat = np.where(own, np.median(true[own]), 0).astype(np.float32)
    nothing = np.full((*own.shape, 2), np.nan)
    view = View("0", 0.0, Rigid3.identity(), CAMERA, PoseOrigin.MEASURED)
    motion = FrameMotion(own, nothing, nothing, own)
    return MovingFrame(view, flat, own, 0.02 * flat, motion), true


def test_outline_of_a_ball_gives_its_shape():
    frame, true = ball_frame()
    y, x = np.nonzero(frame.core(1))
    pixels = np.stack([x + 0.5, y + 0.5], axis=-1)
    points = Followed(CAMERA.rays()[y, x] * frame.depth[y, x, None], pixels, pixels, np.ones(len(x)))
    shape, true = rounded(points, frame, 1).x_in_cam[:, 2], true[y, x]
    relief, flat = shape / np.median(shape) - true / np.median(true), 1 - true / np.median(true)
    assert np.abs(relief).max() < 0.25 * np.abs(flat).max()
    assert np.median(shape) == pytest.approx(np.median(frame.depth[y, x]), rel=0.02)


def test_rim_is_not_that_of_the_picture():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:10] = True
    expected = np.zeros_like(mask)
    expected[:8] = True
    np.testing.assert_array_equal(off_rim(mask, 2.0), expected)


# -- over the clip -------------------------------------------------------------------------------------------------


def still_views(count):
    return [View(str(k), float(k), Rigid3.identity(), CAMERA, PoseOrigin.MEASURED) for k in range(count)]


def steps(count, shift, ray_noise, gains, seed=0):
    """Fits of a steady shift with noise along the ray, and frames whose depth is off by gains."""
    rng, centre = np.random.default_rng(seed), np.array([0.0, 0.0, 2.0])
    found = []
    for k in range(count - 1):
        noise = rng.normal(0, ray_noise)
        twist = np.array([0, 0, 0, *shift], dtype=np.float64)
        twist[5] += noise
        hessian = np.diag(np.array([0.005, 0.005, 0.005, 0.001, 0.001, ray_noise]) ** -2.0)
        row = np.array([0, 0, 0, 0, 0, 1 / 2.0])
        gap = gains[k + 1] - gains[k] - noise / 2.0
        found.append(Step(centre + k * np.array(shift), np.array([0, 0, 1.0]), 2.0, twist, hessian, row, gap))
    return found


def test_course_is_smoother_along_the_ray_and_not_slower():
    shift = np.array([0.02, 0.0, 0.015])
    found = steps(40, shift, 0.02, np.zeros(40))
    course = smooth_course(found, still_views(40), np.full(40, 0.03))
    ray = course.world_motion.translation[:, 2]
    raw = np.array([step.twist[5] for step in found])
    assert np.abs(ray - shift[2]).mean() < 0.3 * np.abs(raw - shift[2]).mean()
    assert ray.mean() == pytest.approx(shift[2], rel=0.1)
    np.testing.assert_allclose(course.world_motion.translation[:, 0], 0.02, rtol=0.1)


def test_frames_that_have_the_object_too_far_are_brought_to_the_others():
    gains = np.random.default_rng(3).normal(0, 0.04, 30)
    course = smooth_course(steps(30, (0.02, 0, 0.01), 0.005, gains), still_views(30), np.full(30, 0.04))
    left = gains + course.log_gain
    assert np.diff(left).std() < 0.2 * np.diff(gains).std()


def test_gain_scales_the_motion_between_cameras():
    """Two metres too near by ln 2: twice as far it moves twice as much."""
    gains = np.full(8, 0.0)
    found = steps(8, (0.02, 0, 0), 0.001, gains)
    course = smooth_course(found, still_views(8), np.full(8, 0.03))
    view = still_views(1)[0]
    doubled = _at_gain(course.world_motion[0], view, view, np.log(2.0))
    np.testing.assert_allclose(doubled.translation, 2 * course.world_motion[0].translation, atol=1e-12)


def test_one_wrong_pair_does_not_bend_the_course():
    found = steps(21, (0.02, 0.0, 0.0), 0.003, np.zeros(21))
    bad = found[10]
    found[10] = Step(bad.centre, bad.ray, 2.0, bad.twist + 0.3 * np.eye(6)[5], bad.hessian, bad.depth_row, -0.15)
    course = smooth_course(found, still_views(21), np.full(21, 0.03))
    assert np.abs(course.world_motion.translation[:, 2]).max() < 0.02


# -- uneven time ---------------------------------------------------------------------------------------------------


def uneven_steps(times, velocity, ray_noise, seed):
    """Fits of a thing as fast as ever between frames ``times`` apart, and durations in usual steps."""
    rng, centre, found = np.random.default_rng(seed), np.array([0.0, 0.0, 2.0]), []
    for time in times:
        noise, shift = rng.normal(0, ray_noise), time * velocity
        twist = np.array([0, 0, 0, *shift])
        twist[3] += rng.normal(0, 0.001)
        twist[5] += noise
        hessian = np.diag(np.array([0.005, 0.005, 0.005, 0.001, 0.001, ray_noise]) ** -2.0)
        row, duration = np.array([0, 0, 0, 0, 0, 0.5]), time / np.median(times)
        found.append(Step(centre, np.array([0, 0, 1.0]), 2.0, twist, hessian, row, -noise / 2, duration))
        centre = centre + shift
    return found


@pytest.mark.parametrize("pattern", [[2, 3], [1, 1, 3], [1, 1, 1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 1, 1, 5]])
def test_a_thing_goes_further_between_frames_further_apart_in_time(pattern):
    times = np.array((pattern * 40)[:40], dtype=np.float64)
    velocity, across, along = np.array([0.02, 0, 0.015]), [], []
    for seed in range(5):
        course = smooth_course(uneven_steps(times, velocity, 0.01, seed), still_views(41), np.full(41, 0.03))
        off = np.abs(course.world_motion.translation - times[:, None] * velocity).mean(axis=0)
        across.append(off[0] / (velocity[0] * times.mean()))
        along.append(off[2] / (velocity[2] * times.mean()))
    assert np.mean(across) < 0.05
    assert np.mean(along) < 0.1


def test_time_is_told_in_usual_steps():
    np.testing.assert_allclose(step_durations([0, 0.1, 0.2, 0.5]), [1, 1, 3])
    np.testing.assert_allclose(step_durations([0, 0.1, 0.2, 0.2001]), [1, 1, 0.1], rtol=1e-9)
    # Where time stands still, runs back or is not known, a step is a usual one.
    np.testing.assert_allclose(step_durations([0, 2, 2, 4, 3, np.nan, 5, 9]), [1, 1, 1, 1, 1, 1, 2])
    np.testing.assert_array_equal(step_durations([7.0, 7.0, 7.0]), [1, 1])
    assert len(step_durations([1.0])) == 0


def test_a_motion_for_twice_as_long_is_done_twice():
    motion = about(np.array([0.3, -0.5, 0.2, 0.1, 0.4, -0.2]), np.array([1.0, 2.0, 3.0]))
    close(prolonged(motion, 2.0), motion @ motion, 1e-6, 1e-9)
    half = prolonged(motion, 0.5)
    close(half @ half, motion, 1e-6, 1e-9)
    np.testing.assert_allclose(prolonged(turned([0, 0, 0], [1, 2, 3]), 1.5).translation, [1.5, 3, 4.5])


def test_a_step_nobody_sees_goes_on_as_fast_on_the_way_to_where_the_object_is_seen_again():
    twist = np.array([0, 0.1, 0, 0.02, 0, 0.01])
    before = Step(np.array([0, 0, 2.0]), np.array([0, 0, 1.0]), 2.0, twist, np.eye(6), np.zeros(6), 0.0, 0.5)
    after = Step(np.array([0.1, 0, 2.5]), np.array([0, 0, 1.0]), 2.0, twist, np.eye(6), np.zeros(6), 0.0, 1.0)
    steps = _without_gaps({2: before, 4: after}, np.array([1, 1, 0.5, 2.0, 1.0]))
    assert steps[0] is before
    assert steps[2] is after
    np.testing.assert_allclose(steps[1].twist, 4 * twist)
    np.testing.assert_allclose(steps[1].centre, [0.02, 0, 2.1])
    assert steps[1].duration == 2.0
    assert not steps[1].hessian.any()


def test_beyond_its_ends_a_path_goes_on_as_fast_and_not_for_ever():
    durations = np.array([2.0, 1.0, 0.5, 3.0, 9.0])
    shift = np.array([[0.1, 0, 0], [0.05, 0, 0]])
    path = ObjectPath(1, 1, Course(Rigid3(np.tile(np.eye(3), (2, 1, 1)), shift), np.zeros(3)), True, durations)
    np.testing.assert_allclose(path.step(1, True).translation, [0.1, 0, 0])
    np.testing.assert_allclose(path.step(2, False).translation, [-0.1, 0, 0])
    np.testing.assert_allclose(path.step(3, True).translation, [0.3, 0, 0])
    np.testing.assert_allclose(path.step(1, False).translation, [-0.2, 0, 0])
    assert path.reaches(3, 4)
    assert not path.reaches(4, 5)
    assert path.time_between(4, 1) == pytest.approx(4.5)


@pytest.mark.parametrize(("jump", "parts"), [(1.0, 1), (BRIDGE + 1, 2)])
def test_a_path_bridges_time_not_frames(jump, parts):
    times = np.cumsum([0, 1, 1, 1, jump, 1, 1, 1])
    poses = Rigid3(np.tile(np.eye(3), (8, 1, 1)), np.zeros((8, 3)))
    names = tuple(map(str, range(8)))
    trajectory = Trajectory(names, times, poses, (CAMERA,) * 8, (PoseOrigin.MEASURED,) * 8)
    fit = fit_rigid(followed(body(), turned([0, 0, 0], [0.03, 0, 0])), CAMERA, Rigid3.identity())
    pairs = {row: fit for row in range(7) if row != 3}  # of the step from row 3 nobody tells
    seen = Sightings({row: Sighting(1000, 0.02) for row in range(8)}, pairs, pairs)
    found = paths(1, seen, trajectory)
    assert len(found) == parts
    np.testing.assert_allclose(found[0].step(3, True).translation, [0.03 * jump, 0, 0], rtol=0.1, atol=1e-3)


def seen_step(duration, velocity, sigma):
    """A step seen straight ahead that goes right and down, which is known to ``sigma``, and all else well."""
    hessian = np.diag(np.array([1e-3, 1e-3, 1e-3, sigma, sigma, 1e-3]) ** -2.0)
    twist = np.array([0, 0, 0, velocity * duration, velocity * duration, 0])
    return Step(np.array([0, 0, 2.0]), np.array([0, 0, 1.0]), 2.0, twist, hessian, np.zeros(6), np.nan, duration)


def test_a_long_step_that_is_seen_well_is_believed():
    found = [seen_step(1, 0.0, 1e-3), seen_step(5, 0.002, 1e-4), seen_step(1, 0.0, 1e-3)]
    course = smooth_course(found, still_views(4), np.full(4, 0.03))
    assert course.world_motion.translation[1, 0] == pytest.approx(0.01, rel=0.05)


def test_velocities_further_apart_in_time_may_differ_more():
    """Two steps by hand: what is left of a small difference is 1 / (1 + 2 noise / change), change growing with time."""
    difference, sigma = 1e-5, 1e-3
    for duration in (1.0, 5.0):
        found = [seen_step(duration, 0.0, duration * sigma), seen_step(duration, difference, duration * sigma)]
        course = smooth_course(found, still_views(3), np.full(3, 0.03))
        left = np.diff(course.world_motion.translation[:, 0])[0] / duration
        change = (LEAST_SHIFT * 2.0 + SHIFT_SHARE * difference / np.sqrt(2)) ** 2 * duration
        assert left == pytest.approx(difference / (1 + 2 * sigma**2 / change), rel=1e-3)


def test_change_is_told_for_a_usual_step_and_without_noise():
    measured, apart = np.array([[0.0], [2.0]] * 4), np.full(7, 4.0)
    assert _change(measured, apart, 0.0, 0.1) == pytest.approx(1.4826)
    assert _change(measured, apart, 1.0, 0.1) == pytest.approx(np.sqrt(1.4826**2 - 2 / 4))
    assert _change(measured, apart, 100.0, 0.1) == pytest.approx(0.1)


def test_how_freely_a_thing_moves_does_not_depend_on_how_often_it_is_seen():
    """Velocities that jump by 0.1 from step to step, with noise that counts: in four times the time half as freely."""
    noise, jumps = 0.05, np.array([0, 0.1, 0, 0.1, 0, 0.1, 0, 0.1])
    usual = _strengths([seen_step(1.0, velocity, noise) for velocity in jumps])
    longer = _strengths([seen_step(4.0, velocity, 4.0 * noise) for velocity in jumps])
    assert longer.shift == pytest.approx(usual.shift / 2)
