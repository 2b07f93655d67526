"""Matrices as other programs write them: which are rotations, and intrinsics whose pixel centres count 0, 1, 2."""

from __future__ import annotations

import numpy as np

from recon4d.errors import InputError

HALF_PIXEL = 0.5  # of a program that counts pixel centres 0, 1, 2; ours are 0.5, 1.5, 2.5
# Some programs give half precision or four digits; a scale, a transposed row or a mirrored axis is far outside.
ROTATION_TOLERANCE = 1e-2


def are_rotations(matrices: np.ndarray) -> np.ndarray:
    """(...) bool: which of the (..., 3, 3) matrices R have R R^T near 1 and a determinant above 0."""
    off = np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max(axis=(-1, -2))
    return (off <= ROTATION_TOLERANCE) & (np.linalg.det(matrices) > 0)


def rigid_of(matrices: np.ndarray, what: str) -> np.ndarray:
    """(N, 3, 4) float64 of (N, 3, 4) or (N, 4, 4) motions.

    Raises InputError where they have another shape, are none, not finite, or hold no rotations.
    """
    if matrices.ndim != 3 or matrices.shape[1:] not in ((4, 4), (3, 4)) or not len(matrices):
        raise InputError(f"{what} is {matrices.shape}, (N, 3, 4) or (N, 4, 4) numbers are expected")
    if matrices.dtype.kind not in "fui":
        raise InputError(f"{what} holds {matrices.dtype}, numbers are expected")
    found = matrices[:, :3].astype(np.float64)
    if not np.isfinite(found).all():
        raise InputError(f"{what} has numbers that are not finite: make it again")
    if not are_rotations(found[:, :, :3]).all():
        raise InputError(f"{what} holds matrices that are no rotations: make it again")
    return found


def pinhole_of(matrices: np.ndarray, what: str) -> np.ndarray:
    """(N, 4) float64 fx, fy, cx, cy, as we count pixels, of (N, 3, 3) matrices of pixel centres 0, 1, 2.

    Raises InputError where they are not finite or a focal length is not above 0.
    """
    numbers = matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]].astype(np.float64) if matrices.dtype.kind in "fui" else None
    if numbers is None or not (np.isfinite(numbers).all() and (numbers[:, :2] > 0).all()):
        raise InputError(f"{what} has intrinsics without focal lengths above 0: matrices in pixels are expected")
    return numbers + np.array([0.0, 0.0, HALF_PIXEL, HALF_PIXEL])
