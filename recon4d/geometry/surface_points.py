"""The point map of the background: of all frames' points those that the volume confirms, one per voxel."""

from __future__ import annotations

import numpy as np

from recon4d.geometry.tsdf import Judgement, Sighting, TsdfVolume, lens_of
from recon4d.geometry.tsdf_kernels import BLOCK, scatter
from recon4d.scene.cloud import PointCloud
from recon4d.scene.depth import Provenance


class SurfacePoints:
    """Weighted mean place of the points in each voxel that is background and near the surface.

    Places come from points, not from the surface itself: these keep detail that the mean distance smooths away.
    """

    def __init__(self, volume: TsdfVolume, judgement: Judgement, reach: float) -> None:
        """``reach``: points in voxels further from the surface are left out, scene units."""
        self._volume, self._usable = volume, judgement.usable
        near = self._usable & (np.abs(volume.tsdf) * np.float32(volume.band) < reach)
        self._row_of = np.full(near.shape, -1, dtype=np.int32)
        self._rows = np.nonzero(near)
        self._row_of[self._rows] = np.arange(len(self._rows[0]), dtype=np.int32)
        self._sums = np.zeros((len(self._rows[0]), 4))
        self.kept, self.left = 0, 0  # points

    def add(self, seen: Sighting) -> None:
        """Add the points of one frame."""
        kept, left = scatter(
            seen.depth,
            seen.weights,
            lens_of(seen.camera),
            seen.cam_from_world.inverse().matrix[:3].copy(),
            self._volume.voxel_size,
            self._volume.keys,
            self._volume.slots,
            self._row_of,
            self._sums,
        )
        self.kept, self.left = self.kept + kept, self.left + left

    def cloud(self) -> PointCloud:
        """One point per voxel with points, in the order of the blocks; object 0."""
        volume, there = self._volume, self._sums[:, 0] > 0
        rows = tuple(axis[there] for axis in self._rows)
        block, z, y, x = rows
        voxels = BLOCK * volume.blocks[block].astype(np.int64) + np.stack([x, y, z], axis=1)
        offset = self._sums[there, 1:] / self._sums[there, :1]
        return PointCloud(
            points=(voxels + offset) * volume.voxel_size,
            colors=np.clip(np.round(volume.colors[rows]), 0, 255),
            normals=volume.normals(voxels, self._usable),
            confidence=volume.confidence()[rows],
            provenance=np.where(volume.measured_share()[rows] > 0.5, Provenance.MEASURED, Provenance.FITTED),
        )
