"""Do other views see the same surface? The evidence for what is solid and static."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3


def count_agreement(
    points_in_world: np.ndarray,
    valid: np.ndarray,
    neighbour_from_world: Rigid3,
    camera: Camera,
    neighbour_depth: np.ndarray,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Which points one neighbour confirms, and which it sees through.

    Args:
        points_in_world: (N, 3) float64.
        valid: (N,) bool, rows to judge.
        neighbour_from_world, camera: pose and camera of the neighbour.
        neighbour_depth: (H, W) float32 z-depth, 0 where not valid.
        tolerance: relative difference of depth that counts as the same surface.

    Returns:
        agrees, sees_through: (N,) bool. A point behind the neighbour's surface is hidden there: neither.
    """
    x_in_cam = neighbour_from_world @ points_in_world
    agrees = np.zeros(len(points_in_world), dtype=np.bool_)
    sees_through = np.zeros(len(points_in_world), dtype=np.bool_)
    intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    _judge(x_in_cam, valid, intrinsics, neighbour_depth, tolerance, agrees, sees_through)
    return agrees, sees_through


@njit(parallel=True, cache=True)
def _judge(x_in_cam, valid, intrinsics, depth, tolerance, agrees, sees_through):
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for i in prange(len(x_in_cam)):
        z = x_in_cam[i, 2]
        if not valid[i] or z <= 0.0:
            continue
        u = fx * x_in_cam[i, 0] / z + cx
        v = fy * x_in_cam[i, 1] / z + cy
        if u < 0.0 or v < 0.0 or u >= width or v >= height:
            continue
        seen = depth[int(v), int(u)]
        if seen <= 0.0:
            continue
        if abs(seen - z) <= tolerance * z:
            agrees[i] = True
        elif seen > z:
            sees_through[i] = True
