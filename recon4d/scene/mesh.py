"""Surfaces: the depth grid of one frame with its cuts, and free triangle meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.scene.depth import SceneDepth


@dataclass(frozen=True)
class DepthMesh:
    """A depth grid as a surface: each pixel centre is a vertex, joined to its right and lower neighbour or cut off."""

    surface: SceneDepth
    join_right: np.ndarray  # (H, W) bool: pixel (y, x) is joined to (y, x + 1); last column False
    join_down: np.ndarray  # (H, W) bool: pixel (y, x) is joined to (y + 1, x); last row False

    def __post_init__(self) -> None:
        for field in ("join_right", "join_down"):
            array = np.ascontiguousarray(getattr(self, field), dtype=bool)
            if array.shape != self.surface.depth.shape:
                raise ValueError(f"DepthMesh: {field} is {array.shape}, depth is {self.surface.depth.shape}")
            object.__setattr__(self, field, array)
        if self.join_right[:, -1].any() or self.join_down[-1].any():
            raise ValueError("DepthMesh: a pixel is joined to one outside the picture")

    def triangles(self) -> np.ndarray:
        """(T, 3) int32 pixel indices y * W + x, wound counter-clockwise as the camera sees them.

        A triangle stands where both of its grid edges are joined. Of a cell's two diagonals the one over which depth
        changes less is taken, or the only one that leaves a triangle.
        """
        depth, (height, width) = self.surface.depth, self.surface.depth.shape
        index = np.arange(height * width, dtype=np.int32).reshape(height, width)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        top, bottom = self.join_right[:-1, :-1], self.join_right[1:, :-1]
        left, right = self.join_down[:-1, :-1], self.join_down[:-1, 1:]
        falling = np.abs(depth[:-1, :-1] - depth[1:, 1:]) <= np.abs(depth[:-1, 1:] - depth[1:, :-1])  # a-d is flatter
        upper_left, lower_right = top & left, bottom & right
        upper_right, lower_left = top & right, bottom & left
        along_ad = np.where((upper_right | lower_left) & (upper_left | lower_right), falling, upper_right | lower_left)
        parts = [
            (along_ad & lower_left, (a, c, d)),
            (along_ad & upper_right, (a, d, b)),
            (~along_ad & upper_left, (a, c, b)),
            (~along_ad & lower_right, (b, c, d)),
        ]
        return np.concatenate([np.stack([corner[keep] for corner in corners], axis=-1) for keep, corners in parts])


@dataclass(frozen=True)
class TriMesh:
    """Free triangle mesh in the world frame."""

    vertices: np.ndarray  # (N, 3) float32, scene units
    faces: np.ndarray  # (T, 3) int32
    colors: np.ndarray  # (N, 3) uint8, sRGB

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices, dtype=np.float32).reshape(-1, 3)
        faces = np.ascontiguousarray(self.faces, dtype=np.int32).reshape(-1, 3)
        colors = np.ascontiguousarray(self.colors, dtype=np.uint8).reshape(-1, 3)
        if len(colors) != len(vertices):
            raise ValueError(f"TriMesh: {len(vertices)} vertices but {len(colors)} colours")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise ValueError("TriMesh: a face points to a vertex that is not there")
        for field, array in (("vertices", vertices), ("faces", faces), ("colors", colors)):
            object.__setattr__(self, field, array)
