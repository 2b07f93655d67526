"""What points and surfaces are drawn with in the files of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon4d.scene.cloud import PointCloud
from recon4d.scene.mesh import TriMesh


@dataclass(frozen=True)
class SizedPoints:
    """Points with the size each is drawn at."""

    cloud: PointCloud
    widths: np.ndarray  # (N,) float32, diameters, unit of the points

    def __post_init__(self) -> None:
        widths = np.ascontiguousarray(self.widths, dtype=np.float32)
        if widths.shape != (len(self.cloud),):
            raise ValueError(f"SizedPoints: {len(self.cloud)} points but widths are {widths.shape}")
        object.__setattr__(self, "widths", widths)

    def __len__(self) -> int:
        return len(self.cloud)


@dataclass(frozen=True)
class PointSquares:
    """Points, each drawn as a small square."""

    cloud: PointCloud
    corners: np.ndarray  # (N, 4, 3) float32, around each point, counter-clockwise seen from outside

    def __post_init__(self) -> None:
        corners = np.ascontiguousarray(self.corners, dtype=np.float32)
        if corners.shape != (len(self.cloud), 4, 3):
            raise ValueError(f"PointSquares: {len(self.cloud)} points but corners are {corners.shape}")
        object.__setattr__(self, "corners", corners)

    def __len__(self) -> int:
        return len(self.cloud)

    def mesh(self) -> TriMesh:
        """Two triangles for each point."""
        first = 4 * np.arange(len(self), dtype=np.int32)[:, None, None]
        faces = first + np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
        return TriMesh(self.corners.reshape(-1, 3), faces.reshape(-1, 3), np.repeat(self.cloud.colors, 4, axis=0))


@dataclass(frozen=True)
class PictureMesh:
    """Triangles that wear a picture."""

    vertices: np.ndarray  # (N, 3) float32
    faces: np.ndarray  # (T, 3) int32, counter-clockwise seen from outside
    uv: np.ndarray  # (N, 2) float32 0..1, (0, 0) the top-left corner of the picture (not the centre of its first pixel)
    picture: Path  # .jpg or .png

    def __post_init__(self) -> None:
        for field, dtype, columns in (("vertices", np.float32, 3), ("faces", np.int32, 3), ("uv", np.float32, 2)):
            array = np.ascontiguousarray(getattr(self, field), dtype=dtype).reshape(-1, columns)
            object.__setattr__(self, field, array)
        if len(self.uv) != len(self.vertices):
            raise ValueError(f"PictureMesh: {len(self.vertices)} vertices but {len(self.uv)} uv")


def is_empty(shape: PointCloud | SizedPoints | PointSquares | TriMesh | PictureMesh) -> bool:
    """Whether nothing is drawn."""
    return not len(shape.faces if isinstance(shape, TriMesh | PictureMesh) else shape)
