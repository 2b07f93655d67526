"""The sparse structure of structure from motion, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SparseModel:
    """Triangulated points and where each frame saw them (in its undistorted picture)."""

    points: np.ndarray  # (P, 3) float64, world frame, scene units
    error_px: np.ndarray  # (P,) mean reprojection error
    track_length: np.ndarray  # (P,) int, number of frames that see the point
    angle_deg: np.ndarray  # (P,) largest angle between two of its viewing rays
    colors: np.ndarray  # (P, 3) uint8
    pixels: dict[str, np.ndarray]  # name -> (K, 2) float64 observed pixels, first pixel centre (0.5, 0.5)
    rows: dict[str, np.ndarray]  # name -> (K,) int, row in `points` of each observation

    def __len__(self) -> int:
        return len(self.points)
