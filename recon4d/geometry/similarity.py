"""Least-squares similarities between corresponding points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.errors import AlignmentError
from recon4d.scene.transforms import Sim3

# Second largest singular value of the centred points, relative to the largest: below it the turn about their common
# line is decided by rounding of float32 coordinates.
COLLINEAR = 1e-6
RANSAC_ROUNDS = 300
IRLS_ROUNDS = 20
CAUCHY = 2.385  # 95 % efficient for normal errors
MEDIAN_OF_CHI3 = 1.538  # median length of a 3-vector of unit normal numbers


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
    a, b = _checked(x_in_a, x_in_b)
    for points in (a - a.mean(axis=0), b - b.mean(axis=0)):
        spread = np.linalg.svd(points, compute_uv=False)
        if spread[1] <= COLLINEAR * spread[0] or spread[0] == 0:
            raise AlignmentError(
                f"fit of a motion: the {len(a)} points lie on one line (extent across it {spread[1]:.3g} of "
                f"{spread[0]:.3g} along it), so the turn about it is unknown: a path or cloud with extent in two "
                "directions is needed"
            )
    return _similarity(a, b, np.ones(len(a)))


@dataclass(frozen=True)
class RobustSimilarity:
    """A similarity that wrong correspondences do not move."""

    b_from_a: Sim3
    weights: np.ndarray  # (N,) 0..1, near 0 where a correspondence is wrong
    sigma: float  # robust standard deviation of the residuals per axis, units of b
    # Squared correlation of both point sets, 0..1. Errors of b alone leave the scale right; errors of a alone make it
    # too small by this factor.
    correlation2: float


def fit_similarity_robust(x_in_a: np.ndarray, x_in_b: np.ndarray, seed: int = 0) -> RobustSimilarity:
    """Similarity ``b_from_a`` between corresponding points of which up to half may be wrong.

    The start has the least median residual among fits to three points each and the one to all; then iteratively
    reweighted least squares (Cauchy). Points on one line are allowed: the scale along it is known, the turn about it
    is any.

    Args:
        x_in_a: (N, 3) float, units of frame a.
        x_in_b: (N, 3) float, units of frame b, row i matches row i.
        seed: of the choice of threes.

    Raises:
        AlignmentError: fewer than 3 points, a coordinate that is not finite, or all points in one place.

    Source: Rousseeuw, JASA 1984 (least median of squares), Umeyama, PAMI 1991, eq. 40-42 with weights.
    """
    a, b = _checked(x_in_a, x_in_b)
    if min(np.ptp(a, axis=0).max(), np.ptp(b, axis=0).max()) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max(), 1e-300):
        raise AlignmentError(f"fit of a motion: the {len(a)} points are all in one place: a path that moves is needed")
    rng = np.random.default_rng(seed)
    best, least = _similarity(a, b, np.ones(len(a))), np.inf
    for threes in [np.arange(len(a)), *rng.integers(0, len(a), (RANSAC_ROUNDS, 3))]:
        if len(set(threes.tolist())) < 3 or not (np.ptp(a[threes], axis=0).any() and np.ptp(b[threes], axis=0).any()):
            continue
        candidate = _similarity(a[threes], b[threes], np.ones(len(threes)))
        median = float(np.median(np.linalg.norm(candidate @ a - b, axis=1)))
        if median < least:
            best, least = candidate, median
    for _ in range(IRLS_ROUNDS):
        residual = np.linalg.norm(best @ a - b, axis=1)
        sigma = max(float(np.median(residual)) / MEDIAN_OF_CHI3, 1e-12 * float(np.ptp(b, axis=0).max()))
        weights = 1 / (1 + (residual / (CAUCHY * sigma)) ** 2)
        best = _similarity(a, b, weights)
    share = weights / weights.sum()
    centred_a, centred_b = a - share @ a, b - share @ b
    across = float((share[:, None] * centred_b * (centred_a @ best.rotation.T)).sum())
    correlation2 = across**2 / float((share @ centred_a**2).sum() * (share @ centred_b**2).sum())
    return RobustSimilarity(best, weights, sigma, correlation2)


def _checked(x_in_a: np.ndarray, x_in_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x_in_a, dtype=np.float64), np.asarray(x_in_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3:
        raise ValueError(f"corresponding points must both be (N, 3), found {a.shape} and {b.shape}")
    if len(a) < 3:
        raise AlignmentError(f"fit of a motion: {len(a)} corresponding points, at least 3 are needed")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AlignmentError("fit of a motion: a point is not finite; leave such points out")
    return a, b


def _similarity(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> Sim3:
    """Least-squares similarity of points (N, 3) with weights (N,); any turn where they do not fix it."""
    share = weights / weights.sum()
    mean_a, mean_b = share @ a, share @ b
    centred_a, centred_b = a - mean_a, b - mean_b
    u, singular, vt = np.linalg.svd((share[:, None] * centred_b).T @ centred_a)  # eq. 38: covariance of b with a
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])  # eq. 43: never a mirror image
    rotation = (u * sign) @ vt  # eq. 40
    scale = float((singular * sign).sum() / (share @ centred_a**2).sum())  # eq. 42
    scale = max(scale, 1e-300)  # 0 where the sets have nothing in common
    return Sim3(scale, rotation, mean_b - scale * rotation @ mean_a)
