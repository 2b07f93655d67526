"""Correction of cameras: derivatives by hand and by differences, what is recovered, and what is left alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon4d.refine import camera_points, camera_star
from recon4d.refine.camera_points import PointTies
from recon4d.refine.camera_star import Surface, follow, star
from recon4d.refine.cameras import CameraFrame, CameraOptions, correct_cameras, old_from_new
from recon4d.refine.frame import RefineView
from recon4d.scene.camera import Camera
from recon4d.scene.sparse import SparseModel
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.scene.transforms import Rigid3, Sim3

CAMERA = Camera(96, 72, 84.0, 84.0, 48.0, 36.0)
COUNT = 7
THOROUGH = CameraOptions(rounds=8, least_gain=0.0)
CORNER = np.array([3.0, 2.0, 5.0])  # the camera looks into a corner of a box


def moved(camera: Camera, pose: Rigid3, step: np.ndarray) -> tuple[Camera, Rigid3]:
    """A camera after an increment of its nine unknowns."""
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    focal = np.exp(step[6])
    lens = replace(
        camera,
        fx=camera.fx * focal,
        fy=camera.fy * focal,
        cx=camera.cx + camera.fx * step[7],
        cy=camera.cy + camera.fy * step[8],
    )
    return lens, Rigid3(turn @ pose.rotation, turn @ pose.translation + step[3:6])


class Box:
    """Frames of the inside of a box with a smooth texture, exact in depth and grey."""

    def __init__(self, still: bool = False) -> None:
        rng = np.random.default_rng(5)
        self.waves = rng.normal(size=(24, 3)) * 5.0
        self.phases = rng.uniform(0, 2 * np.pi, 24)
        t = np.linspace(-1, 1, COUNT)
        centres = np.stack([0.6 * t, 0.25 * np.sin(3 * t), 0.3 * np.cos(2 * t)], axis=1) * (0 if still else 1)
        turns = Rotation.from_rotvec(np.stack([0.1 * np.cos(2 * t), 0.35 - 0.15 * t, 0.1 * t], axis=1)).as_matrix()
        self.poses = Rigid3(turns, -np.einsum("nij,nj->ni", turns, centres))
        self.names = tuple(f"{i:06d}" for i in range(COUNT))
        self.trajectory = self.with_cameras(CAMERA, self.poses)
        self.frames = [self.frame(i) for i in range(COUNT)]
        self.neighbours = [[j for j in range(COUNT) if j != i] for i in range(COUNT)]

    def with_cameras(self, camera: Camera, poses: Rigid3) -> Trajectory:
        return Trajectory(self.names, np.arange(COUNT) / 10, poses, (camera,) * COUNT, (PoseOrigin.MEASURED,) * COUNT)

    def depth(self, i: int, pixels_x: np.ndarray, pixels_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z-depth and place in the world of what lies at pixels."""
        world_from_cam = self.poses[i].inverse()
        ways = CAMERA.rays_at(pixels_x, pixels_y) @ world_from_cam.rotation.T
        with np.errstate(divide="ignore"):
            walls = (np.where(ways > 0, CORNER, -CORNER) - world_from_cam.translation) / ways
        z = walls.min(axis=-1)
        return z, world_from_cam.translation + z[..., None] * ways

    def frame(self, i: int) -> CameraFrame:
        z, world = self.depth(i, np.arange(96) + 0.5, np.arange(72)[:, None] + 0.5)
        grey = 128 + 15 * np.sin(world @ self.waves.T + self.phases).sum(axis=-1)
        grey += np.random.default_rng(100 + i).normal(0, 2, grey.shape)
        return CameraFrame(
            grey.astype(np.float32),
            -np.log(z).astype(np.float32),
            np.full(z.shape, 0.02, dtype=np.float32),
            np.ones(z.shape, dtype=np.float32),
        )

    def model(self, noise_px: float = 0.2, count: int = 150) -> SparseModel:
        """Points on the walls as each frame saw them."""
        rng = np.random.default_rng(3)
        chosen = rng.integers(0, COUNT, count), rng.uniform(8, 88, count), rng.uniform(8, 64, count)
        points = np.array([self.depth(i, np.array(x), np.array(y))[1] for i, x, y in zip(*chosen)]).reshape(-1, 3)
        pixels, rows = {}, {}
        for i, name in enumerate(self.names):
            found = CAMERA.project(self.poses[i] @ points) if count else np.zeros((0, 2))
            seen = ((found > 1) & (found < (95, 71))).all(axis=1)
            rows[name] = np.flatnonzero(seen)
            pixels[name] = found[seen] + rng.normal(0, noise_px, (int(seen.sum()), 2))
        return SparseModel(
            points,
            np.full(count, noise_px),
            np.full(count, COUNT),
            np.full(count, 5.0),
            np.zeros((count, 3), np.uint8),
            pixels,
            rows,
        )


@pytest.fixture(scope="module")
def box() -> Box:
    return Box()


def test_slopes_are_those_of_the_projection():
    own = Camera(40, 30, 33.0, 35.0, 19.0, 16.0), Rigid3.from_quat_xyzw([0.05, 0.1, 0.15, 1], np.array([0.1, 0.2, 0.3]))
    other = Camera(44, 36, 41.0, 40.0, 23.0, 17.0), Rigid3.from_quat_xyzw([0.06, 0.07, 0.2, 1], [0.3, 0.1, 0.2])
    x, grey_slope = -0.6, np.array([0.7, -1.3])

    def shown(step: np.ndarray, x: float) -> float:
        (lens_a, pose_a), (lens_b, pose_b) = moved(*own, step[:9]), moved(*other, step[9:])
        place = lens_a.rays_at(np.array(12.5), np.array(9.5)) * np.exp(-x)
        return float(grey_slope @ lens_b.project(pose_b @ (pose_a.inverse() @ place)))

    views = [RefineView(np.zeros(c.shape), np.zeros(c.shape), np.zeros(c.shape), c, p) for c, p in (own, other)]
    found = np.empty(18)
    by_x = camera_star.slopes(9, 12, np.exp(x), camera_star._pair(*views), *grey_slope, found)
    tiny = 1e-6
    differences = [(shown(tiny * e, x) - shown(-tiny * e, x)) / (2 * tiny) for e in np.eye(18)]
    np.testing.assert_allclose(found, differences, rtol=1e-6, atol=1e-6)
    zero = np.zeros(18)
    assert by_x == pytest.approx((shown(zero, x + tiny) - shown(zero, x - tiny)) / (2 * tiny), rel=1e-6)


def test_gradient_of_a_star_is_that_of_its_least_energy(box):
    """The depth is eliminated: the energy that counts is the least one over all depths."""
    frames = [replace(f, grey=f.grey.astype(np.float64), x=f.x.astype(np.float64)) for f in box.frames[:3]]
    rng = np.random.default_rng(0)
    step = 1e-3 * rng.normal(size=(3, 9)) * ([1, 1, 1, 3, 3, 3, 3, 1, 1])
    cameras = [moved(CAMERA, box.poses[i], step[i]) for i in range(3)]
    judges = np.zeros(frames[0].x.shape)
    surface = Surface.at(frames[0].x, frames[0].sigma.astype(np.float64), frames[0].static, judges)

    def at(which: int, unknown: int, size: float):
        views = []
        for i, (camera, pose) in enumerate(cameras):
            change = np.zeros(9)
            change[unknown] = size * (i == which)
            lens, place = moved(camera, pose, change)
            views.append(RefineView(frames[i].grey, frames[i].x, judges, lens, place))
        settled = follow(views[0], views[1:], surface, 2.0, 40)
        found = star(views[0], views[1:], settled, 2.0)
        return found, found.energy + 0.5 * float((surface.stiffness * settled.change**2).sum())

    tiny = 2e-7  # more, and other pixels come to see each other
    for which, unknown in ((0, 1), (1, 0), (1, 3), (2, 5), (0, 6), (2, 6)):
        slope = (at(which, unknown, tiny)[1] - at(which, unknown, -tiny)[1]) / (2 * tiny)
        assert at(which, unknown, 0.0)[0].gradient[which, unknown] == pytest.approx(slope, rel=0.005)


def test_some_of_very_many_points_speak_for_all(box, monkeypatch):
    ties = PointTies.of(box.model(count=600), box.names)
    cameras, poses = stacked([moved(CAMERA, pose, np.full(9, 2e-3)) for pose in box.poses])
    ties.settle(cameras, poses)
    whole = ties.witness(cameras, poses).hessian
    monkeypatch.setattr(camera_points, "MOST", len(ties) // 2)
    half = ties.witness(cameras, poses).hessian
    np.testing.assert_allclose(half.diagonal(), whole.diagonal(), rtol=0.3)


def test_witness_of_points_is_the_slope_of_their_least_error(box):
    ties = PointTies.of(box.model(), box.names)
    rng = np.random.default_rng(1)
    cameras = [moved(CAMERA, box.poses[i], 2e-3 * rng.normal(size=9)) for i in range(COUNT)]

    def at(frame: int, unknown: int, size: float) -> tuple[float, np.ndarray]:
        change = size * np.eye(9)[unknown]
        lenses, poses = stacked([moved(*c, change) if i == frame else c for i, c in enumerate(cameras)])
        ties.settle(lenses, poses, steps=20)
        energy = len(ties) * (ties.error_px(lenses, poses) / ties.sigma_px) ** 2
        return energy, ties.witness(lenses, poses).gradient

    tiny = 1e-5
    for frame, unknown in ((0, 0), (2, 4), (3, 6), (5, 8), (6, 2)):
        slope = (at(frame, unknown, tiny)[0] - at(frame, unknown, -tiny)[0]) / (2 * tiny)
        assert at(frame, unknown, 0.0)[1][9 * frame + unknown] == pytest.approx(slope, rel=1e-3)


def view(frame: CameraFrame, pose: Rigid3) -> RefineView:
    return RefineView(frame.grey, frame.x, np.zeros_like(frame.x), CAMERA, pose)


def stacked(cameras: list[tuple[Camera, Rigid3]]) -> tuple[list[Camera], Rigid3]:
    lenses, poses = zip(*cameras)
    return list(lenses), Rigid3(np.stack([p.rotation for p in poses]), np.stack([p.translation for p in poses]))


def perturbed(box: Box, focal: float, turn_deg: float, shift: float) -> Trajectory:
    rng = np.random.default_rng(7)
    step = np.concatenate(
        [np.radians(turn_deg) * rng.normal(size=(COUNT, 3)), shift * rng.normal(size=(COUNT, 3)), np.zeros((COUNT, 3))],
        axis=1,
    )
    _, poses = stacked([moved(CAMERA, box.poses[i], step[i]) for i in range(COUNT)])
    return box.with_cameras(replace(CAMERA, fx=focal * CAMERA.fx, fy=focal * CAMERA.fy), poses)


def errors(box: Box, found: Trajectory) -> tuple[float, float, float]:
    """Median turn in degrees and shift of the cameras against the truth, in its gauge; relative focal length."""
    back = old_from_new(box.poses, found.cam_from_world, 4.0)
    change = back.apply_to_pose(found.cam_from_world) @ box.poses.inverse()
    turn = np.degrees(Rotation.from_matrix(change.rotation).magnitude())
    shift = np.linalg.norm(back @ found.centres - box.trajectory.centres, axis=1)
    return float(np.median(turn)), float(np.median(shift)), found.cameras[0].fx / CAMERA.fx - 1


@pytest.mark.parametrize("count", [150, 0], ids=["with points", "without"])
def test_poses_and_focal_length_are_recovered(box, count):
    start = perturbed(box, focal=1.02, turn_deg=0.3, shift=0.02)
    found = correct_cameras(start, box.frames, box.neighbours, box.model(count=count), THOROUGH)
    before, after = errors(box, start), errors(box, found.trajectory)
    assert found.report.changed
    assert found.report.unlike_after < 0.7 * found.report.unlike_before
    np.testing.assert_array_less(np.abs(after), 0.25 * np.array(before))
    np.testing.assert_allclose(found.report.focal_change, 1 / 1.02 - 1, atol=4e-3)


def test_the_gauge_is_that_of_the_old_cameras(box):
    start = perturbed(box, focal=1.02, turn_deg=0.3, shift=0.02)
    found = correct_cameras(start, box.frames, box.neighbours, box.model(), CameraOptions(rounds=1))
    assert found.report.changed
    back = old_from_new(start.cam_from_world, found.trajectory.cam_from_world, 4.0)
    np.testing.assert_allclose(back.matrix, np.eye(4), atol=1e-9)


def test_similarity_back_to_the_old_gauge_is_found(box):
    moved_world = Sim3(1.7, Rotation.from_rotvec([0.3, -0.2, 0.1]).as_matrix(), np.array([1.0, 2.0, 3.0]))
    back = old_from_new(box.poses, moved_world.apply_to_pose(box.poses), 4.0)
    np.testing.assert_allclose((back @ moved_world).matrix, np.eye(4), atol=1e-9)


def test_true_cameras_stay(box):
    found = correct_cameras(box.trajectory, box.frames, box.neighbours, box.model())
    assert "more alike" in found.report.reason
    assert found.trajectory is box.trajectory
    assert found.report.rotation_deg.max() == 0
    assert found.report.unlike_after == found.report.unlike_before


def test_what_moves_takes_no_part(box):
    """Whatever a frame shows where something moves, it says the same of the cameras."""
    start, rng = perturbed(box, focal=1.02, turn_deg=0.3, shift=0.02), np.random.default_rng(2)
    answers = []
    views = [view(box.frames[i], start.cam_from_world[i]) for i in (2, 3, 4)]
    for size in (0.0, 90.0):
        grey, static = box.frames[3].grey.copy(), box.frames[3].static.copy()
        static[25:55, 20:60] = 0  # the windows of pixels that take part reach two pixels into it
        grey[27:53, 22:58] += size * rng.normal(size=(26, 36)).astype(np.float32)
        surface = Surface.at(box.frames[3].x, box.frames[3].sigma, static, np.zeros_like(static))
        answers.append(star(replace(views[1], grey=grey), views[::2], surface, 2.0))
    size = np.abs(answers[0].gradient).max()
    np.testing.assert_allclose(answers[0].gradient, answers[1].gradient, atol=1e-4 * size)
    assert answers[0].energy == pytest.approx(answers[1].energy, rel=1e-5)


def test_a_camera_that_stands_still_says_so(box):
    found = correct_cameras(box.trajectory, box.frames, [[] for _ in range(COUNT)], box.model())
    assert not found.report.changed
    assert "parallax" in found.report.reason
    assert found.trajectory is box.trajectory
    assert np.isnan(found.report.unlike_before)


def test_pictures_that_have_nothing_in_common_change_nothing(box):
    """Pictures of nothing: whatever they would like, the cameras stay."""
    rng = np.random.default_rng(4)
    frames = [replace(f, grey=rng.uniform(0, 255, f.grey.shape).astype(np.float32)) for f in box.frames]
    found = correct_cameras(box.trajectory, frames, box.neighbours, box.model(noise_px=0.1))
    assert "hardly look alike" in found.report.reason
    assert found.trajectory is box.trajectory


def test_lenses_are_shared_by_equal_cameras_only(box):
    """The second half of the clip is taken with another lens, whose focal length alone is wrong."""
    wrong = replace(CAMERA, fx=1.02 * CAMERA.fx, fy=1.02 * CAMERA.fy)
    cameras = (CAMERA,) * 4 + (wrong,) * 3
    start = replace(box.trajectory, cameras=cameras)
    found = correct_cameras(start, box.frames, box.neighbours, box.model(), THOROUGH).trajectory
    assert len(set(found.cameras)) == 2
    np.testing.assert_allclose([camera.fx for camera in found.cameras], CAMERA.fx, rtol=4e-3)
