"""One frame's surface under the judgement of other views, and the clouds that come of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recon4d.geometry.agreement import count_agreement
from recon4d.geometry.mesh_order import in_canonical_order
from recon4d.geometry.meshing import grid_normals, well_joined
from recon4d.scene.camera import Camera
from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import DepthMesh
from recon4d.scene.trajectory import View
from recon4d.scene.transforms import Rigid3


@dataclass(frozen=True)
class FramePoints:
    """The pixels of one frame as points in the world frame."""

    points: np.ndarray  # (H, W, 3) float64, scene units
    normals: np.ndarray  # (H, W, 3) float32, towards the camera, 0 where unknown
    usable: np.ndarray  # (H, W) bool: valid and not floating between surfaces


@dataclass(frozen=True)
class ViewCounts:
    """What other views say of the pixels of one frame."""

    agreeing: np.ndarray  # (H, W) uint8: views that see the same surface
    seeing_through: np.ndarray  # (H, W) uint8: views that see something behind it

    def confirmed(self, min_agreeing: int) -> np.ndarray:
        """(H, W) bool: seen by enough views, and by at least twice those that see through it."""
        return (self.agreeing >= min_agreeing) & (self.agreeing >= 2 * self.seeing_through)

    def confidence(self) -> np.ndarray:
        """(H, W) float32, 0..1: share of agreeing views, with half a vote each way added (Krichevsky-Trofimov)."""
        total = self.agreeing.astype(np.float32) + self.seeing_through
        return (self.agreeing + np.float32(0.5)) / (total + np.float32(1.0))


def frame_points(view: View, mesh: DepthMesh) -> FramePoints:
    """Points and normals of a frame's surface."""
    x_in_cam = view.camera.unproject(mesh.surface.depth.astype(np.float64))
    world_from_cam = view.cam_from_world.inverse()
    points = (world_from_cam @ x_in_cam.reshape(-1, 3)).reshape(x_in_cam.shape)
    normals = grid_normals(x_in_cam, mesh) @ world_from_cam.rotation.T.astype(np.float32)
    return FramePoints(points, normals, mesh.surface.valid & well_joined(mesh))


def count_views(frame: FramePoints, others: Iterable[tuple[View, np.ndarray]], tolerance: float) -> ViewCounts:
    """Compare a frame's points with the depth of other views (H, W, 0 where not valid), one at a time."""
    points, usable = frame.points.reshape(-1, 3), frame.usable.ravel()
    agreeing, seeing_through = np.zeros((2, usable.size), dtype=np.uint8)
    for other, depth in others:
        agrees, through = count_agreement(points, usable, other.cam_from_world, other.camera, depth, tolerance)
        agreeing += agrees
        seeing_through += through
    return ViewCounts(agreeing.reshape(frame.usable.shape), seeing_through.reshape(frame.usable.shape))


def frame_cloud(
    frame: FramePoints, counts: ViewCounts, provenance: np.ndarray, picture: np.ndarray, max_points: int
) -> PointCloud:
    """All usable pixels of a frame as points, the pixel grid evenly thinned to at most ``max_points``."""
    step = 1
    while frame.usable[::step, ::step].sum() > max_points:
        step += 1
    thin = (slice(None, None, step), slice(None, None, step))
    keep = frame.usable[thin]
    return PointCloud(
        points=frame.points[thin][keep],
        colors=picture[thin][keep],
        normals=frame.normals[thin][keep],
        confidence=counts.confidence()[thin][keep],
        provenance=provenance[thin][keep],
    )


def point_weights(depth: np.ndarray, agreeing: np.ndarray) -> np.ndarray:
    """Weight of a point in the background: by its witnesses, and falling with the square of its depth.

    Depth from views of one baseline errs with z squared (so weight z**-4); relative depth errs with z (weight z**-2),
    and that is what most sources give.
    """
    return (1.0 + agreeing) / np.maximum(depth, 1e-12) ** 2


class BackgroundMesh:
    """Truncated signed distance volume on blocks where there is surface, through open3d."""

    BLOCK = 8  # voxels along the edge of a block; with 16 most of a block's memory is empty space

    def __init__(self, voxel_size: float, surface_points: np.ndarray) -> None:
        """``surface_points`` (N, 3) tell how many blocks the volume will need."""
        import open3d as o3d

        self._o3d, self.voxel_size = o3d, voxel_size
        blocks = np.unique(np.floor(surface_points / (voxel_size * self.BLOCK)).astype(np.int64), axis=0)
        self.volume = o3d.t.geometry.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            attr_dtypes=(o3d.core.float32, o3d.core.float32, o3d.core.float32),
            attr_channels=((1), (1), (3)),
            voxel_size=voxel_size,
            block_resolution=self.BLOCK,
            block_count=1000 + 2 * len(blocks),  # room for neighbours; the volume grows when it is not enough
            device=o3d.core.Device("CPU:0"),
        )

    def add(self, depth: np.ndarray, picture: np.ndarray, camera: Camera, cam_from_world: Rigid3) -> None:
        """Integrate one frame: depth (H, W) float32, 0 where there is no background; picture (H, W, 3) uint8."""
        if not (depth > 0).any():
            return
        o3d = self._o3d
        far = float(depth.max()) * 1.01
        k = camera.matrix.copy()
        k[:2, 2] -= 0.5  # open3d counts pixel centres as whole numbers
        intrinsic, extrinsic = o3d.core.Tensor(k), o3d.core.Tensor(cam_from_world.matrix)
        depth_image = o3d.t.geometry.Image(o3d.core.Tensor(np.ascontiguousarray(depth, dtype=np.float32)))
        color_image = o3d.t.geometry.Image(o3d.core.Tensor(picture.astype(np.float32) / 255))
        blocks = self.volume.compute_unique_block_coordinates(depth_image, intrinsic, extrinsic, 1.0, far)
        self.volume.integrate(blocks, depth_image, color_image, intrinsic, intrinsic, extrinsic, 1.0, far)

    def extract(self, min_weight: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (N, 3), faces (T, 3), colours (N, 3) uint8 of the surface seen by ``min_weight`` frames or more.

        open3d hands the same mesh out in another order each time; it comes in the one of `in_canonical_order`.
        """
        mesh = self.volume.extract_triangle_mesh(weight_threshold=min_weight)
        if "positions" not in mesh.vertex or len(mesh.vertex.positions) == 0:
            return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32), np.zeros((0, 3), dtype=np.uint8)
        colors = np.clip(np.round(mesh.vertex.colors.numpy() * 255), 0, 255).astype(np.uint8)
        return in_canonical_order(mesh.vertex.positions.numpy(), mesh.triangle.indices.numpy(), colors)


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
