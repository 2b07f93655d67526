"""One frame's surface as points in the world, and which points stand apart from all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.geometry.meshing import grid_normals, well_joined
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.trajectory import View


@dataclass(frozen=True)
class FramePoints:
    """The pixels of one frame as points in the world frame."""

    points: np.ndarray  # (H, W, 3) float64, scene units
    normals: np.ndarray  # (H, W, 3) float32, towards the camera, 0 where unknown
    usable: np.ndarray  # (H, W) bool: valid and not floating between surfaces


def frame_points(view: View, mesh: DepthMesh) -> FramePoints:
    """Points and normals of a frame's surface."""
    x_in_cam = view.camera.unproject(mesh.surface.depth.astype(np.float64))
    world_from_cam = view.cam_from_world.inverse()
    points = (world_from_cam @ x_in_cam.reshape(-1, 3)).reshape(x_in_cam.shape)
    normals = grid_normals(x_in_cam, mesh) @ world_from_cam.rotation.T.astype(np.float32)
    return FramePoints(points, normals, mesh.surface.valid & well_joined(mesh))


def without_outliers(points: np.ndarray, neighbours: int = 20, spread: float = 2.0) -> np.ndarray:
    """(N,) bool: points not unusually far from their neighbours on average (open3d's statistical filter)."""
    if len(points) <= neighbours:
        return np.ones(len(points), dtype=bool)
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    _, kept = cloud.remove_statistical_outlier(neighbours, spread)
    keep = np.zeros(len(points), dtype=bool)
    keep[np.asarray(kept)] = True
    return keep
