"""The background as a truncated signed distance on blocks of voxels, fed frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.geometry.islands import large_islands
from recon4d.geometry.mesh_order import in_canonical_order
from recon4d.geometry.tsdf_kernels import (
    BLOCK,
    EMPTY,
    MEASURED,
    SURFACE,
    THROUGH,
    VIEWS,
    gradients,
    integrate,
    rebuild,
    touch,
)
from recon4d.scene.camera import Camera
from recon4d.scene.transforms import Rigid3

FIRST_BLOCKS = 1024
BLOCK_BYTES = 4 * 8 * BLOCK**3  # distance, four sums and three colours of each voxel
CUBE = (BLOCK, BLOCK, BLOCK)


@dataclass(frozen=True)
class Sighting:
    """What one frame has to say about the background."""

    depth: np.ndarray  # (H, W) float32 z-depth, scene units, 0 where it says nothing
    weights: np.ndarray  # (H, W) float32, 1 for a good frame's word
    counts: np.ndarray  # (H, W) bool, whether it is one of the views that a surface needs
    measured: np.ndarray  # (H, W) bool, provenance 0
    picture: np.ndarray  # (H, W, 3) uint8
    gains: np.ndarray  # (3,) float32, the picture's colours are multiplied with them
    camera: Camera
    cam_from_world: Rigid3


@dataclass(frozen=True)
class Judgement:
    """Which voxels are background: all (N, 8, 8, 8) [z, y, x], one row per block."""

    usable: np.ndarray  # bool: enough frames saw surface there, and few looked through
    carved: int  # voxels at a surface that frames look through
    lonely: int  # voxels at a surface that too few frames saw
    islands: int  # voxels at a surface on small pieces away from the rest


class TsdfVolume:
    """Signed distance to the surface, truncated, on blocks where there is surface; memory grows with the surface.

    Every voxel keeps apart how much weight saw a surface near it and how much looked through it, so that what was seen
    through can be told from what was seldom seen.
    """

    def __init__(self, voxel_size: float, band: float, most_blocks: int | None = None) -> None:
        """``voxel_size`` and ``band`` (truncation) in scene units; more than ``most_blocks`` raise MemoryError."""
        if not (voxel_size > 0 and band > 0):
            raise ValueError(f"TsdfVolume: voxel size {voxel_size} and band {band} must be positive")
        self.voxel_size, self.band, self.count, self._most = voxel_size, band, 0, most_blocks
        self._make_room(FIRST_BLOCKS)

    def reserve(self, seen: Sighting) -> None:
        """Make the blocks near a frame's surface. Frames speak only of blocks that are there: reserve all, then add."""
        there = seen.depth[seen.depth > 0]
        if len(there) == 0:
            return
        lens, edge = lens_of(seen.camera), BLOCK * self.voxel_size
        # Every other pixel, unless a quarter of a block is not even that large in the picture.
        step = 2 if 0.25 * edge * min(lens[:2]) >= 2 * float(np.quantile(there, 0.9)) else 1
        world_from_cam, row = seen.cam_from_world.inverse().matrix[:3].copy(), 0
        while True:
            table = self.keys, self.slots, self._blocks
            self.count, row = touch(seen.depth, row, step, lens, world_from_cam, self.band, edge, *table, self.count)
            if row >= len(seen.depth):
                return
            self._make_room(2 * len(self._blocks))

    def add(self, seen: Sighting) -> None:
        """Let one frame speak of the blocks that are there."""
        integrate(
            self.blocks,
            self.voxel_size,
            seen.cam_from_world.matrix[:3].copy(),
            lens_of(seen.camera),
            seen.depth,
            seen.weights,
            seen.counts,
            seen.measured,
            seen.picture,
            seen.gains,
            self.band,
            self.tsdf,
            self.sums,
            self.colors,
        )

    @property
    def blocks(self) -> np.ndarray:
        """(N, 3) int32, in the order in which they were first seen."""
        return self._blocks[: self.count]

    @property
    def tsdf(self) -> np.ndarray:
        """(N, 8, 8, 8) float32 [z, y, x], -1..1; positive in front of the surface."""
        return self._tsdf[: self.count]

    @property
    def sums(self) -> np.ndarray:
        """(N, 8, 8, 8, 4) float32: weight at the surface, that passes through, measured part of the first; views."""
        return self._sums[: self.count]

    @property
    def colors(self) -> np.ndarray:
        """(N, 8, 8, 8, 3) float32, 0..255 and, where gains are above 1, more."""
        return self._colors[: self.count]

    def judge(self, min_views: float, min_agreement: float, reach: float, min_island: int) -> Judgement:
        """What of the volume is background.

        Args:
            min_views: frames that count and saw a surface near a voxel, whatever they weigh.
            min_agreement: share of the weight that saw it among that and the weight that looked through, 0..1.
            reach: distance from the surface within which voxels count as at it, scene units.
            min_island: pieces with fewer voxels at the surface go.
        """
        surface, through = self.sums[..., SURFACE], self.sums[..., THROUGH]
        at_surface = (surface > 0) & (np.abs(self.tsdf) * np.float32(self.band) < reach)
        often = self.sums[..., VIEWS] >= min_views
        solid = surface >= np.float32(min_agreement) * (surface + through)
        usable = often & solid
        large = large_islands(self.blocks, usable & at_surface, min_island)
        return Judgement(
            usable=usable & large,
            carved=int((at_surface & ~solid).sum()),
            lonely=int((at_surface & solid & ~often).sum()),
            islands=int((at_surface & usable & ~large).sum()),
        )

    def confidence(self) -> np.ndarray:
        """(N, 8, 8, 8) float32, 0..1: share of confirming weight, with half a vote each way (Krichevsky-Trofimov)."""
        surface, through = self.sums[..., SURFACE], self.sums[..., THROUGH]
        return (surface + np.float32(0.5)) / (surface + through + np.float32(1.0))

    def measured_share(self) -> np.ndarray:
        """(N, 8, 8, 8) float32, 0..1: share of the weight at the surface that was measured."""
        return self.sums[..., MEASURED] / np.maximum(self.sums[..., SURFACE], np.float32(1e-12))

    def normals(self, voxels: np.ndarray, usable: np.ndarray) -> np.ndarray:
        """(M, 3) float32 unit vectors towards free space at voxels (M, 3), 0 where there is no slope."""
        out = np.zeros(voxels.shape)
        gradients(voxels, self.tsdf, usable, self.keys, self.slots, out)
        length = np.linalg.norm(out, axis=1, keepdims=True)
        return np.where(length > 1e-9, out / np.maximum(length, 1e-9), 0.0).astype(np.float32)

    def mesh(self, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (V, 3), faces (T, 3), colours (V, 3) uint8 where all eight corners of a cube are usable.

        Marching cubes by open3d, which hands the same mesh out in another order each time; it comes in the one of
        `in_canonical_order`.
        """
        import open3d as o3d

        held = usable.any(axis=(1, 2, 3))
        grid = o3d.t.geometry.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            attr_dtypes=(o3d.core.float32,) * 3,
            attr_channels=((1), (1), (3)),
            voxel_size=self.voxel_size,
            block_resolution=BLOCK,
            block_count=int(held.sum()) + 1,
            device=o3d.core.Device("CPU:0"),
        )
        if not held.any():
            return _nothing()
        rows = grid.hashmap().activate(o3d.core.Tensor(self.blocks[held]))[0].numpy().astype(np.int64)
        grid.attribute("tsdf").numpy()[rows] = self.tsdf[held][..., None]
        grid.attribute("weight").numpy()[rows] = usable[held][..., None]
        grid.attribute("color").numpy()[rows] = self.colors[held]
        mesh = grid.extract_triangle_mesh(weight_threshold=0.5)
        if "positions" not in mesh.vertex or len(mesh.vertex.positions) == 0:
            return _nothing()
        # Colours go in as 0..255, and marching cubes of open3d hands them out as 0..1.
        colors = np.clip(np.round(255 * mesh.vertex.colors.numpy()), 0, 255).astype(np.uint8)
        return in_canonical_order(mesh.vertex.positions.numpy(), mesh.triangle.indices.numpy(), colors)

    def _make_room(self, rows: int) -> None:
        """Room for ``rows`` blocks, in a table of which they fill at most half. Raises MemoryError."""
        if self._most is not None and rows > max(self._most, FIRST_BLOCKS):
            raise MemoryError(f"{rows} blocks of {BLOCK}^3 voxels are more than {self._most}")
        for name, shape, dtype in (
            ("_blocks", (3,), np.int32),
            ("_tsdf", CUBE, np.float32),
            ("_sums", (*CUBE, 4), np.float32),
            ("_colors", (*CUBE, 3), np.float32),
        ):
            grown = np.zeros((rows, *shape), dtype=dtype)
            if self.count:
                grown[: self.count] = getattr(self, name)[: self.count]
            setattr(self, name, grown)
        size = 1 << int(np.ceil(np.log2(2 * rows)))
        self.keys, self.slots = np.full(size, EMPTY, dtype=np.int64), np.zeros(size, dtype=np.int32)
        rebuild(self.keys, self.slots, self._blocks, self.count)


def lens_of(camera: Camera) -> np.ndarray:
    """(4,) fx, fy, cx, cy."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy])


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32), np.zeros((0, 3), dtype=np.uint8)
