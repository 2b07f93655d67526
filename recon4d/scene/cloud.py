"""Coloured points in the world frame."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from recon4d.scene.transforms import Sim3

_DTYPES = {
    "points": np.float32,
    "colors": np.uint8,
    "normals": np.float32,
    "confidence": np.float32,
    "provenance": np.uint8,
    "object_id": np.uint16,
}


@dataclass(frozen=True)
class PointCloud:
    """N points with their attributes, row by row. Omitted attributes get their neutral value."""

    points: np.ndarray  # (N, 3) float32, world frame, scene units
    colors: np.ndarray  # (N, 3) uint8, sRGB
    normals: np.ndarray | None = None  # (N, 3) float32 unit vectors towards the camera, 0 where unknown
    confidence: np.ndarray | None = None  # (N,) float32, 0..1
    provenance: np.ndarray | None = None  # (N,) uint8, see Provenance
    object_id: np.ndarray | None = None  # (N,) uint16, 0 = background

    def __post_init__(self) -> None:
        count = len(np.asarray(self.points).reshape(-1, 3))
        neutral = {"normals": np.zeros((count, 3)), "confidence": np.ones(count)}
        for field, dtype in _DTYPES.items():
            value = getattr(self, field)
            if value is None:
                value = neutral.get(field, np.zeros(count))
            columns = (3,) if field in ("points", "colors", "normals") else ()
            array = np.ascontiguousarray(value, dtype=dtype).reshape(-1, *columns)
            if len(array) != count:
                raise ValueError(f"PointCloud: {count} points but {len(array)} {field}")
            object.__setattr__(self, field, array)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: np.ndarray | slice) -> PointCloud:
        """The points selected by a mask, index array or slice."""
        return PointCloud(*(getattr(self, field.name)[rows] for field in fields(self)))

    def transformed(self, b_from_world: Sim3) -> PointCloud:
        """The same points in frame b."""
        points = (b_from_world @ self.points.astype(np.float64)).astype(np.float32)
        return replace(self, points=points, normals=self.normals @ b_from_world.rotation.T.astype(np.float32))

    @staticmethod
    def concatenate(clouds: list[PointCloud]) -> PointCloud:
        """All points of several clouds, in order."""
        if not clouds:
            return PointCloud(np.zeros((0, 3)), np.zeros((0, 3)))
        return PointCloud(*(np.concatenate([getattr(c, f.name) for c in clouds]) for f in fields(PointCloud)))
