"""The motion of one object over the clip: the pairwise fits and the frames' own depth brought into one course.

Two neighbouring frames tell well how an object moves across the view and badly how it moves along it. What they tell
is a quadratic form each; here they are added up over the clip with three things that hold between frames: an object
speeds up along the ray no more suddenly than across it (which is seen), a moved point must have the depth that the
next frame gives it, and the error by which a frame has the whole object too near or too far is small
and changes little. What is sought is velocity: between frames twice as far apart in time a thing goes twice as far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.rotations import cross_matrix
from recon4d.motion.rigid_fit import RigidFit, about
from recon4d.scene.trajectory import View
from recon4d.scene.transforms import Rigid3

SIZE = 7  # unknowns of a frame: log gain of its depth, then turn (3) and shift (3) per usual step to the next frame
ROUNDS = 6  # of reweighting
MEDIAN_REACH = 2
TAIL = 4.0  # measurements off by more than two standard deviations count less (Student's t)
GAP_SIGMA = 0.003  # of a log depth gap, were both depths right but for one gain each
LEAST_STEP = 0.002  # of log gain between frames
LEAST_TURN, TURN_SHARE = 0.005, 0.1  # radians, and share of the usual turn, by which turns differ between frames
LEAST_SHIFT, SHIFT_SHARE = 3e-4, 0.05  # shares of the depth, and of the usual shift
LEAST_DURATION = 0.1  # of the usual step: times nearer to each other are not believed


@dataclass(frozen=True)
class Step:
    """What two frames tell of an object's motion in the world between them; world axes, scene units.

    The motion is a turn about ``centre`` and a shift:  x' = centre + exp(turn)(x - centre) + shift.
    """

    centre: np.ndarray  # (3,) the object's middle in the first frame
    ray: np.ndarray  # (3,) unit vector from the first camera to it
    distance: float  # from the first camera to it
    twist: np.ndarray  # (6,) turn, radians, and shift
    hessian: np.ndarray  # (6, 6) inverse covariance of the twist; 0 where the frames tell nothing
    depth_row: np.ndarray  # (6,) derivative by the twist of the log depth the motion leads to
    depth_gap: float  # log of the second frame's depth over the depth the motion leads to, NaN where not known
    duration: float = 1.0  # time between the frames, in usual steps of the clip

    @classmethod
    def of(cls, fit: RigidFit, frame: View, other: View, duration: float) -> Step:
        """From a fit between the cameras of two frames."""
        to_world, back = frame.cam_from_world.inverse(), other.cam_from_world.inverse()
        centre = to_world @ fit.centre
        motion = back @ fit.motion @ frame.cam_from_world
        from scipy.spatial.transform import Rotation

        turn = np.kron(np.eye(2), back.rotation)  # world axes from the other camera's
        ray = centre - to_world.translation
        return cls(
            centre=centre,
            ray=ray / np.linalg.norm(ray),
            distance=float(np.linalg.norm(ray)),
            twist=np.concatenate([Rotation.from_matrix(motion.rotation).as_rotvec(), motion @ centre - centre]),
            hessian=turn @ fit.hessian @ turn.T,
            depth_row=turn @ fit.depth_row,
            depth_gap=fit.depth_gap,
            duration=duration,
        )

    @classmethod
    def unseen(cls, before: Step, centre: np.ndarray, duration: float) -> Step:
        """A step of which the frames tell nothing, after another, with the object's middle at ``centre``: as fast."""
        return cls(
            centre=centre,
            ray=before.ray,
            distance=before.distance,
            twist=before.velocity * duration,
            hessian=np.zeros((6, 6)),
            depth_row=np.zeros(6),
            depth_gap=np.nan,
            duration=duration,
        )

    @property
    def velocity(self) -> np.ndarray:
        """(6,) the twist per usual step."""
        return self.twist / self.duration


@dataclass(frozen=True)
class Course:
    """The motion of an object through K frames that follow each other."""

    world_motion: Rigid3  # batch (K - 1,): where its points go from each frame to the next
    log_gain: np.ndarray  # (K,) by which its depth in each frame is to be multiplied, log

    def __post_init__(self) -> None:
        if len(self.world_motion) != len(self.log_gain) - 1:
            raise ValueError(f"Course: {len(self.world_motion)} motions between {len(self.log_gain)} frames")


@dataclass(frozen=True)
class _Strength:
    """Standard deviations of what holds between frames."""

    turn: float  # change of the turn per usual step within the time of one, radians
    shift: float  # change of the shift, scene units
    gain: float  # change of the log gain from frame to frame


def step_durations(timestamps_s: np.ndarray) -> np.ndarray:
    """(N - 1,) times between N frames over their median, at least ``LEAST_DURATION``; 1 where time does not go on."""
    between = np.diff(np.asarray(timestamps_s, dtype=np.float64))
    onward = np.isfinite(between) & (between > 0)
    if not onward.any():
        return np.ones(len(between))
    usual = np.median(between[onward])
    return np.where(onward, np.maximum(between / usual, LEAST_DURATION), 1.0)


def prolonged(motion: Rigid3, times: float) -> Rigid3:
    """The same screw for ``times`` as long: exp(times * log(motion)), for turns below half a circle."""
    from scipy.linalg import expm
    from scipy.spatial.transform import Rotation

    def mean_turn(turn: np.ndarray) -> np.ndarray:
        """(3, 3) integral of exp(s * turn) over s from 0 to 1: the block of the exponential beside the turn."""
        return expm(np.block([[turn, np.eye(3)], [np.zeros((3, 6))]]))[:3, 3:]

    vector = Rotation.from_matrix(motion.rotation).as_rotvec()
    turn = cross_matrix(vector)
    along = np.linalg.solve(mean_turn(turn), motion.translation)
    return Rigid3(Rotation.from_rotvec(times * vector).as_matrix(), times * (mean_turn(times * turn) @ along))


def smooth_course(steps: Sequence[Step], views: Sequence[View], depth_sigma: np.ndarray) -> Course:
    """The most probable course, with robust weights, by one banded linear system a round.

    Args:
        steps: K - 1, between frames that follow each other.
        views: K.
        depth_sigma: (K,) by how much (log) the depth of the whole object may be off in each frame.
    """
    strength = _strengths(steps)
    # Begun at medians over time: at the measurements themselves a wrong one would be in the right.
    velocities = median_over_time(np.array([step.velocity for step in steps]))
    found = np.append(np.column_stack([np.zeros(len(steps)), velocities]).ravel(), 0.0)
    for _ in range(ROUNDS):
        found = _solve(steps, depth_sigma, strength, found)
    unknown = found[:-1].reshape(-1, SIZE)
    log_gain = np.append(unknown[:, 0], found[-1])
    motions = [about(row[1:] * step.duration, step.centre) for row, step in zip(unknown, steps)]
    scaled = [
        _at_gain(motion, view, after, gain) for motion, view, after, gain in zip(motions, views, views[1:], log_gain)
    ]
    return Course(Rigid3.from_matrix(np.array([motion.matrix for motion in scaled])), log_gain)


def median_over_time(values: np.ndarray) -> np.ndarray:
    """(K, C) medians of the columns over each row and the ``MEDIAN_REACH`` rows before and after it."""
    rows = [slice(max(k - MEDIAN_REACH, 0), k + MEDIAN_REACH + 1) for k in range(len(values))]
    return np.array([np.median(values[each], axis=0) for each in rows])


def _at_gain(motion: Rigid3, view: View, after: View, log_gain: float) -> Rigid3:
    """The motion that looks the same once the object's depth is multiplied: the shift between cameras grows with it."""
    relative = after.cam_from_world @ motion @ view.cam_from_world.inverse()
    relative = Rigid3(relative.rotation, relative.translation * np.exp(log_gain))
    return after.cam_from_world.inverse() @ relative @ view.cam_from_world


def _strengths(steps: Sequence[Step]) -> _Strength:
    """How strongly frames hold together, read from what is seen well: motion across the view, and depth gaps."""
    durations = np.array([step.duration for step in steps])
    seen = [k for k, step in enumerate(steps) if step.hessian.any()]
    told = [steps[k] for k in seen]
    apart = np.diff((np.cumsum(durations) - durations / 2)[seen])  # in time, middle to middle
    distance = float(np.median([step.distance for step in told]))
    turns, shifts, noise = [], [], []
    for step in told:
        across = np.eye(3) - np.outer(step.ray, step.ray)
        covariance = np.linalg.pinv(step.hessian) / step.duration**2
        turns.append(step.ray @ step.velocity[:3])
        shifts.append(across @ step.velocity[3:])
        noise.append([step.ray @ covariance[:3, :3] @ step.ray, np.trace(across @ covariance[3:, 3:]) / 2])
    usual_turn = float(np.median([np.linalg.norm(step.velocity[:3]) for step in told]))
    usual_shift = float(np.median([np.linalg.norm(shift) for shift in shifts]))
    noise = np.median(noise, axis=0)
    gaps = np.array([step.depth_gap for step in told])
    gaps = gaps[np.isfinite(gaps)]
    return _Strength(
        turn=_change(np.array(turns)[:, None], apart, noise[0], LEAST_TURN + TURN_SHARE * usual_turn),
        shift=_change(np.array(shifts), apart, noise[1], LEAST_SHIFT * distance + SHIFT_SHARE * usual_shift),
        gain=max(LEAST_STEP, 1.4826 * float(np.median(np.abs(gaps)))) if len(gaps) else LEAST_STEP,
    )


def _change(measured: np.ndarray, apart: np.ndarray, noise: float, least: float) -> float:
    """Spread of the change within a usual step of what was measured (K, C), beyond noise (a variance), robustly.

    Change is that of a random walk: its variance grows with the time between measurements, ``apart`` (K - 1,).
    """
    differences = np.diff(measured, axis=0) / np.sqrt(apart)[:, None]
    if differences.size < 4:
        return least
    spread = 1.4826 * float(np.median(np.abs(differences)))
    return float(np.sqrt(max(spread**2 - 2 * noise / float(np.median(apart)), least**2)))


def _solve(steps: Sequence[Step], depth_sigma: np.ndarray, strength: _Strength, at: np.ndarray) -> np.ndarray:
    """One round: weights at ``at``, then the least squares solution, (7 (K - 1) + 1,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    builder = _Normal(len(at))
    change = np.repeat([strength.turn, strength.shift], 3)
    for k, step in enumerate(steps):
        own, time = np.arange(SIZE * k + 1, SIZE * (k + 1)), step.duration
        off = time * at[own] - step.twist
        if step.hessian.any():
            weight = 1 / (1 + off @ step.hessian @ off / 6 / TAIL)
            builder.add(own, weight * time**2 * step.hessian, weight * time * step.hessian @ step.twist)
        if np.isfinite(step.depth_gap):
            # What the motion leads to, times the gain here, is what is measured there, times the gain there.
            columns = np.concatenate([own, [SIZE * k, SIZE * (k + 1)]])
            row = np.concatenate([-time * step.depth_row, [-1.0, 1.0]])
            value = -step.depth_gap - step.depth_row @ step.twist
            builder.add_row(columns, row, value, GAP_SIGMA, at)
        builder.add_row(np.array([SIZE * k, SIZE * (k + 1)]), np.array([-1.0, 1.0]), 0.0, strength.gain, at)
        if k:
            apart = (steps[k - 1].duration + time) / 2
            for i, sigma in enumerate(change * np.sqrt(apart)):
                columns = np.array([own[i] - SIZE, own[i]])
                builder.add_row(columns, np.array([-1.0, 1.0]), 0.0, sigma, at)
    for k, sigma in enumerate(depth_sigma):
        builder.add_row(np.array([SIZE * k]), np.ones(1), 0.0, sigma, at)
    rows, columns, values = builder.entries()
    matrix = coo_matrix((values, (rows, columns)), shape=(len(at), len(at))).tocsc()
    return spsolve(matrix, builder.right)


class _Normal:
    """Normal equations, block by block."""

    def __init__(self, size: int) -> None:
        self.right = np.zeros(size)
        self._rows, self._columns, self._values = [], [], []

    def add(self, columns: np.ndarray, block: np.ndarray, right: np.ndarray) -> None:
        self._rows.append(np.repeat(columns, len(columns)))
        self._columns.append(np.tile(columns, len(columns)))
        self._values.append(block.ravel())
        self.right[columns] += right

    def add_row(self, columns: np.ndarray, row: np.ndarray, value: float, sigma: float, at: np.ndarray) -> None:
        """One measurement ``row @ unknown = value`` with Student weights at ``at``."""
        off = (row @ at[columns] - value) / sigma
        weight = 1 / (1 + off**2 / TAIL) / sigma**2
        self.add(columns, weight * np.outer(row, row), weight * value * row)

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.concatenate(self._rows), np.concatenate(self._columns), np.concatenate(self._values)
