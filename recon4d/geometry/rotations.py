"""Matrices that belong to rotations."""

from __future__ import annotations

import numpy as np


def cross_matrix(v: np.ndarray) -> np.ndarray:
    """(..., 3, 3) matrices of the cross product: ``cross_matrix(v) @ w`` is v x w, for v (..., 3)."""
    x, y, z = np.moveaxis(np.asarray(v, dtype=np.float64), -1, 0)
    zero = np.zeros_like(x)
    rows = (zero, -z, y), (z, zero, -x), (-y, x, zero)
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
