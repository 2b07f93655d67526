"""How large a point stands for its part of a surface, and the square that covers it."""

from __future__ import annotations

import numpy as np

from recon4d.scene.cloud import PointCloud
from recon4d.scene.shapes import PointSquares

NEIGHBOURS = 4  # on a grid the fourth neighbour is the next grid point of the wider direction
LONELY = 3.0  # a point is drawn at most so many times as large as its neighbours


def local_spacing(points: np.ndarray) -> np.ndarray:
    """(N,) float64 distance of each point (N, 3) to its fourth neighbour; of less than two points 0.

    A point that floats far from a surface is bounded by the spacing of its neighbours: it would hide what is behind.
    """
    from scipy.spatial import cKDTree

    count = min(NEIGHBOURS, len(points) - 1)
    if count < 1:
        return np.zeros(len(points))
    distances, rows = cKDTree(points).query(points, k=count + 1, workers=-1)
    spacing = distances[:, -1]
    return np.minimum(spacing, LONELY * np.median(spacing[rows[:, 1:]], axis=1))


def squares(cloud: PointCloud, widths: np.ndarray, eyes: np.ndarray, down: np.ndarray) -> PointSquares:
    """A square around each point in its tangent plane; where the normal is not known it faces the nearest eye.

    Args:
        cloud: N points.
        widths: (N,) lengths of the sides.
        eyes: (M, 3) positions of the cameras, frame of the points.
        down: (3,) downward axis of the pictures: two sides of a square lie across it, as the rows of a grid do.
    """
    from scipy.spatial import cKDTree

    points, normals = cloud.points.astype(np.float64), cloud.normals.astype(np.float64)
    unknown = np.linalg.norm(normals, axis=1) < 0.5
    if unknown.any():
        normals[unknown] = eyes[cKDTree(eyes).query(points[unknown])[1]] - points[unknown]
    normals = _unit(normals)
    across = np.cross(down, normals)
    steep = np.linalg.norm(across, axis=1) < 0.1 * np.linalg.norm(down)  # faces up or down: any side will do
    across[steep] = np.cross(np.roll(down, 1), normals[steep])
    # Facing along the rolled axis too is possible only for a down axis along (1, 1, 1): its own turn by a third.
    flat = np.linalg.norm(across, axis=1) < 1e-9
    across[flat] = np.cross([1.0, 0.0, 0.0], normals[flat])
    right = _unit(across) * widths[:, None] / 2
    above = np.cross(normals, right)
    corners = [points - right - above, points + right - above, points + right + above, points - right + above]
    return PointSquares(cloud, np.stack(corners, axis=1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
