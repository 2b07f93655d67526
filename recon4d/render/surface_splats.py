"""Splats of what we have: depth grids with their picture, layers, and clouds with normals."""

from __future__ import annotations

import numpy as np

from recon4d.render.splatting import Splats
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.transforms import Rigid3

LONGEST = 8.0  # a tangent is at most so many pixel widths long: what is seen flatter than that is cut


def grid_splats(
    mesh: DepthMesh,
    picture: np.ndarray,
    cam_from_world: Rigid3,
    camera: Camera,
    keep: np.ndarray | None = None,
    weight: np.ndarray | float = 1.0,
) -> Splats:
    """One splat for each valid pixel of a depth grid.

    Args:
        picture: (H, W, 3) colours 0..255.
        keep: (H, W) bool, pixels that are wanted; None for all valid ones.
        weight: (H, W) or one number.
    """
    surface = mesh.surface
    wanted = surface.valid if keep is None else surface.valid & keep
    points = camera.unproject(surface.depth.astype(np.float64))
    z = surface.depth[wanted].astype(np.float64)
    tangents = np.stack(
        [
            _tangents(points, mesh.join_right, 1, wanted, z / camera.fx),
            _tangents(points, mesh.join_down, 0, wanted, z / camera.fy),
        ],
        axis=1,
    )
    world_from_cam = cam_from_world.inverse()
    return Splats(
        points=world_from_cam @ points[wanted],
        tangents=tangents @ world_from_cam.rotation.T,
        colors=picture[wanted],
        provenance=surface.provenance[wanted],
        weight=np.broadcast_to(np.float32(weight), surface.depth.shape)[wanted],
    )


def _tangents(points, joined, axis, wanted, width) -> np.ndarray:
    """(N, 3) half the way between the joined neighbours along an axis, or to the one there is, else across the ray."""
    step = np.where(joined[..., None], np.roll(points, -1, axis=axis) - points, 0.0)
    ahead, behind = joined, np.roll(joined, 1, axis=axis)
    total = (step + np.roll(step, 1, axis=axis))[wanted]
    count = (ahead.astype(np.int8) + behind)[wanted]
    across = np.zeros((len(width), 3))
    across[:, 1 - axis] = width
    tangent = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], across)
    length = np.linalg.norm(tangent, axis=1)
    return tangent * np.minimum(1.0, LONGEST * width / np.maximum(length, 1e-30))[:, None]


def cloud_splats(cloud: PointCloud, spacing: float | np.ndarray, weight: float = 1.0) -> Splats:
    """Splats of a cloud: squares across the normals, of edge ``spacing`` (scene units; one, or (N,)).

    Points without a normal lie across the world's x and z axes' bisector; give clouds normals to be seen well.
    """
    normals = cloud.normals.astype(np.float64)
    lost = np.linalg.norm(normals, axis=1) < 0.5
    normals[lost] = np.array([0.0, 0.0, -1.0])
    helper = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0, 0]], [[0, 1.0, 0]])
    first = np.cross(normals, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normals, first)
    size = np.broadcast_to(np.asarray(spacing, dtype=np.float64), len(cloud))[:, None]
    return Splats(
        points=cloud.points,
        tangents=np.stack([first * size, second * size], axis=1),
        colors=cloud.colors,
        provenance=cloud.provenance,
        weight=np.full(len(cloud), weight),
    )
