"""Which way is up: from gravity, from the planes of the scene, or from how people hold cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from recon4d.geometry.ground import GroundPlane, axes_around
from recon4d.geometry.rotations import cross_matrix
from recon4d.geometry.world_points import WorldPoints
from recon4d.scene.transforms import Rigid3

# How level people hold cameras: roll, and how far the mean pitch is from level, degrees (one standard deviation).
HELD_ROLL_DEG, HELD_PITCH_DEG = 3.0, 20.0
# What each source leaves open even where its own numbers agree perfectly, degrees.
SENSOR_DEG = 0.7  # mounting and bias of a phone's accelerometer
NORMALS_DEG = 2.0  # 1.6 to 2.5 were found where video depth bends by 5 %
GROUND_DEG = 1.2  # floors are laid with this much care, and depth bends
BLOCK_S = 0.5  # shaking is averaged over this long; what is left of it is taken as independent from block to block
NORMAL_SPREAD_DEG = 6.0  # of good normals; those much farther from level and upright are furniture and noise
USED_NORMALS = 6000
MIN_UPRIGHT = 0.15  # share of the normals that must be level or upright
DISAGREE_DEG = 5.0


class UpSource(IntEnum):
    """Where an up direction comes from, most trusted first."""

    IMU = 0
    PHOTOS = 1
    GROUND = 2
    PLANES = 3
    CAMERAS = 4

    @property
    def words(self) -> str:
        return (
            "gravity measured by an IMU",
            "gravity in the photos",
            "the ground plane",
            "floors and walls",
            "cameras held level",
        )[self]


@dataclass(frozen=True)
class UpEstimate:
    """An up direction in the world frame."""

    up: np.ndarray  # (3,) unit
    sigma_deg: float  # root mean square angle to the true one
    source: UpSource
    samples: int  # what it rests on: readings, points, normals or frames


@dataclass(frozen=True)
class UpChoice:
    """The estimate that is used, and the others that contradict it."""

    chosen: UpEstimate
    contradicting: tuple[tuple[UpEstimate, float], ...]  # with the angle to the chosen one, degrees


def up_from_cameras(cam_from_world: Rigid3) -> UpEstimate:
    """Up from a batch of poses (N,), taken as held level.

    People keep the horizon level: the x axes of the cameras lie in the ground plane whatever the pitch. Up is the
    direction most at right angles to all of them; where the camera hardly turns, the mean upward axis decides.
    """
    right, down = cam_from_world.rotation[:, 0], cam_from_world.rotation[:, 1]  # rows: camera axes in the world
    mean_up = _unit(-down.mean(axis=0))
    spread = right.T @ right / len(right)
    # 0.005: with less turning than about 4 degrees the x axes do not fix the plane, and the mean up takes over.
    _, vectors = np.linalg.eigh(spread + 0.005 * (np.eye(3) - np.outer(mean_up, mean_up)))
    up = vectors[:, 0] * (1.0 if vectors[:, 0] @ mean_up >= 0 else -1.0)
    # A hand's roll lasts as long as the clip: more frames add nothing, turning to other sides does.
    across = axes_around(up)[:2]
    known = across @ spread @ across.T / np.deg2rad(HELD_ROLL_DEG) ** 2 + np.eye(2) / np.deg2rad(HELD_PITCH_DEG) ** 2
    sigma_deg = float(np.rad2deg(np.sqrt(np.trace(np.linalg.inv(known)))))
    return UpEstimate(up, sigma_deg, UpSource.CAMERAS, len(right))


def up_from_gravity(
    up_in_cam: np.ndarray, cam_from_world: Rigid3, timestamps_s: np.ndarray, source: UpSource = UpSource.IMU
) -> UpEstimate:
    """Up from accelerations (specific force: upward at rest) in camera axes at times with a pose.

    Over a clip the linear acceleration is the change of speed divided by its duration, so the mean in the world is
    gravity; the spread of the means over `BLOCK_S` tells how well, and shocks and wrong poses have little weight.

    Args:
        up_in_cam: (N, 3) any unit, one for all.
        cam_from_world: (N,) pose at each sample.
        timestamps_s: (N,)

    Raises:
        ValueError: shapes do not match or there is no sample.
    """
    up_in_cam = np.asarray(up_in_cam, dtype=np.float64)
    if up_in_cam.shape != (len(cam_from_world), 3) or len(timestamps_s) != len(up_in_cam) or len(up_in_cam) == 0:
        raise ValueError(f"up_from_gravity: {up_in_cam.shape} samples for {len(cam_from_world)} poses")
    in_world = np.einsum("nji,nj->ni", cam_from_world.rotation, up_in_cam)
    block = np.floor((timestamps_s - np.min(timestamps_s)) / BLOCK_S).astype(int)
    means = np.array([in_world[block == k].mean(axis=0) for k in np.unique(block)])
    centre, weights = _robust_mean(means)
    up, length = _unit(centre), max(float(np.linalg.norm(centre)), 1e-12)
    across = (means @ axes_around(up)[:2].T) / length
    freedom = max(weights.sum() - 1, 0.5)  # of one block the spread within it must do
    if len(means) == 1:
        across, weights = (in_world @ axes_around(up)[:2].T) / length, np.ones(len(in_world))
        freedom = 1.0
    variance = float((weights[:, None] * across**2).sum() / weights.sum() / freedom)
    sigma_deg = float(np.hypot(SENSOR_DEG, np.rad2deg(np.sqrt(variance))))
    return UpEstimate(up, sigma_deg, source, len(up_in_cam))


def up_from_ground(plane: GroundPlane) -> UpEstimate:
    """Up as the normal of the ground, taken as level."""
    return UpEstimate(plane.normal, float(np.hypot(GROUND_DEG, plane.tilt_sigma_deg)), UpSource.GROUND, plane.inliers)


def up_from_planes(world: WorldPoints, hint: UpEstimate) -> UpEstimate | None:
    """Up from normals of surfaces, most of which are floors, ceilings, table tops (along it) or walls (across it).

    Each normal pulls towards the nearer of the two, robustly; from the hint and from directions around it,
    the best end is taken. None where the normals do not fix both angles, or no clear minimum is there.

    Args:
        world: surfaces whose normals are used where they are known; errors of one group are taken as one error.
        hint: about up.
    """
    length = np.linalg.norm(world.normals, axis=1)
    keep = np.isfinite(length) & (length > 1e-9)
    normals = world.normals[keep] / length[keep, None]
    groups = world.groups[keep]
    if len(normals) < 50:
        return None
    rows = np.random.default_rng(0).choice(len(normals), min(len(normals), USED_NORMALS), replace=False)
    normals, groups = normals[rows], np.unique(groups[rows], return_inverse=True)[1]
    radius = np.tan(np.deg2rad(np.clip(2 * hint.sigma_deg, 5.0, 30.0)))
    around = [(0.0, 0.0), *[(radius * np.cos(a), radius * np.sin(a)) for a in np.arange(6) * np.pi / 3]]
    ends = [_settled(normals, _unit(hint.up + np.array(offset) @ axes_around(hint.up)[:2])) for offset in around]
    best = min(ends, key=lambda up: _pulls(normals, up).cost)
    return _planes_estimate(normals, best, groups)


@dataclass(frozen=True)
class _Pulls:
    """What normals say about up at a guess of it; moves are in the two directions across the guess, radians."""

    cost: float  # mean, 0..1
    weights: np.ndarray  # (N,)
    pull: np.ndarray  # (N, 2) gradient of each normal's half square
    matrix: np.ndarray  # (2, 2) weighted sum of their curvatures


def _pulls(normals: np.ndarray, up: np.ndarray) -> _Pulls:
    """A wall's normal should be at right angles to up (one equation), a floor's along it (two), robustly.

    Weights: Geman and McClure, 1985: of rho(x) = x^2 / (1 + x^2).
    """
    along, sideways = normals @ up, normals @ axes_around(up)[:2].T
    wall = np.abs(along) < np.sqrt(0.5)
    elevation = np.arcsin(np.clip(along, -1, 1))
    slope = sideways / np.sqrt(np.maximum(1 - along**2, 0.5))[:, None]  # of the elevation, as up moves
    off = np.sign(along)[:, None] * sideways
    residual = np.where(wall, np.abs(elevation), np.linalg.norm(off, axis=1))
    squared = (residual / np.deg2rad(NORMAL_SPREAD_DEG)) ** 2
    weights = 1 / (1 + squared) ** 2
    pull = np.where(wall[:, None], -elevation[:, None] * slope, off)
    matrix = (slope[wall] * weights[wall, None]).T @ slope[wall] + weights[~wall].sum() * np.eye(2)
    return _Pulls(float((squared / (1 + squared)).mean()), weights, pull, matrix)


def _settled(normals: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Gauss-Newton with reweighting from ``up``."""
    for _ in range(30):
        now = _pulls(normals, up)
        step = np.linalg.lstsq(now.matrix, now.weights @ now.pull, rcond=1e-9)[0]
        step *= min(1.0, 0.1 / max(float(np.linalg.norm(step)), 1e-12))
        up = _unit(up + step @ axes_around(up)[:2])
        if np.linalg.norm(step) < 1e-6:
            break
    return up


def _planes_estimate(normals: np.ndarray, up: np.ndarray, groups: np.ndarray) -> UpEstimate | None:
    now = _pulls(normals, up)
    used = float(now.weights.sum())
    # One wall alone leaves the turn about its normal open, and normals in all directions say nothing.
    if used < MIN_UPRIGHT * len(normals) or np.linalg.eigvalsh(now.matrix)[0] < 0.1 * used:
        return None
    count = int(groups.max()) + 1
    sums = np.zeros((count, 2))
    np.add.at(sums, groups, now.weights[:, None] * now.pull)
    bread = np.linalg.inv(now.matrix)
    # Errors repeat from frame to frame: past ten groups more of them add nothing.
    covariance = bread @ (sums.T @ sums) @ bread * count / max(count - 2, 1) * max(1.0, count / 10.0)
    sigma_deg = float(np.hypot(NORMALS_DEG, np.rad2deg(np.sqrt(np.trace(covariance)))))
    return UpEstimate(up, sigma_deg, UpSource.PLANES, int((now.weights > 0.25).sum()))


def choose_up(estimates: Sequence[UpEstimate]) -> UpChoice:
    """The estimate with the least uncertainty (of two within a tenth of each other the more trusted source).

    Another estimate contradicts it when the angle is more than `DISAGREE_DEG` and more than 2.5 standard deviations of
    the two together.

    Raises:
        ValueError: there is no estimate.
    """
    if not estimates:
        raise ValueError("choose_up: there is no estimate of up")
    least = min(estimate.sigma_deg for estimate in estimates)
    chosen = min((e for e in estimates if e.sigma_deg <= 1.1 * least), key=lambda e: e.source)
    contradicting = []
    for other in estimates:
        angle = angle_deg(chosen.up, other.up)
        if angle > max(DISAGREE_DEG, 2.5 * float(np.hypot(chosen.sigma_deg, other.sigma_deg))):
            contradicting.append((other, angle))
    return UpChoice(chosen, tuple(contradicting))


def levelled_from_up(up: np.ndarray, ground: GroundPlane | None = None, centre: np.ndarray | None = None) -> Rigid3:
    """Motion of the world with the smallest turn that brings ``up`` (3,) to +z.

    With a ground, z = 0 lies on it: below ``centre`` (3,), the cameras' mean position, where it is not quite level.
    """
    turn = _shortest_turn(_unit(np.asarray(up, dtype=np.float64)), np.array([0.0, 0.0, 1.0]))
    if ground is None:
        return Rigid3(turn, np.zeros(3))
    centre = np.zeros(3) if centre is None else np.asarray(centre, dtype=np.float64)
    drop = ground.height(centre) / (ground.normal @ _unit(up))  # down along up until the plane is met
    return Rigid3(turn, np.array([0.0, 0.0, drop - turn[2] @ centre]))


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two directions (3,), exact for small ones too."""
    return float(np.rad2deg(np.arctan2(np.linalg.norm(np.cross(a, b)), np.dot(a, b))))


def _robust_mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (3,) of rows (N, 3) and their weights (N,) under Cauchy weights, from the median."""
    centre = np.median(values, axis=0)
    weights = np.ones(len(values))
    for _ in range(10):
        distance = np.linalg.norm(values - centre, axis=1)
        scale = max(1.4826 * float(np.median(distance)), 1e-3 * float(np.linalg.norm(centre)), 1e-12)
        weights = 1 / (1 + (distance / (2.385 * scale)) ** 2)
        centre = np.average(values, axis=0, weights=weights)
    return centre, weights


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotation matrix that brings unit vector a to unit vector b by the smallest angle (Rodrigues)."""
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1 + 1e-9:  # opposite: half a turn about any axis at right angles
        helper = np.eye(3)[int(np.argmin(np.abs(a)))]
        axis = np.cross(a, helper)
        axis /= np.linalg.norm(axis)
        return 2 * np.outer(axis, axis) - np.eye(3)
    cross = cross_matrix(axis)
    return np.eye(3) + cross + cross @ cross / (1 + cosine)
