"""The rigid motion of an object between two frames that best explains where the optical flow finds its points.

Only pictures speak here, not differences of depth: a depth that is off by five per cent moves a point by more than the
object does between two frames, but changes where the moved point is seen by five per cent of the motion only. Along
the ray the motion shows in how the object grows in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.geometry.rotations import cross_matrix
from recon4d.motion.followed import Followed
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

LEAST_POINTS = 12
FLOW_SIGMA_PX = 0.25  # of a good flow; residuals are not trusted to be smaller
SAME_FLOW_PX = 256.0  # pixels that share one error: the flow is found patch by patch
TURN_SIGMA, SHIFT_SIGMA = 0.5, 0.2  # radians, and share of the depth: what an object may do between two frames
ROUNDS = 25
MEDIAN_LENGTH = float(np.sqrt(2 * np.log(2)))  # of errors normal along two axes, in their sigma (Rayleigh's law)
WIDE_PX = 4.0  # least width of the first round
SETTLED = 1e-6  # change of the twist, radians and shares of the depth


@dataclass(frozen=True)
class RigidFit:
    """``other_from_cam``: the motion of an object from one camera's frame to another's."""

    motion: Rigid3
    pixels: float  # of the object that took part
    residual_px: float  # median distance of the moved points from where the flow finds them, outliers included
    moved_px: float  # median distance of where the flow finds them from where they were, had they stood still
    depth_gap: float  # median log of measured depth over that of the moved points: how the two frames' depths differ
    centre: np.ndarray  # (3,) middle of the points, frame of the first camera
    hessian: np.ndarray  # (6, 6) inverse covariance of a turn about the moved centre and a shift, second camera's axes
    depth_row: np.ndarray  # (6,) derivative by the same of the log depth the motion leads to

    @property
    def depth_sigma(self) -> float:
        """One standard deviation of the log depth the motion leads to."""
        return float(np.sqrt(self.depth_row @ np.linalg.solve(self.hessian, self.depth_row)))

    def __post_init__(self) -> None:
        if not (np.isfinite(self.residual_px) and np.isfinite(self.hessian).all()):
            raise ValueError("RigidFit: the residual is not finite")


def fit_rigid(points: Followed, camera: Camera, static: Rigid3) -> RigidFit:
    """Robust Gauss-Newton on SE(3), from the motion of the camera alone.

    Args:
        points: of the object.
        camera: of the other frame.
        static: other_from_cam of what stands still.

    Raises:
        ValueError: fewer than ``LEAST_POINTS`` points.

    Source: weights of Geman and McClure (1987), their width brought down as in Zhou et al., Fast global registration,
    ECCV 2016; Jacobian of a left perturbation about the object's middle.
    """
    if len(points) < LEAST_POINTS:
        raise ValueError(f"fit_rigid: {len(points)} points, {LEAST_POINTS} are needed")
    centre = np.median(points.x_in_cam, axis=0)
    prior = np.repeat([TURN_SIGMA**-2, (SHIFT_SIGMA * centre[2]) ** -2], 3)
    share = min(1.0, points.pixels_each / SAME_FLOW_PX)  # of an independent measurement that a point is
    motion, width, hessian = static, None, np.diag(prior)
    for _ in range(ROUNDS):
        moved, middle = motion @ points.x_in_cam, motion @ centre
        residual, jacobian = reprojection(moved, middle, points.found, camera)
        length = np.linalg.norm(residual, axis=1)
        spread = residual_spread(length)
        # Wide at first, so that the pixels of the background in a mask do not hold the object where it is.
        width = max(WIDE_PX, 6 * spread) if width is None else max(0.6 * width, 3 * spread)
        weight = share / spread**2 * (width**2 / (width**2 + length**2)) ** 2
        rows = (jacobian * np.sqrt(weight)[:, None, None]).reshape(-1, 6)
        # Not with @: for products this small BLAS wakes threads that stall on a busy machine.
        hessian = np.einsum("ni,nj->ij", rows, rows) + np.diag(prior)
        gradient = np.einsum("ni,n->i", rows, (residual * np.sqrt(weight)[:, None]).ravel())
        gradient += prior * _twist(motion, static, middle)
        step = -np.linalg.solve(hessian, gradient)
        motion = about(step, middle) @ motion
        if np.abs(step * np.repeat([1, 1 / centre[2]], 3)).max() < SETTLED:
            break
    return _verdict(points, camera, static, motion, hessian)


def residual_spread(length: np.ndarray) -> float:
    """Standard deviation per axis, px, of residuals of these lengths (N,), by their median."""
    return max(FLOW_SIGMA_PX, float(np.median(length)) / MEDIAN_LENGTH)


def _verdict(points: Followed, camera: Camera, static: Rigid3, motion: Rigid3, hessian: np.ndarray) -> RigidFit:
    centre, moved = np.median(points.x_in_cam, axis=0), motion @ points.x_in_cam
    standing = static @ points.x_in_cam
    length = np.linalg.norm(reprojection(moved, centre, points.found, camera)[0], axis=1)
    good = length <= 4 * residual_spread(length)
    row = log_depth_rows(moved, motion @ centre)[good].mean(axis=0)
    known = good & np.isfinite(points.depth)
    gap = np.log(points.depth[known] / moved[known, 2])
    return RigidFit(
        motion=motion,
        pixels=len(points) * points.pixels_each,
        residual_px=float(np.median(length)),
        moved_px=float(np.median(np.linalg.norm(reprojection(standing, centre, points.found, camera)[0], axis=1))),
        depth_gap=float(np.median(gap)) if known.any() else np.nan,
        centre=centre,
        hessian=hessian,
        depth_row=row,
    )


def reprojection(
    moved: np.ndarray, middle: np.ndarray, found: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Residual (N, 2) px of points (N, 3) of a camera's frame against pixels (N, 2), and its Jacobian (N, 2, 6).

    The six are a turn about ``middle`` (3,), radians, and a shift, scene units:  x' = middle + exp(turn)(x - middle) +
    shift. Points behind the camera get residual and Jacobian 0.
    """
    x, y, z = moved.T
    ahead = z > 1e-9
    z = np.where(ahead, z, 1.0)
    pixel = np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], axis=-1)
    by_point = np.zeros((len(moved), 2, 3))
    by_point[:, 0, 0], by_point[:, 0, 2] = camera.fx / z, -camera.fx * x / z**2
    by_point[:, 1, 1], by_point[:, 1, 2] = camera.fy / z, -camera.fy * y / z**2
    by_point[~ahead] = 0
    turn = by_point @ -cross_matrix(moved - middle)
    return np.where(ahead[:, None], pixel - found, 0.0), np.concatenate([turn, by_point], axis=-1)


def log_depth_rows(moved: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """(N, 6) derivative of log z of points (N, 3) by the same six."""
    rows = np.concatenate([-cross_matrix(moved - middle)[:, 2], np.tile([0.0, 0.0, 1.0], (len(moved), 1))], axis=1)
    return rows / moved[:, 2, None]


def about(twist: np.ndarray, middle: np.ndarray) -> Rigid3:
    """The motion of a turn (3,) about ``middle`` (3,) and a shift (3,)."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(twist[:3]).as_matrix()
    return Rigid3(turn, middle - turn @ middle + twist[3:])


def _twist(motion: Rigid3, static: Rigid3, middle: np.ndarray) -> np.ndarray:
    """(6,) turn and shift about ``middle`` (moved) by which an object's motion differs from standing still."""
    from scipy.spatial.transform import Rotation

    own = motion @ static.inverse()
    turn = Rotation.from_matrix(own.rotation)
    return np.concatenate([turn.as_rotvec(), middle - own.inverse() @ middle])
