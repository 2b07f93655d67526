"""Least-squares motions between corresponding points."""

from __future__ import annotations

import numpy as np

from recon4d.errors import AlignmentError
from recon4d.scene.transforms import Rigid3, Sim3

# Second largest singular value of the centred points, relative to the largest: below it the turn about their common
# line is decided by rounding of float32 coordinates.
COLLINEAR = 1e-6


def fit_similarity(x_in_a: np.ndarray, x_in_b: np.ndarray) -> Sim3:
    """Least-squares similarity ``b_from_a`` between corresponding points.

    Args:
        x_in_a: (N, 3) float, units of frame a.
        x_in_b: (N, 3) float, units of frame b, row i matches row i.

    Raises:
        AlignmentError: fewer than 3 points, a coordinate that is not finite, or all points nearly on one line
            (relative to their spread).

    Source: Umeyama, PAMI 1991, eq. 40-42.
    """
    rotation, mean_a, mean_b, scale = _fit(x_in_a, x_in_b)
    return Sim3(scale, rotation, mean_b - scale * rotation @ mean_a)


def fit_rigid(x_in_a: np.ndarray, x_in_b: np.ndarray) -> Rigid3:
    """Least-squares rigid motion ``b_from_a`` between corresponding points of the same unit.

    Args:
        x_in_a: (N, 3) float, scene units of frame a.
        x_in_b: (N, 3) float, scene units of frame b, row i matches row i.

    Raises:
        AlignmentError: as for `fit_similarity`.

    Source: Umeyama, PAMI 1991, eq. 40-42 with c = 1.
    """
    rotation, mean_a, mean_b, _ = _fit(x_in_a, x_in_b)
    return Rigid3(rotation, mean_b - rotation @ mean_a)


def _fit(x_in_a: np.ndarray, x_in_b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Rotation, both means, and the scale that goes with them."""
    a, b = np.asarray(x_in_a, dtype=np.float64), np.asarray(x_in_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3:
        raise ValueError(f"corresponding points must both be (N, 3), found {a.shape} and {b.shape}")
    if len(a) < 3:
        raise AlignmentError(f"fit of a motion: {len(a)} corresponding points, at least 3 are needed")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AlignmentError("fit of a motion: a point is not finite; leave such points out")
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    centred_a, centred_b = a - mean_a, b - mean_b
    for points in (centred_a, centred_b):
        spread = np.linalg.svd(points, compute_uv=False)
        if spread[1] <= COLLINEAR * spread[0] or spread[0] == 0:
            raise AlignmentError(
                f"fit of a motion: the {len(a)} points lie on one line (extent across it {spread[1]:.3g} of "
                f"{spread[0]:.3g} along it), so the turn about it is unknown: a path or cloud with extent in two "
                "directions is needed"
            )
    u, singular, vt = np.linalg.svd(centred_b.T @ centred_a / len(a))  # eq. 38: covariance of b with a
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])  # eq. 43: never a mirror image
    rotation = (u * sign) @ vt  # eq. 40
    scale = float((singular * sign).sum() / (centred_a**2).sum(axis=1).mean())  # eq. 42
    return rotation, mean_a, mean_b, scale
