"""Fitting relative depth to sparse structure: one robust line per frame in the domain of the depth's kind.

In the domain of a kind the relation is ``y = gain * d + shift`` with y = 1/z for disparities and y = z for depths.
Residuals are relative, ``(gain * d + shift - y) / y``: near and far points count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.errors import AlignmentError
from recon4d.scene.depth import DepthKind

RANSAC_ROUNDS = 300
RANSAC_TOLERANCE = 0.1  # relative; video depth bends by several per cent, so a tight gate would chase one surface
IRLS_ROUNDS = 10
MIN_SIGMA = 0.005  # relative; structure from motion is not better than this
RANSAC_POINTS = 400  # of a frame, at random: more make no better start
DEPTH_BINS = 8  # of log depth, for the balance of near and far points


@dataclass(frozen=True)
class FrameFit:
    """The robust fit of one frame."""

    gain: float
    shift: float
    weights: np.ndarray  # (K,) robust weights times the balance over depth
    sigma: float  # robust spread of the relative residuals
    inliers: int


def to_domain(z: np.ndarray, kind: DepthKind) -> np.ndarray:
    """y of z-depth: 1/z for disparities, z for depths."""
    return 1.0 / z if kind.is_disparity else np.asarray(z, dtype=np.float64)


def z_from_values(values: np.ndarray, gain: float, shift: float, kind: DepthKind) -> np.ndarray:
    """z-depth (scene units) of source values under a fit; inf where a disparity is 0 or less, never NaN for finite."""
    y = gain * np.asarray(values, dtype=np.float64) + shift
    if not kind.is_disparity:
        return y
    return np.divide(1.0, y, out=np.full_like(y, np.inf), where=y > 0)


def rank_agreement(d: np.ndarray, z: np.ndarray, kind: DepthKind) -> float:
    """Rank correlation (Spearman, -1..1) between source values and structure in the kind's domain, without any fit.

    Below 0 the values rise where the structure falls: they are of another kind, whatever their scale.
    """
    if np.ptp(d) == 0:
        return 0.0
    return float(np.corrcoef(_mean_ranks(d), _mean_ranks(to_domain(z, kind)))[0, 1])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """(K,) ranks; values that are equal share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - 0.5 * (counts - 1))[place]


def fit_frame(d: np.ndarray, z: np.ndarray, kind: DepthKind, seed: int = 0) -> FrameFit:
    """Robust gain and shift of one frame: RANSAC start, then iteratively reweighted least squares (Cauchy).

    Args:
        d: (K,) source values at the sparse points.
        z: (K,) their z-depth in scene units, positive.

    Raises:
        AlignmentError: fewer than 2 points (1 for kinds without a shift), or no rising line fits them.
    """
    needed = 2 if kind.has_shift else 1
    if len(d) < needed:
        raise AlignmentError(f"align: {len(d)} sparse points on valid depth, {needed} are needed for one fit")
    y = to_domain(z, kind)
    d = np.asarray(d, dtype=np.float64)
    gain, shift = _ransac(d, y, kind, seed)
    balance = depth_balance(z)
    for _ in range(IRLS_ROUNDS):
        residual = (gain * d + shift - y) / y
        sigma = max(1.4826 * float(np.median(np.abs(residual))), MIN_SIGMA)
        weights = balance / (1.0 + (residual / (2.385 * sigma)) ** 2)  # Cauchy, 95 % efficient for normal errors
        gain, shift = _weighted_line(d, y, weights, kind)
    if gain <= 0:
        raise AlignmentError(f"align: the source values fall where {kind.value} says they rise")
    residual = (gain * d + shift - y) / y
    return FrameFit(gain, shift, weights, sigma, int((np.abs(residual) < 3 * sigma).sum()))


def depth_balance(z: np.ndarray) -> np.ndarray:
    """(K,) weights, mean 1, that fall with the root of how many points share a point's depth.

    Texture decides where points lie; without a balance one near rug outvotes the rest of a room. Half the balance is
    kept (the root), since rare depths are also where wrong points lie.
    """
    log_z = np.log(z)
    low, high = np.percentile(log_z, [2, 98])
    if high - low < 1e-6:
        return np.ones(len(z))
    bins = np.clip(((log_z - low) / (high - low) * DEPTH_BINS).astype(int), 0, DEPTH_BINS - 1)
    weights = 1.0 / np.sqrt(np.bincount(bins, minlength=DEPTH_BINS)[bins])
    return weights / weights.mean()


def _ransac(d: np.ndarray, y: np.ndarray, kind: DepthKind, seed: int) -> tuple[float, float]:
    if not kind.has_shift:
        return float(np.median(y / d)), 0.0  # the median is the robust start where there is one unknown
    rng = np.random.default_rng(seed)
    if len(d) > RANSAC_POINTS:
        chosen = rng.choice(len(d), RANSAC_POINTS, replace=False)
        d, y = d[chosen], y[chosen]
    first, second = rng.integers(0, len(d), (2, RANSAC_ROUNDS))
    span = d[second] - d[first]
    usable = np.abs(span) > 1e-9 * max(np.ptp(d), 1e-12)
    gain = (y[second] - y[first])[usable] / span[usable]
    shift = y[first][usable] - gain * d[first][usable]
    rising = gain > 0
    if not rising.any():
        raise AlignmentError(f"align: the source values fall where {kind.value} says they rise")
    gain, shift = gain[rising], shift[rising]
    residual = np.abs((gain[:, None] * d + shift[:, None] - y) / y)
    best = int(np.argmin(np.minimum(residual, RANSAC_TOLERANCE).sum(axis=1)))
    return float(gain[best]), float(shift[best])


def _weighted_line(d: np.ndarray, y: np.ndarray, weights: np.ndarray, kind: DepthKind) -> tuple[float, float]:
    """Weighted least squares of relative residuals."""
    rows = np.stack([d, np.ones_like(d)], axis=1)[:, : 2 if kind.has_shift else 1] / y[:, None]
    root = np.sqrt(weights)
    solution, *_ = np.linalg.lstsq(rows * root[:, None], root, rcond=None)
    return float(solution[0]), float(solution[1]) if kind.has_shift else 0.0
