"""Where the pixels of a frame would be in another one if nothing moved, and what is left of the cameras' errors."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from recon4d.geometry.photo_cost import pixel_warp
from recon4d.motion.rigid_fit import MEDIAN_LENGTH
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

AHEAD = 1e-6  # ratio of depth: what is not before the other camera has no place there
SAMPLE_EVERY = 5  # pixels, of a grid that tells the cameras' errors
ROUNDS = 15  # of reweighting
LEAST_SAMPLES = 50
LEAST_FLOOR_PX = 0.2  # optical flow is not better than that
RIDGE = 1e-6  # of the mean diagonal: motions that cannot be told apart stay small


@dataclass(frozen=True)
class Look:
    """A frame at working size."""

    name: str
    rgb: np.ndarray  # (H, W, 3) uint8
    camera: Camera  # of this size
    cam_from_world: Rigid3
    nearness: np.ndarray  # (H, W) float32 inverse depth, without holes
    known: np.ndarray  # (H, W) bool: it has depth of its own there
    doubt: np.ndarray  # (H, W) float32, how far off nearness may be, relative; inf where nothing is known of it
    points: np.ndarray  # (K, 2) int rows and columns of pixels where structure from motion has points


def static_flow(frame: Look, other: Look, nearness: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 pixels (right, down) to where static surfaces of this inverse depth are in the other frame.

    NaN where they are behind its camera.
    """
    turn, shift = pixel_warp(frame, other)
    height, width = nearness.shape
    x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
    u, v, z = (turn[row, 0] * x + turn[row, 1] * y + turn[row, 2] + nearness * shift[row] for row in range(3))
    z = np.where(z > AHEAD, z, np.float32(np.nan))
    return np.stack([u / z - x, v / z - y], axis=-1).astype(np.float32)


def viewing_angle_deg(frame: Look, other: Look) -> float:
    """Angle between the rays from both cameras to what is in the middle of the frame, at its median depth."""
    world_from_frame, world_from_other = frame.cam_from_world.inverse(), other.cam_from_world.inverse()
    target = world_from_frame @ np.array([0.0, 0.0, 1.0 / max(float(np.median(frame.nearness)), 1e-12)])
    rays = [target - pose.translation for pose in (world_from_frame, world_from_other)]
    cosine = rays[0] @ rays[1] / max(float(np.linalg.norm(rays[0]) * np.linalg.norm(rays[1])), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@dataclass(frozen=True)
class CameraError:
    """What poses, focal length and a rolling shutter leave in the flow of everything that stands still."""

    flow: np.ndarray  # (H, W, 2) float32 pixels, to be added to `static_flow`
    floor_px: float  # one standard deviation of what is left then, pixels


def camera_error(frame: Look, leftover: np.ndarray) -> CameraError:
    """Fit the image motion of a small turn and shift of the camera, that may change from row to row, to what is left.

    Most of the picture must stand still: weights fall with the square of the residual. What is left after it is the
    noise floor, the larger one of that of a grid of pixels and that at the points of structure from motion.

    Args:
        leftover: (H, W, 2) float32 optical flow minus `static_flow`, NaN where it is not known.

    Source: Longuet-Higgins and Prazdny, Proc. R. Soc. B 1980 (motion field of a rigid scene); rows of a rolling
    shutter see it grow linearly (Meingast et al., OMNIVIS 2005).
    """
    usable = frame.known & np.isfinite(leftover).all(axis=-1)
    height, width = usable.shape
    rows, columns = np.mgrid[SAMPLE_EVERY // 2 : height : SAMPLE_EVERY, SAMPLE_EVERY // 2 : width : SAMPLE_EVERY]
    rows, columns = rows[usable[rows, columns]], columns[usable[rows, columns]]
    if len(rows) < LEAST_SAMPLES:
        return CameraError(np.zeros_like(leftover), _floor(leftover[usable]))
    system = _motion_field(frame, rows, columns)
    seen = leftover[rows, columns].astype(np.float64)
    motion = _robust_fit(system, seen)
    whole = np.indices(usable.shape).reshape(2, -1)
    flow = np.einsum("ncm,m->nc", _motion_field(frame, *whole), motion).reshape(height, width, 2).astype(np.float32)
    floor = _floor(seen - np.einsum("ncm,m->nc", system, motion))
    at = frame.points[usable[frame.points[:, 0], frame.points[:, 1]]]
    if len(at) >= LEAST_SAMPLES:
        floor = max(floor, _floor((leftover - flow)[at[:, 0], at[:, 1]]))
    return CameraError(flow, floor)


def _motion_field(frame: Look, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(N, 2, 12): flow of pixels for small shifts along and turns about the three axes, and for the same times y."""
    camera = frame.camera
    x, y = (columns + 0.5 - camera.cx) / camera.fx, (rows + 0.5 - camera.cy) / camera.fy
    near, none = frame.nearness[rows, columns].astype(np.float64), np.zeros(len(x))
    along_u = np.stack([near, none, -x * near, -x * y, 1 + x * x, -y], axis=-1)
    along_v = np.stack([none, near, -y * near, -(1 + y * y), x * y, x], axis=-1)
    field = np.stack([camera.fx * along_u, camera.fy * along_v], axis=1)
    return np.concatenate([field, field * y[:, None, None]], axis=-1)


def _robust_fit(system: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(M,) unknowns of system (N, 2, M) @ unknowns = seen (N, 2), Cauchy-like weights."""
    # Shifts come in scene units, turns in radians: columns of one length make the ridge mean the same for all.
    length = np.sqrt((system**2).sum(axis=(0, 1))) + 1e-12
    system = system / length
    unknowns = np.zeros(system.shape[-1])
    for _ in range(ROUNDS):
        left = seen - np.einsum("ncm,m->nc", system, unknowns)
        away = np.linalg.norm(left, axis=-1)
        weight = 1.0 / (1.0 + (away / max(np.median(away) / MEDIAN_LENGTH, LEAST_FLOOR_PX)) ** 2)
        normal = np.einsum("n,nci,ncj->ij", weight, system, system)
        normal += RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
        unknowns = np.linalg.solve(normal, np.einsum("n,nci,nc->i", weight, system, seen))
    return unknowns / length


def _floor(left: np.ndarray) -> float:
    """One standard deviation along an axis of errors (N, 2), by their median length."""
    if len(left) == 0:
        return LEAST_FLOOR_PX
    return max(float(np.median(np.linalg.norm(left, axis=-1))) / MEDIAN_LENGTH, LEAST_FLOOR_PX)


def without_holes(nearness: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Inverse depth (H, W) float32 where it is not known from around, by a pyramid of weighted means.

    Source: push-pull (Gortler et al., The lumigraph, SIGGRAPH 1996).
    """
    if known.all():
        return nearness
    levels = [(np.where(known, nearness, 0).astype(np.float32), known.astype(np.float32))]
    while min(levels[-1][0].shape) > 2:
        levels.append(tuple(cv2.pyrDown(grid) for grid in levels[-1]))
    total, weight = levels[-1]
    filled = total / np.maximum(weight, 1e-6)
    for total, weight in reversed(levels[:-1]):
        above = cv2.pyrUp(filled, dstsize=total.shape[::-1])
        filled = np.where(weight > 1e-3, total / np.maximum(weight, 1e-6), above)
    return np.where(known, nearness, filled).astype(np.float32)
