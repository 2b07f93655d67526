"""Objects through the clip: which pairs of frames tell of them, the runs these make, and where their points go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from recon4d.motion.followed import MovingFrame, follow, rounded
from recon4d.motion.local_motion import LocalMotion, fit_local
from recon4d.motion.rigid_fit import LEAST_POINTS, RigidFit, fit_rigid
from recon4d.motion.rigid_track import Course, Step, prolonged, smooth_course, step_durations
from recon4d.scene.trajectory import Trajectory
from recon4d.scene.transforms import Rigid3

BRIDGE = 3.5  # usual steps in time without a word of an object, over which it goes on as fast as it was
KEPT = 16  # local motions of an object: a window of frames, forward and back
LEAST_SIGMA = 0.01  # log, by which the depth of a whole object may be off
LEAST_PIXELS = 12
RIGID_PX, RIGID_SHARE = 0.15, 0.08  # what a rigid motion may leave unexplained, and share of the motion
FAR_OFF = 3.0  # times that: a pair counts no worse
CLEARLY = 0.85  # of the residual: another shape is believed below


@dataclass(frozen=True)
class Sighting:
    """An object in one frame."""

    pixels: int
    depth_sigma: float  # median of sigma over depth


@dataclass
class Sightings:
    """What the frames and pairs of frames tell of one object, gathered as the clip goes by."""

    frames: dict[int, Sighting] = field(default_factory=dict)  # by row of the trajectory
    as_measured: dict[int, RigidFit] = field(default_factory=dict)  # by row of the first frame
    as_rounded: dict[int, RigidFit] = field(default_factory=dict)  # with the shape its outline suggests

    @property
    def pairs(self) -> dict[int, RigidFit]:
        """Fits with the shape that explains what is seen: the measured one unless the other does clearly better."""
        if _residual_px(self.as_rounded) < CLEARLY * _residual_px(self.as_measured):
            return self.as_rounded
        return self.as_measured

    @property
    def residual_px(self) -> float:
        """What the rigid fits leave unexplained, mean over the pairs by their pixels; NaN without any."""
        return _residual_px(self.pairs)

    @property
    def is_rigid(self) -> bool:
        """Whether one rigid motion a pair of frames explains where the flow finds its points."""
        fits = self.pairs.values()
        left = [min(fit.residual_px / (RIGID_PX + RIGID_SHARE * fit.moved_px), FAR_OFF) for fit in fits]
        return bool(left) and float(np.average(left, weights=[fit.pixels for fit in fits])) <= 1


def _residual_px(fits: dict[int, RigidFit]) -> float:
    if not fits:
        return np.nan
    return float(np.average([fit.residual_px for fit in fits.values()], weights=[fit.pixels for fit in fits.values()]))


@dataclass(frozen=True)
class ObjectPath:
    """The course of an object through rows ``first`` ... of the trajectory."""

    label: int
    first: int
    course: Course
    rigid: bool
    durations: np.ndarray  # (N - 1,) of the steps between all frames of the trajectory, in usual ones

    @property
    def last(self) -> int:
        """Row of the last frame."""
        return self.first + len(self.course.log_gain) - 1

    def __contains__(self, row: int) -> bool:
        return self.first <= row <= self.last

    def gain(self, row: int) -> float:
        """Log of what the object's depth in a frame is multiplied by."""
        return float(self.course.log_gain[row - self.first])

    def time_between(self, row: int, other: int) -> float:
        """Time between two frames of the trajectory, in usual steps."""
        return float(self.durations[min(row, other) : max(row, other)].sum())

    def reaches(self, row: int, other: int) -> bool:
        """Whether the way between two neighbouring frames is known, or short enough to go on as fast as before."""
        return (row in self and other in self) or self.time_between(row, other) <= BRIDGE

    def step(self, row: int, forward: bool) -> Rigid3:
        """World motion of the whole object to the next frame or the one before; beyond its ends as fast as it was."""
        steps, earlier = self.course.world_motion, row if forward else row - 1
        k = int(np.clip(earlier - self.first, 0, len(steps) - 1))
        motion = steps[k]
        if k != earlier - self.first:
            motion = prolonged(motion, self.durations[earlier] / self.durations[self.first + k])
        return motion if forward else motion.inverse()


def gather(frame: MovingFrame, row: int, sightings: dict[int, Sightings]) -> None:
    """Take note of the objects a frame sees."""
    for label in frame.objects():
        core = frame.core(label)
        if core.sum() >= LEAST_PIXELS:
            sigma = float(np.median(frame.sigma[core] / frame.depth[core]))
            pixels = int((frame.motion.object_id == label).sum())
            sightings.setdefault(label, Sightings()).frames[row] = Sighting(pixels, max(sigma, LEAST_SIGMA))


def gather_pair(frame: MovingFrame, after: MovingFrame, row: int, sightings: dict[int, Sightings]) -> None:
    """Take note of how objects move from a frame to the next."""
    static = after.view.cam_from_world @ frame.view.cam_from_world.inverse()
    for label, seen in sightings.items():
        if row in seen.frames and row + 1 in seen.frames:
            points = follow(frame, after, label, forward=True)
            if len(points) >= LEAST_POINTS:
                seen.as_measured[row] = fit_rigid(points, after.view.camera, static)
                seen.as_rounded[row] = fit_rigid(rounded(points, frame, label), after.view.camera, static)


def paths(label: int, seen: Sightings, trajectory: Trajectory) -> list[ObjectPath]:
    """One path for each run of pairs; pairs at most ``BRIDGE`` apart in time are one run."""
    found, fits = [], seen.pairs
    rows, durations = sorted(fits), step_durations(trajectory.timestamps_s)
    starts = [k for k, row in enumerate(rows) if k == 0 or durations[rows[k - 1] + 1 : row].sum() > BRIDGE]
    for begin, end in zip(starts, [*starts[1:], len(rows)]):
        run = rows[begin:end]
        views = [trajectory[trajectory.names[row]] for row in range(run[0], run[-1] + 2)]
        around = {row: views[row - run[0] : row - run[0] + 2] for row in run}
        told = {row: Step.of(fits[row], *around[row], float(durations[row])) for row in run}
        steps = _without_gaps(told, durations)
        usual = float(np.median([sighting.depth_sigma for sighting in seen.frames.values()]))
        sigma = [seen.frames[row].depth_sigma if row in seen.frames else usual for row in range(run[0], run[-1] + 2)]
        course = smooth_course(steps, views, np.array(sigma))
        found.append(ObjectPath(label, run[0], course, seen.is_rigid, durations))
    return found


def _without_gaps(told: dict[int, Step], durations: np.ndarray) -> list[Step]:
    """All steps from the first to the last told, by row; through gaps the object's middle goes straight and evenly."""
    rows, elapsed = list(told), np.concatenate([[0.0], np.cumsum(durations)])
    middles = np.array([step.centre for step in told.values()])
    steps: list[Step] = []
    for row in range(rows[0], rows[-1] + 1):
        if row in told:
            steps.append(told[row])
        else:
            centre = np.array([np.interp(elapsed[row], elapsed[rows], along) for along in middles.T])
            steps.append(Step.unseen(steps[-1], centre, float(durations[row])))
    return steps


class Carrier:
    """Carries points along the paths of their objects; local motions are fitted when asked for, the last few kept."""

    def __init__(self, frames: Callable[[int], MovingFrame], sightings: dict[int, Sightings]) -> None:
        self._frames, self._sightings = frames, sightings
        self._local: dict[tuple[int, int, bool], LocalMotion | None] = {}

    def carry(self, x_in_world: np.ndarray, path: ObjectPath, row: int, target: int) -> np.ndarray:
        """World points (N, 3) of an object in frame ``row`` at the time of frame ``target``."""
        forward = target > row
        while row != target:
            x_in_world = self._step(x_in_world, path, row, forward)
            row += 1 if forward else -1
        return x_in_world

    def _step(self, x_in_world: np.ndarray, path: ObjectPath, row: int, forward: bool) -> np.ndarray:
        local = None if path.rigid else self._local_motion(path, row, forward)
        if local is None:
            return path.step(row, forward) @ x_in_world
        view, other = (self._frames(k).view for k in (row, row + 1 if forward else row - 1))
        x_in_cam = view.cam_from_world @ x_in_world
        pixels = np.nan_to_num(view.camera.project(x_in_cam))
        return other.cam_from_world.inverse() @ local(x_in_cam, pixels)

    def _local_motion(self, path: ObjectPath, row: int, forward: bool) -> LocalMotion | None:
        """None where the frames tell nothing of it: then the whole object's motion is all there is."""
        key = path.label, row, forward
        if key not in self._local:
            self._local[key] = self._fit_local(path, row, forward)
            for old in list(self._local)[: -KEPT * max(len(self._sightings), 1)]:
                del self._local[old]
        return self._local[key]

    def _fit_local(self, path: ObjectPath, row: int, forward: bool) -> LocalMotion | None:
        other = row + 1 if forward else row - 1
        if not (row in path and other in path and min(row, other) in self._sightings[path.label].pairs):
            return None
        here, there = self._frames(row), self._frames(other)
        points = follow(here, there, path.label, forward).with_gains(path.gain(row), path.gain(other))
        if len(points) < LEAST_POINTS:
            return None
        start = there.view.cam_from_world @ path.step(row, forward) @ here.view.cam_from_world.inverse()
        sigma = np.sqrt(2) * self._sightings[path.label].frames[row].depth_sigma
        return fit_local(points, there.view.camera, start, sigma)


def object_poses(path: ObjectPath, centre: np.ndarray, best: int) -> Sequence[Rigid3]:
    """world_from_object in every frame of a path; in row ``best`` its frame is that of the world about ``centre``."""
    poses = {best: Rigid3(np.eye(3), centre)}
    for row in range(best, path.last):
        poses[row + 1] = path.step(row, True) @ poses[row]
    for row in range(best, path.first, -1):
        poses[row - 1] = path.step(row, False) @ poses[row]
    return [poses[row] for row in range(path.first, path.last + 1)]
