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
    agrees = np.zeros(len(points_in_world), dtype=np.bool_)
    sees_through = np.zeros(len(points_in_world), dtype=np.bool_)
    pixel_from_world = camera.matrix @ neighbour_from_world.matrix[:3]
    _judge(points_in_world, valid, pixel_from_world, neighbour_depth, tolerance, agrees, sees_through)
    return agrees, sees_through


@njit(parallel=True, cache=True)
def _judge(points, valid, p, depth, tolerance, agrees, sees_through):
    """``p`` (3, 4) takes world points to (u z, v z, z)."""
    height, width = depth.shape
    for i in prange(len(points)):
        if not valid[i]:
            continue
        x, y, w = points[i]
        z = p[2, 0] * x + p[2, 1] * y + p[2, 2] * w + p[2, 3]
        if z <= 0.0:
            continue
        u = (p[0, 0] * x + p[0, 1] * y + p[0, 2] * w + p[0, 3]) / z
        v = (p[1, 0] * x + p[1, 1] * y + p[1, 2] * w + p[1, 3]) / z
        if u < 0.0 or v < 0.0 or u >= width or v >= height:
            continue
        seen = depth[int(v), int(u)]
        if seen <= 0.0:
            continue
        if abs(seen - z) <= tolerance * z:
            agrees[i] = True
        elif seen > z:
            sees_through[i] = True
