"""From the depth grid of one frame to a free triangle mesh: thinning, and vertices in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.scene.camera import Camera
from recon4d.scene.depth import SceneDepth
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.trajectory import View


@dataclass(frozen=True)
class GridSurface:
    """Triangles of a frame with the pixel each vertex was seen in."""

    vertices: np.ndarray  # (N, 3) float64, world frame, scene units; each is a corner of some triangle
    faces: np.ndarray  # (T, 3) int32, counter-clockwise as the camera sees them
    pixels: np.ndarray  # (N, 2) int64, column and row in the full picture


def free_surface(mesh: DepthMesh, view: View, stride: int = 1) -> GridSurface:
    """The surface of a frame in the world, with every ``stride``-th pixel of each axis as a vertex."""
    thin, camera = thinned(mesh, view.camera, stride)
    used, corners = np.unique(thin.triangles(), return_inverse=True)
    in_cam = camera.unproject(thin.surface.depth.astype(np.float64)).reshape(-1, 3)[used]
    rows, columns = np.divmod(used.astype(np.int64), camera.width)
    return GridSurface(
        vertices=view.cam_from_world.inverse() @ in_cam,
        faces=corners.reshape(-1, 3).astype(np.int32),
        pixels=np.stack([columns, rows], axis=-1) * stride,
    )


def restricted(mesh: DepthMesh, keep: np.ndarray) -> DepthMesh:
    """The surface without the pixels outside ``keep`` (H, W) bool, and without the joins that led to them."""
    surface = mesh.surface
    valid = surface.valid & keep
    fields = SceneDepth(np.where(valid, surface.depth, 0), valid, surface.sigma, surface.provenance)
    right, down = mesh.join_right & valid, mesh.join_down & valid
    right[:, :-1] &= valid[:, 1:]
    down[:-1] &= valid[1:]
    return DepthMesh(fields, right, down)


def thinned(mesh: DepthMesh, camera: Camera, stride: int) -> tuple[DepthMesh, Camera]:
    """Every ``stride``-th pixel of each axis, and the camera whose pixel centres these are.

    Two kept neighbours are joined where all the pixels between them are: a cut is never bridged.
    """
    if stride == 1:
        return mesh, camera
    fields = (mesh.surface.depth, mesh.surface.valid, mesh.surface.sigma, mesh.surface.provenance)
    surface = SceneDepth(*(field[::stride, ::stride] for field in fields))
    height, width = surface.depth.shape
    # Column X of the thin grid has its centre, X + 0.5, where column stride * X of the full one has.
    cx, cy = (camera.cx - 0.5) / stride + 0.5, (camera.cy - 0.5) / stride + 0.5
    return (
        DepthMesh(
            surface,
            _joined_along(mesh.join_right[::stride], stride),
            _joined_along(mesh.join_down.T[::stride], stride).T,
        ),
        Camera(width, height, camera.fx / stride, camera.fy / stride, cx, cy),
    )


def _joined_along(joined: np.ndarray, stride: int) -> np.ndarray:
    """Along axis 1: whether all ``stride`` joins from each kept pixel to the next hold; False at the end."""
    padded = np.pad(joined, ((0, 0), (0, -joined.shape[1] % stride)))
    return padded.reshape(len(joined), -1, stride).all(axis=2)
