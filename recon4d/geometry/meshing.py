"""From a depth grid to a surface: where neighbouring pixels belong together, and its normals."""

from __future__ import annotations

import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.depth import SceneDepth
from recon4d.scene.mesh import DepthMesh


def cut_silhouettes(surface: SceneDepth, camera: Camera, max_ratio: float, min_angle_deg: float) -> DepthMesh:
    """Join neighbouring pixels that lie on one surface, so that no rubber sheet spans a silhouette.

    Two neighbours are joined when both are valid, the farther is less than ``max_ratio`` times as deep as the nearer,
    and the line between them makes at least ``min_angle_deg`` with the viewing ray (a sheet between an object and what
    is behind it runs along the ray; a floor seen from a standing person does not).
    """
    points = camera.unproject(surface.depth.astype(np.float64))
    join_right = np.zeros(surface.valid.shape, dtype=bool)
    join_down = np.zeros(surface.valid.shape, dtype=bool)
    join_right[:, :-1] = _on_one_surface(
        points[:, :-1], points[:, 1:], surface.valid[:, :-1] & surface.valid[:, 1:], max_ratio, min_angle_deg
    )
    join_down[:-1] = _on_one_surface(
        points[:-1], points[1:], surface.valid[:-1] & surface.valid[1:], max_ratio, min_angle_deg
    )
    return DepthMesh(surface, join_right, join_down)


def cut_between(mesh: DepthMesh, parts: np.ndarray) -> DepthMesh:
    """The same surface without joins between pixels of different parts (H, W) int: what moves ends where it ends."""
    join_right, join_down = mesh.join_right.copy(), mesh.join_down.copy()
    join_right[:, :-1] &= parts[:, :-1] == parts[:, 1:]
    join_down[:-1] &= parts[:-1] == parts[1:]
    return DepthMesh(mesh.surface, join_right, join_down)


def _on_one_surface(
    p: np.ndarray, q: np.ndarray, both_valid: np.ndarray, max_ratio: float, min_angle_deg: float
) -> np.ndarray:
    near, far = np.minimum(p[..., 2], q[..., 2]), np.maximum(p[..., 2], q[..., 2])
    edge, ray = q - p, p + q  # the ray through the middle of the edge, up to length
    along = np.abs((edge * ray).sum(axis=-1))
    length = np.sqrt((edge**2).sum(axis=-1) * (ray**2).sum(axis=-1))
    return both_valid & (far < max_ratio * near) & (along <= np.cos(np.radians(min_angle_deg)) * length)


def grid_normals(points: np.ndarray, mesh: DepthMesh) -> np.ndarray:
    """(H, W, 3) float32 unit normals towards the camera; 0 where a pixel lacks joined neighbours in x or y.

    ``points`` are (H, W, 3) in the camera frame. Differences are central where both sides are joined.
    """
    across, has_across = _slope(points, mesh.join_right, axis=1)
    down, has_down = _slope(points, mesh.join_down, axis=0)
    normal = np.cross(down, across)  # x right, y down, z forward: down x right points back at the camera
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    usable = has_across & has_down & (length[..., 0] > 0)
    return np.where(usable[..., None], normal / np.maximum(length, 1e-30), 0.0).astype(np.float32)


def _slope(points: np.ndarray, joined: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the differences to the joined next and previous pixel along an axis, and whether there is any."""
    step = np.where(joined[..., None], np.roll(points, -1, axis=axis) - points, 0.0)  # last row or column: not joined
    return step + np.roll(step, 1, axis=axis), joined | np.roll(joined, 1, axis=axis)


def well_joined(mesh: DepthMesh) -> np.ndarray:
    """(H, W) bool: pixels joined to at least two neighbours; the others float between surfaces."""
    right, down = mesh.join_right.astype(np.int8), mesh.join_down.astype(np.int8)
    return right + np.roll(right, 1, axis=1) + down + np.roll(down, 1, axis=0) >= 2
