"""Fitting relative depth to sparse structure: one line per frame in the domain of the depth's kind, smooth in time.

In the domain of a kind the relation is ``y = gain * d + shift`` with y = 1/z for disparities and y = z for depths.
Residuals are relative, ``(gain * d + shift - y) / y``: near and far points count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

from recon4d.errors import AlignmentError
from recon4d.scene.depth import DepthKind

RANSAC_ROUNDS = 300
RANSAC_TOLERANCE = 0.1  # relative; video depth bends by several per cent, so a tight gate would chase one surface
IRLS_ROUNDS = 10
MIN_SIGMA = 0.005  # relative; structure from motion is not better than this
# Errors of a network hang together over large areas: past this many points more of them add no independent evidence.
EFFECTIVE_POINTS = 50.0


@dataclass(frozen=True)
class FrameFit:
    """The robust fit of one frame."""

    gain: float
    shift: float
    weights: np.ndarray  # (K,) robust weights 0..1
    sigma: float  # robust spread of the relative residuals
    inliers: int


@dataclass(frozen=True)
class ClipFit:
    """Gain and shift of every frame, row by row."""

    gain: np.ndarray  # (N,)
    shift: np.ndarray  # (N,)


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
    d_rank, y_rank = (np.argsort(np.argsort(v)) for v in (d, to_domain(z, kind)))
    if np.ptp(d) == 0:
        return 0.0
    return float(np.corrcoef(d_rank, y_rank)[0, 1])


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
    for _ in range(IRLS_ROUNDS):
        residual = (gain * d + shift - y) / y
        sigma = max(1.4826 * float(np.median(np.abs(residual))), MIN_SIGMA)
        weights = 1.0 / (1.0 + (residual / (2.385 * sigma)) ** 2)  # Cauchy, 95 % efficient for normal errors
        gain, shift = _weighted_line(d, y, weights, kind)
    if gain <= 0:
        raise AlignmentError(f"align: the source values fall where {kind.value} says they rise")
    residual = (gain * d + shift - y) / y
    return FrameFit(gain, shift, weights, sigma, int((np.abs(residual) < 3 * sigma).sum()))


def _ransac(d: np.ndarray, y: np.ndarray, kind: DepthKind, seed: int) -> tuple[float, float]:
    if not kind.has_shift:
        return float(np.median(y / d)), 0.0  # the median is the robust start where there is one unknown
    rng = np.random.default_rng(seed)
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


def smooth_fits(
    samples: list[tuple[np.ndarray, np.ndarray]],
    fits: list[FrameFit | None],
    kind: DepthKind,
    step: float,
) -> ClipFit:
    """All frames at once: the weighted equations of every frame plus a random walk of gain and shift over time.

    Args:
        samples: per frame (d, z) of its points, as given to `fit_frame`.
        fits: per frame its robust fit, or None where there are too few points; such frames follow their neighbours.
        kind: of the depth.
        step: standard deviation of the change from frame to frame, relative to the typical y.

    One symmetric banded solve, linear in the number of frames.

    Raises:
        AlignmentError: no frame has a fit.
    """
    if all(fit is None for fit in fits):
        raise AlignmentError("align: no frame has enough sparse points on valid depth")
    all_d = np.concatenate([d for (d, _), fit in zip(samples, fits) if fit is not None])
    all_y = np.concatenate([to_domain(z, kind) for (_, z), fit in zip(samples, fits) if fit is not None])
    unit_d, unit_y = float(np.median(np.abs(all_d))) or 1.0, float(np.median(all_y))  # brings both unknowns near 1
    unknowns = 2 if kind.has_shift else 1
    count = len(samples)
    blocks = np.zeros((count, unknowns, unknowns))
    right = np.zeros((count, unknowns))
    for i, ((d, z), fit) in enumerate(zip(samples, fits)):
        if fit is None:
            continue
        y = to_domain(z, kind)
        rows = np.stack([d / unit_d, np.ones(len(d))], axis=1)[:, :unknowns] * (unit_y / y)[:, None]
        total = fit.weights.sum()
        weights = fit.weights * min(1.0, EFFECTIVE_POINTS / total) / fit.sigma**2
        blocks[i] = (rows * weights[:, None]).T @ rows
        right[i] = (rows * weights[:, None]).sum(axis=0)
    pull = np.full(count, 2.0 / step**2)
    pull[[0, -1]] = 1.0 / step**2 if count > 1 else 0.0
    banded = np.zeros((unknowns + 1, count * unknowns))  # upper form: row u + i - j, column j
    for k in range(unknowns):
        banded[-1, k::unknowns] = blocks[:, k, k] + pull
        banded[0, unknowns + k :: unknowns] = -1.0 / step**2  # to the same unknown of the frame before
    if unknowns == 2:
        banded[-2, 1::2] = blocks[:, 0, 1]
    solution = solveh_banded(banded, right.ravel()).reshape(count, unknowns)
    gain = solution[:, 0] * unit_y / unit_d
    shift = solution[:, 1] * unit_y if kind.has_shift else np.zeros(count)
    return ClipFit(gain, shift)
