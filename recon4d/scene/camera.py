"""The undistorted pinhole camera. Lens models live in `recon4d.poses`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Pinhole in pixels; the centre of the top-left pixel is (0.5, 0.5); axes x right, y down, z forward."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"Camera: size {self.width}x{self.height} is empty")
        if not (self.fx > 0 and self.fy > 0 and np.isfinite([self.fx, self.fy, self.cx, self.cy]).all()):
            raise ValueError(f"Camera: focal length {self.fx}, {self.fy} or centre {self.cx}, {self.cy} is not valid")

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) calibration matrix K."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), the shape of its pictures as arrays."""
        return self.height, self.width

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same picture resampled to ``width`` x ``height`` pixels."""
        sx, sy = width / self.width, height / self.height
        return Camera(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    def rays(self) -> np.ndarray:
        """(H, W, 3) directions through the pixel centres with z = 1, camera frame, float64."""
        return self.rays_at(np.arange(self.width) + 0.5, np.arange(self.height)[:, None] + 0.5)

    def rays_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(..., 3) directions through the pixels ``x``, ``y`` (..., broadcast) with z = 1, camera frame, float64."""
        u, v = np.broadcast_arrays((x - self.cx) / self.fx, (y - self.cy) / self.fy)
        return np.stack([u, v, np.ones_like(u)], axis=-1)

    def unproject(self, depth: np.ndarray) -> np.ndarray:
        """(H, W, 3) points in the camera frame from z-depth (H, W), same units."""
        if depth.shape != self.shape:
            raise ValueError(f"Camera.unproject: depth is {depth.shape}, the camera {self.shape}")
        return self.rays() * depth[..., None]

    def project(self, x_in_cam: np.ndarray) -> np.ndarray:
        """(..., 2) pixels of points (..., 3) in the camera frame; NaN for points not in front of the camera."""
        x, y, z = np.moveaxis(np.asarray(x_in_cam, dtype=np.float64), -1, 0)
        z = np.where(z > 0, z, np.nan)
        return np.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], axis=-1)
